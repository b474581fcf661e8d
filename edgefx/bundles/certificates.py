"""Certificates of those who sign bundles: whether one fits a key, and whether it leads to a trusted one.

By the package `cryptography`, whose functions are imported when they are needed.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from edgefx.errors import UsageError
from edgefx.harmless import line

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
    from cryptography.x509 import BasicConstraints, Certificate, KeyUsage
    from cryptography.x509.verification import ExtensionPolicy, Policy


class UntrustedError(Exception):
    """Why a certificate does not say who signed."""


def of_key(path: Path, content: bytes, public: EllipticCurvePublicKey) -> list[bytes]:
    """Return the certificates to put into a signature, in DER.

    Args:
        path: Where they are, for messages.
        content: In PEM: that of the key, then that of its issuer, and so on; the root may be left out.
        public: The key that is signed with.

    Raises:
        UsageError: There is none, the first one is not of the key or not for signing, one is expired, or one
            is not issued by the next.
    """
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.serialization import Encoding

    chain = loaded(path, content)
    if chain[0].public_key() != public:
        raise UsageError(
            f"{path}: the first certificate is not that of the key", hint="put it in front of its issuers"
        )
    for one, issuer in pairwise(chain):
        try:
            one.verify_directly_issued_by(issuer)
        except (ValueError, TypeError, InvalidSignature) as error:
            raise UsageError(
                f"{path}: {_name(one)} is not issued by {_name(issuer)}, which follows it",
                hint="give the certificate of the key, then that of its issuer, and so on",
            ) from error
    problem = _problem(chain)
    if problem:
        raise UsageError(f"{path}: {problem}", hint="get another certificate for the key")
    return [one.public_bytes(Encoding.DER) for one in chain]


def signer(chain: Sequence[bytes], roots: Sequence[Certificate]) -> tuple[EllipticCurvePublicKey, str]:
    """Check that a certificate leads to a trusted one now, and is for signing.

    Args:
        chain: Certificates in DER, that of who signed first.
        roots: The trusted ones.

    Returns:
        The key of who signed, and the certificate's subject.

    Raises:
        UntrustedError: It does not.
        ValueError: A certificate is damaged.
    """
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
    from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

    certificates = [x509.load_der_x509_certificate(one) for one in chain]
    problem = _problem(certificates)
    if problem:
        raise UntrustedError(problem)
    of_issuers, of_signers = _policies()
    verifier = (
        PolicyBuilder()
        .store(Store(list(roots)))
        .time(datetime.now(UTC))
        .extension_policies(ca_policy=of_issuers, ee_policy=of_signers)
        .build_client_verifier()
    )
    leaf = certificates[0]
    try:
        verifier.verify(leaf, certificates[1:])
    except VerificationError as error:
        raise UntrustedError(
            f"the certificate of {_name(leaf)} does not lead to a trusted authority: {line(str(error))}"
        ) from error
    public = leaf.public_key()
    if not isinstance(public, EllipticCurvePublicKey):
        raise UntrustedError(f"the certificate of {_name(leaf)} is for another kind of key than ECDSA")
    return public, _name(leaf)


def loaded(path: Path, content: bytes) -> list[Certificate]:
    """Read certificates in PEM.

    Args:
        path: Where they are, for messages.
        content: What is there.

    Raises:
        UsageError: There is none.
    """
    from cryptography import x509

    try:
        found: list[Certificate] = x509.load_pem_x509_certificates(content)
    except ValueError as error:
        raise UsageError(
            f"{path}: no certificate in PEM", hint="it begins with: BEGIN CERTIFICATE"
        ) from error
    return found


def _problem(chain: Sequence[Certificate]) -> str:
    """Say what is wrong with certificates by themselves, that of who signs first; "" for nothing."""
    from cryptography import x509
    from cryptography.x509.oid import ExtendedKeyUsageOID

    now = datetime.now(UTC)
    for one in chain:
        if now > one.not_valid_after_utc:
            return f"the certificate of {_name(one)} expired on {one.not_valid_after_utc:%Y-%m-%d}"
        if now < one.not_valid_before_utc:
            return (
                f"the certificate of {_name(one)} is valid from {one.not_valid_before_utc:%Y-%m-%d} on only"
            )
    extensions = chain[0].extensions
    try:  # as `model_signing` demands it
        signs = extensions.get_extension_for_class(x509.KeyUsage).value.digital_signature
        if not signs:
            usage = extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
            signs = ExtendedKeyUsageOID.CODE_SIGNING in usage
    except x509.ExtensionNotFound:
        signs = False
    return "" if signs else f"the certificate of {_name(chain[0])} is not for digital signatures (keyUsage)"


def _policies() -> tuple[ExtensionPolicy, ExtensionPolicy]:
    """Return what issuers have to be: authorities; and signers: whatever `_problem` lets pass.

    The defaults are those of web servers, which have a name in the DNS.
    """
    from cryptography import x509
    from cryptography.x509.verification import Criticality, ExtensionPolicy

    def authority(_policy: Policy, _certificate: Certificate, constraints: BasicConstraints) -> None:
        if not constraints.ca:
            raise ValueError("an issuer is no authority")

    def issues(_policy: Policy, _certificate: Certificate, usage: KeyUsage | None) -> None:
        if usage is not None and not usage.key_cert_sign:
            raise ValueError("an issuer may not sign certificates")

    issuers = (
        ExtensionPolicy.permit_all()
        .require_present(x509.BasicConstraints, Criticality.AGNOSTIC, authority)
        .may_be_present(x509.KeyUsage, Criticality.AGNOSTIC, issues)
    )
    return issuers, ExtensionPolicy.permit_all()


def _name(certificate: Certificate) -> str:
    return line(certificate.subject.rfc4514_string()) or "nobody"
