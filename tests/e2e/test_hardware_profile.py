"""A profile measured by the command line, and a run that is laid out by it, to its lock and bundle."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from edgefx.errors import ExitCode
from edgefx.hardware import HardwareProfile
from edgefx.provenance import lock as locks
from edgefx.provenance.comparison import input_changes
from edgefx.provenance.lock import LockedProfile
from edgefx.storage import hardware

from .conftest import in_process

pytestmark = pytest.mark.usefixtures("digits_once")


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `edgefx device profile` says of this machine's ONNX Runtime in a few seconds."""
    path = tmp_path_factory.mktemp("profile") / "here.json"
    options = ("--runtime", "onnx", "--threads", "1", "--seconds", "1")
    done = in_process("device", "profile", *options, "-o", path, "--json")
    assert done.code == ExitCode.OK, done.stderr
    assert done.json == json.loads(path.read_text())
    assert f"--hardware {path}" in done.stderr
    return path


def test_a_profile_says_what_was_measured(measured: Path) -> None:
    found = hardware.read(measured)
    assert found.openvino is None
    assert found.onnx is not None
    assert found.onnx.threads == (1,)
    assert found.onnx.package.startswith("onnxruntime ")
    done = in_process("device", "profile", "--runtime", "onnx", "--threads", "100000", "-o", measured)
    assert done.code == ExitCode.USAGE
    assert "cores" in done.stderr
    assert hardware.read(measured) == found, "nothing is written over it"


def without_gain(measured: Path, path: Path) -> HardwareProfile:
    """Write what a profile would be on a machine where no INT8 is faster."""
    document = json.loads(measured.read_text())
    for row in document["onnx"]["times"]:
        row[-1] = 2 * row[-2]
    path.write_text(json.dumps(document))
    return hardware.read(path)


def test_a_run_by_a_profile_is_reproduced_and_names_its_change(measured: Path, tmp_path: Path) -> None:
    profile = tmp_path / "nothing-gains.json"
    without_gain(measured, profile)
    out = tmp_path / "out"
    options = (
        "--target",
        "onnx-int8",
        "--effort",
        "fast",
        "--rounds",
        "20",
        "--min-seconds",
        "0",
        "--threads",
        "1",
    )
    done = in_process("compile", "digits", *options, "--hardware", profile, "-o", out, "--json", "--no-cache")
    assert done.code == ExitCode.OK, done.stderr
    (target,) = done.json["targets"]
    assert target["artifact"]["compute_int8"] == 0
    assert any("only its weights are stored" in warning for warning in target["warnings"])
    assert target["latency"]["precision_ran"] == "float32"
    assert target["accuracy"]["agreement"] > 0.98
    lock = json.loads((out / "edgefx.lock.json").read_text())
    assert lock["recipe"]["hardware"] == str(profile)
    assert lock["profile"]["sha256"] == hardware.resolve(str(profile)).sha256

    artifact = out / target["artifact"]["files"][0]["path"]
    inspected = in_process("inspect", artifact)
    assert "only the weights are stored in it" in " ".join(inspected.stdout.split())
    bundled = in_process("bundle", out, "-o", tmp_path / "bundle.zip")
    assert bundled.code == ExitCode.OK, bundled.stderr

    moved = tmp_path / "moved.json"
    shutil.move(profile, moved)
    lost = in_process("reproduce", out, "-o", tmp_path / "again")
    assert lost.code == ExitCode.USAGE
    assert "nothing-gains.json" in lost.stderr
    same = in_process("reproduce", out, "-o", tmp_path / "again", "--hardware", moved, "--json")
    assert same.code == ExitCode.OK, same.stderr
    assert [one["outcome"] for one in same.json["targets"]] == ["identical bytes"]

    before = locks.read(out)
    after = replace(before, profile=LockedProfile(cpu="another CPU", sha256="0" * 64))
    (change,) = input_changes(before, after)
    assert (change.kind, change.name) == ("hardware", "profile")


def test_what_is_no_profile_stops_a_run_before_it_begins(tmp_path: Path) -> None:
    path = tmp_path / "board.json"
    path.write_text("{}")
    done = in_process(
        "compile", "digits", "--target", "onnx-int8", "--hardware", path, "-o", tmp_path / "out"
    )
    assert done.code == ExitCode.USAGE
    assert "no hardware profile" in done.stderr
    assert not (tmp_path / "out").exists()
