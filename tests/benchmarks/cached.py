"""What the cache costs on the first run, and how long a run takes that changes nothing.

Aims: the first run takes at most 3 % longer than one without a cache; the second ends within 1 s. Runs with
and without the cache alternate, since the speed of a shared machine drifts.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import sys
import tempfile
from pathlib import Path

from .common import Ran, run, show


def main(options: list[str]) -> None:
    """Alternate the two kinds of runs and print the ratio of their medians."""
    parser = argparse.ArgumentParser(prog="cached", description=__doc__)
    parser.add_argument("--recipe", default="digits-demo")
    parser.add_argument("--set", dest="settings", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args(options)
    without: list[Ran] = []
    first: list[Ran] = []
    second: list[float] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ["EDGEFX_CACHE_DIR"] = str(folder / "cache")
        os.environ.pop("EDGEFX_CACHE_SIZE", None)
        command = [sys.executable, "-m", "edgefx", "run", args.recipe, "-o", str(folder / "out")]
        command += [part for setting in args.settings for part in ("--set", setting)]
        for _ in range(args.rounds):
            without.append(run([*command, "--no-cache"]))
            shutil.rmtree(folder / "cache", ignore_errors=True)
            first.append(run(command))
            second += [run(command).seconds for _ in range(3)]
        bytes_kept = sum(path.stat().st_size for path in (folder / "cache").rglob("*") if path.is_file())
    show(
        {
            "without a cache (s)": round(statistics.median(ran.seconds for ran in without), 2),
            "first run (s)": round(statistics.median(ran.seconds for ran in first), 2),
            "first run over without, time (aim <= 1.03)": _ratio(
                [one.seconds for one in first], [one.seconds for one in without]
            ),
            "first run over without, CPU time": _ratio(
                [one.cpu_s for one in first], [one.cpu_s for one in without]
            ),
            "second run, median (s, aim <= 1)": round(statistics.median(second), 3),
            "second run, slowest (s)": round(max(second), 3),
            "cache (MB)": round(bytes_kept / 1e6, 1),
        },
        as_json=args.json,
    )


def _ratio(ours: list[float], theirs: list[float]) -> float:
    return round(statistics.median(a / b for a, b in zip(ours, theirs, strict=True)), 3)
