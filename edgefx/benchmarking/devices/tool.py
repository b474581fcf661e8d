"""LiteRT's `benchmark_model` as a file of this machine: which CPUs it is for, and where Google publishes it.

LiteRT's page on it links it for "latest", a nightly build; Google's LiteRT-CLI takes it from the same address
with the number of a release. Hashes are not published, so results name that of the file they are of.

https://developers.google.com/edge/litert/next/benchmark, https://github.com/google-ai-edge/LiteRT-CLI
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from edgefx.errors import MissingToolError, UsageError
from edgefx.storage.atomic import write_artifact
from edgefx.storage.disk import explained
from edgefx.storage.places import cache_folder
from edgefx.version import __version__

if TYPE_CHECKING:
    from edgefx.protocols import Progress

PUBLISHED = "arm64-v8a"  # the phones that it is published for, by Android's name
_ADDRESS = "https://storage.googleapis.com/litert/binaries/{version}/android_arm64/benchmark_model"
_PAGE = "https://developers.google.com/edge/litert/next/benchmark"
_MOST_BYTES = 64 * 10**6  # that of LiteRT 2 has 8
_BLOCK = 1 << 16  # bytes
_SILENCE_S = 30.0  # of a server, that is borne
_MACHINES = {183: "arm64-v8a", 40: "armeabi-v7a", 62: "x86_64", 3: "x86"}  # ELF's e_machine, Android's name


def abi(path: Path) -> str:
    """Return what a program is for, by Android's names.

    Raises:
        UsageError: It cannot be read, or is no program for Linux.
    """
    hint = "give LiteRT's benchmark_model for Android: --benchmark-model"
    try:
        with path.open("rb") as file:
            return _abi(file.read(20))
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}", hint=hint) from error
    except ValueError as error:
        raise UsageError(f"{path}: {error}", hint=hint) from error


def _abi(head: bytes) -> str:
    if len(head) < 20 or head[:4] != b"\x7fELF":
        raise ValueError("no program for Android (ELF)")
    machine = int.from_bytes(head[18:20], "little")
    if machine not in _MACHINES:
        raise ValueError(f"a program for another kind of CPU (ELF machine {machine})")
    return _MACHINES[machine]


def published(version: str, progress: Progress) -> Path:
    """Return the tool of a release of LiteRT for `PUBLISHED`; fetched once, and kept beside the cache.

    Args:
        version: The release, such as "2.2.0".
        progress: Shows from where it comes.

    Raises:
        MissingToolError: It cannot be fetched; the hint says how to get it by hand.
        OutputError: It cannot be kept.
        DiskFullError: No space is left for it.
    """
    address = _ADDRESS.format(version=version)
    try:
        folder = cache_folder() / "tools"
    except RuntimeError as error:  # there is no home folder
        raise _unavailable(address, str(error)) from error
    path = folder / f"benchmark_model-{version}-{PUBLISHED}"
    if path.is_file():
        return path
    with progress.task(f"fetch LiteRT's benchmark_model from {address}"):
        content = _fetched(address)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise explained(error, folder) from error
    write_artifact(path, content)
    return path


def _fetched(address: str) -> bytes:
    from http.client import HTTPException
    from urllib.request import Request, urlopen

    content = bytearray()
    request = Request(address, headers={"User-Agent": f"edgefx/{__version__}"})  # noqa: S310 - https
    try:
        with urlopen(request, timeout=_SILENCE_S) as answer:  # noqa: S310
            while block := answer.read(_BLOCK):
                content += block
                if len(content) > _MOST_BYTES:
                    raise _unavailable(address, f"it has more than {_MOST_BYTES // 10**6} MB")
            stated = answer.headers.get("Content-Length")
    except (OSError, HTTPException) as error:  # no network, no such file, a name that is not known
        raise _unavailable(address, str(getattr(error, "reason", "") or error)) from error
    if stated is not None and stated != str(len(content)):
        raise _unavailable(address, f"{len(content)} of {stated} bytes arrived")
    try:
        found = _abi(bytes(content[:20]))
    except ValueError as error:  # what a network's log-in page answers, for example
        raise _unavailable(address, f"what is there is {error}") from error
    if found != PUBLISHED:
        raise _unavailable(address, f"what is there is for {found}")
    return bytes(content)


def _unavailable(address: str, reason: str) -> MissingToolError:
    return MissingToolError(
        f"LiteRT's benchmark_model for Android cannot be fetched: {reason}",
        hint=f"download {address}, or another release's ({_PAGE}), where there is internet, and name the"
        " file: --benchmark-model",
    )
