"""An HDF5 file read to the end in a process of its own, before Keras reads it in this one.

HDF5 is a C library that trusts its files: a changed byte can make it loop for ever, ask for gigabytes or die.
No exception tells of any of that, so the first reading happens where it harms nobody, with a limit on the
processor's time and, where the system has one, on memory. What HDF5 allocates is what a data set declares,
and a data set that was never written takes no room in the file: declared sizes are bounded, too.

    python -m edgefx.models.safety.hdf5 FILE SIZE SECONDS    # what `judge` starts; SIZE 0: without any bound
"""

from __future__ import annotations

import contextlib
import json
import math
import signal
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgefx.errors import ModelError
from edgefx.models.safety.bounds import MIB, limit, too_large

if TYPE_CHECKING:
    from collections.abc import Iterator

_MAX_OBJECTS = 200_000  # groups and data sets; V2-L with its optimizer has 9,000
_SECONDS = 10  # of the processor; that of a B7 with its weights takes 1
_BYTES_PER_SECOND = 10 * MIB  # that large files may take beyond it
_MEMORY = 1024 * MIB  # that reading may take; more than one block, and the text of one configuration
_BLOCK = 16 * MIB  # bytes of a data set read at once

# What h5py raises on damaged files: the HDF5 library's errors come as almost any of Python's.
_ERRORS = (OSError, KeyError, RuntimeError, ValueError, TypeError, OverflowError, MemoryError)


@dataclass(frozen=True, kw_only=True)
class Hdf5Contents:
    """What an HDF5 file holds.

    Attributes:
        model_config: The text of a Keras model's configuration; None where there is none.
        keras_version: The version of Keras that wrote it; None where it does not say.
        members: How many groups and data sets its root holds.
        legacy: Whether it is laid out as Keras 2 does.
    """

    model_config: str | None
    keras_version: str | None
    members: int
    legacy: bool


def judge(path: Path, *, source: Path, size: int | None) -> Hdf5Contents:
    """Have a file read to the end by another process; return what it holds.

    Args:
        path: The file.
        source: What to call it in messages.
        size: How large the file, or the archive that it is from, is in bytes: what it may declare and take
            is in proportion. None sets no bound.

    Raises:
        ModelError: It leads to other files, or declares far more than its size; or no process can be had.
        ValueError: It is damaged.
    """
    seconds = _SECONDS + (size or 0) // _BYTES_PER_SECOND
    command = [sys.executable, "-P", "-m", __name__, str(path.resolve()), str(size or 0), str(seconds)]
    try:
        done = subprocess.run(command, capture_output=True, check=False)  # noqa: S603 - this very module
    except OSError as error:
        raise _no_process(source, error.strerror or str(error)) from error
    if done.returncode < 0:
        raise ValueError(_death(-done.returncode))
    if done.returncode > 0:
        raise _no_process(source, done.stderr.decode(errors="replace").strip().rpartition("\n")[2])
    answer = json.loads(done.stdout)
    if "damaged" in answer:
        raise ValueError(answer["damaged"])
    if "refused" in answer:
        raise ModelError(f"{source}{answer['refused']}", hint=answer["hint"])
    return Hdf5Contents(**answer)


def _no_process(source: Path, reason: str) -> ModelError:
    return ModelError(
        f"{source}: cannot be read in a process of its own ({reason})",
        hint="end other programs, or raise the limits on processes and memory (ulimit -a)",
    )


def _death(number: int) -> str:
    if number == signal.SIGXCPU:
        return "the HDF5 library does not come to its end"
    with contextlib.suppress(ValueError):
        return f"the HDF5 library dies of it, by {signal.Signals(number).name}"
    return f"the HDF5 library dies of it, by signal {number}"


# --------------------------------------------------------------------------------------- in the other process


def main() -> None:
    """Read the file that the arguments name, and write what it holds, or what is wrong with it, as JSON."""
    path, size, seconds = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    answer: dict[str, Any]
    if size:
        _limit(seconds, _MEMORY + limit(size))
    try:
        answer = asdict(_contents(path, size or None))
    except ModelError as error:
        answer = {"refused": error.message, "hint": error.hint}
    except _ERRORS as error:
        answer = {"damaged": str(error) or type(error).__name__}
    json.dump(answer, sys.stdout)


def _limit(seconds: int, memory: int) -> None:
    if sys.platform == "win32":
        return
    import resource

    # Only what the system grants: a process may be limited further than this already. A second more on the
    # hard limit lets the soft one end the process by a signal of its own.
    for what, most in ((resource.RLIMIT_CPU, seconds), (resource.RLIMIT_DATA, memory)):
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(what, (most, most + 1))


def _contents(path: Path, size: int | None) -> Hdf5Contents:
    import h5py

    with h5py.File(path, "r") as file:
        if size is not None:
            _check(file, size)
        config, version = (_text(file.attrs.get(key)) for key in ("model_config", "keras_version"))
        return Hdf5Contents(
            model_config=config,
            keras_version=version,
            members=len(file),
            legacy=bool({"layer_names", "model_config"} & set(file.attrs)) or "model_weights" in file,
        )


def _text(value: Any) -> str | None:
    return value.decode() if isinstance(value, bytes) else None if value is None else str(value)


def _check(file: Any, size: int) -> None:
    """Read all attributes and all values, none of which may be outside the file or larger than is allowed.

    Raises:
        ModelError: What is wrong, to be read behind the file's name.
    """
    import h5py

    left = allowed = limit(size)
    for name, item in _objects(file):
        for attribute in (h5py.h5a.open(item.id, index=index) for index in range(len(item.attrs))):
            left -= math.prod(attribute.shape) * attribute.get_type().get_size()
        if isinstance(item, h5py.Dataset):
            if item.external or item.is_virtual:
                raise ModelError(
                    f": dataset {name} keeps its values in another file, which edgefx does not read",
                    hint="save the model again, in one file",
                )
            left -= math.prod(item.shape or ()) * item.dtype.itemsize
        if left < 0:
            raise too_large(": the datasets in it", allowed)
        dict(item.attrs)
        if isinstance(item, h5py.Dataset):
            _read(item)


def _read(dataset: Any) -> None:
    """Read all values of a data set, some rows at a time."""
    if not dataset.shape:
        dataset[()]
        return
    row = math.prod(dataset.shape[1:]) * dataset.dtype.itemsize
    step = max(1, _BLOCK // max(1, row))
    for start in range(0, dataset.shape[0], step):
        dataset[start : start + step]


def _objects(file: Any) -> Iterator[tuple[str, Any]]:
    """Yield every object with its path, each once, without following a link out of the file."""
    import h5py

    seen: set[tuple[int, int]] = set()
    todo = [("", file)]
    while todo:
        path, item = todo.pop()
        address = h5py.h5o.get_info(item.id).addr
        if address in seen:
            continue
        seen.add(address)
        if len(seen) > _MAX_OBJECTS:
            raise ModelError(
                f": holds more than {_MAX_OBJECTS} groups and datasets, which no model does",
                hint="save the model again",
            )
        yield path, item
        if not isinstance(item, h5py.Group):
            continue
        for name in item:
            link = item.get(name, getlink=True)
            if isinstance(link, h5py.ExternalLink):
                raise ModelError(
                    f": {path}/{name} is a link to another file, which edgefx does not read",
                    hint="save the model again, in one file",
                )
            if isinstance(link, h5py.HardLink):
                todo.append((f"{path}/{name}", item[name]))


if __name__ == "__main__":
    main()
