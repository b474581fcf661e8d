"""What a killed process leaves behind goes with the next run; what belongs to a running one stays."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from edgefx.storage import temporary

_HOLD = """
import sys, tempfile
from pathlib import Path
from edgefx.storage import temporary
with temporary.workspace() as folder:
    tempfile.mkstemp(suffix=".py")
    print(folder, flush=True)
    sys.stdin.read()
"""


def holding(parent: Path) -> tuple[subprocess.Popen[str], Path]:
    """Start a process that has a workspace in `parent`, and return it with the workspace."""
    process = subprocess.Popen(
        [sys.executable, "-c", _HOLD],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "TMPDIR": str(parent)},
        text=True,
    )
    assert process.stdout is not None
    return process, Path(process.stdout.readline().strip())


def aged(path: Path, *, days: float) -> Path:
    then = time.time() - days * 86400
    os.utime(path, (then, then))
    return path


def made_by(process: int, parent: Path) -> Path:
    """Make a folder as another process of this machine would have."""
    path = parent / re.sub(r"-\d+-", f"-{process}-", temporary.name("edgefx-"))
    path.mkdir()
    return path


def test_libraries_write_into_the_workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    with temporary.workspace() as folder:
        assert folder.parent == tmp_path
        assert tempfile.gettempdir() == os.environ["TMPDIR"] == str(folder)
        Path(tempfile.mkdtemp(), "file").write_text("x")
    assert tempfile.gettempdir() == os.environ["TMPDIR"] == str(tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_killed_process_is_cleaned_up_after_and_a_living_one_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(temporary, "_STALE_S", -1.0)  # as after a week without a change
    living, kept = holding(tmp_path)
    killed, left = holding(tmp_path)
    try:
        killed.send_signal(signal.SIGKILL)
        killed.wait()
        assert list(left.iterdir())
        temporary.sweep(tmp_path, "edgefx-")
        assert kept.is_dir()
        assert not left.exists()
    finally:
        living.communicate()
    assert not kept.exists()


def test_a_reused_process_id_is_noticed_after_a_week(tmp_path: Path) -> None:
    old = aged(made_by(os.getppid(), tmp_path), days=3650)  # older than the process that has the number
    recent = made_by(os.getppid(), tmp_path)
    temporary.sweep(tmp_path, "edgefx-")
    assert not old.exists()
    assert recent.exists()


def test_another_machine_has_a_week(tmp_path: Path) -> None:
    names = ("edgefx-00000000-1-aaaaaaaaaaaa", "edgefx-00000000-1-bbbbbbbbbbbb")
    for name in names:
        (tmp_path / name).mkdir()
    aged(tmp_path / names[0], days=8)
    aged(tmp_path / names[1], days=6)
    (tmp_path / "edgefx-mine").mkdir()  # not made here
    aged(tmp_path / "edgefx-mine", days=100)
    temporary.sweep(tmp_path, "edgefx-")
    assert sorted(path.name for path in tmp_path.iterdir()) == [names[1], "edgefx-mine"]
