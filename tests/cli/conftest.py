"""Fixtures of the command line's tests: nothing is written to the user's folders."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from edgefx.cli import cli, run


@dataclass(frozen=True)
class Outcome:
    code: int
    out: str
    err: str


Edgefx = Callable[..., Outcome]


@pytest.fixture(autouse=True)
def _own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    for name in ("NO_COLOR", "FORCE_COLOR", "COLUMNS", "_EDGEFX_COMPLETE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def edgefx(capsys: pytest.CaptureFixture[str]) -> Edgefx:
    """Run the command line in this process."""

    def invoke(*argv: str) -> Outcome:
        code = run(argv)
        captured = capsys.readouterr()
        return Outcome(code=code, out=captured.out, err=captured.err)

    return invoke


@pytest.fixture
def _with_fail_command(monkeypatch: pytest.MonkeyPatch) -> None:
    """Add a command `fail` that ends in the way its argument names."""
    monkeypatch.setitem(cli.commands_table, "fail", ("tests.cli.fail_command:command", "Fail."))
