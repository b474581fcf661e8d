"""What float32 explains is let through with a word; what it does not explain is another function."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgefx.cache.settings import OFF
from edgefx.data.digits import evaluation_folder
from edgefx.errors import ModelError
from edgefx.models.graph.equality import difference
from edgefx.pipeline.execute import computing
from edgefx.pipeline.inputs import Inputs
from edgefx.pipeline.plan import plan
from edgefx.protocols import SILENT
from edgefx.recipe.load import parse
from edgefx.types import OutputKind

from .models_zoo import save_block

P = OutputKind.PROBABILITIES


def scores(*rows: list[float]) -> Any:
    return np.array(rows, np.float32)


def test_the_best_class_counts_where_probabilities_are_small() -> None:
    flat = scores([0.50002, 0.49998], [0.7, 0.3])
    turned = scores([0.49999, 0.50001], [0.7, 0.3])
    found = difference(flat, turned, P)
    assert found.top1_changed == 1
    assert found.max_abs_dp == pytest.approx(3e-5, rel=0.01)
    assert not found.is_allowed
    assert str(found) == "max |Δp| = 3e-05, another best class on 1 of 2 images"
    tied = difference(scores([0.500001, 0.499999]), scores([0.499999, 0.500001]), P)
    assert tied.is_usual
    assert tied.is_allowed


def test_nan_is_no_difference_that_is_allowed() -> None:
    found = difference(scores([np.nan, 0.5]), scores([0.5, 0.5]), P)
    assert not found.is_usual
    assert not found.is_allowed


def test_logits_are_compared_as_probabilities() -> None:
    found = difference(scores([100.0, 0.0]), scores([103.0, 0.0]), OutputKind.LOGITS)
    assert found.max_abs_dp < 1e-6


@pytest.mark.parametrize(("wanted", "outcome"), [(5e-6, "silent"), (2e-5, "warned"), (2e-4, "refused")])
def test_a_model_whose_deployable_graph_is_a_little_off(wanted: float, outcome: str, tmp_path: Path) -> None:
    document = {
        "version": 1,
        "model": {"source": str(save_block(tmp_path))},
        "targets": ["tflite-float32"],
        "evaluate": {"images": str(evaluation_folder()), "limit": 20},
        "benchmark": None,
    }
    with computing(OFF, SILENT) as (memo, hashes):
        inputs = Inputs(plan(parse(document, where="test")), memo, hashes)
        inputs.load()
        assert inputs.source.graph.path.is_file()
        shift_to(wanted, inputs)
        memo.forget(inputs.baseline_stage)  # of the model as it was
        if outcome == "refused":
            with pytest.raises(ModelError, match=r"max \|Δp\| = 0\.0002; allowed is 0\.0001") as caught:
                inputs.compare()
            assert caught.value.hint
            return
        inputs.compare()
        assert inputs.canonical_max_abs_dp == pytest.approx(wanted, rel=0.3)
        told = [text for text in memo.warnings if "differs from the model as loaded" in text]
        assert len(told) == (outcome == "warned")
        assert all("2e-05 of a probability" in text for text in told)


def shift_to(wanted: float, inputs: Inputs) -> None:
    """Change a bias of the loaded model until a probability is `wanted` off, the graph left as it was."""
    assert inputs.evaluation is not None
    loaded, pixels = inputs.source.loaded, inputs.evaluation.get().pixels[:16]
    layer = [layer for layer in loaded.model.layers if layer.get_weights()][-1]
    *others, bias = layer.get_weights()
    before = loaded.predict(pixels)

    def moved(by: float) -> float:
        changed = bias.copy()
        changed[0] += by
        layer.set_weights([*others, changed])
        return float(np.abs(loaded.predict(pixels) - before).max())

    moved(0.01 * wanted / moved(0.01))
