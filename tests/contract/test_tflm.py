"""What TensorFlow Lite for Microcontrollers makes of a file, by its own interpreter."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgefx.compilers import tflm
from edgefx.errors import ConversionError
from edgefx.npus import NPU_DEFAULTS
from edgefx.runtimes.tflite import flatbuffer, micro
from edgefx.runtimes.tflite.runtime import RUNTIME

schema = pytest.importorskip("ai_edge_litert.schema_py_generated")
pytest.importorskip("tflite_micro", reason="tflite-micro is not installed")


def softmax(classes: int) -> bytes:
    """A file whose only operation is an INT8 softmax of so many classes."""
    model, graph, op = schema.ModelT(), schema.SubGraphT(), schema.OperatorT()
    model.version, model.subgraphs, model.buffers = 3, [graph], [schema.BufferT()]
    logits = schema.TensorT()
    logits.name, logits.shape, logits.type, logits.buffer = b"logits", [1, classes], 9, 0
    logits.quantization = schema.QuantizationParametersT()
    logits.quantization.scale, logits.quantization.zeroPoint = [0.0625], [0]
    graph.tensors = [logits]
    op.opcodeIndex, op.inputs = 0, [0]
    op.outputs = [flatbuffer.add_like(model, 0, b"_scores", "int8", (1 / 256, -128))]
    op.builtinOptionsType, op.builtinOptions = schema.BuiltinOptions.SoftmaxOptions, schema.SoftmaxOptionsT()
    op.builtinOptions.beta = 1.0
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.SOFTMAX
    code.version = 2
    model.operatorCodes = [code]
    graph.operators, graph.inputs, graph.outputs = [op], [0], [1]
    flatbuffer.rename_io(model, input_name="logits", output_names=("scores",))
    return flatbuffer.write(model)


def answers(content: bytes, logits: list[np.ndarray]) -> list[np.ndarray]:
    from tflite_micro.python.tflite_micro import runtime

    interpreter = runtime.Interpreter.from_bytes(content, arena_size=1 << 20)
    found = []
    for one in logits:
        interpreter.set_input(one[None], 0)
        interpreter.invoke()
        found.append(interpreter.get_output(0)[0].copy())
    return found


def test_an_operation_that_ends_the_interpreter_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(tflm, "_MOST_ARENA", 1 << 18)
    with pytest.raises(ConversionError, match=r"ended with signal at SOFTMAX \(scores\)") as raised:
        tflm.COMPILER.compile(softmax(512), tmp_path / "out.tflite", "tflm-int8", NPU_DEFAULTS)
    assert "on a chip" in raised.value.hint
    assert not list(tmp_path.iterdir())


def test_a_softmax_of_many_classes_answers_every_image(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    logits = [generator.normal(0, spread, 1000).clip(-128, 127).astype(np.int8) for spread in (0, 1, 20, 60)]
    logits[-1][7] = 127
    content = softmax(1000)
    scores = [np.exp((one.astype(np.float64) - 127) * 0.0625) for one in logits]
    exact = [256 * one / one.sum() - 128 for one in scores]
    mended = answers(micro.adapted(content), logits)
    for found, wanted in zip(mended, exact, strict=True):
        assert np.abs(found - wanted).max() <= 1.0
    before = answers(content, logits[-1:])[0].astype(int)
    assert np.abs(mended[-1] - before).max() <= 1, "what TFLM ran before is rounded twice at most"
    (tmp_path / "model.tflite").write_bytes(content)
    ready, out = (
        RUNTIME.for_microcontrollers(tmp_path / "model.tflite", packed=False),
        tmp_path / "out.tflite",
    )
    assert tflm.COMPILER.compile(ready, out, "tflm-int8", NPU_DEFAULTS).arena is not None
    assert [(op.name, op.count) for op in RUNTIME.operators(out)] == [
        ("SOFTMAX", 1),
        ("QUANTIZE", 1),
    ]


def test_other_files_stay_as_they_are() -> None:
    assert micro.adapted(softmax(511)) == softmax(511)
