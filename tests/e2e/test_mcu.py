"""The recipe for microcontrollers as it ships: TFLM, Vela, a bundle, and a C++ compiler for the sources."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.e2e.conftest import Finished, in_process

pytest.importorskip("ethosu", reason="ethos-u-vela is not installed")
pytest.importorskip("tflite_micro", reason="tflite-micro is not installed")
pytestmark = pytest.mark.usefixtures("digits_once")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Finished, Path]:
    out = tmp_path_factory.mktemp("mcu") / "out"
    settings = ("--set", "quantize.effort=fast", "--set", "benchmark=null", "--set", "quantize.budget=null")
    return in_process("run", "digits-mcu", *settings, "-o", out, "--json"), out


def test_all_limits_are_kept(run: tuple[Finished, Path]) -> None:
    done, _ = run
    assert done.code == 0, done.stderr
    found = {one["target"]: one for one in done.json["targets"]}
    assert list(found) == ["tflite-int8", "tflm-int8", "ethos-u55-128"]
    judged = {name: {gate["gate"]["metric"] for gate in one["gates"]} for name, one in found.items()}
    assert judged["tflite-int8"] == {"drop_pp", "size_bytes"}
    assert judged["tflm-int8"] == {"drop_pp", "size_bytes", "arena_bytes"}
    assert judged["ethos-u55-128"] == {"drop_pp", "size_bytes", "npu_coverage", "sram_bytes", "flash_bytes"}
    npu, mcu = found["ethos-u55-128"], found["tflm-int8"]
    assert npu["accuracy"] == found["tflite-int8"]["accuracy"], "that of what was compiled"
    assert npu["compilation"]["source_sha256"] == mcu["compilation"]["source_sha256"]
    assert sum(one["cycles"] for one in npu["compilation"]["placements"]) > 10_000
    assert {one["layer"] for one in npu["compilation"]["placements"]} >= {"stem_conv", "predictions"}


def test_tflm_computes_as_the_reference_kernels_do(run: tuple[Finished, Path]) -> None:
    done, _ = run
    (mcu,) = (one for one in done.json["targets"] if one["target"] == "tflm-int8")
    arena, parity = mcu["compilation"]["arena"], mcu["parity"]
    assert arena["needed_bytes"] < arena["bytes"] < 1.15 * arena["needed_bytes"]
    assert parity["images"] == parity["identical_to_reference"] == 360
    assert (parity["identical"] == 360) == (parity["parts_at"] == "")
    kinds = {one["name"]: one["version"] for one in mcu["compilation"]["operators"]}
    assert set(kinds) == {op["op"] for op in mcu["artifact"]["ops"]}
    assert min(kinds.values()) >= 1


def test_the_bundle_verifies_and_its_sources_compile(run: tuple[Finished, Path], tmp_path: Path) -> None:
    _, out = run
    bundle = out / "digits.edgefx.zip"
    assert in_process("verify", bundle).code == 0
    with zipfile.ZipFile(bundle) as opened:
        opened.extractall(tmp_path)
    sources = {path.name: path.read_bytes() for path in (tmp_path / "c").iterdir()}
    assert sources == {path.name: path.read_bytes() for path in (out / "digits-tflm-int8").iterdir()}
    assert sorted(sources) == [
        *("labels.h", "main.cc", "model_data.cc", "model_data.h", "model_quantization.h", "model_resolver.h")
    ]
    if shutil.which("g++") is None:
        pytest.skip("no g++ here")
    (tmp_path / "c" / "uses.cc").write_text('#include "labels.h"\n#include "model_quantization.h"\n')
    flags = ["-std=c++11", "-Wall", "-Wextra", "-Werror", "-Wno-unused-variable", "-fsyntax-only"]
    subprocess.run(["g++", *flags, "model_data.cc", "uses.cc"], cwd=tmp_path / "c", check=True)


# What of TFLM the program uses, for the functions in the library of the package: objects of its classes are
# made by its own constructors, in memory of which nothing but the size is known.
TFLM = {
    "micro_mutable_op_resolver.h": """
        #pragma once
        #include <new>
        enum TfLiteStatus { kTfLiteOk = 0, kTfLiteError = 1 };
        struct TfLiteTensor {
          struct { int type; void* params; } quantization;
          struct { float scale; int zero_point; } params;
          union { void* data; } data;
        };
        namespace tflite {
        struct PythonOpsResolver { PythonOpsResolver(); };  // knows all operations
        namespace micro {
        class MicroOpResolver;
        template <unsigned int tOpCount> class MicroMutableOpResolver {
         public:
          MicroMutableOpResolver() { new (memory_) PythonOpsResolver; }
          operator const MicroOpResolver&() const {
            return *reinterpret_cast<const MicroOpResolver*>(memory_); }
          %s
         private:
          alignas(64) char memory_[1 << 16];
        };
        }
        }
    """,
    "micro_log.h": """
        #pragma once
        void MicroPrintf(const char* format, ...);
    """,
    "micro_interpreter.h": """
        #pragma once
        #include <cstddef>
        #include <cstdint>
        #include "tensorflow/lite/micro/micro_mutable_op_resolver.h"
        #include "tensorflow/lite/schema/schema_generated.h"
        namespace tflite {
        namespace micro {
        class MicroResourceVariables;
        class MicroProfilerInterface;
        class MicroInterpreter {
         public:
          MicroInterpreter(const Model*, const MicroOpResolver&, std::uint8_t*, std::size_t,
                           MicroResourceVariables* = nullptr, MicroProfilerInterface* = nullptr,
                           bool = false);
          ~MicroInterpreter();
          TfLiteStatus AllocateTensors();
          TfLiteStatus Invoke();
          TfLiteTensor* input(std::size_t);
          TfLiteTensor* output(std::size_t);
         private:
          alignas(64) char memory_[1 << 14];
        };
        }
        }
    """,
    "schema_generated.h": """
        #pragma once
        #include <cstdint>
        namespace tflite { struct Model; inline const Model* GetModel(const void* buf) {  // where its root is
          std::uint32_t root = *static_cast<const std::uint32_t*>(buf);
          return reinterpret_cast<const Model*>(static_cast<const char*>(buf) + root); } }
    """,
}
RUN = """
import ctypes, sys
from pathlib import Path
import numpy as np
import tflite_micro
from tflite_micro.python.tflite_micro import runtime
library = next(Path(tflite_micro.__file__).parent.rglob("_runtime.so"))
ctypes.CDLL(str(library), mode=ctypes.RTLD_GLOBAL)
assert ctypes.CDLL(sys.argv[1]).main() == 0
sys.stdout.flush()
interpreter = runtime.Interpreter.from_file(sys.argv[2])
interpreter.set_input(np.full(eval(sys.argv[3]), -128, np.int8), 0)
interpreter.invoke()
print("\\nbest", int(interpreter.get_output(0).argmax()))
"""


def test_the_program_runs_in_tflm(run: tuple[Finished, Path], tmp_path: Path) -> None:
    """As the package for Linux has it, as a library: its sources are in no package registry."""
    done, out = run
    if shutil.which("g++") is None:
        pytest.skip("no g++ here")
    (mcu,) = (one for one in done.json["targets"] if one["target"] == "tflm-int8")
    shutil.copytree(out / "digits-tflm-int8", tmp_path / "c")
    added = [line for line in (tmp_path / "c" / "model_resolver.h").read_text().split() if ".Add" in line]
    methods = "".join(
        f"TfLiteStatus {one.partition('.')[2].partition('(')[0]}() {{ return kTfLiteOk; }}\n" for one in added
    )
    assert len(added) == len(mcu["compilation"]["operators"])
    for name, text in TFLM.items():
        folder = "schema" if name.startswith("schema") else "micro"
        path = tmp_path / "c" / "tensorflow" / "lite" / folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text.replace("%s", methods))
    flags = ["-std=c++17", "-Wall", "-Wextra", "-Werror", "-I.", "-shared", "-fPIC", "-o", "program.so"]
    subprocess.run(["g++", *flags, "main.cc", "model_data.cc"], cwd=tmp_path / "c", check=True)
    artifact = out / Path(mcu["artifact"]["files"][0]["path"]).name
    shape = str(mcu["artifact"]["inputs"][0]["shape"])
    command = [sys.executable, "-c", RUN, str(tmp_path / "c" / "program.so"), str(artifact), shape]
    ran = subprocess.run(command, capture_output=True, text=True, check=True)
    said, _, best = (ran.stderr + ran.stdout).strip().rpartition("best ")
    assert said.split()[-1] == best
