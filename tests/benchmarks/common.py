"""What the benchmarks share: timing whole processes, and printing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from .stored import Figure


@dataclass(frozen=True)
class Ran:
    """One finished process."""

    seconds: float
    peak_memory_mb: float
    cpu_s: float = 0.0  # of the process and its children: steadier than wall time where others compute too


def run(command: list[str], *, cwd: Path | None = None) -> Ran:
    """Run a process to its end; wall time, and the peak resident set of it and its largest child."""
    begin = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd=cwd)
    assert process.stdout is not None
    output = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"{' '.join(command)}\n{output.decode(errors='replace')}\nexit {process.returncode}")
    return Ran(
        seconds=time.perf_counter() - begin,
        peak_memory_mb=usage.ru_maxrss * 1024 / 1e6,
        cpu_s=usage.ru_utime + usage.ru_stime,
    )


def show(rows: dict[str, object], *, as_json: bool) -> dict[str, object]:
    """Print figures by name; returns them."""
    if as_json:
        print(json.dumps({name: _json(row) for name, row in rows.items()}))
        return rows
    for name, row in rows.items():
        if isinstance(row, Ran):
            print(f"  {name:44} {row.seconds:8.2f} s   peak {row.peak_memory_mb:6.0f} MB")
        else:
            print(f"  {name:44} {row}")
    return rows


def _json(row: object) -> object:
    if isinstance(row, Figure):
        return row.value
    return asdict(row) if isinstance(row, Ran) else row
