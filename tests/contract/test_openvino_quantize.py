"""How OpenVINO models are quantized: what stays in float, which ranges are chosen, what rounding shifts."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edgefx.quantization import QuantScheme
from edgefx.runtimes.openvino import artifact, convert
from edgefx.runtimes.openvino.core import core
from edgefx.runtimes.openvino.runtime import RUNTIME
from edgefx.runtimes.protocol import ConversionRequest
from edgefx.types import Effort, FrozenGraph, ImageSet, IoDtype, Precision, Ranges, Resize
from edgefx.vocabulary import Hardware

from .conftest import NATIVE, RecordedProgress, RecordedTask


@pytest.fixture(scope="module")
def few(tiny_calibration: ImageSet) -> ImageSet:
    """Images for what does not depend on how many there are."""
    return replace(
        tiny_calibration, pixels=tiny_calibration.pixels[::5], labels=None, paths=tiny_calibration.paths[::5]
    )


def _int8(graph: FrozenGraph, images: ImageSet, out: Path, **options: Any) -> Path:
    scheme = QuantScheme(hardware=NATIVE, precision=Precision.INT8, io_dtype=IoDtype.FLOAT32, **options)
    request = ConversionRequest(graph=graph, scheme=scheme, calibration=images)
    return RUNTIME.convert(request, out, RecordedProgress())[0]


def test_large_maps_stay_in_float_where_the_cpu_is_faster_so(
    tiny_graph: FrozenGraph, few: ImageSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from edgefx.runtimes.openvino import placement

    def share(name: str) -> float:
        found = RUNTIME.describe(_int8(tiny_graph, few, tmp_path / f"{name}.xml", effort=Effort.FAST))
        assert found.int8_macs_share is not None
        return found.int8_macs_share

    model = convert.float_model(tiny_graph, RecordedProgress())
    convolutions = [op for op in model.get_ordered_ops() if op.get_type_name() == "Convolution"]
    monkeypatch.setattr(placement, "_LARGE", {})
    every = share("every")
    monkeypatch.setattr(placement, "_LARGE", dict.fromkeys(Hardware, 8 * 8))
    large = placement.large(model)
    assert 0 < len(large & {op.get_friendly_name() for op in convolutions}) < len(convolutions)
    assert 0 < share("fewer") < every
    small = {placement.layer_of(op) for op in convolutions if op.get_friendly_name() not in large}
    assert placement.large(model, keep_float=small) == frozenset()
    monkeypatch.setattr(placement, "_LARGE", dict.fromkeys(Hardware, 1))
    assert placement.large(model) == frozenset(), "an INT8 artifact computes in INT8"


def seen_of(model: Any, sources: list[str], images: ImageSet, task: RecordedTask) -> dict[str, Any]:
    from edgefx.runtimes.openvino import calibrate

    observing = calibrate.Observing(sources)
    calibrate.ask(model, [observing], images, task)
    return observing.seen()


def test_balanced_gates_compute_the_same(tiny_graph: FrozenGraph, tiny_calibration: ImageSet) -> None:

    from edgefx.runtimes.openvino import calibrate, equalize

    task = RecordedTask({}, "")
    model = convert.float_model(tiny_graph, RecordedProgress())
    exact = {"INFERENCE_PRECISION_HINT": "f32"}
    image = tiny_calibration.pixels[:1].astype(np.float32)
    before = core().compile_model(model, "CPU", exact)([image])[0].copy()
    products = [f"block{block}_se_excite/Mul" for block in ("1a", "2a", "3a", "4a")]
    seen = seen_of(model, products, tiny_calibration, task)
    original = dict(seen)
    readers = {f"block{block}_project_conv/Conv2D" for block in ("2a", "3a", "4a")}
    gates = equalize.gates(model, seen, readers=readers, images=len(tiny_calibration))
    sampling = equalize.sampling(gates, seed=0)
    calibrate.ask(model, [sampling], tiny_calibration, task)
    towards, costly = equalize.balance(model, gates, seen, sampling.samples(), task=task)
    assert set(towards) | costly == set(products[1:])
    assert not set(towards) & costly
    changed = [name for name in products if seen[name] is not original[name]]
    assert changed
    assert products[0] not in changed
    for name in changed:  # the channels' sizes have come closer to each other
        sizes = [values.high.max(axis=0) for values in (original[name], seen[name])]
        assert np.ptp(np.log(sizes[1])) < np.ptp(np.log(sizes[0]))
    after = core().compile_model(model, "CPU", exact)([image])[0]
    np.testing.assert_allclose(after, before, atol=1e-5)


def test_the_methods_of_choosing_ranges_are_those_of_all_runtimes(
    tiny_graph: FrozenGraph, tiny_calibration: ImageSet
) -> None:
    from edgefx.quantize.ranges import RangeMethod
    from edgefx.runtimes.openvino import calibrate, placement

    task = RecordedTask({}, "")
    model = convert.float_model(tiny_graph, RecordedProgress())
    sites = placement.find(model)
    seen = seen_of(model, [site.source for site in sites], tiny_calibration, task)
    found = {
        method: calibrate.ranges(model, sites, tiny_calibration, method, task)
        for method in (RangeMethod.MIN_MAX, RangeMethod.PERCENTILE, RangeMethod.ACTIVATION_MSE)
    }
    for site in sites:
        extremes = found[RangeMethod.MIN_MAX][site.source]
        assert extremes.low == pytest.approx(seen[site.source].low.min())
        assert extremes.high == pytest.approx(seen[site.source].high.max())
        assert found[RangeMethod.PERCENTILE][site.source].high <= extremes.high
    narrower = [
        found[RangeMethod.ACTIVATION_MSE][site.source].high < found[RangeMethod.MIN_MAX][site.source].high
        for site in sites
    ]
    assert any(narrower)
    assert not all(narrower)  # sums and what convolutions put out are never clipped


@pytest.mark.parametrize("ranges", [Ranges.MIN_MAX, Ranges.ENTROPY])
def test_ranges_asked_for_make_a_working_artifact(
    tiny_graph: FrozenGraph, few: ImageSet, tmp_path: Path, ranges: Ranges
) -> None:
    path = _int8(tiny_graph, few, tmp_path / "a.xml", effort=Effort.FAST, ranges=ranges)
    with RUNTIME.open_session(path, threads=1) as session:
        scores = session.infer(few.pixels[:1])
    assert np.isfinite(scores).all()


def test_a_product_that_is_clipped_on_other_images_stays_in_float() -> None:
    from edgefx.runtimes.openvino import equalize
    from edgefx.runtimes.openvino.calibrate import Seen

    def lost(samples: NDArray[np.float32]) -> float:
        """Share of its variance that a convolution behind [images, positions, channels] loses."""
        seen = Seen(low=samples.min(axis=1), high=samples.max(axis=1), mean=samples.mean(axis=(0, 1)))
        weights = np.random.default_rng(1).normal(size=(8, samples.shape[2]))
        return equalize._best(seen, samples, weights).lost

    even = np.random.default_rng(0).random((16, 25, 12)).astype(np.float32)
    rare = even.copy()
    rare[3, :, 5] *= 200  # one channel that a single image excites
    assert lost(even) < 1e-4
    assert lost(rare) > equalize._LOUD


def test_loud_products_are_read_in_float_and_stay_as_they_are(
    tiny_graph: FrozenGraph, few: ImageSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    from edgefx.runtimes.openvino import equalize, quantize

    def sites(model: Any) -> set[str]:
        operations = model.get_ordered_ops()
        return {op.get_friendly_name() for op in operations if op.get_type_name() == "FakeQuantize"}

    model = convert.float_model(tiny_graph, RecordedProgress())
    scheme = QuantScheme(hardware=NATIVE, precision=Precision.INT8, io_dtype=IoDtype.FLOAT32)
    monkeypatch.setattr(equalize, "_LOUD", math.inf)
    every = sites(quantize.quantize(model, few, scheme, RecordedProgress()))
    monkeypatch.setattr(equalize, "_LOUD", -1.0)
    monkeypatch.setattr(equalize, "_LOUD_WORK", dict.fromkeys(Hardware, 0.0))
    none = quantize.quantize(model, few, scheme, RecordedProgress())
    assert sites(none) == every
    monkeypatch.setattr(equalize, "_LOUD_WORK", dict.fromkeys(Hardware, 1.0))
    fewer = quantize.quantize(model, few, scheme, RecordedProgress())
    products = {f"{gate.name}/fake_quantize" for gate in equalize._gates(model)}
    assert products
    assert every - sites(fewer) == products
    names = {op.get_friendly_name() for op in fewer.get_ordered_ops()}
    assert not any(name.endswith("/balance") for name in names)


def test_few_products_are_left_in_float_and_the_costliest_first(
    tiny_graph: FrozenGraph, monkeypatch: pytest.MonkeyPatch
) -> None:
    from edgefx.runtimes.openvino import equalize

    model = convert.float_model(tiny_graph, RecordedProgress())
    gates = list(equalize._gates(model))
    work = artifact.macs_by_name(model)
    share = {gate.name: work[gate.reader.get_friendly_name()] / sum(work.values()) for gate in gates}
    lost = {gate.name: 0.1 + 0.01 * number for number, gate in enumerate(gates)}
    order = [gate.name for gate in reversed(gates)]
    most = 1.01 * (share[order[0]] + share[order[1]])
    monkeypatch.setattr(equalize, "_LOUD_WORK", dict.fromkeys(Hardware, most))
    assert equalize._costliest(model, gates, lost, Hardware.OTHER) == frozenset(order[:2])
    nothing = dict.fromkeys(lost, 0.0)
    assert equalize._costliest(model, gates, nothing, Hardware.OTHER) == frozenset()


def test_convolutions_without_a_bias_get_one_where_they_are_read(tmp_path: Path) -> None:
    """What rounding shifts is taken back between two convolutions that follow each other."""
    import keras

    from edgefx.models.graph.canonical import canonicalize
    from edgefx.models.graph.freeze import GraphRunner
    from edgefx.models.load import load

    keras.utils.set_random_seed(0)
    image = keras.Input((16, 16, 3))
    x = keras.layers.Rescaling(1 / 127.5, offset=-1)(image)
    for number in range(3):
        x = keras.layers.Conv2D(16, 3, padding="same", use_bias=False, name=f"conv{number}")(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    keras.Model(image, keras.layers.Dense(4, name="head")(x)).save(tmp_path / "plain.keras")
    graph = canonicalize(load(str(tmp_path / "plain.keras")), tmp_path)
    pixels = np.random.default_rng(0).integers(0, 256, (12, 16, 16, 3)).astype(np.uint8)
    images = ImageSet(
        pixels=pixels, labels=None, paths=(Path("a.png"),) * 12, sha256="0", resize=Resize.STRETCH
    )
    path = _int8(graph, images, tmp_path / "plain.xml")
    fake = [op for op in artifact.read(path).get_ordered_ops() if op.get_type_name() == "FakeQuantize"]
    assert [op.input_value(0).get_node().get_type_name() for op in fake] == ["Convolution", "Add"]
    wanted = GraphRunner(graph.path, outputs=graph.output_names).infer(pixels)
    with RUNTIME.open_session(path, threads=1) as session:
        scores = session.infer(pixels)
    assert np.abs((scores - wanted).mean(axis=0)).max() < 0.01 * np.abs(wanted).max()


def test_the_bias_takes_back_what_rounding_shifts() -> None:
    from edgefx.runtimes.openvino import weights as openvino_weights

    generator = np.random.default_rng(0)
    weights, values = generator.normal(size=(4, 6, 1, 1)), generator.normal(2, 1, size=(1000, 6))
    steps = openvino_weights.scales(weights, groups=False) * 8
    stored = openvino_weights.to_nearest(weights, steps) * steps
    coarse = np.floor(values)
    amount = openvino_weights.shift(weights, stored, values.mean(axis=0), coarse.mean(axis=0), groups=False)
    difference = coarse @ stored[:, :, 0, 0].T + amount - values @ weights[:, :, 0, 0].T
    np.testing.assert_allclose(difference.mean(axis=0), 0, atol=1e-9)


def test_what_reads_one_position_computes_in_float_wherever_its_channels_are() -> None:
    """Maps of 1 x 1, means with the channels last, and flattened maps; no map of several positions."""
    from openvino import Model, Type
    from openvino import opset13 as ops

    from edgefx.runtimes.openvino import placement

    def convolved(x: Any, name: str, size: int = 1) -> Any:
        kernel = ops.constant(np.ones((4, x.get_output_shape(0)[1], size, size), np.float32))
        edges = [size // 2] * 2
        made = ops.convolution(x, kernel, [1, 1], edges, edges, [1, 1])
        made.set_friendly_name(name)
        return made

    def multiplied(x: Any, name: str) -> Any:
        made = ops.matmul(x, ops.constant(np.ones((3, x.get_output_shape(0)[-1]), np.float32)), False, True)
        made.set_friendly_name(name)
        return made

    image = ops.parameter([1, 3, 4, 4], Type.f32)
    stem = ops.relu(convolved(image, "stem", 3))
    last = ops.relu(convolved(stem, "of a map", 3))
    tokens = multiplied(ops.reshape(ops.transpose(last, [0, 2, 3, 1]), [16, 4], False), "of positions")
    mean = ops.reduce_mean(ops.transpose(last, [0, 2, 3, 1]), [1, 2], True)
    flat = multiplied(ops.reshape(last, [1, 64], False), "flat")
    pixel = ops.reduce_max(last, [2, 3], True)
    left, right = (convolved(pixel, f"of a pixel {side}", 3) for side in ("left", "right"))
    total = ops.add(left, right)
    results = [tokens, multiplied(mean, "mean"), flat, total]
    sites = placement.find(Model(results, [image]))
    assert {reader for site in sites for reader, _ in site.consumers} == {"of a map", "of positions"}
