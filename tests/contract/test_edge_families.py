"""EfficientNet-Lite and -EdgeTPU: small ones of the same tables, all of them in integers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from edgefx import runtimes
from edgefx.models.backend import import_keras
from edgefx.models.efficientnet import ARCHITECTURES, build
from edgefx.models.graph.canonical import canonicalize
from edgefx.models.load import load
from edgefx.protocols import SILENT
from edgefx.quantization import QuantScheme
from edgefx.runtimes.protocol import ConversionRequest
from edgefx.targets import TARGETS
from edgefx.types import Effort, FrozenGraph, ImageSet, IoDtype, Precision, Resize

from .models_zoo import SIZE, images, randomise, settle


@pytest.fixture(scope="module", params=["lite0", "edgetpu-s"])
def edge(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> FrozenGraph:
    folder = tmp_path_factory.mktemp(request.param)
    import_keras().utils.set_random_seed(0)
    small = replace(ARCHITECTURES[request.param], width=0.25, depth=0.25)
    randomise(settle(build(small, classes=5, height=SIZE, width=SIZE))).save(folder / "model.keras")
    return canonicalize(load(str(folder / "model.keras")), folder)


def _convert(graph: FrozenGraph, target: str, io_dtype: IoDtype, folder: Path) -> Path:
    row = TARGETS[target]
    pixels = images(count=8)
    paths = tuple(Path(str(number)) for number in range(8))
    request = ConversionRequest(
        graph=graph,
        scheme=QuantScheme(precision=Precision.INT8, io_dtype=io_dtype, effort=Effort.FAST),
        calibration=ImageSet(pixels=pixels, labels=None, paths=paths, sha256="", resize=Resize.STRETCH),
    )
    return runtimes.load(row).convert(request, folder / f"model{row.suffix}", SILENT)[0]


def test_every_operation_of_the_tflite_is_int8(edge: FrozenGraph, tmp_path: Path) -> None:
    path = _convert(edge, "tflite-int8", IoDtype.INT8, tmp_path)
    found = runtimes.load(TARGETS["tflite-int8"]).describe(path)
    assert found.compute_float == 0
    assert {count.dtype for count in found.ops} == {"int8"}


def test_no_relu_is_left_between_the_integers_of_the_onnx(edge: FrozenGraph, tmp_path: Path) -> None:
    path = _convert(edge, "onnx-int8", IoDtype.FLOAT32, tmp_path)
    runtime = runtimes.load(TARGETS["onnx-int8"])
    found = runtime.describe(path)
    assert found.int8_macs_share is not None
    assert found.int8_macs_share > 0.4
    depthwise = [layer for layer in edge.layers if layer.kind == "DepthwiseConv2D"]
    if depthwise:
        from edgefx.runtimes.onnx import readback

        stored = {weights.layer for weights in readback.quantization(path, edge).weights}
        assert stored & {layer.name for layer in depthwise}
