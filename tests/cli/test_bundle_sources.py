"""The C sources of a bundle, by a C++ compiler: they are the model, and the program for TFLM runs it."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from edgefx.bundles import csource
from edgefx.compilation import Arena, Compilation, Operator
from edgefx.types import TensorInfo

NAMES = ("daisy", "a b", '"; system("x")*/', "x\n\x1b[31m??/", "\u00fc" * 1000)

MAIN = r"""
#include <stdio.h>
#include <string.h>
#include "labels.h"
#include "model_data.h"
#include "model_quantization.h"

int main(void) {
  edgefx_input_t pixel = (edgefx_input_t)(255 / EDGEFX_INPUT_SCALE + EDGEFX_INPUT_ZERO_POINT);
  edgefx_output_t score = 3;
  printf("%d %d %d %d %.9g %d\n", EDGEFX_INPUT_HEIGHT, EDGEFX_INPUT_WIDTH, EDGEFX_INPUT_CHANNELS, pixel,
         (double)((score - EDGEFX_OUTPUT_ZERO_POINT) * EDGEFX_OUTPUT_SCALE), EDGEFX_OUTPUT_CLASSES);
  fwrite(edgefx_model_data, 1, sizeof edgefx_model_data, stdout);
  for (int i = 0; i < EDGEFX_LABELS; ++i) printf("%s|", edgefx_labels[i]);
  return (size_t)edgefx_model_data % 16 != 0;
}
"""


def test_c_sources_compile_and_are_the_model(tmp_path: Path) -> None:
    if shutil.which("gcc") is None or shutil.which("g++") is None:
        pytest.skip("no gcc here")
    content = bytes(range(256)) * 7 + b"end"
    image = TensorInfo(name="image", shape=(1, 96, 64, 3), dtype="int8", scale=1.0, zero_point=-128)
    scores = TensorInfo(name="probabilities", shape=(1, 5), dtype="int8", scale=1 / 256, zero_point=-128)
    files = csource.files(content, sha256="ab" * 32, image=image, scores=scores, class_names=NAMES)
    for name, text in files.items():
        (tmp_path / Path(name).name).write_bytes(text)
    (tmp_path / "main.c").write_text(MAIN)
    flags = ["-Wall", "-Wextra", "-Werror", "-pedantic"]
    for command in (
        ["gcc", "-std=c99", *flags, "-c", "main.c"],
        ["g++", "-std=c++11", *flags, "-c", "model_data.cc"],
        ["g++", "main.o", "model_data.o", "-o", "main"],
    ):
        subprocess.run(command, cwd=tmp_path, check=True)
    ran = subprocess.run([tmp_path / "main"], capture_output=True, check=True)
    line, _, rest = ran.stdout.partition(b"\n")
    assert line == b"96 64 3 127 0.51171875 5"
    assert rest == content + "".join(f"{name}|" for name in NAMES).encode()


# What of TFLM the program uses, as tflite-micro declares it; its sources are in no package registry.
TFLM = {
    "tensorflow/lite/c/common.h": """
        #pragma once
        enum TfLiteStatus { kTfLiteOk = 0, kTfLiteError = 1 };
        union TfLitePtrUnion { void* data; };
        struct TfLiteTensor { TfLitePtrUnion data; };
    """,
    "tensorflow/lite/schema/schema_generated.h": """
        #pragma once
        namespace tflite { struct Model; inline const Model* GetModel(const void* buf) {
          return static_cast<const Model*>(buf); } }
    """,
    "tensorflow/lite/micro/micro_log.h": """
        #pragma once
        void MicroPrintf(const char* format, ...) __attribute__((format(printf, 1, 2)));
    """,
    "tensorflow/lite/micro/micro_mutable_op_resolver.h": """
        #pragma once
        #include "tensorflow/lite/c/common.h"
        namespace tflite {
        struct MicroOpResolver { int known = 0; };
        template <unsigned int tOpCount> class MicroMutableOpResolver : public MicroOpResolver {
         public:
          TfLiteStatus AddBatchMatMul() { return Add(); }
          TfLiteStatus AddConv2D() { return Add(); }
          TfLiteStatus AddCumSum() { return Add(); }
          TfLiteStatus AddSpaceToBatchNd() { return Add(); }
          TfLiteStatus AddUnidirectionalSequenceLSTM() { return Add(); }
         private:
          TfLiteStatus Add() { return static_cast<unsigned>(++known) > tOpCount ? kTfLiteError : kTfLiteOk; }
        };
        }
    """,
    "tensorflow/lite/micro/micro_interpreter.h": """
        #pragma once
        #include <cstddef>
        #include <cstdint>
        #include "tensorflow/lite/micro/micro_mutable_op_resolver.h"
        #include "tensorflow/lite/schema/schema_generated.h"
        namespace tflite {
        class MicroInterpreter {
         public:
          MicroInterpreter(const Model*, const MicroOpResolver& resolver, std::uint8_t* arena,
                           std::size_t size)
              : arena_(arena), fits_(size >= 2 * 1024 && resolver.known == 5) {}
          TfLiteStatus AllocateTensors() {
            input_.data.data = arena_;
            output_.data.data = arena_ + 1024;
            return fits_ ? kTfLiteOk : kTfLiteError;
          }
          TfLiteStatus Invoke() {
            if (static_cast<std::int8_t*>(input_.data.data)[0] != -128) return kTfLiteError;  // a black pixel
            static_cast<std::int8_t*>(output_.data.data)[1] = 5;
            return kTfLiteOk;
          }
          TfLiteTensor* input(std::size_t) { return &input_; }
          TfLiteTensor* output(std::size_t) { return &output_; }
         private:
          std::uint8_t* arena_;
          bool fits_;
          TfLiteTensor input_{}, output_{};
        };
        }
    """,
}
LOG = r"""
#include <cstdarg>
#include <cstdio>
#include "tensorflow/lite/micro/micro_log.h"
void MicroPrintf(const char* format, ...) {
  va_list arguments;
  va_start(arguments, format);
  std::vprintf(format, arguments);
  va_end(arguments);
}
"""


@pytest.mark.parametrize("named", [True, False])
def test_the_program_for_tflm_compiles_and_runs_against_its_declarations(tmp_path: Path, named: bool) -> None:
    if shutil.which("g++") is None:
        pytest.skip("no g++ here")
    kinds = (
        *("CONV_2D", "SPACE_TO_BATCH_ND", "CUMSUM", "BATCH_MATMUL"),
        "UNIDIRECTIONAL_SEQUENCE_LSTM",
    )
    compilation = Compilation(
        compiler="tflite-micro",
        source="tflite-int8",
        source_sha256="ab" * 32,
        operations=5,
        arena=Arena(needed_bytes=2000, bytes=2048),
        operators=tuple(Operator(name=kind, version=1, count=1) for kind in kinds),
    )
    image = TensorInfo(name="image", shape=(1, 16, 8, 3), dtype="int8", scale=1.0, zero_point=-128)
    scores = TensorInfo(name="probabilities", shape=(1, 5), dtype="int8", scale=1 / 256, zero_point=-128)
    names = ("daisy", "rose", "%s", "tulip", "x") if named else ()
    files = csource.files(
        b"model", sha256="ab" * 32, image=image, scores=scores, class_names=names, compilation=compilation
    )
    for name, source in {**files, "log.cc": LOG.encode()}.items():
        (tmp_path / name).write_bytes(source)
    for name, text in TFLM.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    flags = ["-std=c++17", "-Wall", "-Wextra", "-Werror", "-pedantic", "-I."]
    sources = ("main.cc", "model_data.cc", "log.cc")
    subprocess.run(["g++", *flags, *sources, "-o", "program"], cwd=tmp_path, check=True)
    ran = subprocess.run([tmp_path / "program"], capture_output=True, text=True, check=True)
    assert ran.stdout == ("rose" if named else "class 1")


def test_a_header_for_float_ends_has_no_scale() -> None:
    ends = TensorInfo(name="x", shape=(1, 8, 8, 3), dtype="float32")
    files = csource.files(b"x", sha256="ab", image=ends, scores=ends, class_names=())
    assert "labels.h" not in files
    text = files["model_quantization.h"].decode()
    assert "typedef float edgefx_input_t;" in text
    assert "SCALE" not in text
