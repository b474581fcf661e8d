"""The real command line: in a process of its own, or in this one, which has imported TensorFlow."""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pytest

from edgefx.cli import run
from tests import sharing


@dataclass(frozen=True)
class Finished:
    """A finished `edgefx` process."""

    code: int
    stdout: str
    stderr: str

    @property
    def json(self) -> Any:
        """Stdout as exactly one JSON document."""
        return json.loads(self.stdout)


def edgefx(*arguments: str | Path, env: Mapping[str, str] | None = None, cwd: Path | None = None) -> Finished:
    """Run `edgefx` with `arguments` and wait for it."""
    done = subprocess.run(
        [sys.executable, "-m", "edgefx", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        timeout=400,
        cwd=cwd,
        env={**os.environ, **(env or {})},
    )
    return Finished(done.returncode, done.stdout, done.stderr)


def in_process(
    *arguments: str | Path, env: Mapping[str, str] | None = None, cwd: Path | None = None
) -> Finished:
    """Run `edgefx` with `arguments` in this process, which imports TensorFlow once for all tests."""
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (env or {}).items():
            patch.setenv(name, value)
        if cwd is not None:
            patch.chdir(cwd)
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = run([str(argument) for argument in arguments])
    return Finished(code, out.getvalue(), err.getvalue())


@pytest.fixture(scope="session")
def everything(tmp_path_factory: pytest.TempPathFactory) -> tuple[Finished, Path]:
    """`digits` compiled for all targets in one run, once for all processes of pytest-xdist."""
    folder = sharing.folder(tmp_path_factory, "everything")
    out, kept = folder / "out", folder / "finished.json"
    with sharing.locked(folder):
        if not kept.exists():
            done = edgefx(
                *("compile", "digits", "--target", "*", "--rounds", "20", "--min-seconds", "0"),
                *("--explain", "2", "-o", out, "--json"),
            )
            kept.write_text(json.dumps(asdict(done)))
    return Finished(**json.loads(kept.read_text())), out
