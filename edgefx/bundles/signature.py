"""Signatures of bundles in the format of OpenSSF Model Signing, by the package `cryptography` alone.

``model.sig`` is a Sigstore bundle: a DSSE envelope around an in-toto statement that lists every file with its
SHA-256, signed with ECDSA by a key, or by a key with certificates. The command `model_signing` checks what is
signed here, and what it signs is checked here, once a bundle is unpacked:
https://github.com/sigstore/model-transparency, https://github.com/secure-systems-lab/dsse (v1).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgefx.bundles import certificates
from edgefx.bundles.manifest import SIGNATURE
from edgefx.errors import BundleError, UsageError
from edgefx.harmless import line
from edgefx.storage.regular import read_bytes
from edgefx.storage.serde import dumps, loads
from edgefx.system.packages import require

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, EllipticCurve, EllipticCurvePublicKey

MOST_BYTES = 10**7  # of a signature: a line for each file
_PURPOSE = "signatures of bundles"
_MOST_KEY_BYTES = 100_000
_MAKE_KEY = "make one with: openssl genpkey -algorithm ec -pkeyopt ec_paramgen_curve:P-256 -out key.pem"
_MAKE_PUBLIC = "make it with: openssl pkey -in key.pem -pubout -out public.pem"
_CURVES = ("secp256r1", "secp384r1", "secp521r1")
_MEDIA = "application/vnd.dev.sigstore.bundle.v0.3+json"
_PAYLOAD = "application/vnd.in-toto+json"
_STATEMENT = "https://in-toto.io/Statement/v1"
_PREDICATE = "https://model_signing/signature/v1.0"


@dataclass(frozen=True, kw_only=True)
class Trust:
    """By whom a bundle must be signed; one of key and roots is given.

    Attributes:
        key: The public key, in PEM, of the one who signs.
        roots: Certificates, in PEM, of authorities: whoever has a certificate that leads to one of them may
            sign.
        signature: The signature, where it is not the one in the bundle.
    """

    key: Path | None = None
    roots: Path | None = None
    signature: Path | None = None


def trust(
    *, key: Path | None, roots: Path | None, signature: Path | None, require_signature: bool
) -> Trust | None:
    """Return by whom a bundle must be signed, or None where nobody asks.

    Raises:
        UsageError: The arguments contradict each other.
    """
    if key is not None and roots is not None:
        raise UsageError(
            "--key and --root: a bundle is checked with one of them",
            hint="give --key for a key, or --root for a certificate",
        )
    if key is None and roots is None:
        if not require_signature and signature is None:
            return None
        raise UsageError(
            f"{'--require-signature' if require_signature else '--signature'} takes the public key, or the "
            "authority, that the bundle is to be signed by",
            hint="give --key, or --root",
        )
    return Trust(key=key, roots=roots, signature=signature)


def sign(name: str, files: Mapping[str, str], key: Path, certificate: Path | None = None) -> bytes:
    """Return the signature of files; the same files and key give the same bytes (RFC 6979).

    Args:
        name: What the files are called together.
        files: SHA-256 by path, in hexadecimal digits.
        key: The private key in PEM, without a passphrase: ECDSA on P-256, P-384 or P-521.
        certificate: The certificate of that key in PEM, followed by those of the authorities between it and
            the root; None to sign with the key alone.

    Raises:
        UsageError: The key or a certificate cannot be read, is of another kind, or they do not fit.
        MissingDependencyError: `cryptography` is not installed.
    """
    require("cryptography", purpose=_PURPOSE)
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        private = load_pem_private_key(_read(key), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise UsageError(f"{key}: no private key in PEM, or one with a passphrase", hint=_MAKE_KEY) from error
    if not isinstance(private, EllipticCurvePrivateKey) or private.curve.name not in _CURVES:
        raise UsageError(f"{key}: not an ECDSA key on P-256, P-384 or P-521", hint=_MAKE_KEY)
    public = private.public_key()
    material: dict[str, object]
    if certificate is None:
        material = {"publicKey": {"hint": _hint(public)}}
    else:
        chain = certificates.of_key(certificate, _read(certificate), public)
        material = {"x509CertificateChain": {"certificates": [{"rawBytes": _text(one)} for one in chain]}}
    payload = dumps(_statement(name, files)).encode()
    signature = private.sign(_signed(payload), _algorithm(private.curve))
    document = {
        "mediaType": _MEDIA,
        "verificationMaterial": {**material, "tlogEntries": []},
        "dsseEnvelope": {
            "payload": _text(payload),
            "payloadType": _PAYLOAD,
            "signatures": [{"sig": _text(signature), "keyid": ""}],
        },
    }
    return dumps(document).encode()


def check(files: Mapping[str, str], signature: bytes, trusted: Trust, bundle: Path) -> str:
    """Check who signed files.

    Args:
        files: SHA-256 by path of all files there are, in hexadecimal digits.
        signature: As `sign` or `model_signing` make it; it may leave out the bundle's own signature, and
            nothing else, whatever it says it ignores.
        trusted: By whom it must be.
        bundle: The bundle, for messages.

    Returns:
        Who signed: the subject of the certificate, or the fingerprint of the key.

    Raises:
        BundleError: It is not a signature of these files, or not by whom it must be.
        UsageError: A key or certificate that is trusted cannot be read, or is of another kind.
        MissingDependencyError: `cryptography` is not installed.
    """
    require("cryptography", purpose=_PURPOSE)
    from cryptography.exceptions import InvalidSignature

    own = _public(trusted.key) if trusted.key is not None else None
    roots = certificates.loaded(trusted.roots, _read(trusted.roots)) if trusted.roots is not None else []
    try:
        document = loads(signature)
        payload, made = _envelope(document)
        if own is not None:
            public, signer = own, f"key {_hint(own)[:16]}"
        else:
            public, signer = certificates.signer(_chain(document), roots)
        public.verify(made, _signed(payload), _algorithm(public.curve))
        _compare(_stated(payload), files)
    except InvalidSignature as error:
        by = f"that belongs to {trusted.key}" if own is not None else f"of the certificate of {signer}"
        raise _refused(bundle, f"it was not signed with the key {by}") from error
    except (_WrongError, certificates.UntrustedError) as error:
        raise _refused(bundle, str(error)) from error
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError) as error:
        raise BundleError(
            f"{bundle}: its signature is damaged, or none of OpenSSF Model Signing",
            hint="do not use it; get the bundle again from where it was made",
        ) from error
    return signer


def _refused(bundle: Path, reason: str) -> BundleError:
    return BundleError(
        f"{bundle}: {reason}", hint="do not use it, unless another key or authority is the right one"
    )


class _WrongError(Exception):
    """What a signature says is not what must be."""


def _statement(name: str, files: Mapping[str, str]) -> dict[str, object]:
    names = sorted(files, key=lambda path: path.split("/"))
    digests = b"".join(bytes.fromhex(files[path]) for path in names)
    return {
        "_type": _STATEMENT,
        "subject": [{"name": name, "digest": {"sha256": hashlib.sha256(digests).hexdigest()}}],
        "predicateType": _PREDICATE,
        "predicate": {
            "serialization": {
                "method": "files",
                "hash_type": "sha256",
                "allow_symlinks": False,
                "ignore_paths": [SIGNATURE],
            },
            "resources": [{"name": path, "algorithm": "sha256", "digest": files[path]} for path in names],
        },
    }


def _signed(payload: bytes) -> bytes:
    """Return what is signed of a payload: DSSE's pre-authentication encoding."""
    return b"DSSEv1 %d %s %d %s" % (len(_PAYLOAD), _PAYLOAD.encode(), len(payload), payload)


def _algorithm(curve: EllipticCurve) -> ECDSA:
    """Return the algorithm for a curve: with the hash of its size, and without random numbers.

    Raises:
        _WrongError: It is another curve, that of a certificate.
    """
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric.ec import ECDSA

    sizes = dict(zip(_CURVES, (hashes.SHA256(), hashes.SHA384(), hashes.SHA512()), strict=True))
    if curve.name not in sizes:
        raise _WrongError("its certificate is for no key on P-256, P-384 or P-521")
    return ECDSA(sizes[curve.name], deterministic_signing=True)


def _envelope(document: Any) -> tuple[bytes, bytes]:
    """Return payload and signature of a Sigstore bundle, which may be anything."""
    if document["mediaType"] != _MEDIA:
        raise _WrongError(
            f"its signature is of the type {line(str(document['mediaType']))}, and not {_MEDIA}"
        )
    envelope = document["dsseEnvelope"]
    if envelope["payloadType"] != _PAYLOAD:
        raise _WrongError(
            f"its signature is not of an in-toto statement: {line(str(envelope['payloadType']))}"
        )
    (made,) = envelope["signatures"]
    return _bytes(envelope["payload"]), _bytes(made["sig"])


def _chain(document: Any) -> list[bytes]:
    """Return the certificates of a signature in DER, that of the signer first."""
    material = document["verificationMaterial"]
    if "certificate" in material:
        raise _WrongError(
            "it was signed through Sigstore: unpack it, and check it with: model_signing verify sigstore"
        )
    if "x509CertificateChain" not in material:
        raise _WrongError("it was signed with a key, and has no certificate: give --key")
    return [_bytes(one["rawBytes"]) for one in material["x509CertificateChain"]["certificates"]]


def _stated(payload: bytes) -> dict[str, str]:
    """Return SHA-256 by path as a statement has it."""
    statement: Any = loads(payload)
    if (statement["_type"], statement["predicateType"]) != (_STATEMENT, _PREDICATE):
        raise _WrongError(f"what was signed is no list of files but {line(str(statement['predicateType']))}")
    predicate = statement["predicate"]
    how = predicate["serialization"]
    if (how["method"], how["hash_type"]) != ("files", "sha256"):
        how = f"{line(str(how['hash_type']))} of {line(str(how['method']))}"
        raise _WrongError(f"it was signed by {how}, not by SHA-256 of files")
    (subject,) = statement["subject"]
    found: dict[str, str] = {}
    digests = hashlib.sha256()
    for resource in predicate["resources"]:
        name, digest = resource["name"], resource["digest"]
        if resource["algorithm"] != "sha256" or not isinstance(name, str) or name in found:
            raise ValueError(name)
        digests.update(bytes.fromhex(digest))
        found[name] = digest
    if digests.hexdigest() != subject["digest"]["sha256"]:
        raise ValueError(subject)
    return found


def _compare(stated: Mapping[str, str], files: Mapping[str, str]) -> None:
    if SIGNATURE not in stated:
        files = {name: sha256 for name, sha256 in files.items() if name != SIGNATURE}
    for names, wrong in (
        (stated.keys() - files.keys(), "was signed, and is missing"),
        (files.keys() - stated.keys(), "is in it, and was not signed"),
        ({name for name in stated if stated[name] != files.get(name)}, "is not the file that was signed"),
    ):
        if names:
            raise _WrongError(f"{line(min(names))} {wrong}")


def _public(key: Path) -> EllipticCurvePublicKey:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    try:
        public = load_pem_public_key(_read(key))
    except (ValueError, UnsupportedAlgorithm) as error:
        raise UsageError(f"{key}: no public key in PEM", hint=_MAKE_PUBLIC) from error
    if not isinstance(public, EllipticCurvePublicKey) or public.curve.name not in _CURVES:
        raise UsageError(f"{key}: not an ECDSA key on P-256, P-384 or P-521", hint=_MAKE_KEY)
    return public


def _hint(public: EllipticCurvePublicKey) -> str:
    """Return the fingerprint of a key as `model_signing` compares it: SHA-256 of its PEM."""
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    return hashlib.sha256(public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)).hexdigest()


def _text(content: bytes) -> str:
    return base64.b64encode(content).decode()


def _bytes(text: str) -> bytes:
    return binascii.a2b_base64(text, strict_mode=True)


def _read(path: Path) -> bytes:
    try:
        return read_bytes(path, limit_bytes=_MOST_KEY_BYTES)
    except OSError as error:
        raise UsageError(
            f"{path}: cannot be read: {error.strerror}", hint="give the path of a key or certificate"
        ) from error
