"""Activation extremes of real float graphs, with and without canonical layers."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from edgefx.data.checks import stability_check
from edgefx.data.stability import observe
from edgefx.types import FrozenGraph, ImageSet

if TYPE_CHECKING:
    from edgefx.types import Scores


def test_extremes_are_those_of_the_layers_outputs(
    tiny_graph: FrozenGraph, tiny_images: ImageSet, tiny_scores: Scores
) -> None:
    observed = observe(tiny_graph, tiny_images.pixels)
    values = observed.extremes
    assert values.shape == (len(tiny_images), len(tiny_graph.layers), 2)
    assert np.isfinite(values).all()
    assert (values[..., 0] <= values[..., 1]).all()
    # The last layer is the softmax, so its highest value is the best score.
    assert np.allclose(values[:, -1, 1], tiny_scores.max(1), atol=1e-5)
    assert observed.answers.tolist() == tiny_scores.argmax(1).tolist()


def test_a_graph_without_layers_has_its_operations_looked_at(
    tiny_graph: FrozenGraph, tiny_images: ImageSet
) -> None:
    bare = replace(tiny_graph, layers=())
    values = observe(bare, tiny_images.pixels[:3]).extremes
    assert values.shape[1] > len(tiny_graph.layers)
    assert (values[..., 0] <= values[..., 1]).all()


def test_many_digits_are_steady_and_few_are_not(tiny_graph: FrozenGraph, tiny_calibration: ImageSet) -> None:
    values = observe(tiny_graph, tiny_calibration.pixels).extremes
    assert stability_check(values).passed
    assert not stability_check(values[:4]).passed
