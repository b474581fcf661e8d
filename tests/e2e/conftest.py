"""The real command line, run as users run it: one process per call."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest


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


@pytest.fixture(scope="session")
def everything(tmp_path_factory: pytest.TempPathFactory) -> tuple[Finished, Path]:
    """`digits` compiled for all twelve targets in one run."""
    out = tmp_path_factory.mktemp("everything") / "out"
    return edgefx("compile", "digits", "--target", "*", "--rounds", "20", "-o", out, "--json"), out
