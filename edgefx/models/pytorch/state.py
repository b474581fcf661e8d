"""Read a PyTorch state dict, without PyTorch: ``.safetensors``, or the zip file of ``torch.save``.

A state dict maps names to arrays. Safetensors is a JSON header and the arrays one after the other
(https://huggingface.co/docs/safetensors). The zip file holds a pickle and one file per storage. A pickle is a
program: this one may call the three functions that make tensors of a checkpoint and nothing else, and they
are ours. All sizes are bounded by the file's own before memory is taken.
"""

from __future__ import annotations

import io
import json
import math
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgefx.errors import ModelError
from edgefx.models.safety.archives import ZIP_ERRORS

State = Mapping[str, NDArray[Any]]

_MIB = 1 << 20
_MAX_HEADER = 16 * _MIB  # bytes of names and shapes; those of EfficientNet-B7 have 0.2 MB
_MAX_TENSORS = 20_000
_MAX_RANK = 8
_DTYPES = {
    "F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2", "I64": "<i8", "I32": "<i4", "I16": "<i2",
    "I8": "<i1", "U8": "<u1", "BOOL": "<u1",
}  # fmt: skip
_STORAGES = {
    "DoubleStorage": "F64", "FloatStorage": "F32", "HalfStorage": "F16", "BFloat16Storage": "BF16",
    "LongStorage": "I64", "IntStorage": "I32", "ShortStorage": "I16", "CharStorage": "I8",
    "ByteStorage": "U8", "BoolStorage": "BOOL",
}  # fmt: skip
_WRAPPERS = ("state_dict", "model", "state_dict_ema", "model_ema")  # where training scripts put it
_SAVE = "in PyTorch: safetensors.torch.save_file(model.state_dict(), 'weights.safetensors')"


def read(content: Path, *, source: Path) -> State:
    """Return the arrays of a state dict by name, float32 where they are weights.

    Args:
        content: The file.
        source: Its name, for messages and for its kind.

    Raises:
        ModelError: It is damaged, holds something other than tensors, or is of an older format.
    """
    try:
        is_zip = zipfile.is_zipfile(content)
        state = _zip(content, source) if is_zip else _safetensors(content, source)
    except (pickle.UnpicklingError, *ZIP_ERRORS) as error:
        raise ModelError(
            f"{source}: damaged, or no PyTorch weights: {error}", hint=f"save it again, {_SAVE}"
        ) from error
    except (TypeError, KeyError, IndexError, AttributeError, RecursionError) as error:
        # What a header or a pickle of the wrong structure makes.
        raise ModelError(
            f"{source}: no PyTorch weights as they are saved ({type(error).__name__}: {error})",
            hint=f"save it again, {_SAVE}",
        ) from error
    if not state:
        raise ModelError(f"{source}: holds no tensors", hint=f"save it again, {_SAVE}")
    prefix = "module." if all(name.startswith("module.") for name in state) else ""  # of DataParallel
    return {name.removeprefix(prefix): _as_float32(value) for name, value in state.items()}


@dataclass(frozen=True, eq=False)
class _Tensor:
    """Raw elements and their dtype by safetensors' name; bfloat16, which NumPy has not, as uint16."""

    values: NDArray[Any]
    dtype: str


def _as_float32(tensor: _Tensor) -> NDArray[Any]:
    if tensor.dtype == "BF16":  # the upper half of a float32
        return (tensor.values.astype(np.uint32) << 16).view(np.float32)
    return tensor.values.astype(np.float32) if tensor.values.dtype.kind == "f" else tensor.values


# ---------------------------------------------------------------------------------------------- safetensors


def _safetensors(content: Path, source: Path) -> dict[str, _Tensor]:
    size = content.stat().st_size
    with content.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if not 2 <= length <= min(_MAX_HEADER, size - 8):
            raise ModelError(
                f"{source}: neither a safetensors file nor one of torch.save since PyTorch 1.6",
                hint=f"save it again, {_SAVE}",
            )
        header = json.loads(file.read(length))
        start = 8 + length
        entries = {name: entry for name, entry in header.items() if name != "__metadata__"}
        _check_count(len(entries))
        found = {}
        for name, entry in entries.items():
            begin, end = entry["data_offsets"]
            dtype, shape = np.dtype(_DTYPES[entry["dtype"]]), _shape(entry["shape"])
            if not 0 <= begin <= end <= size - start or end - begin != math.prod(shape) * dtype.itemsize:
                raise ValueError(f"'{name}' lies outside of the file, or has another size than its shape")
            file.seek(start + begin)
            values = np.frombuffer(file.read(end - begin), dtype).reshape(shape)
            found[str(name)] = _Tensor(values, entry["dtype"])
    return found


def _shape(given: Any) -> tuple[int, ...]:
    shape = tuple(given)
    if len(shape) > _MAX_RANK or any(type(length) is not int or length < 0 for length in shape):
        raise ValueError(f"{given!r:.80} is no shape")
    return shape


def _check_count(tensors: int) -> None:
    if tensors > _MAX_TENSORS:
        raise ValueError(f"{tensors} tensors, more than any EfficientNet has")


# ---------------------------------------------------------------------------------------------- torch.save


def _zip(content: Path, source: Path) -> dict[str, _Tensor]:
    with zipfile.ZipFile(content) as archive:
        members = {info.filename: info for info in archive.infolist()}
        pickles = [name for name in members if name.endswith("/data.pkl")]
        if len(pickles) != 1:
            raise ModelError(
                f"{source}: a zip file, but not one that torch.save wrote (no data.pkl in it)",
                hint=f"save it again, {_SAVE}",
            )
        for info in members.values():
            # torch.save does not compress: a member is as large as it is in the file.
            if info.compress_type != zipfile.ZIP_STORED or info.file_size > content.stat().st_size:
                raise ValueError(f"'{info.filename}' is compressed, which torch.save never does")
        if members[pickles[0]].file_size > _MAX_HEADER:
            raise ValueError("data.pkl is larger than the names and shapes of a model")
        folder = pickles[0].removesuffix("data.pkl")
        loaded = _Unpickler(archive.read(pickles[0]), lambda key: archive.read(f"{folder}data/{key}")).load()
    return _tensors(loaded, source)


def _tensors(loaded: Any, source: Path) -> dict[str, _Tensor]:
    """Return the state dict in what was saved."""
    for wrapper in _WRAPPERS:
        if isinstance(loaded, dict) and isinstance(loaded.get(wrapper), dict):
            loaded = loaded[wrapper]
    if not isinstance(loaded, dict):
        raise ModelError(
            f"{source}: holds no state dict, but a {type(loaded).__name__}", hint=f"save it again, {_SAVE}"
        )
    _check_count(len(loaded))
    return {name: value for name, value in loaded.items() if isinstance(value, _Tensor)}


class _Unpickler(pickle.Unpickler):
    """Makes tensors and ordered dictionaries; whatever else a pickle asks for is refused."""

    def __init__(self, pickled: bytes, storage: Callable[[str], bytes]) -> None:
        super().__init__(io.BytesIO(pickled), encoding="utf-8")
        self._storage = storage
        self._read: dict[str, tuple[bytes, str]] = {}

    def find_class(self, module: str, name: str) -> Any:
        """Return what a name in the pickle stands for; see `pickle.Unpickler`."""
        if module == "torch" and name in _STORAGES:
            return _STORAGES[name]
        allowed: dict[tuple[str, str], Any] = {
            ("collections", "OrderedDict"): OrderedDict,
            ("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor,
            ("torch._utils", "_rebuild_parameter"): _rebuild_parameter,
        }
        if (module, name) not in allowed:
            raise pickle.UnpicklingError(
                f"its pickle asks for {module}.{name:.80}, which no state dict needs; a whole model was"
                " saved, or something that wants to run"
            )
        return allowed[module, name]

    def persistent_load(self, pid: Any) -> Any:
        """Return a storage: its bytes and dtype; see `pickle.Unpickler`."""
        kind, dtype, key, _, _ = pid
        if kind != "storage" or dtype not in _DTYPES:
            raise pickle.UnpicklingError("its pickle holds a reference that is no storage")
        if key not in self._read:
            self._read[key] = (self._storage(str(key)), dtype)
        return self._read[key]


def _rebuild_tensor(storage: tuple[bytes, str], offset: int, shape: Any, strides: Any, *_: Any) -> _Tensor:
    """Make a tensor as ``torch._utils._rebuild_tensor_v2`` does; `offset` and `strides` count elements."""
    content, dtype = storage
    values = np.frombuffer(content, _DTYPES[dtype])
    shape, strides = _shape(shape), _shape(strides)
    if len(strides) != len(shape) or type(offset) is not int or offset < 0:
        raise ValueError("a tensor whose strides are not those of its shape")
    count = math.prod(shape)
    last = offset + sum((length - 1) * stride for length, stride in zip(shape, strides, strict=True))
    # A stride of 0 repeats a value without end: such a tensor is larger than what is stored.
    if count and (last >= len(values) or count > len(values)):
        raise ValueError("a tensor that reaches beyond its storage")
    steps = tuple(stride * values.itemsize for stride in strides)
    view = np.lib.stride_tricks.as_strided(values[offset:], shape, steps, writeable=False)
    return _Tensor(np.ascontiguousarray(view).reshape(shape), dtype)


def _rebuild_parameter(data: Any, *_: Any) -> Any:
    return data
