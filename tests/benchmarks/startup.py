"""Start-up: `edgefx --help` against the imports that a Rich CLI cannot do without (aim: <= 1.5 times), and
`edgefx recipe check` on bad recipes and `edgefx gate` against `edgefx --help` (aim: <= 2 times).
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from edgefx.report import write_report
from tests.unit.report_samples import report

from .common import show
from .stored import Figure

_TOLERANCE = 0.15  # medians of fifteen interleaved starts
_BAD = "version: 1\nmodel: digits\ntragets: [tflite-int8]\ntargets: [tflite-int8]\n"


def main(options: list[str]) -> dict[str, object]:
    """Interleave the commands and print the ratios of their medians."""
    parser = argparse.ArgumentParser(prog="startup", description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args(options)
    with tempfile.TemporaryDirectory(prefix="edgefx-") as folder:
        one, many = Path(folder, "one.yaml"), Path(folder, "many.yaml")
        one.write_text(_BAD, encoding="utf-8")
        wrong = "".join(f"wrong{number}: 1\n" for number in range(20))
        many.write_text(f"{_BAD}{wrong}gates: {{max_drop: 1, max_size: 1}}\n", encoding="utf-8")
        write_report(report(), Path(folder))
        commands = {
            "import click, rich.console (ms)": ["-c", "import click, rich.console"],
            "edgefx --help (ms)": ["-m", "edgefx", "--help"],
            "edgefx recipe check, 1 mistake (ms)": ["-m", "edgefx", "recipe", "check", str(one)],
            "edgefx recipe check, 23 mistakes (ms)": ["-m", "edgefx", "recipe", "check", str(many)],
            "edgefx gate (ms)": ["-m", "edgefx", "gate", folder, "--gate", "size_bytes <= 20MB"],
        }
        seconds: dict[str, list[float]] = {name: [] for name in commands}
        for _ in range(args.rounds):
            for name, command in commands.items():
                seconds[name].append(_timed(command, code=2 if "check" in name else 0))
    medians = {name: 1e3 * statistics.median(values) for name, values in seconds.items()}
    reference, shown, first, second, gate = medians.values()
    return show(
        {
            **{name: round(value, 1) for name, value in medians.items()},
            "--help (aim <= 1.5)": Figure(round(shown / reference, 2), _TOLERANCE),
            "recipe check, 1 mistake (aim <= 2)": Figure(round(first / shown, 2), _TOLERANCE),
            "recipe check, 23 mistakes (aim <= 2)": Figure(round(second / shown, 2), _TOLERANCE),
            "gate (aim <= 2)": Figure(round(gate / shown, 2), _TOLERANCE),
        },
        as_json=args.json,
    )


def _timed(command: list[str], *, code: int) -> float:
    begin = time.perf_counter()
    done = subprocess.run([sys.executable, *command], capture_output=True, check=False)
    elapsed = time.perf_counter() - begin
    if done.returncode != code:
        sys.exit(f"{' '.join(command)}\n{done.stderr.decode(errors='replace')}\nexit {done.returncode}")
    return elapsed
