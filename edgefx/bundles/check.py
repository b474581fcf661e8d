"""Check a bundle: `edgefx verify`. Standard library only, so that it runs wherever Python does."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import IO

from edgefx.bundles import archive, signature
from edgefx.bundles.archive import Member
from edgefx.bundles.manifest import NAME, SIGNATURE, SUMS, VERSION
from edgefx.bundles.signature import Trust
from edgefx.errors import BundleError, UsageError
from edgefx.harmless import line
from edgefx.shipments import VerifiedBundle
from edgefx.storage.regular import open_regular, read_bytes
from edgefx.storage.serde import loads

_MOST_MANIFEST_BYTES = 64 * 10**6
_MOST_SUMS_BYTES = 10**6
_SHA256 = re.compile("[0-9a-f]{64}")


def run(path: Path, *, trust: Trust | None = None) -> VerifiedBundle:
    """Check every byte of a bundle, and who signed it; see `read`."""
    return read(path, trust=trust)[0]


def read(path: Path, *, trust: Trust | None = None) -> tuple[VerifiedBundle, Mapping[str, object]]:
    """Check every byte of a bundle, and who signed it.

    Args:
        path: The bundle.
        trust: By whom it must be signed; None not to check that.

    Returns:
        What was checked, and the manifest as the checked bytes have it, which may say anything.

    Raises:
        BundleError: The bundle is damaged or was changed, is of a later version, or its signature is missing
            or not by whom it must be.
        UsageError: There is no such file, or a key or certificate that is trusted cannot be used.
        MissingDependencyError: Checking a signature takes a package that is not installed.
    """
    try:
        with open_regular(path) as stream:
            return _checked(stream, path, trust)
    except OSError as error:
        raise UsageError(
            f"{path}: cannot be read: {error.strerror}", hint="give the path of a bundle"
        ) from error


def _checked(
    stream: IO[bytes], path: Path, trust: Trust | None
) -> tuple[VerifiedBundle, Mapping[str, object]]:
    members = archive.read(stream, path)
    for name in (NAME, SUMS):
        if name not in members:
            raise _refused(path, f"no bundle of edgefx: it has no {name}")
    document = _manifest(stream, members[NAME], path)
    stated = _stated(document, path)
    _compare(stated, members, path)
    sums = archive.content(stream, members[SUMS], limit_bytes=_MOST_SUMS_BYTES, path=path)
    expected = "".join(
        f"{members[name].sha256}  {name}\n" for name in sorted(members) if name not in (SUMS, SIGNATURE)
    )
    if sums != expected.encode():
        raise _refused(path, f"{SUMS} has other checksums than the files")
    signer = ""
    if trust is not None:
        hashes = {name: member.sha256 for name, member in members.items()}
        signer = signature.check(hashes, _signature(stream, members, trust, path), trust, path)
    checked = VerifiedBundle(
        path=path,
        edgefx=line(str(document.get("edgefx", ""))),
        created=line(str(document.get("created", ""))),
        files=tuple(members),
        size_bytes=sum(member.size_bytes for member in members.values()),
        signed=SIGNATURE in members,
        signature_checked=trust is not None,
        signer=signer,
    )
    return checked, document


def _signature(stream: IO[bytes], members: Mapping[str, Member], trust: Trust, path: Path) -> bytes:
    if trust.signature is not None:
        try:
            return read_bytes(trust.signature, limit_bytes=signature.MOST_BYTES)
        except OSError as error:
            raise UsageError(
                f"{trust.signature}: cannot be read: {error.strerror}", hint="give the path of a signature"
            ) from error
    if SIGNATURE not in members:
        raise _refused(path, "it is not signed")
    return archive.content(stream, members[SIGNATURE], limit_bytes=signature.MOST_BYTES, path=path)


def _refused(path: Path, reason: str) -> BundleError:
    return BundleError(f"{path}: {reason}", hint="do not use it; get the bundle again from where it was made")


def _manifest(stream: IO[bytes], member: Member, path: Path) -> Mapping[str, object]:
    try:
        document = loads(archive.content(stream, member, limit_bytes=_MOST_MANIFEST_BYTES, path=path))
    except ValueError as error:
        raise _refused(path, f"{NAME} is no JSON document") from error
    if not isinstance(document, dict):
        raise _refused(path, f"{NAME} is no manifest of a bundle")
    version = document.get("schema_version")
    if version != VERSION or isinstance(version, bool):
        raise BundleError(
            f"{path}: a bundle of version {line(str(version), most=40)}, this edgefx reads version {VERSION}",
            hint="use the edgefx that made it, or a later one",
        )
    return document


def _stated(document: Mapping[str, object], path: Path) -> dict[str, tuple[int, str]]:
    """Return size and SHA-256 of the files that a manifest lists."""
    found: dict[str, tuple[int, str]] = {}
    files = document.get("files")
    for file in files if isinstance(files, list) else [None]:
        name, size, sha256 = (
            (file.get("path"), file.get("size_bytes"), file.get("sha256"))
            if isinstance(file, dict)
            else (None, None, None)
        )
        if not (isinstance(name, str) and type(size) is int and isinstance(sha256, str)):
            raise _refused(path, f"{NAME} has no list of files with their sizes and SHA-256")
        if name in found or not _SHA256.fullmatch(sha256):
            raise _refused(path, f"{NAME} states {line(name)} twice, or without its SHA-256")
        found[name] = size, sha256
    return found


def _compare(stated: Mapping[str, tuple[int, str]], members: Mapping[str, Member], path: Path) -> None:
    """Compare the files of a bundle with what its manifest states."""
    own = {NAME, SUMS, SIGNATURE}
    missing = sorted(stated.keys() - members.keys())
    if missing:
        raise _refused(path, f"{line(missing[0])} is missing")
    extra = sorted(members.keys() - stated.keys() - own)
    if extra:
        raise _refused(path, f"{extra[0]} is in it, and {NAME} does not know it")
    for name, (size, sha256) in stated.items():
        if (size, sha256) != (members[name].size_bytes, members[name].sha256):
            raise _refused(path, f"{name} is not the file that {NAME} describes")
