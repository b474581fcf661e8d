"""Names, disks, streams, folders and limits of the user are no bugs of edgefx."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from edgefx.errors import OutputError
from edgefx.pipeline.output import opened
from tests.cli.conftest import Edgefx

LONG = "y" * 300


@pytest.mark.parametrize(
    "argv",
    [
        ("inspect", f"{LONG}.tflite"),
        ("inspect", f"{LONG}.keras"),
        ("compile", "digits", "-t", "tflite-int8", "--calib", LONG),
        ("diff", LONG, LONG),
        ("reproduce", LONG),
        ("run", f"{LONG}.yaml"),
        ("evaluate", f"{LONG}.onnx", LONG),
        ("benchmark", f"{LONG}.xml"),
    ],
)
def test_a_name_that_is_too_long(edgefx: Edgefx, argv: tuple[str, ...]) -> None:
    outcome = edgefx(*argv)
    assert outcome.code == 2, outcome.err
    assert "too long" in outcome.err or "no such recipe file" in outcome.err
    assert "hint: " in outcome.err


_EARLY = """
import os, signal, sys

class Interrupting:
    def find_spec(self, name, *_):
        if name == "edgefx.cli":
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Interrupting())
from edgefx.__main__ import main
main()
"""


@pytest.mark.parametrize(
    ("name", "code", "word"), [("SIGINT", 130, "interrupted"), ("SIGTERM", 143, "terminated")]
)
def test_an_interruption_while_modules_are_imported(name: str, code: int, word: str) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", _EARLY.replace("SIGINT", name)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (ended.returncode, ended.stderr) == (code, f"{word}\n")


_LAST = """
import atexit, gc, sys

heap = [[] for _ in range(100_000)]  # as much as libraries leave
atexit.register(lambda: print("searched", len(gc.get_objects()), file=sys.stderr))
sys.argv = ["edgefx", "--version"]
from edgefx.__main__ import main
main()
"""


def test_what_is_left_at_the_end_is_not_searched_for_garbage() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", _LAST], capture_output=True, text=True, timeout=60, check=False
    )
    assert ended.returncode == 0
    assert int(ended.stderr.removeprefix("searched ")) < 10_000


# ------------------------------------------------------------------------------------------- other machines

COMMANDS = (
    ("targets",),
    ("recipe", "schema"),
    ("run", "digits-demo", "--dry-run"),
    ("--help",),
)


def called(
    *argv: str, line: str = '"$@"', env: Mapping[str, str] | None = None, cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Run edgefx in a shell, as its argument list or in a pipeline."""
    return subprocess.run(
        ["/bin/bash", "-o", "pipefail", "-c", line, "bash", sys.executable, "-m", "edgefx", *argv],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), **(env or {})},
    )


@pytest.mark.parametrize("argv", COMMANDS, ids=" ".join)
def test_a_reader_that_takes_one_line(argv: tuple[str, ...]) -> None:
    done = called(*argv, line='"$@" | head -n 1')
    assert done.returncode == 0, done.stderr
    assert not any(word in done.stderr for word in ("error", "Exception", "Traceback", "Broken pipe"))
    assert done.stdout.count("\n") == 1


@pytest.mark.parametrize("closing", [">&-", "2>&-", "<&- >&- 2>&-"])
@pytest.mark.parametrize(
    ("argv", "code"), [(("targets",), 0), (("run", "digits-demo", "--dry-run"), 0), (("inspect", "no"), 2)]
)
def test_closed_streams(argv: tuple[str, ...], code: int, closing: str, tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    done = called(*argv, line=f'"$@" {closing}', cwd=tmp_path / "here")
    assert done.returncode == code
    assert "Traceback" not in done.stderr
    assert not list((tmp_path / "here").iterdir())


def without_home(tmp_path: Path, kind: str) -> dict[str, str]:
    """An environment whose home is missing, is a file, or is nothing at all."""
    home = {"absent": str(tmp_path / "nobody"), "a file": str(tmp_path / "file"), "empty": ""}[kind]
    (tmp_path / "file").touch()
    unset = ("XDG_CACHE_HOME", "XDG_STATE_HOME", "EDGEFX_CACHE_DIR", "KERAS_HOME")
    return {"HOME": home, **dict.fromkeys(unset, "")}


@pytest.mark.parametrize("kind", ["absent", "a file", "empty"])
@pytest.mark.parametrize("argv", [("cache", "info"), ("run", "digits-demo", "--dry-run"), ("doctor",)])
def test_no_home(argv: tuple[str, ...], kind: str, tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    done = called(*argv, env=without_home(tmp_path, kind), cwd=tmp_path / "here")
    assert done.returncode in (0, 3) if argv == ("doctor",) else done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert not list((tmp_path / "here").iterdir())


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="needs a folder that not even root can write")
def test_a_home_that_cannot_be_written(tmp_path: Path) -> None:
    environment = {**without_home(tmp_path, "empty"), "HOME": "/proc"}
    assert called("cache", "info", env=environment).returncode == 0
    missing = called("inspect", str(tmp_path / "no.keras"), env=environment)
    assert missing.returncode in (2, 4)
    assert missing.stderr.startswith("error: ")


@pytest.mark.parametrize("argv", COMMANDS, ids=" ".join)
def test_few_file_descriptors(argv: tuple[str, ...]) -> None:
    done = called(*argv, line='ulimit -n 32; "$@"')
    assert done.returncode == 0, done.stderr


# ------------------------------------------------------------------------------- two runs into one folder


def test_a_folder_that_another_run_writes_into(tmp_path: Path) -> None:
    with opened(tmp_path / "out") as folder:
        assert folder.staging.is_dir()
        with pytest.raises(OutputError, match="another run of edgefx is writing into it") as caught:
            opened(tmp_path / "out").__enter__()
        assert "wait for it" in caught.value.hint
        assert folder.staging.is_dir()
        done = called(
            "compile",
            "digits",
            "-t",
            "tflite-float32",
            "--no-eval",
            "--no-benchmark",
            "-o",
            "out",
            cwd=tmp_path,
        )
        assert done.returncode == 2, done.stderr
        assert done.stderr.startswith("error: out: another run of edgefx is writing into it\nhint: wait")
    assert not (tmp_path / "out").exists()
    with opened(tmp_path / "out"):  # free again
        pass
