"""`edgefx setup`, and what is said of the targets that need it."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from edgefx.compilers import environments, iree
from tests.cli.conftest import Edgefx

_IS_READY = environments.VARIABLE in os.environ and iree.ENVIRONMENT.is_ready


def test_a_target_of_iree_says_what_is_missing(
    edgefx: Edgefx, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(environments.VARIABLE, str(tmp_path))
    done = edgefx("compile", "digits", "-t", "iree-aarch64", "-o", str(tmp_path / "out"))
    assert done.code == 3
    assert "edgefx setup iree" in done.err
    assert not (tmp_path / "out").exists()


def test_setup_that_cannot_install_leaves_nothing(
    edgefx: Edgefx, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(environments.VARIABLE, str(tmp_path / "environments"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    done = edgefx("setup", "iree", "--json")
    assert done.code == 3
    assert "cannot be installed" in json.loads(done.out)["error"]["message"]
    assert not any((tmp_path / "environments").iterdir())


def test_only_compilers_with_an_environment_are_set_up(edgefx: Edgefx) -> None:
    assert edgefx("setup", "vela").code == 2


@pytest.mark.skipif(not _IS_READY, reason="IREE is not set up in the folder of EDGEFX_ENVIRONMENTS")
def test_machine_code_answers_as_the_reference_kernels_do(edgefx: Edgefx, tmp_path: Path) -> None:
    assert json.loads(edgefx("setup", "iree", "--json").out)["was_ready"]
    out = tmp_path / "out"
    options = ("--effort", "fast", "--no-eval", "--no-benchmark", "-o", str(out), "--json")
    done = edgefx("compile", "digits", "-t", "iree-*", *options)
    assert done.code == 0, done.err
    made = {one["target"]: one["compilation"] for one in json.loads(done.out)["targets"]}
    assert set(made) == {"iree-x86-64", "iree-aarch64", "iree-riscv64"}
    assert len({(out / f"digits-{name}.vmfb").read_bytes()[:200_000] for name in made}) == 3
    found = [one["parity"] for one in made.values() if one["parity"] is not None]
    assert all(one["identical_to_reference"] == one["images"] > 0 for one in found)
