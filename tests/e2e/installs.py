"""What `pip install` would put into an empty environment, by links to what is installed here."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import venv
from collections.abc import Iterable, Iterator
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

_ROOT = Path(__file__).parents[2]

# Runs the command lines that it reads, one by one, and answers each with its code and what it printed.
_SERVER = """
import contextlib, io, json, os, sys
from edgefx.cli import run
answers = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)
for line in sys.stdin:
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = run(json.loads(line))
    print(json.dumps([code, out.getvalue(), err.getvalue()]), file=answers, flush=True)
"""


def environment(folder: Path, *requirements: str) -> Path:
    """Make a virtual environment with some distributions and all that they require.

    Args:
        folder: Where.
        requirements: As `pip install` takes them, such as "edgefx[tflite]". edgefx itself is left out: it
            is for the caller to put in.

    Returns:
        Its Python.
    """
    venv.create(folder, with_pip=False, symlinks=True)
    site = site_packages(folder)
    for name in closure(requirements):
        if name != "edgefx":
            _link(metadata.distribution(name), site)
    return folder / "bin" / "python"


def add_checkout(folder: Path) -> None:
    """Put edgefx itself into an environment, as an editable installation of this checkout."""
    site = site_packages(folder)
    (site / "edgefx.pth").write_text(f"{_ROOT}\n")
    about = metadata.distribution("edgefx")
    name = f"edgefx-{about.version}.dist-info"
    (site / name).symlink_to(str(about.locate_file(name)))


def site_packages(folder: Path) -> Path:
    """Return where an environment keeps its packages."""
    return folder / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"


def closure(requirements: Iterable[str]) -> set[str]:
    """Return the canonical names of distributions and of all that they require on this machine."""
    waiting = [Requirement(one) for one in requirements]
    done: set[tuple[str, frozenset[str]]] = set()
    while waiting:
        requirement = waiting.pop()
        name, extras = canonicalize_name(requirement.name), frozenset(requirement.extras)
        if (name, extras) in done:
            continue
        done.add((name, extras))
        for line in metadata.requires(name) or []:
            inner = Requirement(line)
            if inner.marker is None or any(
                inner.marker.evaluate({"extra": extra}) for extra in ("", *extras)
            ):
                waiting.append(inner)
    return {name for name, _ in done}


def _link(distribution: metadata.Distribution, site: Path) -> None:
    """Link what a distribution has put beside the others into another environment."""
    assert distribution.files is not None
    for top in {file.parts[0] for file in distribution.files}:
        source, link = Path(str(distribution.locate_file(top))), site / top
        if top not in ("..", "__pycache__") and source.exists() and not link.exists():
            link.symlink_to(source)


def run(
    program: Path, *arguments: str | Path, cwd: Path, expected: int = 0, env: dict[str, str] | None = None
) -> str:
    """Run a program of an environment, where it sees nothing of this one; returns what it prints."""
    done = subprocess.run(
        [program, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        cwd=cwd,
        env=_variables(cwd) | (env or {}),
    )
    assert done.returncode == expected, done.stdout + done.stderr
    return done.stdout if expected == 0 else done.stderr


class Commands:
    """`edgefx` in an environment: one process for all commands, which imports the runtime once."""

    def __init__(self, server: subprocess.Popen[str]) -> None:
        self._server = server

    def __call__(self, *arguments: str | Path, expected: int = 0) -> str:
        """Run a command; returns what it prints, on stderr where another code than 0 is expected."""
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        print(json.dumps([str(argument) for argument in arguments]), file=self._server.stdin, flush=True)
        code, out, err = json.loads(self._server.stdout.readline())
        assert code == expected, out + err
        return str(out if expected == 0 else err)


@contextlib.contextmanager
def commands(python: Path, *, cwd: Path) -> Iterator[Commands]:
    """Start the Python of an environment, where it sees nothing of this one, and let it run `edgefx`."""
    with (
        (cwd / "native.log").open("w") as log,
        subprocess.Popen(
            [python, "-c", _SERVER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            cwd=cwd,
            env=_variables(cwd),
        ) as server,
    ):
        yield Commands(server)  # leaving closes its stdin, which ends it


def _variables(cwd: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "EDGEFX"))}
    return {**kept, "XDG_STATE_HOME": str(cwd / "state"), "EDGEFX_CACHE_SIZE": "0"}
