"""OpenVINO: the common contract, and what an IR pair must hold on top."""

from __future__ import annotations

import math
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edgefx.errors import ArtifactError, UsageError
from edgefx.quantization import QuantScheme
from edgefx.runtimes.openvino import artifact, convert
from edgefx.runtimes.openvino.core import core
from edgefx.runtimes.openvino.runtime import RUNTIME
from edgefx.runtimes.protocol import ConversionRequest
from edgefx.types import (
    Effort,
    FrozenGraph,
    ImageSet,
    IoDtype,
    OutputKind,
    Precision,
    Ranges,
    Resize,
    Runtime,
)
from edgefx.vocabulary import Hardware

from .conftest import NATIVE, RecordedProgress, RecordedTask
from .target_contract import TargetContract


class TestOpenVino(TargetContract):
    runtime = Runtime.OPENVINO


def _make(
    graph: FrozenGraph,
    folder: Path,
    precision: Precision,
    calibration: ImageSet | None = None,
    io_dtype: IoDtype = IoDtype.FLOAT32,
) -> Path:
    scheme = QuantScheme(hardware=NATIVE, precision=precision, io_dtype=io_dtype)
    return RUNTIME.convert(
        ConversionRequest(graph=graph, scheme=scheme, calibration=calibration),
        folder / "digits.xml",
        RecordedProgress(),
    )[0]


@pytest.fixture(scope="module")
def float32(tiny_graph: FrozenGraph, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _make(tiny_graph, tmp_path_factory.mktemp("float32"), Precision.FLOAT32)


@pytest.fixture(scope="module")
def int8(
    tiny_graph: FrozenGraph, tiny_calibration: ImageSet, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    return _make(tiny_graph, tmp_path_factory.mktemp("int8"), Precision.INT8, tiny_calibration)


def test_float32_computes_in_float32_for_anyone_who_opens_it(float32: Path) -> None:
    """CPUs with bf16 run a float32 IR in bf16 unless every operation asks for more."""

    for config in ({}, {"PERFORMANCE_HINT": "LATENCY"}, {"INFERENCE_PRECISION_HINT": "bf16"}):
        if config.get("INFERENCE_PRECISION_HINT") == "bf16" and "BF16" not in core().get_property(
            "CPU", "OPTIMIZATION_CAPABILITIES"
        ):
            continue
        compiled = core().compile_model(float32, "CPU", config)
        ran = {
            operation.get_rt_info()["runtimePrecision"].value
            for operation in compiled.get_runtime_model().get_ops()
            if operation.get_rt_info()["layerType"].value in ("Convolution", "FullyConnected", "MatMul")
        }
        assert ran == {"f32"}, config
    with RUNTIME.open_session(float32, threads=1) as session:
        assert session.precision_ran == "float32"


def test_int8_says_what_ran(int8: Path) -> None:
    with RUNTIME.open_session(int8, threads=1, precision=Precision.INT8) as session:
        assert session.precision_ran.split("+")[0] == "int8"


def test_operations_have_the_canonical_names(float32: Path, int8: Path, tiny_graph: FrozenGraph) -> None:
    layers = {layer.name for layer in tiny_graph.layers}
    kinds = ("Convolution", "GroupConvolution", "MatMul", "Swish", "Multiply", "ReduceMean", "Softmax")
    for path in (float32, int8):
        named = [
            operation.get_friendly_name().split("/")[0]
            for operation in artifact.read(path).get_ordered_ops()
            if operation.get_type_name() in kinds and not artifact.is_constant(operation)
        ]
        assert len(named) > 20
        assert set(named) <= layers


def test_the_graph_file_tells_nothing_of_this_machine(
    float32: Path, int8: Path, tiny_graph: FrozenGraph
) -> None:
    for path in (float32, int8):
        text = path.read_text(encoding="utf-8")
        assert "conversion_parameters" not in text
        assert str(tiny_graph.path.parent) not in text
        assert str(Path.home()) not in text
        assert not re.search(r"DIR/|/tmp/", text)


def test_int8_is_smaller_and_integer(int8: Path, float32: Path) -> None:
    small, large = RUNTIME.describe(int8), RUNTIME.describe(float32)
    assert small.files[1].size_bytes < 0.35 * large.files[1].size_bytes
    assert small.int8_macs_share is not None
    assert small.int8_macs_share > 0.65  # this tiny model's first layers are a larger part than usual
    assert any("float" in note for note in small.notes)
    # Depthwise convolutions compute in float: more accurate, and no slower.
    assert {op.dtype for op in small.ops if op.op == "GroupConvolution"} == {"float32"}


def test_nothing_is_printed_and_nobody_is_called(
    tiny_graph: FrozenGraph,
    tiny_calibration: ImageSet,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import socket

    def refuse(*_args: object, **_kwargs: object) -> None:
        raise AssertionError("a connection was tried")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    work = tmp_path / "work"
    work.mkdir()
    fresh = FrozenGraph(path=tiny_graph.path, spec=tiny_graph.spec, layers=tiny_graph.layers, workdir=work)
    _make(fresh, tmp_path, Precision.INT8, tiny_calibration)
    assert capfd.readouterr().out == ""


def test_integer_ends_are_exact(
    tiny_graph: FrozenGraph, tiny_calibration: ImageSet, tiny_images: ImageSet, int8: Path, tmp_path: Path
) -> None:
    with RUNTIME.open_session(int8, threads=1) as session:
        wanted = session.infer(tiny_images.pixels)
    for io_dtype, zero_point in ((IoDtype.UINT8, 0), (IoDtype.INT8, -128)):
        path = _make(tiny_graph, tmp_path, Precision.INT8, tiny_calibration, io_dtype)
        found = RUNTIME.describe(path)
        (image,), (scores,) = found.inputs, found.outputs
        assert (image.scale, image.zero_point) == (1.0, zero_point)
        assert scores.scale == pytest.approx(1 / 255)
        assert scores.zero_point == zero_point
        with RUNTIME.open_session(path, threads=1) as session:
            got = session.infer(tiny_images.pixels)
        assert np.abs(got - wanted).max() <= 0.5 / 255 + 0.02  # rounding, and ends fused differently
        assert np.abs(got - wanted).mean() <= 0.5 / 255


def test_integer_logits_have_a_scale_of_their_own() -> None:
    import openvino as ov
    from openvino import opset13 as ops

    from edgefx.runtimes.openvino.quantize import set_input_dtype, set_output_dtype

    image = ops.parameter([1, 2, 2, 3], ov.Type.f32, name="image")
    logits = ops.subtract(ops.reduce_sum(image, np.array([1, 2])), np.array([100, 200, 300], np.float32))
    logits.output(0).set_names({"logits"})
    model = ov.Model([logits], [image], "sums")
    scores = np.array([[-100.0, -50.0, 700.0]], np.float32)
    set_input_dtype(model, IoDtype.INT8)
    scale, zero_point = set_output_dtype(model, IoDtype.INT8, output=OutputKind.LOGITS, scores=scores)
    assert scale == pytest.approx(800 / 255)
    compiled = core().compile_model(model, "CPU")
    pixels = np.full((1, 2, 2, 3), 100, np.uint8)
    stored = compiled([(pixels ^ np.uint8(0x80)).view(np.int8)])[0]
    assert stored.dtype == np.int8
    np.testing.assert_allclose((stored.astype(float) - zero_point) * scale, [[300, 200, 100]], atol=scale)
    assert model.outputs[0].get_names() == {"logits"}


def test_channels_first_and_free_batch_of_other_origin(tmp_path: Path, tiny_images: ImageSet) -> None:
    import openvino as ov
    from openvino import opset13 as ops

    from edgefx.benchmarking.worker import serve

    image = ops.parameter(ov.PartialShape([-1, 3, 32, 32]), ov.Type.f32, name="x")
    means = ops.reduce_mean(image, np.array([2, 3]))
    ov.save_model(ov.Model([means], [image], "means"), tmp_path / "means.xml")
    pixels = tiny_images.pixels[:3]
    with RUNTIME.open_session(tmp_path / "means.xml", threads=1) as session:
        np.testing.assert_allclose(session.infer(pixels), pixels.mean(axis=(1, 2)), rtol=0.01)
        assert session.infer(pixels[:0]).shape == (0, 3)
        with pytest.raises(ValueError, match="images"):
            session.infer(pixels[:, :16])
    assert RUNTIME.describe(tmp_path / "means.xml").inputs[0].shape == (-1, 3, 32, 32)

    import io

    answers = list(serve(tmp_path / "means.xml", 1, None, io.StringIO("open\nrun 2\nstats\n")))
    assert len(answers) == 4


def test_half_a_pair_is_an_error(float32: Path, tmp_path: Path) -> None:
    xml = tmp_path / "model.xml"
    shutil.copy(float32, xml)
    with pytest.raises(ArtifactError, match=r"model\.bin are missing"):
        RUNTIME.describe(xml)
    weights = float32.with_suffix(".bin").read_bytes()
    xml.with_suffix(".bin").write_bytes(weights[: len(weights) // 2])
    with pytest.raises(ArtifactError, match=r"model\.xml"), RUNTIME.open_session(xml, threads=1):
        pass


def test_not_a_classifier_is_an_error(tmp_path: Path) -> None:
    import openvino as ov
    from openvino import opset13 as ops

    image = ops.parameter([1, 7], ov.Type.f32, name="x")
    ov.save_model(ov.Model([ops.relu(image)], [image], "vector"), tmp_path / "vector.xml")
    with (
        pytest.raises(ArtifactError, match="input shape"),
        RUNTIME.open_session(tmp_path / "vector.xml", threads=1),
    ):
        pass


def test_a_failed_conversion_keeps_the_old_pair(
    float32: Path, tiny_graph: FrozenGraph, tmp_path: Path
) -> None:
    for file in (float32, float32.with_suffix(".bin")):
        shutil.copy(file, tmp_path / file.name)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(UsageError):
        _make(tiny_graph, tmp_path, Precision.INT8, None)
    with pytest.raises(UsageError):
        _make(tiny_graph, tmp_path, Precision.DYNAMIC)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_layers_kept_in_float_are(
    tiny_graph: FrozenGraph, tiny_calibration: ImageSet, int8: Path, tmp_path: Path
) -> None:
    kept = frozenset({"block3a_expand_conv", "block2a_dwconv", "block4a_se_reduce"})
    scheme = QuantScheme(hardware=NATIVE, precision=Precision.INT8, io_dtype=IoDtype.FLOAT32, keep_float=kept)
    out = tmp_path / "digits.xml"
    RUNTIME.convert(
        ConversionRequest(graph=tiny_graph, scheme=scheme, calibration=tiny_calibration),
        out,
        RecordedProgress(),
    )

    def stored_in_float(path: Path) -> set[str]:
        return {
            operation.get_friendly_name().split("/")[0]
            for operation in artifact.read(path).get_ordered_ops()
            if operation.get_type_name() in ("Convolution", "GroupConvolution", "MatMul")
            and operation.input_value(0).get_node().get_type_name() != "FakeQuantize"
            and operation.input_value(1).get_node().get_type_name() == "Constant"
        }

    assert stored_in_float(out) == kept | {"stem_conv"}
    assert stored_in_float(int8) == {"stem_conv"}  # few weights, and the image has levels of its own
    before, after = RUNTIME.describe(int8).int8_macs_share, RUNTIME.describe(out).int8_macs_share
    assert before is not None
    assert after is not None
    assert after < before


@pytest.mark.parametrize("effort", list(Effort))
def test_the_same_inputs_give_the_same_bytes(
    effort: Effort, tiny_graph: FrozenGraph, tiny_calibration: ImageSet, tmp_path: Path
) -> None:
    scheme = QuantScheme(hardware=NATIVE, precision=Precision.INT8, io_dtype=IoDtype.FLOAT32, effort=effort)
    made = []
    for name in ("a", "b"):
        work = tmp_path / name
        work.mkdir()
        fresh = FrozenGraph(
            path=tiny_graph.path, spec=tiny_graph.spec, layers=tiny_graph.layers, workdir=work
        )
        files = RUNTIME.convert(
            ConversionRequest(graph=fresh, scheme=scheme, calibration=tiny_calibration),
            work / "digits.xml",
            RecordedProgress(),
        )
        made.append([file.read_bytes() for file in files])
    assert made[0] == made[1]


def test_convolutions_and_residual_sums_read_integers(tiny_graph: FrozenGraph, int8: Path) -> None:
    model = artifact.read(int8)
    read_quantized = {
        reader.get_node().get_friendly_name().split("/")[0]
        for operation in model.get_ordered_ops()
        if operation.get_type_name() == "FakeQuantize"
        for reader in operation.output(0).get_target_inputs()
    }
    kinds = {layer.name: layer.kind for layer in tiny_graph.layers}
    wanted = {
        name
        for name, kind in kinds.items()
        if (kind == "Conv2D" and "_se_" not in name and name != "stem_conv") or kind == "Add"
    }
    assert read_quantized == wanted


def test_large_maps_stay_in_float_where_the_cpu_is_faster_so(
    tiny_graph: FrozenGraph, tiny_calibration: ImageSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from edgefx.runtimes.openvino import placement

    def share(name: str) -> float:
        scheme = QuantScheme(hardware=NATIVE, precision=Precision.INT8, io_dtype=IoDtype.FLOAT32)
        path = tmp_path / f"{name}.xml"
        found = RUNTIME.describe(
            RUNTIME.convert(
                ConversionRequest(graph=tiny_graph, scheme=scheme, calibration=tiny_calibration),
                path,
                RecordedProgress(),
            )[0]
        )
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
    tiny_graph: FrozenGraph, tiny_calibration: ImageSet, tmp_path: Path, ranges: Ranges
) -> None:
    scheme = QuantScheme(
        hardware=NATIVE, precision=Precision.INT8, io_dtype=IoDtype.FLOAT32, effort=Effort.FAST, ranges=ranges
    )
    path = RUNTIME.convert(
        ConversionRequest(graph=tiny_graph, scheme=scheme, calibration=tiny_calibration),
        tmp_path / "a.xml",
        RecordedProgress(),
    )[0]
    with RUNTIME.open_session(path, threads=1) as session:
        scores = session.infer(tiny_calibration.pixels[:1])
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
    tiny_graph: FrozenGraph, tiny_calibration: ImageSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    from edgefx.runtimes.openvino import equalize, quantize

    def sites(model: Any) -> set[str]:
        operations = model.get_ordered_ops()
        return {op.get_friendly_name() for op in operations if op.get_type_name() == "FakeQuantize"}

    model = convert.float_model(tiny_graph, RecordedProgress())
    scheme = QuantScheme(hardware=NATIVE, precision=Precision.INT8, io_dtype=IoDtype.FLOAT32)
    monkeypatch.setattr(equalize, "_LOUD", math.inf)
    every = sites(quantize.quantize(model, tiny_calibration, scheme, RecordedProgress()))
    monkeypatch.setattr(equalize, "_LOUD", -1.0)
    monkeypatch.setattr(equalize, "_LOUD_WORK", dict.fromkeys(Hardware, 0.0))
    none = quantize.quantize(model, tiny_calibration, scheme, RecordedProgress())
    assert sites(none) == every
    monkeypatch.setattr(equalize, "_LOUD_WORK", dict.fromkeys(Hardware, 1.0))
    fewer = quantize.quantize(model, tiny_calibration, scheme, RecordedProgress())
    products = {f"{gate.name}/fake_quantize" for gate in equalize._gates(model)}
    assert products
    assert every - sites(fewer) == products
    names = {op.get_friendly_name() for op in fewer.get_ordered_ops()}
    assert not any(name.endswith("/balance") for name in names)


def test_few_products_are_left_in_float_and_the_costliest_first(
    tiny_graph: FrozenGraph, monkeypatch: pytest.MonkeyPatch
) -> None:
    from edgefx.runtimes.openvino import artifact, equalize

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
    path = _make(graph, tmp_path, Precision.INT8, images)
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
