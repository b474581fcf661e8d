"""A control group with little memory, as a container or a small machine has it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

_LIMIT = 2_000_003_072  # 2 GB, in whole pages of 4096


def _own_group() -> Path | None:
    """Return this process's group of the memory controller, version 1 or 2."""
    membership, root = Path("/proc/self/cgroup"), Path("/sys/fs/cgroup")
    for line in membership.read_text().splitlines() if membership.is_file() else []:
        _, controllers, path = line.split(":", 2)
        group = root / controllers / path.lstrip("/")
        if controllers == "memory" or (not controllers and (group / "memory.max").is_file()):
            return group
    return None


@pytest.fixture
def group() -> Iterator[Path]:
    """A group with a limit, within this process's own."""
    own = _own_group()
    if own is None:
        pytest.skip("no memory controller")
    made = own / f"edgefx-test-{os.getpid()}"
    try:
        made.mkdir()
    except OSError as error:
        pytest.skip(f"no group can be made: {error}")
    try:
        names = ("memory.limit_in_bytes", "memory.max")
        limit = next((made / name for name in names if (made / name).is_file()), None)
        if limit is None:
            pytest.skip("the memory controller is not handed down to groups")
        limit.write_text(str(_LIMIT))
        yield made
    finally:
        with suppress(OSError):
            made.rmdir()


def _edgefx(group: Path, *argv: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    enter = 'echo $$ > "$1" && shift && exec "$@"'
    return subprocess.run(
        ["/bin/sh", "-c", enter, "sh", group / "cgroup.procs", sys.executable, "-m", "edgefx", *argv],
        capture_output=True,
        text=True,
        check=False,
        timeout=400,
        cwd=cwd,
        env={**os.environ, "EDGEFX_CACHE_SIZE": "0", "XDG_STATE_HOME": str(cwd / "state")},
    )


def test_two_gigabytes_are_enough_for_digits(group: Path, tmp_path: Path) -> None:
    little = ("--rounds", "20", "--min-seconds", "0")
    done = _edgefx(group, "compile", "digits", "-t", "tflite-int8,onnx-int8", *little, "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["environment"]["memory_mb"] == _LIMIT // 10**6


def test_doctor_tells_the_limit(group: Path, tmp_path: Path) -> None:
    done = _edgefx(group, "doctor", "--json", cwd=tmp_path)
    found = json.loads(done.stdout)
    assert found["environment"]["memory_mb"] == _LIMIT // 10**6
    assert found["memory_available_mb"] < _LIMIT // 10**6
