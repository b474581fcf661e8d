"""`edgefx npu` around the compiler, for which a stand-in is run: what is asked of it, what it may answer."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import flatbuffers  # type: ignore[import-untyped]
import pytest
from ai_edge_litert import schema_py_generated as schema

from edgefx.npus import NPUS
from edgefx.report import write_report
from edgefx.runtimes.tflite import metadata as tflite_form
from edgefx.types import ArtifactFile
from tests.cli.conftest import Edgefx
from tests.unit.report_samples import report
from tests.unit.test_artifact_metadata import METADATA

# Writes what it was given, and a summary as Vela's.
STAND_IN = """
import shutil, sys
from pathlib import Path
words = sys.argv[1:]
options = dict(zip(words[1::2], words[2::2]))
print(words, file=open(Path(__file__).with_name("called"), "a"))
print("Warning (supported operators) operator: RESHAPE, ofm: 'head/Reshape;head/shape'")
print("Reason: Unsupported stride: \x1b[31m5\\nStride>3 is not supported\\n")
if options["--memory-mode"] == "Refused":
    print("a traceback\\nethosu.vela.errors.OptionError: 'Error: \\x1b[31mno such memory'", file=sys.stderr)
    sys.exit(1)
out = Path(options["--output-dir"])
out.mkdir()
shutil.copy(words[0], out / "model_vela.tflite")
(out / "model_per-layer.csv").write_text(
    "Original Operator,NNG Operator,Target,Op Cycles,Name\\n"
    "Conv2D,Conv2D,NPU,300,stem/BiasAdd;stem/Conv2D\\nSigmoid,LUT,NPU,20.5,stem/Sigmoid\\n"
    "Reshape,Passthrough,CPU,0,head/Reshape;head/shape\\n"
    "Softmax,Sub,NPU,4,scores/Softmax_softmax_2\\nSoftmax,Asr,NPU,6,probabilities\\n"
)
(out / "model_summary_x.csv").write_text(
    "core_clock,inference_time,sram_memory_used,dram_memory_used,on_chip_flash_memory_used,"
    "off_chip_flash_memory_used,cycles_total\\n500e6,0.0025,24.5,0,1,2,1250000\\n"
)
"""
CONFIG = """
[System_Config.Ethos_U55_High_End_Embedded]
[System_Config.Ethos_U55_Deep_Embedded]
[System_Config.Ethos_U85_SYS_DRAM_Mid]
[Memory_Mode.Shared_Sram]
[Memory_Mode.Refused]
"""


@pytest.fixture
def called(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The stand-in, first on the path; returns the file in which it notes how it was called."""
    package = tmp_path / "site" / "ethosu"
    (package / "vela").mkdir(parents=True)
    (package / "config_files" / "Arm").mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "vela" / "__init__.py").write_text("")
    (package / "vela" / "__main__.py").write_text(STAND_IN)
    (package / "config_files" / "Arm" / "vela.ini").write_text(CONFIG)
    monkeypatch.delitem(sys.modules, "ethosu", raising=False)  # the real one, which another test has imported
    monkeypatch.syspath_prepend(package.parent)
    monkeypatch.setenv("PYTHONPATH", str(package.parent))
    return package / "vela" / "called"


def tflite(dtype: str = "INT8", *, custom: bool = False) -> bytes:
    """Return a model of one operation, an image in and 12 scores out."""
    model, graph, code = schema.ModelT(), schema.SubGraphT(), schema.OperatorCodeT()
    operators = schema.BuiltinOperator
    code.builtinCode = operators.CUSTOM if custom else operators.RESHAPE
    code.deprecatedBuiltinCode, code.version = code.builtinCode, 1
    code.customCode = "ethos-u" if custom else None
    op, tensors = schema.OperatorT(), []
    for name, shape in (("image", [1, 2, 2, 3]), ("probabilities", [1, 12])):
        tensor = schema.TensorT()
        tensor.name, tensor.shape, tensor.buffer = name, shape, 0
        tensor.type = getattr(schema.TensorType, dtype)
        tensors.append(tensor)
    op.opcodeIndex, op.inputs, op.outputs = 0, [0], [1]
    graph.tensors, graph.operators, graph.inputs, graph.outputs = tensors, [op], [0], [1]
    model.version, model.subgraphs, model.operatorCodes, model.buffers = (
        3,
        [graph],
        [code],
        [schema.BufferT()],
    )
    builder = flatbuffers.Builder(0)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


@pytest.fixture
def artifact(tmp_path: Path) -> Path:
    path = tmp_path / "build" / "b0-int8.tflite"
    path.parent.mkdir()
    path.write_bytes(tflite())
    tflite_form.embed(path, METADATA)
    return path


def test_an_artifact_for_each_npu_with_estimates(edgefx: Edgefx, artifact: Path, called: Path) -> None:
    outcome = edgefx("npu", str(artifact), "-t", "ethos-u55-*", "--json")
    assert outcome.code == 0, outcome.err
    found = json.loads(outcome.out)
    assert [one["target"] for one in found["results"]] == [name for name in NPUS if "u55" in name]
    first = found["results"][0]
    assert first["estimate"] == {
        "inference_ms": 2.5,
        "clock_mhz": 500.0,
        "cycles": 1250000,
        "sram_bytes": 25088,
        "dram_bytes": 0,
        "flash_bytes": 3072,
    }
    assert found["accuracy"] is None
    assert [
        (one["layer"], one["operations"], one["processor"], one["cycles"], one["reason"])
        for one in first["placements"]
    ] == [
        ("stem", ["Conv2D", "Sigmoid"], "NPU", 320, ""),
        ("head", ["Reshape"], "CPU", 0, "Unsupported stride: \u241b[31m5 Stride>3 is not supported"),
        ("scores", ["Softmax"], "NPU", 10, ""),
    ], "the scores have a name of their own, and belong to the layer that makes them"
    made = artifact.with_name("b0-int8-ethos-u55-32.tflite")
    assert first["artifact"]["files"][0]["sha256"] == sha256(made.read_bytes()).hexdigest()
    stated = tflite_form.read(made)
    assert stated == replace(METADATA, target="ethos-u55-32")
    assert made.read_bytes().count(b"great white shark") == 2, "in the document and in labels.txt, once each"
    kept = json.loads(artifact.with_name("b0-int8-npu.json").read_text())
    assert kept["results"][0]["artifact"]["files"][0]["path"] == made.name
    assert [one["estimate"] for one in kept["results"]] == [one["estimate"] for one in found["results"]]
    asked = called.read_text().splitlines()
    assert len(asked) == 4
    assert (
        "'ethos-u55-32', '--config', 'Arm/vela.ini', '--system-config', 'Ethos_U55_High_End_Embedded'"
        in asked[0]
    )


def test_the_accuracy_is_that_of_what_was_compiled(edgefx: Edgefx, artifact: Path, called: Path) -> None:
    target = report().targets[0]
    assert target.artifact is not None
    digest = sha256(artifact.read_bytes()).hexdigest()
    file = ArtifactFile(path=artifact, size_bytes=1, sha256=digest)
    known = replace(target, artifact=replace(target.artifact, files=(file,)))
    write_report(replace(report(), targets=(known,)), artifact.parent)
    words = " ".join(edgefx("npu", str(artifact), "-t", "ethos-u55-64", "-o", str(called.parent)).out.split())
    assert (
        "top-1 92.12%, drop +1.09 pp (-0.31 to +2.48): that of tflite-int8, which was compiled, on a CPU"
        in words
    )
    assert "nothing was run on one" in words
    assert "on the CPU ethos-u55-64: RESHAPE x 1" in words, "what the stand-in leaves"
    assert "on the CPU ethos-u55-64: layer head (Reshape): Unsupported stride: \u241b[31m5 Stride>3" in words
    artifact.write_bytes(tflite())
    words = " ".join(edgefx("npu", str(artifact), "-t", "ethos-u55-64").out.split())
    assert "accuracy not known: no report beside b0-int8.tflite tells it" in words


@pytest.mark.usefixtures("called")
def test_a_refusal_is_that_npus_alone(edgefx: Edgefx, artifact: Path) -> None:
    outcome = edgefx("npu", str(artifact), "-t", "ethos-u55-32,ethos-u55-64", "--memory-mode", "Refused")
    assert outcome.code == 4
    assert "no such memory" in outcome.err
    assert "\x1b" not in outcome.err + outcome.out
    assert "FAILED" in outcome.out
    assert sorted(path.name for path in artifact.parent.iterdir()) == ["b0-int8-npu.json", "b0-int8.tflite"]


@pytest.mark.usefixtures("called")
def test_what_cannot_be_compiled(edgefx: Edgefx, artifact: Path) -> None:
    folder = artifact.parent
    (folder / "float.tflite").write_bytes(tflite("FLOAT32"))
    (folder / "done.tflite").write_bytes(tflite(custom=True))
    (folder / "damaged.tflite").write_bytes(tflite()[:100])
    for name, code, says in (
        ("nowhere.tflite", 2, "no such file"),
        ("a.onnx", 2, "NPUs take a .tflite file"),
        ("float.tflite", 2, "compute in float"),
        ("done.tflite", 2, "compiled for an NPU already"),
        ("damaged.tflite", 4, "damaged"),
    ):
        if name.endswith("onnx"):
            (folder / name).write_bytes(b"")
        outcome = edgefx("npu", str(folder / name), "-t", "ethos-u55-32")
        assert (outcome.code, says in outcome.err) == (code, True), outcome.err
    for options, says in (
        (("-t", "ethos-u54"), "unknown NPU 'ethos-u54'"),
        (("-t", "ethos-u55-32", "--memory-mode", "Shared_Ram"), "did you mean Shared_Sram"),
        (
            ("-t", "ethos-u55-32", "--system-config", "ethos_u55_hihg"),
            "did you mean Ethos_U55_High_End_Embedded",
        ),
        (
            ("-t", "ethos-u85-256", "--system-config", "Ethos_U55_Deep_Embedded"),
            "did you mean Ethos_U85_SYS_DRAM_Mid",
        ),
    ):
        outcome = edgefx("npu", str(artifact), *options)
        assert (outcome.code, says in " ".join(outcome.err.split())) == (2, True), outcome.err
    assert not list(folder.glob("*-npu.json"))


def test_a_missing_compiler_is_named(edgefx: Edgefx, artifact: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from edgefx.compilers import vela

    monkeypatch.setattr(vela, "is_installed", lambda _: False)
    outcome = edgefx("npu", str(artifact), "-t", "ethos-u55-32")
    assert outcome.code == 3
    assert "run: pip install 'edgefx[npu]'" in outcome.err
