"""Start-up: `edgefx --help` against the imports that a Rich CLI cannot do without. Aim: <= 1.5 times."""

from __future__ import annotations

import argparse
import statistics
import sys

from .common import run, show


def main(options: list[str]) -> None:
    """Interleave the two and print the ratio of their medians."""
    parser = argparse.ArgumentParser(prog="startup", description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args(options)
    reference: list[float] = []
    ours: list[float] = []
    for _ in range(args.rounds):
        reference.append(run([sys.executable, "-c", "import click, rich.console"]).seconds)
        ours.append(run([sys.executable, "-m", "edgefx", "--help"]).seconds)
    a, b = statistics.median(reference), statistics.median(ours)
    show(
        {
            "import click, rich.console (ms)": round(1e3 * a, 1),
            "edgefx --help (ms)": round(1e3 * b, 1),
            "ratio (aim <= 1.5)": round(b / a, 2),
        },
        as_json=args.json,
    )
