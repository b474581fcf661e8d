"""Training for quantization: the model that is trained is the artifact it becomes, and never a worse one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from edgefx.models.graph.from_tensorflow import from_tensorflow, with_weights
from edgefx.models.graph.ir import Conv, Dense, DepthwiseConv
from edgefx.qat.parameters import FakeQuantization
from edgefx.quantization import QuantScheme
from edgefx.runtimes.protocol import ConversionRequest, QatTemplate, TrainedQuantization
from edgefx.runtimes.tflite import quantize, training
from edgefx.runtimes.tflite import readback as tflite_grids
from edgefx.runtimes.tflite.runtime import RUNTIME
from edgefx.types import FrozenGraph, ImageSet, IoDtype, Precision

from .conftest import NATIVE, RecordedProgress

SCHEME = QuantScheme(hardware=NATIVE, precision=Precision.INT8, io_dtype=IoDtype.UINT8)


@pytest.fixture(scope="module")
def template(tiny_graph: FrozenGraph, tiny_calibration: ImageSet) -> QatTemplate:
    return quantize.template(tiny_graph, SCHEME, tiny_calibration, RecordedProgress())


@pytest.fixture(scope="module")
def start(template: QatTemplate, tiny_graph: FrozenGraph) -> FakeQuantization:
    return training.read(template, tiny_graph)


@pytest.fixture(scope="module")
def moved(start: FakeQuantization) -> FakeQuantization:
    """What a training could have made: other scales, biases and codes of weights."""
    generator = np.random.default_rng(0)
    grids = {
        name: grid if grid.fixed else replace(grid, scale=grid.scale * float(generator.uniform(1.0, 1.03)))
        for name, grid in start.grids.items()
    }
    weights = {
        layer: replace(
            stored,
            kernel=(stored.kernel + generator.normal(0, 0.2, stored.kernel.shape) * stored.steps).astype("f"),
            bias=stored.bias + np.float32(0.01),
        )
        for layer, stored in start.weights.items()
    }
    return replace(start, grids=grids, weights=weights)


def test_the_fake_quantized_model_is_the_integer_artifact(
    tiny_graph: FrozenGraph,
    tiny_images: ImageSet,
    template: QatTemplate,
    moved: FakeQuantization,
    tmp_path: Path,
) -> None:
    """Same top-1 on at least 99 % of the images, and logits that differ by less than they do from float."""
    from edgefx.qat.model import FakeQuantModel, scores

    height, width = tiny_graph.spec.height, tiny_graph.spec.width
    model = FakeQuantModel(from_tensorflow(tiny_graph), moved, height=height, width=width)
    logits = scores(model.model, tiny_images.pixels, batch=30)
    path = tmp_path / "trained.tflite"
    path.write_bytes(training.written(template, moved, tiny_graph, SCHEME))
    with RUNTIME.open_session(path, threads=1) as session:
        integer = session.infer(tiny_images.pixels)
    assert (logits.argmax(axis=1) == integer.argmax(axis=1)).mean() >= 0.99
    with tflite_grids.open_probes(path, tiny_graph, 1) as tapped:
        kernels = np.stack([tapped.infer(image)["predictions"] for image in tiny_images.pixels[:20]])
    noise = np.square(kernels.reshape(20, -1) - logits[:20]).sum() / np.square(logits[:20]).sum()
    assert noise < 1e-3, "30 dB: what is left are ties"


def test_what_is_written_is_fully_integer_and_holds_the_trained_numbers(
    tiny_graph: FrozenGraph, template: QatTemplate, moved: FakeQuantization, tmp_path: Path
) -> None:
    path = tmp_path / "trained.tflite"
    path.write_bytes(training.written(template, moved, tiny_graph, SCHEME))
    assert RUNTIME.describe(path).compute_float == 0
    again = training.read(
        QatTemplate(quantized=_int8_ends(template, moved, tiny_graph), float_model=template.float_model),
        tiny_graph,
    )
    for name, grid in moved.grids.items():
        assert again.grids[name].scale == pytest.approx(grid.scale, rel=1e-6), name
    for layer, weights in moved.weights.items():
        np.testing.assert_allclose(again.weights[layer].rounded(), weights.rounded(), rtol=1e-6)


def _int8_ends(template: QatTemplate, trained: FakeQuantization, graph: FrozenGraph) -> bytes:
    from edgefx.runtimes.tflite import flatbuffer

    model = flatbuffer.read(template.quantized)
    training._Walk(model, graph).write(trained)
    return flatbuffer.write(model)


def test_the_other_runtimes_get_the_trained_weights_and_ranges(
    *,
    tiny_graph: FrozenGraph,
    tiny_calibration: ImageSet,
    tiny_images: ImageSet,
    template: QatTemplate,
    start: FakeQuantization,
    moved: FakeQuantization,
    tmp_path: Path,
) -> None:
    from edgefx.qat.transfer import transferred
    from edgefx.runtimes.onnx import readback as onnx_grids
    from edgefx.runtimes.onnx.runtime import RUNTIME as ONNX
    from edgefx.runtimes.openvino import readback as openvino_grids
    from edgefx.runtimes.openvino.runtime import RUNTIME as OPENVINO
    from edgefx.runtimes.readback import Canonical

    scheme = replace(SCHEME, io_dtype=IoDtype.FLOAT32)
    canonical = Canonical(tiny_graph)
    reference = tmp_path / "a.tflite"
    reference.write_bytes(training.written(template, moved, tiny_graph, SCHEME))
    with RUNTIME.open_session(reference, threads=1) as session:
        wanted = session.infer(tiny_images.pixels).argmax(axis=1)
    progress = RecordedProgress()
    again = transferred(
        moved,
        tiny_graph,
        tmp_path / "graph",
        start=start,
        calibration=tiny_calibration,
        imitates=False,
        progress=progress,
    )
    request = ConversionRequest(
        graph=tiny_graph,
        scheme=scheme,
        calibration=tiny_calibration,
        trained=TrainedQuantization(template=template, parameters=moved, graph=again),
    )
    for name, target, grids in (("a.onnx", ONNX, onnx_grids), ("a.xml", OPENVINO, openvino_grids)):
        path = tmp_path / name
        target.convert(request, path, progress)
        found = grids.quantization(path, tiny_graph)
        checked = 0
        for grid in found.grids:
            layer = canonical.layer_behind(grid.tensor)  # None where a bias is still to come
            span = moved.activation_ranges().get(layer or "")
            if grid.dynamic or span is None or len(grid.low) != 1 or grid.tensor.startswith("predictions"):
                continue
            step = (span[1] - span[0]) / 255
            np.testing.assert_allclose(
                [grid.low[0], grid.high[0]], span, atol=step, err_msg=f"{name} {grid.tensor} {grid.readers}"
            )
            checked += 1
        assert checked >= 3, name
        with target.open_session(path, threads=1) as session:
            top1 = session.infer(tiny_images.pixels).argmax(axis=1)
        assert (top1 == wanted).mean() >= 0.97, name


def test_biases_for_runtimes_that_round_less_keep_the_means(
    tiny_graph: FrozenGraph,
    tiny_calibration: ImageSet,
    start: FakeQuantization,
    moved: FakeQuantization,
    tmp_path: Path,
) -> None:
    """With the float model as the teacher, each layer's mean stays; otherwise what was learned is added."""
    from edgefx.models.graph.freeze import GraphRunner
    from edgefx.qat.transfer import transferred

    def logits(graph: FrozenGraph) -> NDArray[np.float32]:
        scores = GraphRunner(graph.path, outputs=graph.output_names).infer(tiny_calibration.pixels)
        return np.log(np.maximum(scores, 1e-12))

    def error(graph: FrozenGraph) -> float:
        difference = logits(graph) - logits(tiny_graph)
        return float(np.square(difference - difference.mean(axis=1, keepdims=True)).mean())

    def graph(name: str, trained: FakeQuantization, *, imitates: bool) -> FrozenGraph:
        return transferred(
            trained,
            tiny_graph,
            tmp_path / name,
            start=start,
            calibration=tiny_calibration,
            imitates=imitates,
            progress=RecordedProgress(),
        )

    as_stored = with_weights(tiny_graph, moved.canonical_weights(), tmp_path / "stored")
    taught = graph("taught", moved, imitates=True)
    assert error(taught) < error(as_stored) / 2
    # Nothing learned: both ways are one.
    for imitates in (True, False):
        unmoved = graph(f"unmoved-{imitates}", start, imitates=imitates)
        np.testing.assert_array_equal(
            logits(unmoved), logits(graph("unmoved", start, imitates=True)), str(imitates)
        )


def test_other_weights_are_written_into_a_graph_of_their_own(
    tiny_graph: FrozenGraph, tiny_images: ImageSet, start: FakeQuantization, tmp_path: Path
) -> None:
    from edgefx.models.graph.freeze import GraphRunner

    exact = {}
    for node in from_tensorflow(tiny_graph).nodes:
        if isinstance(node.op, Conv | DepthwiseConv | Dense):
            assert node.op.bias is not None
            exact[node.name] = node.op.kernel, node.op.bias
    same = with_weights(tiny_graph, exact, tmp_path)
    before, after = (
        GraphRunner(graph.path, outputs=graph.output_names).infer(tiny_images.pixels[:5])
        for graph in (tiny_graph, same)
    )
    np.testing.assert_array_equal(before, after)
    rounded = start.canonical_weights()
    for layer, (kernel, _) in rounded.items():
        error = np.abs(kernel - exact[layer][0])
        # GPTQ may have chosen a code that is not the nearest.
        assert error.max() <= 4.5 * (start.weights[layer].steps / start.weights[layer].factors).max(), layer
