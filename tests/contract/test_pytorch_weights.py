"""Weights in PyTorch's layout make the Keras model that they came from, and say how it computes."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edgefx.errors import ModelError
from edgefx.models.backend import import_keras
from edgefx.models.efficientnet import ARCHITECTURES, build
from edgefx.models.load import _hash_weights
from edgefx.models.pytorch import layout, transfer
from tests.pytorch_files import checkpoint, safetensors

from .models_zoo import SIZE, images, randomise, settle

_SMALL = replace(ARCHITECTURES["lite0"], width=0.25, depth=0.25, excite=True)


def _model(*, classes: int = 5, width: float = 0.25) -> Any:
    import_keras().utils.set_random_seed(0)
    return build(replace(_SMALL, width=width), classes=classes, height=SIZE, width=SIZE)


@pytest.fixture(scope="module")
def original() -> Any:
    return randomise(settle(_model()))


def _state(model: Any, library: str) -> dict[str, NDArray[Any]]:
    """Return a model's weights as a library names and lays them out."""
    found: dict[str, NDArray[Any]] = {}
    layers = {layer.name: layer for layer in model.layers}
    for entry in layout.named(model, library):
        layer = layers[entry.layer]
        values = layer.get_weights()
        parts = ["weight", "bias", "running_mean", "running_var"][: len(values)]
        if values[0].ndim == 4:
            order = (2, 3, 0, 1) if type(layer).__name__ == "DepthwiseConv2D" else (3, 2, 0, 1)
            values[0] = np.ascontiguousarray(values[0].transpose(order))
        elif values[0].ndim == 2:
            values[0] = np.ascontiguousarray(values[0].T)
        found |= {f"{entry.prefix}.{part}": value for part, value in zip(parts, values, strict=True)}
        if entry.normalization:
            found[f"{entry.prefix}.num_batches_tracked"] = np.array(1, np.int64)
    return found


@pytest.fixture
def weights(original: Any, tmp_path: Path) -> Path:
    scale = {"mean": [127 / 255] * 3, "std": [128 / 255] * 3}
    (tmp_path / "config.json").write_text(json.dumps({"pretrained_cfg": scale}))
    return safetensors(tmp_path / "tf_efficientnet_lite0.safetensors", _state(original, "timm"))


def test_weights_ported_from_tensorflow_make_the_same_model(original: Any, weights: Path) -> None:
    model = _model()
    source = transfer.load(model, weights, family="lite0")
    assert (source.variant, source.symmetric) == ("tf_efficientnet_lite0", False)
    pixels = images().astype(np.float32)
    np.testing.assert_allclose(model(pixels), original(pixels), atol=1e-6)


def test_weights_trained_in_pytorch_pad_alike_and_have_a_smaller_epsilon(
    original: Any, tmp_path: Path
) -> None:
    model = _model()
    path = checkpoint(tmp_path / "efficientnet_lite0.pth", {**_state(original, "timm")})
    source = transfer.load(model, path, family="lite0")
    assert source.symmetric
    pads = [layer for layer in model.layers if type(layer).__name__ == "ZeroPadding2D"]
    assert {layer.padding for layer in pads} == {((1, 1), (1, 1)), ((2, 2), (2, 2))}
    normalizations = [layer for layer in model.layers if type(layer).__name__ == "BatchNormalization"]
    assert {layer.epsilon for layer in normalizations} == {1e-5}
    pixels = images().astype(np.float32)
    assert np.abs(np.asarray(model(pixels)) - np.asarray(original(pixels))).max() > 1e-3
    assert _hash_weights(model) != _hash_weights(original)


def test_weights_of_torchvision_are_found_by_their_names(original: Any, tmp_path: Path) -> None:
    model = _model()
    path = checkpoint(tmp_path / "weights.pth", _state(original, "torchvision"))
    assert transfer.load(model, path, family="b0").library == "torchvision"
    for ours, theirs in zip(model.weights, original.weights, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_other_classes_are_said(weights: Path) -> None:
    with pytest.raises(ModelError, match="5 classes, not 7") as caught:
        transfer.load(_model(classes=7), weights, family="lite0")
    assert "--classes 5" in caught.value.hint


def test_weights_of_another_architecture_are_refused(original: Any, weights: Path) -> None:
    with pytest.raises(ModelError, match="has the shape"):
        transfer.load(_model(width=0.5), weights, family="lite0")
    state = _state(original, "timm")
    state["blocks.9.9.conv_dw.weight"] = state.pop("bn2.bias")
    path = safetensors(weights, state)
    with pytest.raises(
        ModelError, match=r"lacks bn2.bias; has bn2.running_mean.*and \d+ more|lacks bn2.bias"
    ):
        transfer.load(_model(), path, family="lite0")
