"""Hardware profiles as files, and what ``--hardware`` asks for: a class, native, or a file.

A measured profile is JSON, written by ``edgefx device profile``; those of the classes that were measured so
far ship with edgefx. A file is read as if anyone had written it: every value has bounds, and what is not
known is refused.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import date
from pathlib import Path
from typing import Any, Final

from edgefx.errors import UsageError
from edgefx.hardware import Form, FormTime, HardwareProfile, Role, RuntimeProfile
from edgefx.harmless import line
from edgefx.storage.atomic import write_artifact
from edgefx.storage.regular import read_bytes
from edgefx.storage.serde import loads
from edgefx.system import cpu
from edgefx.vocabulary import Hardware, Runtime

SUFFIX: Final = ".json"
_VERSION_KEY = "edgefx_hardware_profile"
_VERSION = 1
_SHIPPED = Path(__file__).with_name("profiles")
_MOST_BYTES = 2 * 10**6
_MOST_TIMES = 10_000  # of a runtime
_MOST_LETTERS = 200  # of a name
_COLUMNS = (
    "role",
    "kernel",
    "stride",
    "inputs",
    "outputs",
    "height",
    "width",
    "threads",
    "float_us",
    "int8_us",
)
# What whole numbers of a row may be at most; convolutions of no use are larger.
_LARGEST = {
    **dict.fromkeys(("kernel", "stride"), 31),
    **dict.fromkeys(("inputs", "outputs"), 1 << 16),
    **dict.fromkeys(("height", "width"), 1 << 14),
    "threads": 4096,
}
_LONGEST_US = 1e9
_HINT = "measure one with: edgefx device profile"
_RUNTIMES = (Runtime.ONNX, Runtime.OPENVINO)


@dataclass(frozen=True, kw_only=True)
class AskedHardware:
    """What an artifact is to be laid out for.

    Attributes:
        hardware: The class of CPU.
        profile: What was measured of it, or of the very device; None where nothing was.
        file: The file of that profile, where one was named; None for a class.
    """

    hardware: Hardware
    profile: HardwareProfile | None = None
    file: Path | None = None

    @property
    def name(self) -> str:
        """What asks for it again, on any machine that has the file."""
        return self.hardware.value if self.file is None else str(self.file)

    @property
    def sha256(self) -> str | None:
        """The hash of what the profile says; None without one."""
        return None if self.profile is None else hashlib.sha256(dumps(self.profile).encode()).hexdigest()


def resolve(asked: str) -> AskedHardware:
    """Return what ``--hardware`` asks for: ``native``, a class by name, or a file.

    A ``.json`` file is what `edgefx device profile` has measured; for a ``.yaml`` file see `cpu.resolve`.

    Raises:
        UnknownNameError: There is no such class.
        UsageError: The file cannot be read, or is no profile.
    """
    if Path(asked).suffix == SUFFIX:
        profile = read(Path(asked))
        return AskedHardware(hardware=profile.hardware, profile=profile, file=Path(asked))
    hardware = cpu.resolve(asked)
    return AskedHardware(hardware=hardware, profile=shipped(hardware))


def shipped(hardware: Hardware) -> HardwareProfile | None:
    """Return the profile of a class that ships with edgefx; None where none was measured."""
    path = _SHIPPED / f"{hardware}{SUFFIX}"
    return read(path) if path.is_file() else None


def check_destination(path: Path) -> None:
    """Check where a profile is to be written, before minutes are spent on measuring it.

    Raises:
        UsageError: It has another suffix, its folder does not exist, or something else lies there.
    """
    if path.suffix != SUFFIX:
        raise UsageError(f"{path}: a profile is a {SUFFIX} file", hint=f"call it {path.with_suffix(SUFFIX)}")
    if not path.parent.is_dir():
        raise UsageError(f"{path}: there is no folder {path.parent}", hint="make it, or name another file")
    if path.exists():
        try:
            read(path)
        except UsageError as error:
            raise UsageError(
                f"{path}: is there, and is no hardware profile that could be replaced",
                hint="name another file",
            ) from error


def write(profile: HardwareProfile, path: Path) -> None:
    """Write a profile, completely or not at all.

    Raises:
        OutputError: The folder cannot be written.
        DiskFullError: No space is left.
    """
    write_artifact(path, dumps(profile).encode())


def dumps(profile: HardwareProfile) -> str:
    """Return a profile as JSON, with one line for each time that was measured."""
    head = {
        _VERSION_KEY: _VERSION,
        **{
            field.name: getattr(profile, field.name)
            for field in fields(profile)
            if field.name not in _RUNTIMES
        },
    }
    lines = [f"  {json.dumps(key)}: {json.dumps(value)}" for key, value in head.items()]
    for runtime, found in profile.runtimes:
        rows = ",\n".join(f"      {json.dumps(_row(time))}" for time in found.times)
        lines.append(
            f"  {json.dumps(runtime)}: {{\n"
            f'    "package": {json.dumps(found.package)},\n'
            f'    "columns": {json.dumps(_COLUMNS)},\n'
            f'    "times": [\n{rows}\n    ]\n  }}'
        )
    return "{\n" + ",\n".join(lines) + "\n}\n"


def _row(time: FormTime) -> list[object]:
    return [_cell(getattr(time if hasattr(time, name) else time.form, name)) for name in _COLUMNS]


def _cell(value: object) -> object:
    return round(value, 1) if isinstance(value, float) else value


def read(path: Path) -> HardwareProfile:
    """Read a measured profile.

    Raises:
        UsageError: The file cannot be read, is no profile, is of a newer edgefx, or holds a value that no
            measurement gives.
    """
    try:
        document = loads(read_bytes(path, limit_bytes=_MOST_BYTES))
    except OSError as error:
        raise UsageError(f"--hardware {path}: cannot be read: {error.strerror}", hint=_HINT) from error
    except ValueError as error:
        raise UsageError(f"--hardware {path}: no JSON: {line(str(error))}", hint=_HINT) from error
    try:
        return _profile(document)
    except _NewerError as error:
        raise UsageError(f"--hardware {path}: {error}", hint="use the edgefx that wrote it") from error
    except ValueError as error:
        raise UsageError(f"--hardware {path}: no hardware profile: {error}", hint=_HINT) from error


class _NewerError(ValueError):
    """The file is of a version that this edgefx does not know."""


def _profile(document: object) -> HardwareProfile:
    """Return what a document says.

    Raises:
        ValueError: It is no profile; the text is one line that says why.
    """
    if not isinstance(document, dict) or _VERSION_KEY not in document:
        raise ValueError(f"it has no key '{_VERSION_KEY}'")
    version = document[_VERSION_KEY]
    if type(version) is int and version > _VERSION:
        raise _NewerError(f"a profile of version {version}, this edgefx reads version {_VERSION}")
    if type(version) is not int or version != _VERSION:
        raise ValueError(f"'{_VERSION_KEY}' is {line(str(version), most=40)}, and not {_VERSION}")
    own = {field.name for field in fields(HardwareProfile)} - set(_RUNTIMES)
    _check_keys(document, needed={_VERSION_KEY, *own}, allowed=set(_RUNTIMES))
    if document["hardware"] not in list(Hardware):
        raise ValueError(
            f"'hardware' is {line(repr(document['hardware']), most=40)}: known are {', '.join(Hardware)}"
        )
    found = {
        str(runtime): _runtime(document[runtime], runtime) for runtime in _RUNTIMES if runtime in document
    }
    if not found:
        raise ValueError(f"it has none of the runtimes {', '.join(_RUNTIMES)}")
    measured = _name(document, "measured")
    date.fromisoformat(measured)
    return HardwareProfile(
        hardware=Hardware(document["hardware"]),
        cpu=_name(document, "cpu"),
        cores=_whole(document["cores"], "cores", most=_LARGEST["threads"]),
        measured=measured,
        edgefx=_name(document, "edgefx"),
        onnx=found.get(Runtime.ONNX),
        openvino=found.get(Runtime.OPENVINO),
    )


def _runtime(document: object, runtime: Runtime) -> RuntimeProfile:
    if not isinstance(document, dict):
        raise ValueError(f"'{runtime}' is no object")  # noqa: TRY004 - of a file, like all else
    _check_keys(document, needed={"package", "columns", "times"})
    if document["columns"] != list(_COLUMNS):
        raise ValueError(f"the columns of '{runtime}' are not {', '.join(_COLUMNS)}")
    rows = document["times"]
    if not isinstance(rows, list) or not 1 <= len(rows) <= _MOST_TIMES:
        raise ValueError(f"'{runtime}' has no times, or more than {_MOST_TIMES}")
    times = tuple(_time(row, f"{runtime}, row {number}") for number, row in enumerate(rows, 1))
    if len({(time.form, time.threads) for time in times}) < len(times):
        raise ValueError(f"'{runtime}' has two times of one form")
    if not any(time.form.role in (Role.SWISH, Role.GATED, Role.PLAIN) for time in times):
        raise ValueError(f"'{runtime}' has no time of a dense convolution")
    return RuntimeProfile(package=_name(document, "package"), times=times)


def _time(row: object, where: str) -> FormTime:
    if not isinstance(row, list) or len(row) != len(_COLUMNS):
        raise ValueError(f"{where}: expected {len(_COLUMNS)} values")
    values = dict(zip(_COLUMNS, row, strict=True))
    if values["role"] not in list(Role):
        raise ValueError(f"{where}: role {line(repr(values['role']), most=40)}: known are {', '.join(Role)}")
    whole = {name: _whole(values[name], f"{where}: {name}", most=most) for name, most in _LARGEST.items()}
    threads = whole.pop("threads")
    return FormTime(
        form=Form(role=Role(values["role"]), **whole),
        threads=threads,
        float_us=_duration(values["float_us"], f"{where}: float_us"),
        int8_us=_duration(values["int8_us"], f"{where}: int8_us"),
    )


def _check_keys(document: Mapping[str, Any], *, needed: set[str], allowed: set[str] = frozenset()) -> None:  # type: ignore[assignment]
    if missing := sorted(needed - set(document)):
        raise ValueError(f"it lacks {', '.join(missing)}")
    if unknown := sorted(set(document) - needed - allowed):
        raise ValueError(f"unknown key {line(repr(unknown[0]), most=60)}")


def _name(document: Mapping[str, Any], key: str) -> str:
    value = document[key]
    if not isinstance(value, str) or not 0 < len(value) <= _MOST_LETTERS or value != line(value):
        raise ValueError(f"'{key}' is no text of one line, of at most {_MOST_LETTERS} characters")
    return value


def _whole(value: object, where: str, *, most: int) -> int:
    if type(value) is not int or not 1 <= value <= most:
        raise ValueError(f"{where} is {line(repr(value), most=40)}, not a whole number from 1 to {most}")
    return value


def _duration(value: object, where: str) -> float:
    if type(value) not in (int, float) or not (math.isfinite(value) and 0 < value <= _LONGEST_US):  # type: ignore[arg-type, operator]
        raise ValueError(f"{where} is {line(repr(value), most=40)}, no duration in microseconds")
    return float(value)  # type: ignore[arg-type]
