"""`edgefx bundle` and `edgefx verify`: the same bytes twice, and no byte can be changed unnoticed."""

from __future__ import annotations

import io
import json
import random
import shutil
import stat
import subprocess
import sys
import zipfile
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import pytest

from edgefx.bundles import archive, check, make
from edgefx.bundles.archive import Content
from edgefx.bundles.manifest import NAME, SUMS
from edgefx.errors import BundleError
from tests.cli.conftest import Edgefx
from tests.cli.run_folders import run_folder

Change = Callable[[dict[str, Content]], None]
NAMES = ("daisy", "a b", '"; system("x")*/', "x\n\x1b[31m??/", "\u00fc" * 1000)


@pytest.fixture
def build(tmp_path: Path) -> Path:
    """A run's output folder with three artifacts, one of them a pair of files."""
    noise = random.Random(0)
    return run_folder(tmp_path / "build", lambda _: noise.randbytes(3000), class_names=NAMES)


@pytest.fixture
def bundle(build: Path) -> Path:
    return make.run(build).path


def contents(path: Path) -> dict[str, Content]:
    with zipfile.ZipFile(path) as opened:
        return {name: opened.read(name) for name in opened.namelist()}


# ---------------------------------------------------------------------------------------- making


def test_the_same_run_gives_the_same_bytes(edgefx: Edgefx, build: Path, tmp_path: Path) -> None:
    for name in ("a.zip", "b.zip"):
        outcome = edgefx("bundle", str(build), "-o", str(tmp_path / name), "--json")
        assert outcome.code == 0, outcome.err
        assert json.loads(outcome.out)["sha256"] == sha256((tmp_path / name).read_bytes()).hexdigest()
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()


def test_a_bundle_holds_what_the_run_made_and_measured(bundle: Path, build: Path) -> None:
    found = contents(bundle)
    assert list(found) == [
        "manifest.json",
        "MODEL_CARD.md",
        "artifacts/b0-int8.bin",
        "artifacts/b0-int8.onnx",
        "artifacts/b0-int8.tflite",
        "artifacts/b0-int8.xml",
        "bom.cdx.json",
        "c/labels.h",
        "c/model_data.cc",
        "c/model_data.h",
        "c/model_quantization.h",
        "labels.txt",
        "report.json",
        "SHA256SUMS",
    ]
    assert found["report.json"] == (build / "report.json").read_bytes()
    assert found["artifacts/b0-int8.bin"] == (build / "b0-int8.bin").read_bytes()
    manifest = json.loads(bytes(found[NAME]))
    assert manifest["model"]["sha256"] == "cd" * 32
    assert (manifest["color"], manifest["pixel_range"]) == ("RGB", [0.0, 255.0])
    assert manifest["class_names"][:2] == ["daisy", "a b"]
    assert len(manifest["class_names"][4]) == 200
    assert manifest["data"][0] == {
        "role": "calibration",
        "images": 100,
        "sha256": "01" * 32,
        "resize": "stretch",
        "interpolation": "bilinear",
    }
    first, second, third = manifest["targets"]
    assert first["input"]["scale"] == 1.0
    assert first["accuracy"]["drop_pp"] == pytest.approx(1.09)
    assert first["latency"]["p50_ms"] == 2.48
    assert (first["verdict"], second["verdict"], third["verdict"]) == ("PASS", "FAIL", None)
    assert third["files"] == ["artifacts/b0-int8.xml", "artifacts/b0-int8.bin"]
    assert str(build) not in json.dumps(manifest), "no path of this machine"
    card = bytes(found["MODEL_CARD.md"]).decode()
    assert "92.12%" in card
    assert "top-1 drop 2.19 pp, limit 1.5 pp: 0.69 pp over" in card
    assert "licence" in card
    assert "\x1b" not in card


def test_the_bill_of_materials_leads_from_artifacts_to_model_images_and_figures(bundle: Path) -> None:
    """In the form of CycloneDX 1.6: its strict schema took one of a run with three targets."""
    bill = json.loads(bytes(contents(bundle)["bom.cdx.json"]))
    assert (bill["bomFormat"], bill["specVersion"]) == ("CycloneDX", "1.6")
    assert bill["serialNumber"].startswith("urn:uuid:")
    assert bill["metadata"]["component"]["hashes"] == [{"alg": "SHA-256", "content": "cd" * 32}]
    assert bill["metadata"]["tools"]["components"][0]["name"] == "edgefx"
    listed = {one["bom-ref"]: one for one in bill["components"]}
    pair = listed["artifact:openvino-float32"]
    held = contents(bundle)
    for one in (pair, *pair["components"]):
        assert one["hashes"][0]["content"] == sha256(bytes(held[one["name"]])).hexdigest()
    parameters = listed["artifact:tflite-int8"]["modelCard"]["modelParameters"]
    assert {one["ref"] for one in parameters["datasets"]} <= set(listed)
    figures = listed["artifact:tflite-int8"]["modelCard"]["quantitativeAnalysis"]["performanceMetrics"]
    (drop,) = (one for one in figures if one["type"] == "drop_pp")
    assert float(drop["value"]) == pytest.approx(1.09)
    assert set(drop["confidenceInterval"]) == {"lowerBound", "upperBound"}
    assert {one["ref"] for one in bill["dependencies"]} < set(listed)


def test_each_artifact_has_a_card_of_its_own_outside_of_bundles(edgefx: Edgefx, build: Path) -> None:
    before = {path: path.read_bytes() for path in build.iterdir()}
    done = edgefx("report", str(build), "--report", str(build / "again.md"), "--cards", "--json")
    assert done.code == 0, done.err
    first, second, third = (build / name for name in json.loads(done.out)["files"][1:])
    assert third.name == "b0-int8.xml.MODEL_CARD.md"
    card = second.read_text()
    assert "top-1 drop 2.19 pp, limit 1.5 pp: 0.69 pp over" in card
    assert "onnx-int8: b0-int8.onnx; input" in card.replace("**", "")
    assert "tflite-int8" not in card
    assert "onnx-int8" not in first.read_text()
    assert "licence" in card
    assert "\x1b" not in card
    assert str(build) not in card
    assert before == {path: path.read_bytes() for path in before}

    (build / "b0-int8.onnx").write_bytes(b"another")
    first.unlink()
    refused = edgefx("report", str(build), "--cards")
    assert refused.code == 2
    assert "is not the file" in refused.err
    assert not first.exists(), "nothing is half done"


def test_sha256sum_reads_the_checksums(bundle: Path, tmp_path: Path) -> None:
    if shutil.which("sha256sum") is None:
        pytest.skip("no sha256sum here")
    with zipfile.ZipFile(bundle) as opened:
        opened.extractall(tmp_path / "out")
    subprocess.run(["sha256sum", "--check", "--strict", SUMS], cwd=tmp_path / "out", check=True)


def test_targets_are_chosen(edgefx: Edgefx, build: Path, tmp_path: Path) -> None:
    out = tmp_path / "one.zip"
    outcome = edgefx("bundle", str(build), "-t", "openvino-*", "-o", str(out))
    assert outcome.code == 0, outcome.err
    assert "openvino-float32" in outcome.out
    assert [name for name in contents(out) if "/" in name] == [
        "artifacts/b0-int8.bin",
        "artifacts/b0-int8.xml",
    ]
    outcome = edgefx("bundle", str(build), "-t", "tflite-float32")
    assert outcome.code == 2
    assert "it has: tflite-int8, onnx-int8, openvino-float32" in outcome.err


def test_a_failed_gate_is_told(edgefx: Edgefx, build: Path) -> None:
    outcome = edgefx("bundle", str(build))
    assert "gates failed, or could not be judged: onnx-int8" in " ".join(outcome.out.split())


def test_what_cannot_be_bundled(edgefx: Edgefx, build: Path, tmp_path: Path) -> None:
    assert edgefx("bundle", str(tmp_path / "nowhere")).code == 2
    matrix = tmp_path / "matrix"
    matrix.mkdir()
    (matrix / "matrix.json").write_text("{}")
    assert "matrix" in edgefx("bundle", str(matrix)).err
    for damaged in ("", "[]", "{}", '{"schema_version": 1}', "[" * 10**5):
        folder = tmp_path / "damaged"
        folder.mkdir(exist_ok=True)
        (folder / "report.json").write_text(damaged)
        outcome = edgefx("bundle", str(folder))
        assert (outcome.code, "no report of edgefx" in outcome.err) == (2, True), outcome.err
    (folder / "report.json").write_text('{"schema_version": 2}')
    assert "a report of version 2" in edgefx("bundle", str(folder)).err
    for key in ("files", "inputs", "outputs"):
        document = json.loads((build / "report.json").read_text())
        document["targets"][0]["artifact"][key] = []
        (folder / "report.json").write_text(json.dumps(document))
        outcome = edgefx("bundle", str(folder))
        assert (outcome.code, "tflite-int8 is not described" in outcome.err) == (2, True), outcome.err
    (build / "b0-int8.onnx").write_bytes(b"another")
    outcome = edgefx("bundle", str(build))
    assert outcome.code == 2
    assert "is not the file that" in outcome.err
    (build / "b0-int8.onnx").unlink()
    assert "cannot be read" in edgefx("bundle", str(build)).err
    assert not list(build.glob("*.zip"))
    assert not list(build.glob(".edgefx-*"))


# ---------------------------------------------------------------------------------------- checking


def test_an_intact_bundle(edgefx: Edgefx, bundle: Path) -> None:
    outcome = edgefx("verify", str(bundle))
    assert outcome.code == 0, outcome.err
    assert "every byte of 14 files" in outcome.out
    found = json.loads(edgefx("verify", str(bundle), "--json").out)
    assert (found["signed"], found["signature_checked"]) == (False, False)


def test_a_thousand_changed_bytes_are_all_refused(bundle: Path) -> None:
    content = bytearray(bundle.read_bytes())
    chance = random.Random(1)
    places = [chance.randrange(len(content)) for _ in range(1000)]
    # What is no content: headers, directory and end, each of their bytes.
    with zipfile.ZipFile(bundle) as opened:
        for info in opened.infolist():
            places += range(info.header_offset, info.header_offset + 30 + len(info.filename))
        places += range(opened.start_dir, len(content))
    for place in places:
        before = content[place]
        content[place] ^= chance.randrange(1, 256)
        with pytest.raises(BundleError):
            check._checked(io.BytesIO(content), bundle, None)
        content[place] = before
    check._checked(io.BytesIO(content), bundle, None)


def test_a_bundle_that_is_cut_or_longer_is_refused(bundle: Path) -> None:
    content = bundle.read_bytes()
    for changed in (
        b"",
        content[:21],
        content[:-1],
        content[1:],
        content + b"\0",
        b"\0" + content,
        content * 2,
    ):
        bundle.write_bytes(changed)
        with pytest.raises(BundleError):
            check.run(bundle)


def _without(name: str) -> Change:
    def change(members: dict[str, Content]) -> None:
        del members[name]

    return change


def _with(name: str, content: bytes) -> Change:
    return lambda members: members.update({name: content})


def _swapped(members: dict[str, Content]) -> None:
    one, other = "artifacts/b0-int8.onnx", "artifacts/b0-int8.tflite"
    members[one], members[other] = members[other], members[one]


def _of_manifest(**changes: object) -> Change:
    def change(members: dict[str, Content]) -> None:
        content = members[NAME]
        assert isinstance(content, bytes)
        members[NAME] = json.dumps({**json.loads(content), **changes}).encode()

    return change


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (_swapped, "artifacts/b0-int8.onnx is not the file"),
        (_without("labels.txt"), "labels.txt is missing"),
        (_without(NAME), "it has no manifest.json"),
        (_without(SUMS), "it has no SHA256SUMS"),
        (_with("more.txt", b""), "more.txt is in it, and manifest.json does not know it"),
        (_with("labels.txt", b"other"), "labels.txt is not the file"),
        (_with(SUMS, b"other"), "other checksums"),
        (_with(NAME, b"[]"), "no manifest"),
        (_with(NAME, b"[" * 10**5), "no JSON"),
        (_of_manifest(schema_version=2), "a bundle of version 2, this edgefx reads version 1"),
        (_of_manifest(schema_version="\x1b[31m"), "a bundle of version \u241b"),
        (_of_manifest(created="2020"), "other checksums"),
        (_of_manifest(files=3), "no list of files"),
        (_of_manifest(files=[{"path": "a", "size_bytes": 1, "sha256": "x"}]), "without its SHA-256"),
    ],
)
def test_a_forged_bundle_is_refused(edgefx: Edgefx, bundle: Path, change: Change, says: str) -> None:
    """Written in the right form, so that only what it holds is wrong."""
    members = contents(bundle)
    change(members)
    archive.write(bundle, members)
    outcome = edgefx("verify", str(bundle))
    assert outcome.code == 1, outcome.out
    assert says in " ".join(outcome.err.split()), outcome.err
    assert "\x1b" not in outcome.err


def _member(
    name: str, *, compress: int = zipfile.ZIP_STORED, mode: int = stat.S_IFREG | 0o644
) -> zipfile.ZipInfo:
    made = zipfile.ZipInfo(name)
    made.compress_type, made.external_attr, made.create_system = compress, mode << 16, 3
    return made


@pytest.mark.parametrize(
    ("member", "content", "says"),
    [
        (_member("../../etc/passwd"), b"x", "no path inside of a bundle"),
        (_member("/etc/passwd"), b"x", "no path inside of a bundle"),
        (_member("a/.hidden"), b"x", "no path inside of a bundle"),
        (_member("C:evil"), b"x", "no path inside of a bundle"),
        (_member("a" * 300), b"x", "no path inside of a bundle"),
        (_member("\x1b[31m"), b"x", "no path inside of a bundle"),
        (_member("link", mode=stat.S_IFLNK | 0o777), b"/etc/passwd", "link is a link"),
        (_member("bomb", compress=zipfile.ZIP_DEFLATED), bytes(10**7), "bomb is compressed"),
        (_member("device", mode=stat.S_IFCHR | 0o666), b"", "not as edgefx writes it"),
        (_member("report.json"), b"again", "report.json is in it twice"),
        (_member("artifacts/../../../out"), b"x", "no path inside of a bundle"),
        (_member("artifacts/./out"), b"x", "no path inside of a bundle"),
        (_member("artifacts//out"), b"x", "no path inside of a bundle"),
        (_member("..\\..\\out"), b"x", "no path inside of a bundle"),
        (_member("//server/share"), b"x", "no path inside of a bundle"),
        (_member(".."), b"x", "no path inside of a bundle"),
        (_member("a\nb"), b"x", "no path inside of a bundle"),
        (_member("\u202egpj.exe"), b"x", "no path inside of a bundle"),
        (_member("folder/"), b"", "no path inside of a bundle"),
        (_member("pipe", mode=stat.S_IFIFO | 0o666), b"", "not as edgefx writes it"),
        (_member("socket", mode=stat.S_IFSOCK | 0o666), b"", "not as edgefx writes it"),
        (_member("block", mode=stat.S_IFBLK | 0o666), b"", "not as edgefx writes it"),
        (_member("packed", compress=zipfile.ZIP_LZMA), b"x" * 1000, "packed is compressed"),
        (_member("bundle.zip"), b"PK\x03\x04", "bundle.zip is in it, and manifest.json does not know it"),
    ],
    ids=lambda value: (
        value.filename[:20].encode("unicode_escape").decode() if isinstance(value, zipfile.ZipInfo) else ""
    ),
)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_an_archive_of_another_form_is_refused(
    edgefx: Edgefx, bundle: Path, member: zipfile.ZipInfo, content: bytes, says: str
) -> None:
    with zipfile.ZipFile(bundle, "a") as opened:
        opened.writestr(member, content)
    before = sorted(bundle.parent.parent.rglob("*"))
    outcome = edgefx("verify", str(bundle))
    assert outcome.code == 1, outcome.out
    assert sorted(bundle.parent.parent.rglob("*")) == before, "nothing is written anywhere"
    assert says in " ".join(outcome.err.split()), outcome.err
    assert "\x1b" not in outcome.err


def test_encrypted_members_and_other_files_are_refused(edgefx: Edgefx, bundle: Path, tmp_path: Path) -> None:
    content = bytearray(bundle.read_bytes())
    with zipfile.ZipFile(bundle) as opened:
        content[opened.start_dir + 8] |= 1
    bundle.write_bytes(content)
    assert "manifest.json is encrypted" in edgefx("verify", str(bundle)).err
    text = tmp_path / "text.zip"
    text.write_text("no archive" * 100)
    outcome = edgefx("verify", str(text))
    assert (outcome.code, "no zip archive ends here" in outcome.err) == (1, True)
    for path in (tmp_path / "nowhere.zip", tmp_path):
        assert edgefx("verify", str(path)).code == 2
    plain = tmp_path / "plain.zip"
    with zipfile.ZipFile(plain, "w"):
        pass
    assert "it has no manifest.json" in edgefx("verify", str(plain)).err


def test_checking_imports_nothing_but_the_standard_library(bundle: Path) -> None:
    probe = (
        "import sys; from pathlib import Path; from edgefx.bundles import check;"
        "check.run(Path(sys.argv[1]));"
        "print(sorted({'numpy', 'pydantic', 'rich', 'yaml', 'PIL', 'psutil', 'click'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", probe, bundle], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
