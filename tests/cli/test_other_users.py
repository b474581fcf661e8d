"""Files and folders of another user: each is named, with the exit code of what a user can cure.

Run as root, without the capabilities that let root pass over permissions: then every file of another user is
that, and the interpreter may lie where no other user could start it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

_NOBODY = 65534
_ROOT = Path(__file__).parents[2]
_PLAIN = [
    "setpriv", "--bounding-set", "-dac_override,-dac_read_search,-fowner,-chown", "--inh-caps", "-all",
]  # fmt: skip


def _can() -> bool:
    if sys.platform != "linux" or os.geteuid() != 0 or shutil.which("setpriv") is None:
        return False
    return subprocess.run([*_PLAIN, "true"], capture_output=True, check=False).returncode == 0


pytestmark = pytest.mark.skipif(not _can(), reason="needs root, to be two users, and setpriv")


def edgefx(*argv: str | Path, cwd: Path, root: Path = _ROOT, cache: Path | None = None) -> tuple[int, str]:
    """Run edgefx with no more rights than a user has; returns exit code and both outputs."""
    done = subprocess.run(
        [*_PLAIN, sys.executable, "-m", "edgefx", *map(str, argv)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=120,
        cwd=cwd,
        env={
            **os.environ,
            "PYTHONPATH": str(root),
            "XDG_STATE_HOME": str(cwd / "state"),
            "EDGEFX_CACHE_DIR": str(cache or cwd / "cache"),
            "EDGEFX_CACHE_SIZE": "1GB",
        },
    )
    assert "Traceback" not in done.stdout
    return done.returncode, done.stdout


def give(folder: Path, mode: int) -> Path:
    """Give a folder and all in it to another user."""
    for path in (folder, *folder.rglob("*")):
        os.chown(path, _NOBODY, _NOBODY)
        path.chmod(mode if path.is_dir() else mode & 0o666)
    return folder


@pytest.fixture
def theirs(tmp_path: Path) -> Path:
    """A folder that only its owner may enter."""
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs/model.tflite").write_bytes(b"TFL3")
    return give(tmp_path / "theirs", 0o700)


@pytest.mark.parametrize(
    "argv",
    [
        ("inspect", "theirs/model.tflite"),
        ("inspect", "theirs/model.keras"),
        ("evaluate", "theirs/model.tflite", "."),
        ("benchmark", "theirs/model.tflite"),
        ("compile", "digits", "-t", "tflite-float32", "-o", "theirs/out"),
        ("compile", "theirs/model.keras", "-t", "tflite-float32"),
        ("compile", "digits", "-t", "tflite-int8", "--calib", "theirs"),
        ("recipe", "init", "theirs/model.keras"),
        ("recipe", "check", "theirs/recipe.yaml"),
        ("run", "theirs/recipe.yaml"),
        ("diff", "theirs/a", "theirs/b"),
        ("reproduce", "theirs/edgefx.lock.json"),
    ],
    ids=" ".join,
)
def test_a_folder_that_may_not_be_entered(argv: tuple[str, ...], theirs: Path) -> None:
    code, said = edgefx(*argv, cwd=theirs.parent)
    assert code == 2, said
    assert "error: " in said
    assert "hint: " in said
    assert "theirs" in said


def test_an_output_folder_that_may_be_read_only(theirs: Path) -> None:
    give(theirs, 0o755)
    code, said = edgefx("compile", "digits", "-t", "tflite-float32", "-o", "theirs/out", cwd=theirs.parent)
    assert code == 2, said
    assert "error: theirs/out: cannot be written: Permission denied" in said
    assert [path.name for path in theirs.iterdir()] == ["model.tflite"]


def test_a_cache_of_another_user(theirs: Path) -> None:
    argv = ("compile", "digits", "-t", "tflite-float32", "--no-eval", "--no-benchmark", "-o", "out")
    code, said = edgefx(*argv, cwd=theirs.parent, cache=theirs)
    assert code == 0, said
    assert said.count("warning: cache: ") == 2, said  # that it cannot be read, and that it cannot be written
    code, said = edgefx("cache", "info", cwd=theirs.parent, cache=theirs)
    assert code == 2, said
    assert "theirs" in said
    give(theirs, 0o755)
    code, said = edgefx("cache", "info", cwd=theirs.parent, cache=theirs)
    assert code == 0, said
    assert [path.name for path in theirs.iterdir()] == ["model.tflite"]


def test_a_package_that_another_user_has_installed(tmp_path: Path) -> None:
    installed = tmp_path / "installed"
    unwanted = shutil.ignore_patterns("__pycache__")
    for name in ("edgefx", "recipes", "calibration"):
        shutil.copytree(_ROOT / name, installed / name, ignore=unwanted)
    give(installed, 0o555)
    (tmp_path / "here").mkdir()
    for argv in (("targets",), ("recipe", "list"), ("run", "digits-demo", "--dry-run"), ("cache", "info")):
        code, said = edgefx(*argv, cwd=tmp_path / "here", root=installed)
        assert code == 0, said
    assert not list(installed.rglob("__pycache__"))
