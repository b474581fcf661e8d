"""What TFLite's INT8 does on top of ranges: channel scales, biases, rounding, layers left in float."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edgefx.quantization import QuantScheme
from edgefx.quantize.ranges import RangeMethod
from edgefx.runtimes.protocol import ConversionRequest
from edgefx.runtimes.tflite import (
    aeq,
    artifact,
    bias,
    calibrate,
    convert,
    equalize,
    flatbuffer,
    rounding,
    segments,
    simulate,
)
from edgefx.runtimes.tflite.runtime import RUNTIME
from edgefx.types import Effort, FrozenGraph, ImageSet, IoDtype, Precision

from .conftest import RecordedProgress


@pytest.fixture(scope="module")
def content(tiny_graph: FrozenGraph) -> bytes:
    return convert.float_content(tiny_graph, RecordedProgress())


@pytest.fixture
def model(content: bytes) -> Any:
    return flatbuffer.read(content)


def logits(model: Any, images: ImageSet) -> NDArray[np.float32]:
    return simulate.scores(model, {}, frozenset(), images.pixels)


def ranges_of(
    model: Any, images: ImageSet, method: RangeMethod = RangeMethod.ACTIVATION_MSE
) -> dict[str, Any]:
    return calibrate.measure(model, images, RecordedProgress(), method=method)


def test_channel_scales_leave_the_function_as_it_is(
    model: Any, tiny_graph: FrozenGraph, tiny_calibration: ImageSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(equalize, "_PRICE", 1.0)  # as many as there are
    monkeypatch.setattr(equalize, "_WORTH", 0.0)
    before = logits(model, tiny_calibration)
    operations = len(model.subgraphs[0].operators)
    found = equalize.find(model)
    known = equalize.equalize(
        model,
        ranges_of(model, tiny_calibration),
        tiny_calibration.pixels,
        tiny_graph.spreads,
        RecordedProgress(),
    )
    assert len(found) >= 6, "digits has expansions and depthwise convolutions with a swish"
    assert len(model.subgraphs[0].operators) == operations + len(found)
    assert len(known) == 3 * len(found)
    np.testing.assert_allclose(logits(model, tiny_calibration), before, atol=2e-4 * np.abs(before).max())


def test_channel_scales_lower_the_noise_of_the_swish_that_gets_them(
    model: Any, tiny_graph: FrozenGraph, tiny_calibration: ImageSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On one exaggerated swish: a channel a hundred times as large as the others takes all levels."""
    monkeypatch.setattr(equalize, "_PRICE", 1.0)
    monkeypatch.setattr(equalize, "_WORTH", 0.0)
    swish = max(equalize.find(model), key=lambda swish: _channels(model, swish))
    axis = equalize._MAKING[flatbuffer.op_name(model, swish.maker)]
    large = np.ones(_channels(model, swish))
    large[0] = 100.0
    equalize._scale_constant(model, swish.maker, 1, axis, large)
    equalize._scale_constant(model, swish.maker, 2, 0, large)
    for reader in swish.readers:
        equalize._scale_constant(
            model, reader, 1, equalize._WEIGHTED[flatbuffer.op_name(model, reader)], 1 / large
        )
    ranges = ranges_of(model, tiny_calibration, RangeMethod.MIN_MAX)
    exact = logits(model, tiny_calibration)

    def noise(ranges: dict[str, Any]) -> float:
        both = frozenset((swish.before, *swish.followers))
        got = simulate.scores(model, ranges, both, tiny_calibration.pixels)
        return float(np.square(got - exact).sum())

    before = noise(ranges)
    known = equalize.equalize(model, ranges, tiny_calibration.pixels, tiny_graph.spreads, RecordedProgress())
    assert model.subgraphs[0].tensors[swish.before].name.decode() in known
    again = ranges_of(model, tiny_calibration, RangeMethod.MIN_MAX)
    assert noise(again | known) < 0.1 * before


def _channels(model: Any, swish: equalize.Swish) -> int:
    return flatbuffer.shape_of(model.subgraphs[0].tensors[swish.before])[-1]


def test_what_must_keep_one_scale_is_left_alone(
    model: Any, tiny_graph: FrozenGraph, tiny_calibration: ImageSet
) -> None:
    every = frozenset(swish.before for swish in equalize.find(model))
    written = flatbuffer.write(model)
    known = equalize.equalize(
        model,
        ranges_of(model, tiny_calibration),
        tiny_calibration.pixels,
        tiny_graph.spreads,
        RecordedProgress(),
        kept=every,
    )
    assert not known
    assert flatbuffer.write(model) == written


def test_bias_correction_takes_back_a_shift(model: Any, tiny_calibration: ImageSet) -> None:
    ranges = ranges_of(model, tiny_calibration)
    quantized = flatbuffer.read(aeq.quantize(model, ranges, Precision.INT8))
    layer = bias._layers(quantized)[2]
    right = _bias(quantized, layer.op).astype(np.float64)
    steps = np.asarray(quantized.subgraphs[0].tensors[layer.op.inputs[2]].quantization.scale)
    shift = 4 * layer.scale  # four steps of the output, in every channel
    bias.add_to(quantized, layer.op, np.full(len(right), shift))
    bias.correct(model, quantized, tiny_calibration.pixels, RecordedProgress())
    left = (_bias(quantized, layer.op) - right) * steps
    assert np.median(np.abs(left)) < 0.5 * shift


def test_what_a_few_images_cannot_tell_is_not_corrected() -> None:
    rng = np.random.default_rng(0)
    chance = rng.normal(0, 1, (30, 2000))
    certain = chance * 0.01 + 1.0
    assert np.mean(bias._certain(chance) == 0) > 0.9
    np.testing.assert_allclose(bias._certain(certain), certain.mean(axis=0), rtol=0.01)


def _bias(model: Any, op: Any) -> NDArray[np.int32]:
    tensor = model.subgraphs[0].tensors[op.inputs[2]]
    return np.ascontiguousarray(model.buffers[tensor.buffer].data).view(np.int32).copy()


def test_rounding_lowers_the_error_of_what_convolutions_make(model: Any, tiny_calibration: ImageSet) -> None:
    ranges = ranges_of(model, tiny_calibration)
    nearest = flatbuffer.read(aeq.quantize(model, ranges, Precision.INT8))
    better = flatbuffer.read(flatbuffer.write(nearest))
    correlated, last = rounding.Correlated(model, seed=0), Kept(rounding.Correlated(model, seed=1))
    for question, images in ((correlated, tiny_calibration.pixels), (last, tiny_calibration.pixels[-1:])):
        with RecordedProgress().task("", len(images)) as task:
            segments.ask(model, [question], images, task=task)
    rounding.optimize(model, better, correlated, RecordedProgress())
    errors: dict[str, list[float]] = {"nearest": [], "better": []}
    for name, x in last.kept[0].items():
        exact = _weights(model, name)
        for label, integer in (("nearest", nearest), ("better", better)):
            errors[label].append(float(np.square(x @ (_weights(integer, name) - exact).T).sum()))
    ratios = np.array(errors["better"]) / np.array(errors["nearest"])
    assert np.median(ratios) < 0.9
    assert np.exp(np.mean(np.log(ratios))) < 0.9


class Kept:
    """Asks what another question asks, and shows what is kept."""

    def __init__(self, question: rounding.Correlated) -> None:
        self.kept: list[dict[str, NDArray[np.float32]]] = []
        self.names, self.told, self.keep, self.add = (
            question.names,
            question.told,
            question.keep,
            self.kept.append,
        )


def _weights(model: Any, name: str) -> NDArray[np.float64]:
    """Return a convolution's weights as real values, [out, K]."""
    tensor = next(t for t in model.subgraphs[0].tensors if t.name.decode() == name)
    exact = flatbuffer.constant(model, tensor)
    if exact is not None:
        return exact.reshape(len(exact), -1)
    shape = flatbuffer.shape_of(tensor)
    codes = np.ascontiguousarray(model.buffers[tensor.buffer].data).view(np.int8).reshape(shape[0], -1)
    return codes * np.asarray(tensor.quantization.scale, np.float64)[:, None]


def test_vectors_are_what_a_convolution_multiplies() -> None:
    """SAME padding, stride 2, a 3 x 3 kernel: every vector times the kernel is one output value."""
    tf = pytest.importorskip("tensorflow")
    rng = np.random.default_rng(2)
    x, kernel = (
        rng.normal(size=(7, 6, 4)).astype(np.float32),
        rng.normal(size=(5, 3, 3, 4)).astype(np.float32),
    )
    want = (
        tf.nn.conv2d(x[None], kernel.transpose(1, 2, 3, 0), strides=2, padding="SAME").numpy().reshape(-1, 5)
    )
    conv = rounding._Convolution("x", "w", (3, 3), (2, 2), same=True, positions=len(want))
    got = rounding._vectors(x, conv, rng.permutation(len(want))) @ kernel.reshape(5, -1).T
    assert got.shape == want.shape
    np.testing.assert_allclose(np.sort(got, axis=0), np.sort(want, axis=0), rtol=1e-4, atol=1e-4)


def test_layers_kept_in_float_are_float_and_the_rest_is_not(
    tiny_graph: FrozenGraph, tiny_calibration: ImageSet, tmp_path: Path
) -> None:
    scheme = QuantScheme(
        precision=Precision.INT8,
        io_dtype=IoDtype.UINT8,
        effort=Effort.FAST,
        keep_float=frozenset({"stem_conv"}),
    )
    out = tmp_path / "mixed.tflite"
    RUNTIME.convert(
        ConversionRequest(graph=tiny_graph, scheme=scheme, calibration=tiny_calibration),
        out,
        RecordedProgress(),
    )
    found = artifact.describe(flatbuffer.read(out))
    assert sorted(found.float_ops) == ["CONV_2D", "LOGISTIC", "MUL"], "the convolution and its swish"
    assert found.compute_int > 10 * found.compute_float
    assert found.inputs[0].dtype == "uint8"
    with RUNTIME.open_session(out, threads=1) as session:
        scores = session.infer(tiny_calibration.pixels)
    assert tiny_calibration.labels is not None
    assert np.mean(scores.argmax(axis=1) == tiny_calibration.labels) > 0.9


@pytest.mark.parametrize(
    ("effort", "graph"),
    [(Effort.FAST, "tiny_graph"), (Effort.BALANCED, "tiny_graph"), (Effort.HIGH, "block_graph")],
)
def test_every_effort_is_fully_integer_and_repeats_itself(
    effort: Effort, graph: str, request: pytest.FixtureRequest, tiny_calibration: ImageSet, tmp_path: Path
) -> None:
    """The highest on a small graph: it trains, and most of the time of that is TensorFlow's tracing."""
    tiny_graph: FrozenGraph = request.getfixturevalue(graph)
    scheme = QuantScheme(precision=Precision.INT8, io_dtype=IoDtype.UINT8, effort=effort)
    made = []
    for name in ("a.tflite", "b.tflite"):
        RUNTIME.convert(
            ConversionRequest(graph=tiny_graph, scheme=scheme, calibration=tiny_calibration),
            tmp_path / name,
            RecordedProgress(),
        )
        made.append((tmp_path / name).read_bytes())
    assert made[0] == made[1]
    assert not artifact.describe(flatbuffer.read(made[0])).float_ops
