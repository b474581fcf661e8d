"""Signatures of bundles: OpenSSF Model Signing, by keys and by certificates; see `edgefx.bundles.signature`.

What `model_signing` itself makes and takes is tested where it is installed; it is no dependency.
"""

from __future__ import annotations

import base64
import hashlib
import json
import random
import shutil
import subprocess
import zipfile
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from edgefx.bundles import archive
from edgefx.bundles.manifest import NAME, SIGNATURE, SUMS
from tests.cli.conftest import Edgefx
from tests.cli.run_folders import run_folder

pytest.importorskip("cryptography", reason="cryptography is not installed")

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

TOOL = shutil.which("model_signing")
CURVES = {"p256": ec.SECP256R1(), "p384": ec.SECP384R1(), "p521": ec.SECP521R1()}
Private: TypeAlias = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey
YEAR = timedelta(days=365)


def saved(path: Path, key: Private) -> tuple[str, str]:
    """Write a private key and its public one; return their paths."""
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    public = path.with_suffix(".pub")
    public.write_bytes(
        key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
    )
    return str(path), str(public)


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Path:
    noise = random.Random(0)
    return run_folder(tmp_path_factory.mktemp("run") / "build", lambda _: noise.randbytes(3000))


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, tuple[str, str]]:
    """Paths of private and public keys by name."""
    folder = tmp_path_factory.mktemp("keys")
    made: dict[str, Private] = {name: ec.generate_private_key(curve) for name, curve in CURVES.items()}
    made["other"] = ec.generate_private_key(ec.SECP256R1())
    made["k1"] = ec.generate_private_key(ec.SECP256K1())
    made["ed25519"] = ed25519.Ed25519PrivateKey.generate()
    made["rsa"] = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return {name: saved(folder / f"{name}.pem", key) for name, key in made.items()}


class Authority:
    """Makes certificates: a root, an intermediate, and those of keys."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.root_key = ec.generate_private_key(ec.SECP384R1())
        self.root = self.certificate("Root", self.root_key.public_key(), None, ca=True)
        self.middle_key = ec.generate_private_key(ec.SECP256R1())
        self.middle = self.certificate("Middle", self.middle_key.public_key(), self.root, ca=True)

    def certificate(
        self,
        name: str,
        public: ec.EllipticCurvePublicKey,
        issuer: x509.Certificate | None,
        *,
        ca: bool = False,
        begin: timedelta = -YEAR / 12,
        end: timedelta = YEAR,
        signs: bool = True,
    ) -> x509.Certificate:
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        by = self.middle_key if issuer is not None and issuer is not self.root else self.root_key
        usage = dict.fromkeys(
            ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement"), False
        ) | {"encipher_only": False, "decipher_only": False, "crl_sign": ca}
        now = datetime.now(UTC)
        return (
            x509.CertificateBuilder(
                issuer.subject if issuer else subject, subject, public, x509.random_serial_number()
            )
            .not_valid_before(now + begin)
            .not_valid_after(now + end)
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
            .add_extension(
                x509.KeyUsage(digital_signature=signs and not ca, key_cert_sign=ca, **usage), critical=True
            )
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(by.public_key()), critical=False
            )
            .sign(by, hashes.SHA256())
        )

    def of_key(self, private: str, **options: Any) -> x509.Certificate:
        """Certify a key."""
        key = serialization.load_pem_private_key(Path(private).read_bytes(), None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        return self.certificate("Release \x1b[31m", key.public_key(), self.middle, **options)

    def save(self, name: str, *chain: x509.Certificate) -> str:
        path = self.folder / f"{name}.pem"
        path.write_bytes(b"".join(one.public_bytes(serialization.Encoding.PEM) for one in chain))
        return str(path)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


def changed(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change the signature in a bundle."""
    members = contents(path)
    document = json.loads(members[SIGNATURE])
    change(document)
    archive.write(path, {**members, SIGNATURE: json.dumps(document).encode()})


def contents(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as opened:
        return {name: opened.read(name) for name in opened.namelist()}


# ---------------------------------------- keys


@pytest.mark.parametrize("curve", CURVES)
def test_a_signature_is_of_one_key_only(
    edgefx: Edgefx, build: Path, tmp_path: Path, keys: Mapping[str, tuple[str, str]], curve: str
) -> None:
    (private, public), path = keys[curve], tmp_path / "a.zip"
    for name in ("a.zip", "b.zip"):
        assert edgefx("bundle", str(build), "-o", str(tmp_path / name), "--sign", private).code == 0
    assert path.read_bytes() == (tmp_path / "b.zip").read_bytes()
    assert "not checked: give --key or --root" in edgefx("verify", str(path)).out
    done = edgefx("verify", str(path), "--key", public, "--require-signature", "--json")
    assert done.code == 0, done.err
    found = json.loads(done.out)
    assert (found["signed"], found["signature_checked"]) == (True, True)
    assert found["signer"] == "key " + hashlib.sha256(Path(public).read_bytes()).hexdigest()[:16]
    refused = edgefx("verify", str(path), "--key", keys["other"][1])
    assert (refused.code, "was not signed with the key that belongs to" in refused.err) == (1, True)


@pytest.mark.parametrize("kind", ["ed25519", "rsa", "k1"])
def test_keys_of_another_kind_are_refused(
    edgefx: Edgefx, build: Path, tmp_path: Path, keys: Mapping[str, tuple[str, str]], kind: str
) -> None:
    private, public = keys[kind]
    path, out = tmp_path / "made.zip", tmp_path / "signed.zip"
    assert edgefx("bundle", str(build), "-o", str(path), "--sign", keys["p256"][0]).code == 0
    for argv in (
        ("bundle", str(build), "-o", str(out), "--sign", private),
        ("verify", str(path), "--key", public),
    ):
        done = edgefx(*argv)
        assert (done.code, "not an ECDSA key on P-256, P-384 or P-521" in done.err) == (2, True), done.err
        assert "openssl" in done.err
    assert not out.exists()


def test_what_is_no_key(
    edgefx: Edgefx, build: Path, tmp_path: Path, keys: Mapping[str, tuple[str, str]]
) -> None:
    private, public = keys["p256"]
    path = tmp_path / "made.zip"
    assert edgefx("bundle", str(build), "-o", str(path), "--sign", private).code == 0
    for argv, says in (
        (("verify", str(path), "--key", private), "no public key in PEM"),
        (("verify", str(path), "--key", str(tmp_path / "nowhere")), "cannot be read"),
        (("verify", str(path), "--root", public), "no certificate in PEM"),
        (("verify", str(path), "--key", public, "--root", public), "with one of them"),
        (("verify", str(path), "--signature", public), "give --key, or --root"),
        (("verify", str(path), "--require-signature"), "give --key, or --root"),
        (("verify", str(path), "--key", public, "--signature", str(tmp_path / "no")), "cannot be read"),
        (("bundle", str(build), "--sign", public), "no private key in PEM"),
        (("bundle", str(build), "--sign", private, "--certificate", private), "no certificate in PEM"),
        (("bundle", str(build), "--certificate", private), "give --sign KEY, too"),
    ):
        done = edgefx(*argv)
        assert (done.code, says in done.err) == (2, True), done.err


def test_a_signature_that_is_missing_or_of_something_else(
    edgefx: Edgefx, build: Path, tmp_path: Path, keys: Mapping[str, tuple[str, str]]
) -> None:
    private, public = keys["p256"]
    plain, signed, one = tmp_path / "plain.zip", tmp_path / "signed.zip", tmp_path / "one.zip"
    assert edgefx("bundle", str(build), "-o", str(plain)).code == 0
    assert edgefx("bundle", str(build), "-o", str(signed), "--sign", private).code == 0
    assert edgefx("bundle", str(build), "-o", str(one), "-t", "onnx-int8", "--sign", private).code == 0
    refused = edgefx("verify", str(plain), "--key", public)
    assert (refused.code, "it is not signed" in refused.err) == (1, True)
    kept = contents(signed)[SIGNATURE]
    other = run_folder(tmp_path / "other", lambda _: b"forged")
    forged = tmp_path / "forged.zip"
    assert edgefx("bundle", str(other), "-o", str(forged)).code == 0
    for members, says in (
        ({**contents(forged), SIGNATURE: kept}, "is not the file that was signed"),
        (
            {**contents(plain), SIGNATURE: contents(one)[SIGNATURE]},
            "artifacts/b0-int8.bin is in it, and was not signed",
        ),
        ({**contents(one), SIGNATURE: kept}, "artifacts/b0-int8.bin was signed, and is missing"),
    ):
        archive.write(signed, members)
        assert edgefx("verify", str(signed)).code == 0, "the bundle is whole"
        refused = edgefx("verify", str(signed), "--key", public)
        assert (refused.code, says in " ".join(refused.err.split())) == (1, True), refused.err


def _payload(document: dict[str, Any], change: Callable[[dict[str, Any]], None]) -> None:
    envelope = document["dsseEnvelope"]
    statement = json.loads(base64.b64decode(envelope["payload"]))
    change(statement)
    envelope["payload"] = base64.b64encode(json.dumps(statement).encode()).decode()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda document: document.clear(), "damaged"),
        (lambda document: document.update(mediaType="\x1b[31m"), "of the type \u241b"),
        (lambda document: document.update(dsseEnvelope=[]), "damaged"),
        (lambda document: document["dsseEnvelope"].update(payloadType="text"), "not of an in-toto statement"),
        (lambda document: document["dsseEnvelope"].update(signatures=[]), "damaged"),
        (lambda document: document["dsseEnvelope"].update(payload="!"), "damaged"),
        (lambda document: document["dsseEnvelope"].update(payload=""), "was not signed with the key"),
        (lambda document: _payload(document, lambda one: one.update(subject=[])), "was not signed with"),
        (
            lambda document: document["dsseEnvelope"]["signatures"][0].update(sig="AAAA"),
            "was not signed with the key",
        ),
    ],
)
def test_a_forged_signature_is_refused(
    edgefx: Edgefx,
    build: Path,
    keys: Mapping[str, tuple[str, str]],
    change: Callable[[dict[str, Any]], None],
    says: str,
) -> None:
    private, public = keys["p256"]
    path = build.with_name("signed.zip")
    assert edgefx("bundle", str(build), "-o", str(path), "--sign", private).code == 0
    changed(path, change)
    refused = edgefx("verify", str(path), "--key", public)
    assert (refused.code, says in " ".join(refused.err.split())) == (1, True), refused.err
    assert "\x1b" not in refused.err


def test_what_a_key_signed_must_be_a_list_of_all_files(
    edgefx: Edgefx, build: Path, tmp_path: Path, keys: Mapping[str, tuple[str, str]]
) -> None:
    """Statements that are signed well, and say too little."""
    private, public = keys["p256"]
    path = tmp_path / "signed.zip"
    assert edgefx("bundle", str(build), "-o", str(path), "--sign", private).code == 0
    key = serialization.load_pem_private_key(Path(private).read_bytes(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    first = path.read_bytes()

    def without(name: str) -> Callable[[dict[str, Any]], None]:
        def change(statement: dict[str, Any]) -> None:
            resources = statement["predicate"]["resources"]
            resources[:] = [one for one in resources if one["name"] != name]
            digests = b"".join(bytes.fromhex(one["digest"]) for one in resources)
            statement["subject"][0]["digest"]["sha256"] = hashlib.sha256(digests).hexdigest()
            statement["predicate"]["serialization"]["ignore_paths"].append(name)

        return change

    for change, says in (
        (without("artifacts/b0-int8.onnx"), "artifacts/b0-int8.onnx is in it, and was not signed"),
        (without(NAME), "manifest.json is in it, and was not signed"),
        (without(SUMS), "SHA256SUMS is in it, and was not signed"),
        (lambda one: one["predicate"]["serialization"].update(method="shards"), "of shards"),
        (lambda one: one.update(predicateType="https://slsa.dev/provenance/v1"), "no list of files"),
        (lambda one: one["predicate"]["resources"].append(one["predicate"]["resources"][0]), "damaged"),
        (lambda one: one["subject"][0]["digest"].update(sha256="0" * 64), "damaged"),
        (lambda one: one.pop("predicate"), "damaged"),
    ):
        path.write_bytes(first)

        def signed(document: dict[str, Any], change: Callable[[dict[str, Any]], None] = change) -> None:
            _payload(document, change)
            payload = base64.b64decode(document["dsseEnvelope"]["payload"])
            content = b"DSSEv1 28 application/vnd.in-toto+json %d %s" % (len(payload), payload)
            made = key.sign(content, ec.ECDSA(hashes.SHA256()))
            document["dsseEnvelope"]["signatures"][0]["sig"] = base64.b64encode(made).decode()

        changed(path, signed)
        refused = edgefx("verify", str(path), "--key", public)
        assert (refused.code, says in " ".join(refused.err.split())) == (1, True), refused.err


# ---------------------------------------- certificates


def test_a_certificate_leads_to_the_root(
    edgefx: Edgefx,
    build: Path,
    tmp_path: Path,
    keys: Mapping[str, tuple[str, str]],
    authority: Authority,
) -> None:
    (private, public), path = keys["p384"], tmp_path / "signed.zip"
    chain = authority.save("chain", authority.of_key(private), authority.middle)
    root = authority.save("root", authority.root)
    done = edgefx("bundle", str(build), "-o", str(path), "--sign", private, "--certificate", chain)
    assert done.code == 0, done.err
    first = path.read_bytes()
    done = edgefx("verify", str(path), "--root", root, "--require-signature")
    assert (done.code, "good, by CN=Release" in done.out) == (0, True), done.err
    assert "\x1b" not in done.out
    assert edgefx("verify", str(path), "--key", public).code == 0, "the certificate's key alone will do, too"
    stranger = Authority(tmp_path)
    refused = edgefx("verify", str(path), "--root", stranger.save("stranger", stranger.root))
    assert (refused.code, "does not lead to a trusted authority" in " ".join(refused.err.split())) == (
        1,
        True,
    )

    def cut(document: dict[str, Any]) -> None:
        del document["verificationMaterial"]["x509CertificateChain"]["certificates"][1:]

    changed(path, cut)
    refused = edgefx("verify", str(path), "--root", root)
    assert (refused.code, "does not lead to a trusted authority" in " ".join(refused.err.split())) == (
        1,
        True,
    )

    def keyless(document: dict[str, Any]) -> None:
        document["verificationMaterial"] = {"certificate": {"rawBytes": ""}, "tlogEntries": [{}]}

    changed(path, keyless)
    refused = edgefx("verify", str(path), "--root", root)
    assert (refused.code, "model_signing verify sigstore" in " ".join(refused.err.split())) == (1, True)

    path.write_bytes(first)

    def foreign(document: dict[str, Any]) -> None:
        """Another one's certificate in front of the same chain."""
        other = stranger.of_key(keys["other"][0]).public_bytes(serialization.Encoding.DER)
        certificates = document["verificationMaterial"]["x509CertificateChain"]["certificates"]
        certificates[0]["rawBytes"] = base64.b64encode(other).decode()

    changed(path, foreign)
    assert edgefx("verify", str(path), "--root", root).code == 1

    plain = tmp_path / "key.zip"
    assert edgefx("bundle", str(build), "-o", str(plain), "--sign", private).code == 0
    refused = edgefx("verify", str(plain), "--root", root)
    assert (refused.code, "has no certificate: give --key" in " ".join(refused.err.split())) == (1, True)


def test_certificates_that_are_not_for_signing_now(
    edgefx: Edgefx,
    build: Path,
    tmp_path: Path,
    keys: Mapping[str, tuple[str, str]],
    authority: Authority,
) -> None:
    private, _ = keys["p256"]
    path, refused_path = tmp_path / "signed.zip", tmp_path / "refused.zip"
    good = authority.save("good", authority.of_key(private), authority.middle)
    root = authority.save("root", authority.root)
    assert edgefx("bundle", str(build), "-o", str(path), "--sign", private, "--certificate", good).code == 0
    first = path.read_bytes()
    no_authority = authority.certificate("Leaf", authority.middle_key.public_key(), authority.root)
    own, middle = authority.of_key(private), authority.middle
    old = authority.of_key(private, begin=-2 * YEAR, end=-YEAR)
    for name, chain, at_once, says in (
        ("old", [old, middle], True, "expired on"),
        ("new", [authority.of_key(private, begin=YEAR / 2), middle], True, "is valid from"),
        ("no", [authority.of_key(private, signs=False), middle], True, "not for digital signatures"),
        ("swapped", [middle, own], True, "is not that of the key"),
        ("gap", [own, authority.root], True, "is not issued by CN=Root"),
        ("leaf", [own, no_authority], False, "does not lead to a trusted authority"),
    ):
        file = authority.save(name, *chain)
        done = edgefx("bundle", str(build), "-o", str(refused_path), "--sign", private, "--certificate", file)
        if at_once:
            assert (done.code, says in " ".join(done.err.split())) == (2, True), (name, done.err)
            assert not refused_path.exists()
            if name in ("swapped", "gap"):
                continue

        def replaced(document: dict[str, Any], chain: list[x509.Certificate] = chain) -> None:
            document["verificationMaterial"]["x509CertificateChain"]["certificates"] = [
                {"rawBytes": base64.b64encode(one.public_bytes(serialization.Encoding.DER)).decode()}
                for one in chain
            ]

        path.write_bytes(first)
        changed(path, replaced)
        refused = edgefx("verify", str(path), "--root", root)
        assert (refused.code, says in " ".join(refused.err.split())) == (1, True), (name, refused.err)


# ---------------------------------------- with `model_signing`


def tool(*argv: str) -> subprocess.CompletedProcess[str]:
    assert TOOL is not None
    return subprocess.run([TOOL, *argv], capture_output=True, text=True, check=False)


@pytest.mark.skipif(
    TOOL is None, reason="model_signing is not installed (pip install model-signing pyopenssl)"
)
def test_model_signing_takes_what_edgefx_signs_and_the_other_way_round(
    edgefx: Edgefx,
    build: Path,
    tmp_path: Path,
    keys: Mapping[str, tuple[str, str]],
    authority: Authority,
) -> None:
    root = authority.save("root", authority.root)
    for curve in CURVES:
        private, public = keys[curve]
        leaf = authority.save("leaf", authority.of_key(private))
        middle = authority.save("middle", authority.middle)
        chain = authority.save("chain", authority.of_key(private), authority.middle)
        of_tool = ("--private_key", private), ("--public_key", public), ("--key", public)
        by_certificate = (
            ("--private_key", private, "--signing_certificate", leaf, "--certificate_chain", middle),
            ("--certificate_chain", root),
            ("--root", root),
        )
        for method, (signs, checks, own) in (("key", of_tool), ("certificate", by_certificate)):
            path, folder = tmp_path / f"{curve}-{method}.zip", tmp_path / f"{curve}-{method}"
            certified = ("--certificate", chain) if method == "certificate" else ()
            made = edgefx("bundle", str(build), "-o", str(path), "--sign", private, *certified)
            assert made.code == 0, made.err
            with zipfile.ZipFile(path) as opened:
                opened.extractall(folder)
            verify = ("verify", method, str(folder), "--signature")
            done = tool(*verify, str(folder / SIGNATURE), *checks)
            assert (done.returncode, done.stdout) == (0, "Verification succeeded\n"), done.stderr

            # And the other way round, whether the bundle has a signature of its own or not.
            detached = tmp_path / "detached.sig"
            if method == "key":
                assert edgefx("bundle", str(build), "-o", str(path)).code == 0
                (folder / SIGNATURE).unlink()
            done = tool("sign", method, str(folder), "--signature", str(detached), *signs)
            assert done.returncode == 0, done.stderr
            checked = edgefx("verify", str(path), "--signature", str(detached), *own)
            assert (checked.code, "good, by" in checked.out) == (0, True), checked.err

    (folder / "MODEL_CARD.md").write_text("other\n")
    assert tool(*verify, str(detached), *checks).returncode == 1
    assert tool("sign", method, str(folder), "--signature", str(detached), *signs).returncode == 0
    refused = edgefx("verify", str(path), "--signature", str(detached), *own)
    assert (refused.code, "MODEL_CARD.md is not the file that was signed" in refused.err) == (1, True)


def test_signing_says_what_is_missing(
    edgefx: Edgefx, build: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from edgefx.system import packages

    monkeypatch.setattr(packages, "is_installed", lambda module: module != "cryptography")
    out = tmp_path / "made.zip"
    done = edgefx("bundle", str(build), "-o", str(out), "--sign", str(tmp_path / "key.pem"))
    assert (done.code, "pip install 'edgefx[sign]'" in done.err) == (3, True)
    assert not out.exists()
