"""Signatures of bundles: Ed25519 over the file of checksums, by the package `cryptography`."""

from __future__ import annotations

import binascii
from pathlib import Path

from edgefx.errors import BundleError, UsageError
from edgefx.storage.regular import read_bytes
from edgefx.system.packages import require

_PURPOSE = "signatures of bundles"
_MOST_KEY_BYTES = 100_000
_MAKE_KEY = "make one with: openssl genpkey -algorithm ed25519 -out key.pem"
_MAKE_PUBLIC = "make it with: openssl pkey -in key.pem -pubout -out public.pem"


def sign(content: bytes, key: Path) -> bytes:
    """Return the signature of some content, in hexadecimal digits.

    Args:
        content: What to sign.
        key: The private key in PEM, without a passphrase.

    Raises:
        UsageError: The key cannot be read, or is of another kind.
        MissingDependencyError: `cryptography` is not installed.
    """
    require("cryptography", purpose=_PURPOSE)
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        private = load_pem_private_key(_read(key), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise UsageError(f"{key}: no private key in PEM, or one with a passphrase", hint=_MAKE_KEY) from error
    if not isinstance(private, Ed25519PrivateKey):
        raise UsageError(f"{key}: not a key of Ed25519", hint=_MAKE_KEY)
    made: bytes = private.sign(content)
    return made.hex().encode() + b"\n"


def check(content: bytes, signature: bytes, key: Path, bundle: Path) -> None:
    """Check that some content was signed with the private key that belongs to a public one.

    Args:
        content: What was signed.
        signature: As `sign` returns it.
        key: The public key in PEM.
        bundle: The bundle, for messages.

    Raises:
        BundleError: It was not.
        UsageError: The key cannot be read, or is of another kind.
        MissingDependencyError: `cryptography` is not installed.
    """
    require("cryptography", purpose=_PURPOSE)
    from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    try:
        public = load_pem_public_key(_read(key))
    except (ValueError, UnsupportedAlgorithm) as error:
        raise UsageError(f"{key}: no public key in PEM", hint=_MAKE_PUBLIC) from error
    if not isinstance(public, Ed25519PublicKey):
        raise UsageError(f"{key}: not a key of Ed25519", hint=_MAKE_PUBLIC)
    try:
        public.verify(binascii.unhexlify(signature.removesuffix(b"\n")), content)
    except (InvalidSignature, ValueError) as error:
        raise BundleError(
            f"{bundle}: it was not signed with the key that belongs to {key}",
            hint="do not use it, unless another key is the right one",
        ) from error


def _read(key: Path) -> bytes:
    try:
        return read_bytes(key, limit_bytes=_MOST_KEY_BYTES)
    except OSError as error:
        raise UsageError(f"{key}: cannot be read: {error.strerror}", hint="give the path of a key") from error
