"""OpenVINO: the common contract, and what an IR pair must hold on top."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from edgefx.errors import ArtifactError, UsageError
from edgefx.quantization import QuantScheme
from edgefx.runtimes.openvino import artifact
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
    Runtime,
)

from .conftest import NATIVE, RecordedProgress, TinyArtifacts
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
def float32(tiny_artifact: TinyArtifacts) -> Path:
    return tiny_artifact("openvino-float32")[0]


@pytest.fixture(scope="module")
def int8(tiny_artifact: TinyArtifacts) -> Path:
    return tiny_artifact("openvino-int8")[0]


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
    assert small.int8_macs_share > 0.5  # this tiny model's first layers, and those of one position, are many
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


def test_integer_ends_are_exact(tiny_artifact: TinyArtifacts, tiny_images: ImageSet) -> None:
    with RUNTIME.open_session(tiny_artifact("openvino-int8", effort=Effort.FAST)[0], threads=1) as session:
        wanted = session.infer(tiny_images.pixels)
    for io_dtype, zero_point in ((IoDtype.UINT8, 0), (IoDtype.INT8, -128)):
        path = tiny_artifact("openvino-int8", io_dtype=io_dtype, effort=Effort.FAST)[0]
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
    effort: Effort,
    tiny_artifact: TinyArtifacts,
    tiny_graph: FrozenGraph,
    tiny_calibration: ImageSet,
    tmp_path: Path,
) -> None:
    """Also where nothing is left of an earlier conversion."""
    scheme = QuantScheme(hardware=NATIVE, precision=Precision.INT8, io_dtype=IoDtype.FLOAT32, effort=effort)
    fresh = FrozenGraph(
        path=tiny_graph.path, spec=tiny_graph.spec, layers=tiny_graph.layers, workdir=tmp_path
    )
    request = ConversionRequest(graph=fresh, scheme=scheme, calibration=tiny_calibration)
    before = tiny_artifact("openvino-int8", effort=effort)
    files = RUNTIME.convert(request, tmp_path / before[0].name, RecordedProgress())
    assert [file.read_bytes() for file in files] == [file.read_bytes() for file in before]


def test_convolutions_and_residual_sums_read_integers(tiny_graph: FrozenGraph, int8: Path) -> None:
    model = artifact.read(int8)
    read_quantized = {
        reader.get_node().get_friendly_name().split("/")[0]
        for operation in model.get_ordered_ops()
        if operation.get_type_name() == "FakeQuantize"
        for reader in operation.output(0).get_target_inputs()
    }
    kinds = {layer.name: layer.kind for layer in tiny_graph.layers}
    # What 32 pixels that were halved five times leave is one position, whose readers compute in float.
    one_position = {"block6a_project_conv", "block7a_expand_conv", "block7a_project_conv", "top_conv"}
    wanted = {
        name
        for name, kind in kinds.items()
        if (kind == "Conv2D" and "_se_" not in name and name != "stem_conv") or kind == "Add"
    } - one_position
    assert read_quantized == wanted
