"""ONNX: the common contract, and what is particular to the files written for ONNX Runtime."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from edgefx.errors import ArtifactError, ConversionError, OutputError
from edgefx.quantization import QuantScheme
from edgefx.runtimes.onnx import convert
from edgefx.runtimes.onnx import graph as onnx_graph
from edgefx.runtimes.onnx.runtime import RUNTIME
from edgefx.runtimes.protocol import ConversionRequest
from edgefx.types import Effort, FrozenGraph, ImageSet, IoDtype, Precision, Runtime

from .conftest import NATIVE, RecordedProgress, TinyArtifacts
from .target_contract import TargetContract

if TYPE_CHECKING:
    import onnx

    from edgefx.types import Scores


class TestOnnx(TargetContract):
    runtime = Runtime.ONNX


@pytest.fixture(scope="module")
def float_model(tiny_graph: FrozenGraph) -> onnx.ModelProto:
    return convert.float_model(tiny_graph, RecordedProgress())


@pytest.fixture(scope="module")
def int8(tiny_artifact: TinyArtifacts) -> Path:
    return tiny_artifact("onnx-int8")[0]


def test_the_float_graph_is_tidy(float_model: onnx.ModelProto) -> None:
    graph = float_model.graph
    assert [info.name for info in graph.input] == ["image"]
    assert [info.name for info in graph.output] == ["probabilities"]
    assert onnx_graph.opset_of(float_model) == convert.OPSET
    kinds = {node.op_type for node in graph.node}
    assert kinds <= {
        *("Transpose", "Add", "Conv", "Sigmoid", "Mul", "GlobalAveragePool"),
        *("Squeeze", "Reshape", "Gemm", "Softmax"),
    }
    shape_only = [node for node in graph.node if node.op_type in ("Squeeze", "Reshape", "Transpose")]
    assert len(shape_only) <= 2, "one in front of the stem, one in front of the head"
    for node in graph.node:
        assert ":" not in node.name
        assert "__" not in node.name
    assert all(len(node.input) == 3 for node in graph.node if node.op_type == "Conv"), "biases are fused"


def test_layers_keep_their_names(float_model: onnx.ModelProto, tiny_graph: FrozenGraph) -> None:
    written = {node.name.rpartition("/")[0] for node in float_model.graph.node if node.op_type == "Conv"}
    known = {layer.name for layer in tiny_graph.layers}
    assert written
    assert written <= known


def test_the_float_file_is_made_once(tiny_graph: FrozenGraph, float_model: onnx.ModelProto) -> None:
    again = RecordedProgress()
    shared = tiny_graph.workdir / "float32.onnx"
    made = shared.stat().st_mtime_ns
    assert convert.float_model(tiny_graph, again) == float_model
    assert shared.stat().st_mtime_ns == made


def test_int8_convolutions_are_fused_by_the_runtime(int8: Path, tmp_path: Path) -> None:
    """What `describe` counts as INT8 is what ONNX Runtime makes an integer kernel of."""
    import onnx
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    onnxruntime.InferenceSession(str(int8), options, providers=["CPUExecutionProvider"])
    optimized = onnx.load(tmp_path / "optimized.onnx")
    fused = sum(node.op_type.startswith("QLinear") for node in optimized.graph.node)
    found = RUNTIME.describe(int8)
    assert fused == found.compute_int8 > 0
    left = {node.output[0] for node in optimized.graph.node if node.op_type in ("Cast", "Mul")}
    assert not any(name.endswith(("/cast", "/restored")) for name in left), "stored weights are folded"


def test_what_stays_in_float_is_said(int8: Path) -> None:
    found = RUNTIME.describe(int8)
    assert any("convolutions run in INT8" in note for note in found.notes)
    with RUNTIME.open_session(int8, threads=1) as session:
        assert session.precision_ran == "int8+float32"


@pytest.mark.parametrize("precision", [Precision.FLOAT16, Precision.DYNAMIC])
def test_stored_weights_shrink_the_file(
    tiny_graph: FrozenGraph, tiny_artifact: TinyArtifacts, precision: Precision
) -> None:
    (small,) = tiny_artifact(f"onnx-{precision}")
    whole = (tiny_graph.workdir / "float32.onnx").stat().st_size
    assert small.stat().st_size < 0.75 * whole  # a tiny model is half names and structure


def test_integer_ends_carry_their_scale(tiny_artifact: TinyArtifacts) -> None:
    for io_dtype, zero_point in ((IoDtype.UINT8, 0), (IoDtype.INT8, -128)):
        found = RUNTIME.describe(tiny_artifact("onnx-int8", io_dtype=io_dtype, effort=Effort.FAST)[0])
        (image,), (scores,) = found.inputs, found.outputs
        assert (image.scale, image.zero_point) == (1.0, zero_point)
        assert scores.scale == pytest.approx(1 / 255)
        assert scores.zero_point == zero_point


@pytest.mark.parametrize("effort", list(Effort))
def test_every_effort_is_reproducible(
    tiny_artifact: TinyArtifacts,
    tiny_graph: FrozenGraph,
    tiny_calibration: ImageSet,
    tmp_path: Path,
    effort: Effort,
) -> None:
    scheme = QuantScheme(hardware=NATIVE, precision=Precision.INT8, io_dtype=IoDtype.FLOAT32, effort=effort)
    request = ConversionRequest(graph=tiny_graph, scheme=scheme, calibration=tiny_calibration)
    (again,) = RUNTIME.convert(request, tmp_path / "tiny.onnx", RecordedProgress())
    assert again.read_bytes() == tiny_artifact("onnx-int8", effort=effort)[0].read_bytes()


def test_layers_stay_in_float_when_asked(
    tiny_graph: FrozenGraph, tiny_calibration: ImageSet, int8: Path, tmp_path: Path
) -> None:
    import onnx

    quantized = [
        node.name.rpartition("/")[0]
        for node in onnx.load(int8).graph.node
        if node.op_type in ("Conv", "QLinearConv") and node.input[-1].endswith(("dequantized", "zero_point"))
    ]
    kept = quantized[0], quantized[-1]
    scheme = QuantScheme(
        hardware=NATIVE,
        precision=Precision.INT8,
        io_dtype=IoDtype.FLOAT32,
        effort=Effort.FAST,
        keep_float=frozenset(kept),
    )
    (out,) = RUNTIME.convert(
        ConversionRequest(graph=tiny_graph, scheme=scheme, calibration=tiny_calibration),
        tmp_path / "kept.onnx",
        RecordedProgress(),
    )
    found = RUNTIME.describe(out)
    assert f"kept in float as asked: {', '.join(sorted(kept))}" in found.notes
    written = onnx.load(out)
    constants = {tensor.name: tensor.data_type for tensor in written.graph.initializer}
    for layer in kept:
        stored = [kind for name, kind in constants.items() if name.startswith(f"{layer}/weight")]
        assert stored
        assert set(stored) <= {onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16}
        assert not any(node.name == f"{layer}/Conv" and "Q" in node.op_type for node in written.graph.node)
    assert found.compute_int8 == RUNTIME.describe(int8).compute_int8 - len(kept)


def test_something_must_be_left_for_int8(
    tiny_graph: FrozenGraph, tiny_calibration: ImageSet, tmp_path: Path
) -> None:
    every = frozenset(layer.name for layer in tiny_graph.layers)
    scheme = QuantScheme(
        hardware=NATIVE, precision=Precision.INT8, io_dtype=IoDtype.FLOAT32, keep_float=every
    )
    with pytest.raises(ConversionError, match="kept in float"):
        RUNTIME.convert(
            ConversionRequest(graph=tiny_graph, scheme=scheme, calibration=tiny_calibration),
            tmp_path / "x.onnx",
            RecordedProgress(),
        )
    assert list(tmp_path.iterdir()) == []


def test_a_locked_output_is_an_error(tiny_graph: FrozenGraph, tmp_path: Path) -> None:
    taken = tmp_path / "x.onnx"
    taken.mkdir()
    scheme = QuantScheme(hardware=NATIVE, precision=Precision.FLOAT32, io_dtype=IoDtype.FLOAT32)
    with pytest.raises(OutputError, match="cannot be written"):
        RUNTIME.convert(ConversionRequest(graph=tiny_graph, scheme=scheme), taken, RecordedProgress())
    assert list(tmp_path.iterdir()) == [taken]


def test_an_operation_without_onnx_counterpart_is_named(tiny_graph: FrozenGraph, tmp_path: Path) -> None:
    import tensorflow as tf

    with tf.Graph().as_default() as graph:
        image = tf.compat.v1.placeholder(tf.float32, [1, 32, 32, 3], name="image")
        pooled = tf.reduce_mean(image, axis=[1, 2])
        tf.identity(tf.math.lgamma(tf.tile(pooled, [1, 4])[:, :10]), name="probabilities")
    path = tmp_path / "graph.pb"
    path.write_bytes(graph.as_graph_def().SerializeToString())
    strange = FrozenGraph(path=path, spec=tiny_graph.spec, layers=(), workdir=tmp_path)
    scheme = QuantScheme(hardware=NATIVE, precision=Precision.FLOAT32, io_dtype=IoDtype.FLOAT32)
    with pytest.raises(ConversionError, match="Lgamma"):
        RUNTIME.convert(
            ConversionRequest(graph=strange, scheme=scheme), tmp_path / "x.onnx", RecordedProgress()
        )
    assert list(tmp_path.iterdir()) == [path]


class TestFilesOfOtherOrigin:
    """Files not written here: other layouts, free batches, integer inputs, several inputs."""

    def save(self, model: onnx.ModelProto, path: Path) -> Path:
        path.write_bytes(model.SerializeToString())
        return path

    def test_channels_first(
        self, float_model: onnx.ModelProto, tiny_images: ImageSet, tiny_scores: Scores, tmp_path: Path
    ) -> None:
        import onnx

        model = onnx.ModelProto()
        model.CopyFrom(float_model)
        transpose = next(node for node in model.graph.node if node.op_type == "Transpose")
        for node in model.graph.node:
            node.input[:] = ["image" if name == transpose.output[0] else name for name in node.input]
        model.graph.node.remove(transpose)
        for dim, size in zip(model.graph.input[0].type.tensor_type.shape.dim, (1, 3, 32, 32), strict=True):
            dim.dim_value = size
        path = self.save(model, tmp_path / "nchw.onnx")
        with RUNTIME.open_session(path, threads=1) as session:
            assert session.input_spec.shape == (1, 3, 32, 32)
            np.testing.assert_allclose(session.infer(tiny_images.pixels[:5]), tiny_scores[:5], atol=1e-5)

    def test_free_batch(
        self, float_model: onnx.ModelProto, tiny_images: ImageSet, tiny_scores: Scores, tmp_path: Path
    ) -> None:
        import onnx

        model = onnx.ModelProto()
        model.CopyFrom(float_model)
        for info in (model.graph.input[0], model.graph.output[0]):
            info.type.tensor_type.shape.dim[0].dim_param = "N"
        path = self.save(model, tmp_path / "free.onnx")
        assert RUNTIME.describe(path).inputs[0].shape == (1, 32, 32, 3)
        assert RUNTIME.describe(path).int8_macs_share == 0
        with RUNTIME.open_session(path, threads=1) as session:
            np.testing.assert_allclose(session.infer(tiny_images.pixels[:3]), tiny_scores[:3], atol=1e-5)

    def test_two_inputs(self, float_model: onnx.ModelProto, tmp_path: Path) -> None:
        import onnx

        model = onnx.ModelProto()
        model.CopyFrom(float_model)
        model.graph.input.append(onnx.helper.make_tensor_value_info("mean", 1, [3]))
        path = self.save(model, tmp_path / "two.onnx")
        assert [info.name for info in RUNTIME.describe(path).inputs] == ["image", "mean"]
        with pytest.raises(ArtifactError, match="2 inputs"), RUNTIME.open_session(path, threads=1):
            pass

    def test_external_weights(
        self, float_model: onnx.ModelProto, tiny_images: ImageSet, tiny_scores: Scores, tmp_path: Path
    ) -> None:
        import onnx

        model = onnx.ModelProto()
        model.CopyFrom(float_model)
        path = tmp_path / "big.onnx"
        onnx.save(model, path, save_as_external_data=True, location="big.data", size_threshold=256)
        found = RUNTIME.describe(path)
        assert [file.path.name for file in found.files] == ["big.onnx", "big.data"]
        with RUNTIME.open_session(path, threads=1) as session:
            np.testing.assert_allclose(session.infer(tiny_images.pixels[:2]), tiny_scores[:2], atol=1e-5)
        (tmp_path / "big.data").unlink()
        with pytest.raises(ArtifactError, match=r"big\.data"):
            RUNTIME.describe(path)
        with pytest.raises(ArtifactError, match=r"big\.data"), RUNTIME.open_session(path, threads=1):
            pass

    def test_images_of_another_size(self, int8: Path) -> None:
        with RUNTIME.open_session(int8, threads=1) as session, pytest.raises(ValueError, match="48"):
            session.infer(np.zeros((1, 48, 48, 3), np.uint8))
