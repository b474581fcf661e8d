"""TFLite: the common contract, and what integer-only hardware needs on top."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgefx.errors import ArtifactError
from edgefx.quantization import QuantScheme
from edgefx.runtimes.protocol import ConversionRequest
from edgefx.runtimes.tflite import artifact, convert, flatbuffer
from edgefx.runtimes.tflite.runtime import RUNTIME
from edgefx.types import Effort, FrozenGraph, IoDtype, Precision, Runtime

from .conftest import RecordedProgress, TinyArtifacts
from .target_contract import TargetContract


class TestTflite(TargetContract):
    runtime = Runtime.TFLITE


@pytest.fixture(scope="module")
def int8(tiny_artifact: TinyArtifacts) -> Path:
    return tiny_artifact("tflite-int8")[0]


def test_weights_alone_are_integers_and_restored_once(tiny_graph: FrozenGraph, tmp_path: Path) -> None:
    scheme = QuantScheme(precision=Precision.WEIGHT_INT8, io_dtype=IoDtype.FLOAT32)
    request = ConversionRequest(graph=tiny_graph, scheme=scheme)
    (path,) = RUNTIME.convert(request, tmp_path / "tiny.tflite", RecordedProgress())
    model = flatbuffer.read(path)
    graph = model.subgraphs[0]
    restored = {
        int(op.outputs[0]): op for op in graph.operators if flatbuffer.op_name(model, op) == "DEQUANTIZE"
    }
    for op in graph.operators:
        name = flatbuffer.op_name(model, op)
        assert name != "QUANTIZE"
        assert flatbuffer.dtype_name(graph.tensors[op.outputs[0]]) == "float32"
        if name in ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"):
            stored = graph.tensors[restored[int(op.inputs[1])].inputs[0]]
            assert flatbuffer.dtype_name(stored) == "int8"
            assert flatbuffer.is_constant(model, stored)
            assert len(stored.quantization.scale) == flatbuffer.shape_of(graph.tensors[op.outputs[0]])[-1]
            assert not np.any(stored.quantization.zeroPoint)
    assert artifact.describe(model).precision == "float32, int8 weights"
    # Read back in terms of layers: the weights of every layer, and no activation.
    found = RUNTIME.read_quantization(path, tiny_graph)
    assert not found.grids
    assert not found.unmatched
    weighted = {
        info.name for info in tiny_graph.layers if info.kind in ("Conv2D", "DepthwiseConv2D", "Dense")
    }
    assert {one.layer for one in found.weights} == weighted


def test_int8_is_fully_integer(int8: Path) -> None:
    model = flatbuffer.read(int8)
    graph = model.subgraphs[0]
    found = artifact.describe(model)
    assert {flatbuffer.dtype_name(tensor) for tensor in graph.tensors} <= {"uint8", "int8", "int32"}
    assert not found.custom_ops
    assert not found.float_ops
    assert not {op.op for op in found.ops} & {"SHAPE", "STRIDED_SLICE", "PACK"}
    assert found.int8_macs_share == 1.0
    assert found.precision == "int8"


def test_int8_ends_are_exact(int8: Path) -> None:
    (image,), (scores,) = RUNTIME.describe(int8).inputs, RUNTIME.describe(int8).outputs
    assert (image.dtype, image.scale, image.zero_point) == ("uint8", 1.0, 0)
    assert (scores.dtype, scores.scale, scores.zero_point) == ("uint8", 1 / 256, 0)


def test_float_ends_are_the_only_float_tensors(tiny_artifact: TinyArtifacts) -> None:
    path = tiny_artifact("tflite-int8", io_dtype=IoDtype.FLOAT32, effort=Effort.FAST)[0]
    graph = flatbuffer.read(path).subgraphs[0]
    floats = {tensor.name.decode() for tensor in graph.tensors if flatbuffer.dtype_name(tensor) == "float32"}
    assert floats == {"image", "probabilities"}


def test_the_signature_has_the_names_of_the_ends(int8: Path) -> None:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(int8))
    assert interpreter.get_signature_list() == {
        "serving_default": {"inputs": ["image"], "outputs": ["probabilities"]}
    }
    run = interpreter.get_signature_runner()
    assert run(image=np.zeros((1, 32, 32, 3), np.uint8))["probabilities"].shape == (1, 10)


def test_float_file_is_made_once(tiny_graph: FrozenGraph, tmp_path: Path) -> None:
    own = FrozenGraph(path=tiny_graph.path, spec=tiny_graph.spec, layers=tiny_graph.layers, workdir=tmp_path)
    scheme = QuantScheme(precision=Precision.FLOAT32, io_dtype=IoDtype.FLOAT32)
    first, second = RecordedProgress(), RecordedProgress()
    RUNTIME.convert(ConversionRequest(graph=own, scheme=scheme), tmp_path / "a.tflite", first)
    made = (tmp_path / "float32.tflite").stat().st_mtime_ns
    RUNTIME.convert(ConversionRequest(graph=own, scheme=scheme), tmp_path / "b.tflite", second)
    assert (tmp_path / "float32.tflite").stat().st_mtime_ns == made
    assert (tmp_path / "a.tflite").read_bytes() == (tmp_path / "b.tflite").read_bytes()


def test_the_graph_says_which_ranges_need_no_image(tiny_graph: FrozenGraph) -> None:
    from edgefx.quantize.ranges import Consumer, Range
    from edgefx.runtimes.tflite import calibrate

    model = flatbuffer.read(convert.float_content(tiny_graph, RecordedProgress()))
    found = calibrate.analyse(model)
    ops = [flatbuffer.op_name(model, op) for op in model.subgraphs[0].operators]
    gates = sum(layer.name.endswith("se_excite") for layer in tiny_graph.layers)
    assert gates > 0
    assert len(found.swish) == ops.count("LOGISTIC") - gates
    assert sum(consumer is Consumer.SWISH for consumer in found.measured.values()) == len(found.swish)
    assert not set(found.measured) & {*found.known, *found.swish.values()}
    assert found.known[int(model.subgraphs[0].inputs[0])] == Range(0, 255)
    assert list(found.known.values()).count(Range(0, 1)) >= ops.count("LOGISTIC") + ops.count("SOFTMAX")


def test_logits_of_a_sigmoid_in_float_are_never_clipped() -> None:
    import tensorflow as tf

    from edgefx.quantize.ranges import Consumer
    from edgefx.runtimes.tflite import calibrate

    def several(image: Any) -> Any:
        gate = tf.sigmoid(tf.reduce_mean(image, [1, 2]))
        return tf.sigmoid(tf.matmul(gate, tf.constant(np.eye(3, 2, dtype=np.float32) * 5)))

    concrete = tf.function(several).get_concrete_function(tf.TensorSpec((1, 4, 4, 3), tf.float32))
    model = flatbuffer.read(tf.lite.TFLiteConverter.from_concrete_functions([concrete]).convert())
    usual, exact = calibrate.analyse(model), calibrate.analyse(model, float_sigmoids=[True])
    (logits,) = (index for index in usual.measured if usual.measured[index] is not exact.measured[index])
    assert (usual.measured[logits], exact.measured[logits]) == (Consumer.SIGMOID, Consumer.SCORES)
    assert list(exact.measured.values()).count(Consumer.SIGMOID) == 1  # a gate is a gate


def test_quantities_get_room_and_probabilities_none() -> None:
    import tensorflow as tf

    from edgefx.quantize.ranges import Consumer
    from edgefx.runtimes.tflite import calibrate

    def both(image: Any) -> Any:
        pooled = tf.reduce_mean(image, [1, 2])
        weights = tf.constant(np.arange(6, dtype=np.float32).reshape(3, 2))
        return tf.matmul(pooled, weights), tf.nn.softmax(tf.matmul(pooled, weights + 1))

    concrete = tf.function(both).get_concrete_function(tf.TensorSpec((1, 4, 4, 3), tf.float32))
    model = flatbuffer.read(tf.lite.TFLiteConverter.from_concrete_functions([concrete]).convert())
    ends = [int(index) for index in model.subgraphs[0].outputs]
    found = calibrate.analyse(model, unbounded=(True, True)).measured
    assert [found.get(end) for end in ends].count(Consumer.ANSWER) == 1
    assert list(found.values()).count(Consumer.ANSWER) == 1
    assert Consumer.ANSWER not in calibrate.analyse(model).measured.values()


def test_every_truncation_is_noticed(int8: Path, tmp_path: Path) -> None:
    content = int8.read_bytes()
    cut = tmp_path / "cut.tflite"
    for length in range(0, len(content) - 4, len(content) // 150):
        cut.write_bytes(content[:length])
        with pytest.raises(ArtifactError):
            RUNTIME.describe(cut)


def test_a_graph_that_is_no_image_classifier_is_refused(int8: Path, tmp_path: Path) -> None:
    model = flatbuffer.read(int8)
    graph = model.subgraphs[0]
    graph.inputs = [int(graph.operators[-1].inputs[0])]
    odd = tmp_path / "odd.tflite"
    odd.write_bytes(flatbuffer.write(model))
    with (
        pytest.raises(ArtifactError, match="not \\[N, height, width, 3\\]"),
        RUNTIME.open_session(odd, threads=1),
    ):
        pass
