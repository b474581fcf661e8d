"""`edgefx rollout check`: two bundles, and a plan that can be carried out and taken back."""

from __future__ import annotations

import json
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest

from edgefx.bundles import make
from edgefx.report import write_report
from edgefx.types import ArtifactFile, TensorInfo
from edgefx.verdicts import Verdict
from tests.cli.conftest import Edgefx
from tests.unit.report_samples import report

PLAN = """\
version: 1
name: flowers-42
target: tflite-int8
bundle: new.zip
rollback: bundles/old.zip
stages: [{share: 1%, hours: 24}, {share: 0.1, hours: 24}, {share: 100%}]
gates: [p95_ms <= 20, 'tflite-*: agreement >= 98%']
compare: 5%
"""


def bundled(
    folder: Path,
    out: Path,
    content: bytes,
    *,
    verdict: Verdict | None = Verdict.PASS,
    names: tuple[str, ...] = ("daisy", "rose"),
    image: TensorInfo | None = None,
) -> None:
    """Write the bundle of a run with one artifact, and what is to differ."""
    folder.mkdir()
    (result,) = (one for one in report() if one.target == "tflite-int8")
    assert result.artifact is not None
    path = folder / result.artifact.path.name
    path.write_bytes(content)
    file = ArtifactFile(path=path, size_bytes=len(content), sha256=sha256(content).hexdigest())
    artifact = replace(result.artifact, files=(file,), inputs=(image or result.artifact.inputs[0],))
    gates = tuple(replace(gate, verdict=verdict) for gate in result.gates) if verdict else ()
    made = report()
    model = replace(made.model, class_names=names)
    write_report(
        replace(made, model=model, targets=(replace(result, artifact=artifact, gates=gates),)), folder
    )
    make.run(folder, out)


@pytest.fixture
def fleet(tmp_path: Path) -> Path:
    """The file of a rollout beside its two bundles."""
    (tmp_path / "bundles").mkdir()
    bundled(tmp_path / "a", tmp_path / "new.zip", b"TFL3 new")
    bundled(tmp_path / "b", tmp_path / "bundles" / "old.zip", b"TFL3 old")
    plan = tmp_path / "rollout.yaml"
    plan.write_text(PLAN)
    return plan


def test_a_rollout_that_is_ready(edgefx: Edgefx, fleet: Path) -> None:
    done = edgefx("rollout", "check", str(fleet))
    assert done.code == 0, done.err
    for part in (
        "flowers-42  READY",
        "1% for 24 h, then 10% for 24 h, then 100%",
        "5% of the devices",
        "p95_ms",
    ):
        assert part in done.out
    found = json.loads(edgefx("rollout", "check", str(fleet), "--json").out)
    assert found["problems"] == found["warnings"] == []
    assert [stage["share"] for stage in found["stages"]] == [0.01, 0.1, 1.0]


def test_what_programs_on_the_devices_would_not_take(edgefx: Edgefx, fleet: Path, tmp_path: Path) -> None:
    other = TensorInfo(name="image", shape=(1, 64, 64, 3), dtype="int8", scale=1.0, zero_point=-128)
    bundled(
        tmp_path / "c",
        tmp_path / "new.zip",
        b"TFL3 x",
        verdict=Verdict.FAIL,
        names=("rose", "daisy"),
        image=other,
    )
    done = edgefx("rollout", "check", str(fleet), "--json")
    assert done.code == 1
    text = "\n".join(json.loads(done.out)["problems"])
    for part in ("another shape", "another dtype", "class names", "own gates failed"):
        assert part in text
    assert "NOT READY" in edgefx("rollout", "check", str(fleet)).out


def test_warnings_do_not_forbid_it(edgefx: Edgefx, fleet: Path, tmp_path: Path) -> None:
    bundled(tmp_path / "c", tmp_path / "new.zip", b"TFL3 old", verdict=None)
    fleet.write_text(
        "version: 1\nname: x\ntarget: tflite-int8\nbundle: new.zip\nrollback: bundles/old.zip\n"
        "stages: [{share: 100%}]\n"
    )
    done = edgefx("rollout", "check", str(fleet), "--json")
    assert done.code == 0
    text = "\n".join(json.loads(done.out)["warnings"])
    for part in ("no gates", "all devices at once", "own gates: none", "the artifact is the same"):
        assert part in text


def test_a_target_that_a_bundle_lacks(edgefx: Edgefx, fleet: Path) -> None:
    fleet.write_text(PLAN.replace("target: tflite-int8", "target: onnx-int8"))
    done = edgefx("rollout", "check", str(fleet), "--json")
    assert done.code == 1
    assert len(json.loads(done.out)["problems"]) == 2


def test_a_changed_bundle_is_refused(edgefx: Edgefx, fleet: Path) -> None:
    path = fleet.parent / "bundles" / "old.zip"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    assert edgefx("rollout", "check", str(fleet)).code == 1
    assert edgefx("rollout", "check", str(fleet), "--require-signature").code == 2


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ("version: 1", "version: 2", "version 1"),
        ("name: flowers-42", "name: []", "name: a text is missing"),
        ("target: tflite-int8", "target: tflite-*", "not one target"),
        ("target: tflite-int8", "target: nope", "unknown target"),
        ("bundle: new.zip", "bundle: ../new.zip", "leads out of the folder"),
        ("bundle: new.zip", "bundle: /etc/passwd", "leads out of the folder"),
        ("bundle: new.zip", "bundle: absent.zip", "absent.zip"),
        ("gates: [p95_ms <= 20", "gates: [p95 <= 20", "p95"),
        ("gates: [p95_ms <= 20", "gates: [p95_ms <= 1e999", "--gate"),
        ("{share: 1%, hours: 24}", "{share: 1%}", "number 1 does not say how many hours"),
        ("{share: 1%, hours: 24}", "{share: 20%, hours: 24}", "have to rise"),
        ("{share: 100%}", "{share: 90%}", "up to 100%"),
        ("{share: 1%, hours: 24}", "{share: 0%, hours: 24}", "no devices"),
        ("hours: 24", "hours: .inf", "hours"),
        ("hours: 24", "hour: 24", "unknown key"),
        ("compare: 5%", "compare: 500%", "compare"),
        ("compare: 5%", "kompare: 5%", "did you mean compare"),
    ],
)
def test_plans_that_are_none(edgefx: Edgefx, fleet: Path, before: str, after: str, said: str) -> None:
    assert before in PLAN
    fleet.write_text(PLAN.replace(before, after, 1))
    done = edgefx("rollout", "check", str(fleet))
    assert done.code == 2, done.out
    assert said.replace("--gate", "gates") in done.err
    assert "Traceback" not in done.err


def test_files_that_are_no_plan(edgefx: Edgefx, tmp_path: Path) -> None:
    path = tmp_path / "rollout.yaml"
    for content in (b"", b"[1]", b"a: *b", b"\xff\xfe", b"{" * 5000):
        path.write_bytes(content)
        assert edgefx("rollout", "check", str(path)).code == 2
    assert edgefx("rollout", "check", str(tmp_path / "absent.yaml")).code == 2
