"""An int8 ``.tflite`` as C: the file as an array, its quantization and its class names as headers.

For firmware, where there are no files. The array is aligned as TensorFlow Lite for Microcontrollers wants it.
"""

from __future__ import annotations

import re

from edgefx.types import TensorInfo

FOLDER = "c"
_PER_LINE = 20
_TYPES = {"int8": "int8_t", "uint8": "uint8_t", "int16": "int16_t", "float32": "float"}
_NOTE = "/* Made by edgefx; SHA-256 of the model file: %s */\n"


def files(
    content: bytes, *, sha256: str, image: TensorInfo, scores: TensorInfo, class_names: tuple[str, ...]
) -> dict[str, bytes]:
    """Return the sources by name.

    Args:
        content: The ``.tflite`` file.
        sha256: Its SHA-256.
        image: Its input, [1, height, width, 3].
        scores: Its output, [1, classes].
        class_names: By index; without them there is no ``labels.h``.
    """
    note = _NOTE % sha256
    made = {
        "model_data.h": note + _MODEL_DATA_H % len(content),
        "model_data.cc": note + _model_data(content),
        "model_quantization.h": note + _quantization(image, scores),
    }
    if class_names:
        made["labels.h"] = note + _labels(class_names)
    return {f"{FOLDER}/{name}": text.encode("ascii") for name, text in made.items()}


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


def _quantization(image: TensorInfo, scores: TensorInfo) -> str:
    _, height, width, channels = image.shape
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
        "/* The output: a score per class. */",
        f"#define EDGEFX_OUTPUT_CLASSES {scores.shape[-1]}",
        *_end("output", scores, "score"),
        "",
        "#endif",
    ]
    return "\n".join(lines) + "\n"


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
