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
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest

from edgefx.bundles import archive, check, csource, make
from edgefx.bundles.archive import Content
from edgefx.bundles.manifest import NAME, SUMS
from edgefx.compilation import Arena, Compilation, Operator
from edgefx.errors import BundleError
from edgefx.report import write_report
from edgefx.types import ArtifactFile, TensorInfo
from tests.cli.conftest import Edgefx
from tests.unit.report_samples import report

Change = Callable[[dict[str, Content]], None]
NAMES = ("daisy", "a b", '"; system("x")*/', "x\n\x1b[31m??/", "\u00fc" * 1000)


@pytest.fixture
def build(tmp_path: Path) -> Path:
    """A run's output folder with three artifacts, one of them a pair of files."""
    folder = tmp_path / "build"
    folder.mkdir()
    noise = random.Random(0)
    results = []
    for result in report():
        assert result.artifact is not None
        names = [result.artifact.path.name]
        if result.target.startswith("openvino"):
            names.append(Path(names[0]).with_suffix(".bin").name)
        files = []
        for name in names:
            content = noise.randbytes(3000)
            (folder / name).write_bytes(content)
            digest = sha256(content).hexdigest()
            files.append(ArtifactFile(path=folder / name, size_bytes=3000, sha256=digest))
        results.append(replace(result, artifact=replace(result.artifact, files=tuple(files))))
    made = report()
    model = replace(made.model, class_names=NAMES)
    write_report(replace(made, model=model, targets=tuple(results)), folder)
    return folder


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


# ---------------------------------------------------------------------------------------- C sources

MAIN = r"""
#include <stdio.h>
#include <string.h>
#include "labels.h"
#include "model_data.h"
#include "model_quantization.h"

int main(void) {
  edgefx_input_t pixel = (edgefx_input_t)(255 / EDGEFX_INPUT_SCALE + EDGEFX_INPUT_ZERO_POINT);
  edgefx_output_t score = 3;
  printf("%d %d %d %d %.9g %d\n", EDGEFX_INPUT_HEIGHT, EDGEFX_INPUT_WIDTH, EDGEFX_INPUT_CHANNELS, pixel,
         (double)((score - EDGEFX_OUTPUT_ZERO_POINT) * EDGEFX_OUTPUT_SCALE), EDGEFX_OUTPUT_CLASSES);
  fwrite(edgefx_model_data, 1, sizeof edgefx_model_data, stdout);
  for (int i = 0; i < EDGEFX_LABELS; ++i) printf("%s|", edgefx_labels[i]);
  return (size_t)edgefx_model_data % 16 != 0;
}
"""


def test_c_sources_compile_and_are_the_model(tmp_path: Path) -> None:
    if shutil.which("gcc") is None or shutil.which("g++") is None:
        pytest.skip("no gcc here")
    content = bytes(range(256)) * 7 + b"end"
    image = TensorInfo(name="image", shape=(1, 96, 64, 3), dtype="int8", scale=1.0, zero_point=-128)
    scores = TensorInfo(name="probabilities", shape=(1, 5), dtype="int8", scale=1 / 256, zero_point=-128)
    files = csource.files(content, sha256="ab" * 32, image=image, scores=scores, class_names=NAMES)
    for name, text in files.items():
        (tmp_path / Path(name).name).write_bytes(text)
    (tmp_path / "main.c").write_text(MAIN)
    flags = ["-Wall", "-Wextra", "-Werror", "-pedantic"]
    for command in (
        ["gcc", "-std=c99", *flags, "-c", "main.c"],
        ["g++", "-std=c++11", *flags, "-c", "model_data.cc"],
        ["g++", "main.o", "model_data.o", "-o", "main"],
    ):
        subprocess.run(command, cwd=tmp_path, check=True)
    ran = subprocess.run([tmp_path / "main"], capture_output=True, check=True)
    line, _, rest = ran.stdout.partition(b"\n")
    assert line == b"96 64 3 127 0.51171875 5"
    assert rest == content + "".join(f"{name}|" for name in NAMES).encode()


# What of TFLM the program uses, as tflite-micro declares it; its sources are in no package registry.
TFLM = {
    "tensorflow/lite/c/common.h": """
        #pragma once
        enum TfLiteStatus { kTfLiteOk = 0, kTfLiteError = 1 };
        union TfLitePtrUnion { void* data; };
        struct TfLiteTensor { TfLitePtrUnion data; };
    """,
    "tensorflow/lite/schema/schema_generated.h": """
        #pragma once
        namespace tflite { struct Model; inline const Model* GetModel(const void* buf) {
          return static_cast<const Model*>(buf); } }
    """,
    "tensorflow/lite/micro/micro_log.h": """
        #pragma once
        void MicroPrintf(const char* format, ...) __attribute__((format(printf, 1, 2)));
    """,
    "tensorflow/lite/micro/micro_mutable_op_resolver.h": """
        #pragma once
        #include "tensorflow/lite/c/common.h"
        namespace tflite {
        struct MicroOpResolver { int known = 0; };
        template <unsigned int tOpCount> class MicroMutableOpResolver : public MicroOpResolver {
         public:
          TfLiteStatus AddBatchMatMul() { return Add(); }
          TfLiteStatus AddConv2D() { return Add(); }
          TfLiteStatus AddCumSum() { return Add(); }
          TfLiteStatus AddSpaceToBatchNd() { return Add(); }
          TfLiteStatus AddUnidirectionalSequenceLSTM() { return Add(); }
         private:
          TfLiteStatus Add() { return static_cast<unsigned>(++known) > tOpCount ? kTfLiteError : kTfLiteOk; }
        };
        }
    """,
    "tensorflow/lite/micro/micro_interpreter.h": """
        #pragma once
        #include <cstddef>
        #include <cstdint>
        #include "tensorflow/lite/micro/micro_mutable_op_resolver.h"
        #include "tensorflow/lite/schema/schema_generated.h"
        namespace tflite {
        class MicroInterpreter {
         public:
          MicroInterpreter(const Model*, const MicroOpResolver& resolver, std::uint8_t* arena,
                           std::size_t size)
              : arena_(arena), fits_(size >= 2 * 1024 && resolver.known == 5) {}
          TfLiteStatus AllocateTensors() {
            input_.data.data = arena_;
            output_.data.data = arena_ + 1024;
            return fits_ ? kTfLiteOk : kTfLiteError;
          }
          TfLiteStatus Invoke() {
            if (static_cast<std::int8_t*>(input_.data.data)[0] != -128) return kTfLiteError;  // a black pixel
            static_cast<std::int8_t*>(output_.data.data)[1] = 5;
            return kTfLiteOk;
          }
          TfLiteTensor* input(std::size_t) { return &input_; }
          TfLiteTensor* output(std::size_t) { return &output_; }
         private:
          std::uint8_t* arena_;
          bool fits_;
          TfLiteTensor input_{}, output_{};
        };
        }
    """,
}
LOG = r"""
#include <cstdarg>
#include <cstdio>
#include "tensorflow/lite/micro/micro_log.h"
void MicroPrintf(const char* format, ...) {
  va_list arguments;
  va_start(arguments, format);
  std::vprintf(format, arguments);
  va_end(arguments);
}
"""


@pytest.mark.parametrize("named", [True, False])
def test_the_program_for_tflm_compiles_and_runs_against_its_declarations(tmp_path: Path, named: bool) -> None:
    if shutil.which("g++") is None:
        pytest.skip("no g++ here")
    kinds = (
        *("CONV_2D", "SPACE_TO_BATCH_ND", "CUMSUM", "BATCH_MATMUL"),
        "UNIDIRECTIONAL_SEQUENCE_LSTM",
    )
    compilation = Compilation(
        compiler="tflite-micro",
        source="tflite-int8",
        source_sha256="ab" * 32,
        operations=5,
        arena=Arena(needed_bytes=2000, bytes=2048),
        operators=tuple(Operator(name=kind, version=1, count=1) for kind in kinds),
    )
    image = TensorInfo(name="image", shape=(1, 16, 8, 3), dtype="int8", scale=1.0, zero_point=-128)
    scores = TensorInfo(name="probabilities", shape=(1, 5), dtype="int8", scale=1 / 256, zero_point=-128)
    names = ("daisy", "rose", "%s", "tulip", "x") if named else ()
    files = csource.files(
        b"model", sha256="ab" * 32, image=image, scores=scores, class_names=names, compilation=compilation
    )
    for name, source in {**files, "log.cc": LOG.encode()}.items():
        (tmp_path / name).write_bytes(source)
    for name, text in TFLM.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    flags = ["-std=c++17", "-Wall", "-Wextra", "-Werror", "-pedantic", "-I."]
    sources = ("main.cc", "model_data.cc", "log.cc")
    subprocess.run(["g++", *flags, *sources, "-o", "program"], cwd=tmp_path, check=True)
    ran = subprocess.run([tmp_path / "program"], capture_output=True, text=True, check=True)
    assert ran.stdout == ("rose" if named else "class 1")


def test_a_header_for_float_ends_has_no_scale() -> None:
    ends = TensorInfo(name="x", shape=(1, 8, 8, 3), dtype="float32")
    files = csource.files(b"x", sha256="ab", image=ends, scores=ends, class_names=())
    assert "labels.h" not in files
    text = files["model_quantization.h"].decode()
    assert "typedef float edgefx_input_t;" in text
    assert "SCALE" not in text


# ---------------------------------------------------------------------------------------- checking


def test_an_intact_bundle(edgefx: Edgefx, bundle: Path) -> None:
    outcome = edgefx("verify", str(bundle))
    assert outcome.code == 0, outcome.err
    assert "every byte of 13 files" in outcome.out
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


# ---------------------------------------------------------------------------------------- signatures


def test_a_signature_that_is_asked_for_must_be_there(edgefx: Edgefx, bundle: Path, tmp_path: Path) -> None:
    outcome = edgefx("verify", str(bundle), "--require-signature")
    assert (outcome.code, "give --key" in outcome.err) == (2, True)
    outcome = edgefx("verify", str(bundle), "--key", str(tmp_path / "public.pem"), "--require-signature")
    assert (outcome.code, "it is not signed" in outcome.err) == (1, True)


def test_a_signature_is_of_one_key_only(edgefx: Edgefx, build: Path, tmp_path: Path) -> None:
    pytest.importorskip("cryptography")
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519

    def saved(name: str, key: ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey) -> tuple[Path, Path]:
        private, public = tmp_path / f"{name}.pem", tmp_path / f"{name}.pub"
        private.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        public.write_bytes(
            key.public_key().public_bytes(
                serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
            )
        )
        return private, public

    private, public = saved("own", ed25519.Ed25519PrivateKey.generate())
    _, other = saved("other", ed25519.Ed25519PrivateKey.generate())
    wrong, wrong_public = saved("curve", ec.generate_private_key(ec.SECP256R1()))
    path = tmp_path / "signed.zip"
    outcome = edgefx("bundle", str(build), "-o", str(path), "--sign", str(private))
    assert outcome.code == 0, outcome.err
    first = path.read_bytes()
    make.run(build, path, sign=private)
    assert path.read_bytes() == first
    assert "not checked: give --key" in edgefx("verify", str(path)).out
    outcome = edgefx("verify", str(path), "--key", str(public), "--require-signature")
    assert (outcome.code, "good" in outcome.out) == (0, True), outcome.err
    outcome = edgefx("verify", str(path), "--key", str(other))
    assert (outcome.code, "was not signed with the key" in outcome.err) == (1, True)
    for argv in (
        ("verify", str(path), "--key", str(wrong_public)),
        ("verify", str(path), "--key", str(private)),
        ("verify", str(path), "--key", str(tmp_path / "nowhere")),
        ("bundle", str(build), "--sign", str(wrong)),
        ("bundle", str(build), "--sign", str(public)),
    ):
        assert edgefx(*argv).code == 2, argv

    # Whoever has no key can make a bundle that is whole, and not sign it.
    members = contents(path)
    members["labels.txt"] = b"forged\n"
    described = [
        ArtifactFile(path=Path(name), size_bytes=size, sha256=digest)
        for name, content in members.items()
        if name not in (NAME, SUMS, "SHA256SUMS.sig")
        for size, _, digest in [archive.measured(content)]
    ]
    manifest = json.loads(bytes(members[NAME]))
    manifest["files"] = [
        {"path": str(file.path), "size_bytes": file.size_bytes, "sha256": file.sha256} for file in described
    ]
    members[NAME] = json.dumps(manifest).encode()
    size, _, digest = archive.measured(members[NAME])
    own = ArtifactFile(path=Path(NAME), size_bytes=size, sha256=digest)
    members[SUMS] = make.sums_of([own, *described])
    archive.write(path, members)
    assert edgefx("verify", str(path)).code == 0
    assert edgefx("verify", str(path), "--key", str(public)).code == 1


def test_signing_says_what_is_missing(
    edgefx: Edgefx, build: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from edgefx.system import packages

    monkeypatch.setattr(packages, "is_installed", lambda module: module != "cryptography")
    outcome = edgefx("bundle", str(build), "--sign", str(tmp_path / "key.pem"))
    assert outcome.code == 3
    assert "pip install 'edgefx[sign]'" in outcome.err
    assert not list(build.glob("*.zip"))
