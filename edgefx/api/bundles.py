"""Hand over what a run made, and check what was handed over."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from edgefx.api import values
from edgefx.api.values import StrPath, Targets

if TYPE_CHECKING:
    from edgefx.views import Bundle, VerifiedBundle


def bundle(
    run: StrPath,
    *,
    output: StrPath | None = None,
    targets: Targets | None = None,
    sign: StrPath | None = None,
) -> Bundle:
    """Put the artifacts of a run, and all that is known of them, into one archive.

    The same run gives the same bytes.

    Args:
        run: The run's output folder.
        output: The archive; by default ``MODEL.edgefx.zip`` in that folder.
        targets: Names, comma lists or globs; by default every target that has an artifact.
        sign: Sign with this private key of Ed25519, in PEM.

    Raises:
        EdgefxError: There is no such run or target, a file is not the one that its report describes, the key
            cannot be used, or the archive cannot be written.

    Example:
        >>> made = edgefx.bundle("build/", targets="tflite-int8")
        >>> print(made.path, made.sha256)
    """
    from edgefx.bundles import make

    return make.run(
        Path(run),
        values.path(output),
        targets=() if targets is None else values.patterns(targets),
        sign=values.path(sign),
    )


def verify(bundle: StrPath, *, key: StrPath | None = None, require_signature: bool = False) -> VerifiedBundle:
    """Check every byte of a bundle, and who signed it.

    Args:
        bundle: The archive.
        key: The public key of Ed25519, in PEM, that belongs to the one that it must be signed with.
        require_signature: Refuse a bundle without a signature; takes `key`.

    Raises:
        BundleError: It is damaged or was changed, is of a later version, or its signature is missing or not
            of the key.
        EdgefxError: There is no such file, or the key cannot be used.

    Example:
        >>> print(edgefx.verify("digits.edgefx.zip").files)
    """
    from edgefx.bundles import check

    return check.run(Path(bundle), key=values.path(key), require_signature=require_signature)
