"""An int8 ``.tflite`` as C: the file as an array, its quantization and its class names as headers.

For firmware, where there are no files. The array is aligned as TensorFlow Lite for Microcontrollers (TFLM)
wants it. Where TFLM has run the file, the operations and the arena that it needs are known as well, and a
program that runs the model is added.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence

from edgefx.compilation import Arena, Compilation, Operator
from edgefx.results import TargetResult
from edgefx.scores import output_of
from edgefx.types import ModelSpec, TensorInfo
from edgefx.vocabulary import ScoreFunction

_PER_LINE = 20
_TYPES = {"int8": "int8_t", "uint8": "uint8_t", "int16": "int16_t", "float32": "float"}
# Words that TFLM's methods do not write as their first letter and the rest in small ones.
_WORDS = {"LSTM": "LSTM", "CUMSUM": "CumSum", "MATMUL": "MatMul", "PADV2": "PadV2"}
_NOTE = "/* Made by edgefx; SHA-256 of the model file: %s */\n"


def of(
    result: TargetResult, content: bytes, class_names: tuple[str, ...], model: ModelSpec
) -> dict[str, bytes]:
    """Return the sources of a run's result by name.

    Args:
        result: Of ``tflite-int8`` or ``tflm-int8``, with an artifact.
        content: The artifact's file.
        class_names: By index; none where unknown.
        model: The model.
    """
    assert result.artifact is not None
    return files(
        content,
        sha256=result.artifact.files[0].sha256,
        image=result.artifact.inputs[0],
        scores=output_of(result.artifact.outputs, model),
        outputs=result.artifact.outputs,
        class_names=class_names,
        compilation=result.compilation,
    )


def files(
    content: bytes,
    *,
    sha256: str,
    image: TensorInfo,
    scores: TensorInfo,
    class_names: tuple[str, ...],
    outputs: Sequence[TensorInfo] = (),
    compilation: Compilation | None = None,
) -> dict[str, bytes]:
    """Return the sources by name.

    Args:
        content: The ``.tflite`` file.
        sha256: Its SHA-256.
        image: Its input, [1, height, width, 3].
        scores: Its output, [1, classes]; of several the one that the class names belong to.
        class_names: By index; without them there is no ``labels.h``.
        outputs: All of its outputs in their order; none where there is one.
        compilation: What TFLM's interpreter needs to run it; without it there is no program.
    """
    note = _NOTE % sha256
    made = {
        "model_data.h": note + _MODEL_DATA_H % len(content),
        "model_data.cc": note + _model_data(content),
        "model_quantization.h": note + _quantization(image, scores, outputs),
    }
    if class_names:
        made["labels.h"] = note + _labels(class_names)
    if compilation is not None and compilation.arena is not None:
        made["model_resolver.h"] = note + _resolver(compilation.operators, compilation.arena)
        place = outputs.index(scores) if outputs else 0
        made["main.cc"] = _main(named=bool(class_names), place=place)
    return {name: text.encode("ascii") for name, text in made.items()}


_MODEL_DATA_H = """\
#ifndef EDGEFX_MODEL_DATA_H_
#define EDGEFX_MODEL_DATA_H_

#define EDGEFX_MODEL_DATA_SIZE %du

#ifdef __cplusplus
extern "C" {
#endif

/* The .tflite file, aligned to 16 bytes. */
extern const unsigned char edgefx_model_data[EDGEFX_MODEL_DATA_SIZE];

#ifdef __cplusplus
}
#endif

#endif
"""


def _model_data(content: bytes) -> str:
    lines = (
        ",".join(map(str, content[place : place + _PER_LINE])) for place in range(0, len(content), _PER_LINE)
    )
    return (
        '#include "model_data.h"\n\n'
        "alignas(16) const unsigned char edgefx_model_data[EDGEFX_MODEL_DATA_SIZE] = {\n"
        + ",\n".join(lines)
        + "};\n"
    )


def _quantization(image: TensorInfo, scores: TensorInfo, outputs: Sequence[TensorInfo]) -> str:
    _, height, width, channels = image.shape
    function = ScoreFunction.of(scores.name)
    of_several = f" {scores.name}" if len(outputs) > 1 else ""
    lines = [
        "#ifndef EDGEFX_MODEL_QUANTIZATION_H_",
        "#define EDGEFX_MODEL_QUANTIZATION_H_",
        "",
        "#include <stdint.h>",
        "",
        "/* The input: RGB pixels from 0 to 255, rows from the top, one image. */",
        f"#define EDGEFX_INPUT_HEIGHT {height}",
        f"#define EDGEFX_INPUT_WIDTH {width}",
        f"#define EDGEFX_INPUT_CHANNELS {channels}",
        *_end("input", image, "pixel"),
        "",
        f"/* The output{of_several}: a score per class. */"
        if function is None
        else f"/* The output: a logit per class. Their {function}, which you compute, is the scores. */",
        f"#define EDGEFX_OUTPUT_CLASSES {scores.shape[-1]}",
        *_end("output", scores, "score" if function is None else "logit"),
        *_each(outputs),
        "",
        "#endif",
    ]
    return "\n".join(lines) + "\n"


def _each(outputs: Sequence[TensorInfo]) -> Iterator[str]:
    """Yield what is said of each of several outputs: its place, its size, its type and its quantization."""
    if len(outputs) < 2:
        return
    yield ""
    yield f"#define EDGEFX_OUTPUTS {len(outputs)}"
    taken = set[str]()
    for place, tensor in enumerate(outputs):
        name = re.sub(r"[^a-z0-9]", "_", tensor.name.lower())
        while name in taken:
            name += "_"
        taken.add(name)
        yield ""
        yield f"/* Output {place}: {tensor.name}, {' x '.join(map(str, tensor.shape))}. */"
        yield f"#define EDGEFX_OUTPUT_{name.upper()}_INDEX {place}"
        yield f"#define EDGEFX_OUTPUT_{name.upper()}_VALUES {math.prod(tensor.shape[1:])}"
        yield from _end(f"output_{name}", tensor, "value")


def _end(which: str, tensor: TensorInfo, what: str) -> list[str]:
    """Return the type of an end, and how its stored values are turned into real ones."""
    lines = [f"typedef {_TYPES[tensor.dtype]} edgefx_{which}_t;"]
    if tensor.scale is None:
        return [*lines, f"/* It is the {what} itself. */"]
    return [
        *lines,
        f"/* {what} = (stored - zero point) * scale */",
        f"#define EDGEFX_{which.upper()}_SCALE {_float(tensor.scale)}",
        f"#define EDGEFX_{which.upper()}_ZERO_POINT ({tensor.zero_point})",
    ]


def _float(value: float) -> str:
    """Write a float constant of C that is this float32."""
    text = f"{value:.9g}"
    return f"{text}f" if re.search(r"[.e]", text) else f"{text}.0f"


def _labels(class_names: tuple[str, ...]) -> str:
    names = ",\n".join(f'  "{_literal(name)}"' for name in class_names)
    return (
        "#ifndef EDGEFX_LABELS_H_\n#define EDGEFX_LABELS_H_\n\n"
        f"#define EDGEFX_LABELS {len(class_names)}\n\n"
        "/* Class names in UTF-8, in the order of the scores. */\n"
        f"static const char *const edgefx_labels[EDGEFX_LABELS] = {{\n{names}}};\n\n#endif\n"
    )


def _literal(text: str) -> str:
    """Write text for a string literal: printable ASCII as it is, and three octal digits for any other byte.

    A question mark could be part of a trigraph.
    """
    return "".join(
        chr(byte) if 0x20 <= byte < 0x7F and byte not in b'"\\?' else f"\\{byte:03o}"
        for byte in text.encode()
    )


# ---------------------------------------- for TFLM


def _resolver(operators: tuple[Operator, ...], arena: Arena) -> str:
    names = sorted({one.name for one in operators})
    added = "\n".join(
        f"  if (resolver.{_method(name)}() != kTfLiteOk) return kTfLiteError;" for name in names
    )
    versions = ", ".join(f"{one.name} version {one.version} x {one.count}" for one in operators)
    return f"""\
#ifndef EDGEFX_MODEL_RESOLVER_H_
#define EDGEFX_MODEL_RESOLVER_H_

#include "tensorflow/lite/micro/micro_mutable_op_resolver.h"

/* The tensor arena to reserve; the interpreter ran in {arena.needed_bytes} bytes on a 64-bit machine. */
#define EDGEFX_TENSOR_ARENA_BYTES {arena.bytes}u

/* TFLM has its classes in either of these, as of its version. */
namespace tflite {{
namespace micro {{}}
}}  // namespace tflite

namespace edgefx {{

using namespace ::tflite;
using namespace ::tflite::micro;
using Resolver = MicroMutableOpResolver<{len(names)}>;

/* All kernels that the model needs, and no other: {versions}. */
inline TfLiteStatus AddOperations(Resolver& resolver) {{
{added}
  return kTfLiteOk;
}}

}}  // namespace edgefx

#endif
"""


def _method(operator: str) -> str:
    """Return the method of TFLM's resolver that adds an operation: ``AddConv2D`` for ``CONV_2D``."""
    words = operator.removeprefix("CUSTOM:TFLM_").split("_")  # operations of its own
    return "Add" + "".join(
        word if word[0].isdigit() else _WORDS.get(word, word.capitalize()) for word in words
    )


def _main(*, named: bool, place: int) -> str:
    labels, told = (
        ('#include "labels.h"\n', '"%s", edgefx_labels[best]')
        if named
        else ("", '"class %d", static_cast<int>(best)')
    )
    return f"""\
/* Made by edgefx: runs the model once with TensorFlow Lite for Microcontrollers. */
#include <cstddef>
#include <cstdint>

{labels}#include "model_data.h"
#include "model_quantization.h"
#include "model_resolver.h"
#include "tensorflow/lite/micro/micro_interpreter.h"
#include "tensorflow/lite/micro/micro_log.h"
#include "tensorflow/lite/schema/schema_generated.h"

using namespace tflite;
using namespace tflite::micro;

namespace {{

constexpr std::size_t kPixels = EDGEFX_INPUT_HEIGHT * EDGEFX_INPUT_WIDTH * EDGEFX_INPUT_CHANNELS;
alignas(16) std::uint8_t tensor_arena[EDGEFX_TENSOR_ARENA_BYTES];
std::uint8_t pixels[kPixels]; /* RGB, rows from the top: let the camera write here */

}}  // namespace

int main() {{
  edgefx::Resolver resolver;
  if (edgefx::AddOperations(resolver) != kTfLiteOk) return 1;
  MicroInterpreter interpreter(GetModel(edgefx_model_data), resolver, tensor_arena,
                               sizeof(tensor_arena));
  if (interpreter.AllocateTensors() != kTfLiteOk) return 1;

  edgefx_input_t* input = static_cast<edgefx_input_t*>(interpreter.input(0)->data.data);
  for (std::size_t i = 0; i < kPixels; ++i) {{
    input[i] = static_cast<edgefx_input_t>(pixels[i] / EDGEFX_INPUT_SCALE + EDGEFX_INPUT_ZERO_POINT);
  }}
  if (interpreter.Invoke() != kTfLiteOk) return 1;

  const edgefx_output_t* scores = static_cast<const edgefx_output_t*>(interpreter.output({place})->data.data);
  std::size_t best = 0;
  for (std::size_t i = 1; i < EDGEFX_OUTPUT_CLASSES; ++i) {{
    if (scores[i] > scores[best]) best = i;
  }}
  MicroPrintf({told});
  return 0;
}}
"""
