"""Write the two kinds of files that PyTorch's weights come in, without PyTorch."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Arrays = Mapping[str, NDArray[Any]]
_NAMES = {"float32": "F32", "float16": "F16", "uint16": "BF16", "int64": "I64"}


def safetensors(path: Path, arrays: Arrays) -> Path:
    """Write a .safetensors file; uint16 arrays hold bfloat16."""
    header, content = {}, b""
    for name, array in arrays.items():
        offsets = [len(content), len(content) + array.nbytes]
        header[name] = {
            "dtype": _NAMES[array.dtype.name],
            "shape": list(array.shape),
            "data_offsets": offsets,
        }
        content += array.tobytes()
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + content)
    return path


def checkpoint(path: Path, arrays: Arrays, *, wrapped: str = "") -> Path:
    """Write what ``torch.save(state_dict)`` writes; `wrapped` puts it under a key of a dictionary."""
    entries = b"".join(
        _text(name) + tensor(str(number), array.size, array.shape)
        for number, (name, array) in enumerate(arrays.items())
    )
    state = _ORDERED + b"(" + entries + b"u"
    if wrapped:
        state = b"}" + _text(wrapped) + state + b"s"
    storages = {str(number): array.tobytes() for number, array in enumerate(arrays.values())}
    return archive(path, b"\x80\x02" + state + b".", storages)


def archive(path: Path, pickled: bytes, storages: Mapping[str, bytes], *, compressed: bool = False) -> Path:
    """Write the zip file of a pickle and its storages."""
    method = zipfile.ZIP_DEFLATED if compressed else zipfile.ZIP_STORED
    with zipfile.ZipFile(path, "w", method) as file:
        file.writestr("archive/data.pkl", pickled)
        for key, content in storages.items():
            file.writestr(f"archive/data/{key}", content)
    return path


def tensor(
    key: str,
    elements: int,
    shape: tuple[int, ...],
    strides: tuple[int, ...] | None = None,
    *,
    kind: str = "FloatStorage",
    offset: int = 0,
) -> bytes:
    """Return the opcodes that make a tensor of a storage; strides count elements."""
    if strides is None:
        strides = tuple(int(np.prod(shape[position + 1 :])) for position in range(len(shape)))
    storage = (
        b"(" + _text("storage") + f"ctorch\n{kind}\n".encode() + _text(key) + _text("cpu") + _int(elements)
    )
    return (
        b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + b"tQ" + _int(offset) + _tuple(shape)
        + _tuple(strides) + b"\x89" + _ORDERED + b"tR"
    )  # fmt: skip


_ORDERED = b"ccollections\nOrderedDict\n)R"


def _text(value: str) -> bytes:
    return b"X" + len(value.encode()).to_bytes(4, "little") + value.encode()


def _int(value: int) -> bytes:
    return f"L{value}L\n".encode()


def _tuple(values: tuple[int, ...]) -> bytes:
    return b"(" + b"".join(_int(value) for value in values) + b"t"
