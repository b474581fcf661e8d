"""Native output goes to a log file, results to stdout: DESIGN, contract 5."""

from __future__ import annotations

import ctypes
import io
import logging
import os
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

from edgefx.cli.context import App


class _BoomError(Exception):
    pass


def _fail(app: App, *, keep_as: Path | None = None) -> None:
    with app.native_log(keep_as=keep_as):
        assert os.environ["TF_CPP_MIN_LOG_LEVEL"]
        _noise()
        raise _BoomError


def _noise() -> None:
    """Write in every way that a library writes."""
    os.write(1, b"fd one\n")
    os.write(2, b"fd two\n")
    print("python stdout")
    print("python stderr", file=sys.stderr)
    ctypes.CDLL(None).printf(b"c buffered\n")
    logging.getLogger("some.library").warning("a record")
    warnings.warn("a warning", UserWarning, stacklevel=1)
    subprocess.run(["/bin/echo", "child process"], check=True)


NOISE = (
    "fd one", "fd two", "python stdout", "python stderr", "c buffered", "a record", "a warning",
    "child process",
)  # fmt: skip


def test_noise_goes_to_the_log_and_results_to_stdout(
    capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    app = App()
    with app.native_log(keep_as=tmp_path / "edgefx.log"):
        _noise()
        app.print("the table")
        app.write('{"a": 1}')
        app.warn("mind this")
        app.note("by the way")
    captured = capfd.readouterr()
    assert captured.out == 'the table\n{"a": 1}\n'
    assert captured.err == "warning: mind this\nby the way\n"
    assert app.log_path == tmp_path / "edgefx.log"
    text = app.log_path.read_text()
    for line in NOISE:
        assert text.count(line + "\n") == 1, line


def test_with_streams_that_python_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out, err = io.StringIO(), io.StringIO()
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)
    app = App()
    with app.native_log(keep_as=tmp_path / "edgefx.log"):
        _noise()
        app.print("the table")
    assert (out.getvalue(), err.getvalue()) == ("the table\n", "")
    assert "python stdout" in (tmp_path / "edgefx.log").read_text()


def test_everything_is_restored_also_after_an_exception(capfd: pytest.CaptureFixture[str]) -> None:
    before = (sys.stdout, sys.stderr, dict(os.environ), logging.getLogger().handlers[:])
    level = logging.getLogger().level
    app = App()
    with pytest.raises(_BoomError):
        _fail(app)
    assert (sys.stdout, sys.stderr, dict(os.environ), logging.getLogger().handlers) == before
    assert logging.getLogger().level == level
    os.write(1, b"fd one again\n")
    os.write(2, b"fd two again\n")
    app.print("console again")
    captured = capfd.readouterr()
    assert captured.out == "fd one again\nconsole again\n"
    assert captured.err == "fd two again\n"


def test_the_log_of_a_failure_is_kept_and_that_of_a_success_is_not(tmp_path: Path) -> None:
    app = App()
    with app.native_log():
        _noise()
    assert app.log_path is None
    app = App()
    with pytest.raises(_BoomError):
        _fail(app, keep_as=tmp_path / "absent" / "edgefx.log")
    assert app.log_path is not None
    assert app.log_path.is_relative_to(tmp_path / "state")
    assert "fd two" in app.log_path.read_text()
    assert [path.name for path in (tmp_path / "state" / "edgefx" / "logs").iterdir()] == [app.log_path.name]


def test_old_logs_are_pruned(tmp_path: Path) -> None:
    folder = tmp_path / "state" / "edgefx" / "logs"
    folder.mkdir(parents=True)
    for number in range(30):
        old = folder / f"20200101-0000{number:02}-x.log"
        old.write_text("old")
        os.utime(old, (0, 0))
    with pytest.raises(_BoomError):
        _fail(App())
    names = sorted(path.name for path in folder.iterdir())
    assert len(names) == 20
    assert names[0] == "20200101-000011-x.log"


def test_logs_of_commands_that_may_still_run_are_not_pruned(tmp_path: Path) -> None:
    app = App()
    with app.native_log(keep_as=tmp_path / "edgefx.log"):
        assert app.log_path is not None
        for _ in range(25):
            with pytest.raises(_BoomError):
                _fail(App())
        _noise()
    assert "fd two" in (tmp_path / "edgefx.log").read_text()


def test_a_log_that_somebody_has_cleaned_away_costs_nothing(tmp_path: Path) -> None:
    for keep_as in (tmp_path / "edgefx.log", None):
        app = App()
        with app.native_log(keep_as=keep_as):
            assert app.log_path is not None
            app.log_path.unlink()
        assert app.log_path is None


def test_without_a_usable_home_the_log_is_in_the_temporary_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a-file").write_text("")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "a-file"))
    app = App()
    with pytest.raises(_BoomError):
        _fail(app)
    assert app.log_path is not None
    assert app.log_path.name.startswith("edgefx-")
    app.log_path.unlink()


def test_nested_use_is_one_log(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    app = App()
    with app.native_log(keep_as=tmp_path / "edgefx.log"):
        with app.native_log():
            os.write(1, b"inner\n")
        os.write(1, b"outer\n")
        app.print("result")
    assert (tmp_path / "edgefx.log").read_text() == "inner\nouter\n"
    assert capfd.readouterr().out == "result\n"


@pytest.mark.parametrize(("verbosity", "shown"), [(0, []), (1, ["a record"]), (2, ["a record", "info"])])
def test_verbosity_echoes_records_of_libraries(
    capfd: pytest.CaptureFixture[str], verbosity: int, shown: list[str]
) -> None:
    app = App()
    app.verbosity = verbosity
    with app.native_log():
        logging.getLogger("some.library").warning("a record")
        logging.getLogger("some.library").info("info")
    assert capfd.readouterr().err.split("\n")[:-1] == [f"some.library: {text}" for text in shown]


def test_vvv_shows_native_output_on_stderr_and_keeps_stdout_clean(
    capfd: pytest.CaptureFixture[str],
) -> None:
    app = App()
    app.verbosity = 3
    with app.native_log():
        os.write(1, b"fd one\n")
        app.print("result")
    captured = capfd.readouterr()
    assert captured.out == "result\n"
    assert captured.err == "fd one\n"


def test_a_handler_made_inside_outlives_the_block(tmp_path: Path) -> None:
    with App().native_log(keep_as=tmp_path / "edgefx.log"):
        handler = logging.StreamHandler(sys.stderr)  # as absl's, which closes its stream at exit
    handler.emit(logging.makeLogRecord({"msg": "late"}))
    handler.stream.close()
    handler.emit(logging.makeLogRecord({"msg": "later"}))
    assert (tmp_path / "edgefx.log").read_text() == "late\nlater\n"
