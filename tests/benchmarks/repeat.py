"""Whether a second `edgefx benchmark` of the same artifacts gives the same ratios, and as its interval says.

    python -m tests.benchmarks repeat [--runs 31] [--threads 1] [--folder build/] [ARTIFACT ...]

Each run is a process of its own, of `edgefx benchmark --json`. Of each run and the next, the ratios of the
medians are compared: how often they are within five percent, and how often the next one lies in the interval
that the first one states. Without artifacts, `digits` is compiled to float32 and INT8 for all runtimes.

By default 31 runs, which are 30 tries, of six artifacts take about 20 minutes on a quiet machine with two
cores; others that compute at the same time make the intervals wider. With `--out FILE` the ratios of each
run are kept, one JSON document a line, and with `--more` runs are added to those.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

_TARGETS = tuple(
    f"{runtime}-{kind}" for runtime in ("tflite", "onnx", "openvino") for kind in ("float32", "int8")
)
_NEAR = 0.05
_SUFFIXES = (".tflite", ".onnx", ".xml")

Run = Mapping[str, Any]  # latencies by the file's name, as `edgefx benchmark --json` gives them


def main(options: list[str]) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks repeat")
    parser.add_argument("artifacts", nargs="*", type=Path)
    parser.add_argument("--folder", type=Path, help="Of a run, whose artifacts are all taken.")
    parser.add_argument("--runs", type=int, default=31)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--min-seconds", type=float, default=1.0)
    parser.add_argument("--launches", type=int, default=5)
    parser.add_argument("--out", type=Path, help="Where each run is kept.")
    parser.add_argument("--more", action="store_true", help="Count the runs that --out holds already.")
    asked = parser.parse_args(options)
    with tempfile.TemporaryDirectory() as folder:
        paths = asked.artifacts or _of(asked.folder) or _compiled(Path(folder))
        settings = [f"--threads={asked.threads}", f"--seconds={asked.seconds}"]
        settings += [f"--min-seconds={asked.min_seconds}", f"--launches={asked.launches}"]
        kept = asked.out.read_text().splitlines() if asked.more and asked.out.exists() else []
        found: list[Run] = [json.loads(line) for line in kept]
        begun = time.monotonic()
        for number in range(asked.runs):
            found.append(_run(paths, settings))
            print(f"  run {number + 1}: {time.monotonic() - begun:.0f} s", file=sys.stderr, flush=True)
            if asked.out:
                asked.out.write_text("".join(json.dumps(one) + "\n" for one in found))
    _show(found)


def _of(folder: Path | None) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.suffix in _SUFFIXES) if folder else []


def _compiled(folder: Path) -> list[Path]:
    targets = [word for name in _TARGETS for word in ("--target", name)]
    command = [sys.executable, "-m", "edgefx", "compile", "digits", *targets, "--no-eval", "--no-benchmark"]
    command += ["-o", str(folder)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return _of(folder)


def _run(paths: Sequence[Path], settings: Sequence[str]) -> Run:
    command = [sys.executable, "-m", "edgefx", "benchmark", *map(str, paths), *settings, "--json"]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    return {Path(name).name: one for name, one in json.loads(done.stdout)["latencies"].items()}


def _show(runs: Sequence[Run]) -> None:
    noisy = sum(any(one["noisy"] for one in run.values()) for run in runs)
    print(f"{len(runs)} runs, {noisy} of them noisy")
    print(f"{'':44}{'ratio':>8}{'spread':>8}{'interval':>10}{'within 5 %':>12}{'next covered':>14}")
    totals = [0, 0, 0]
    for name, ratios, intervals in _stated(runs):
        pairs = list(itertools.pairwise(ratios))
        near = sum(abs(math.log(after / before)) < _NEAR for before, after in pairs)
        told = [(ends, after) for ends, after in zip(intervals, ratios[1:], strict=False) if ends]
        covered = sum(low <= after <= high for (low, high), after in told)
        wide = sorted((high / low) ** 0.5 - 1 for low, high in filter(None, intervals))
        middle = f"{wide[len(wide) // 2]:.1%}" if wide else ""
        spread = (max(ratios) / min(ratios)) ** 0.5 - 1
        print(
            f"{name:44}{sorted(ratios)[len(ratios) // 2]:8.3f}{spread:>8.1%}{middle:>10}"
            f"{near:>6} of {len(pairs):<3}" + (f"{covered:>7} of {len(told):<3}" if told else "")
        )
        if told:
            totals = [totals[0] + near, totals[1] + covered, totals[2] + len(told)]
    if totals[2]:
        near, covered, tries = totals
        print(f"{'stated ratios, all':70}{near:>6} of {tries:<3}{covered:>7} of {tries:<3}")


def _stated(runs: Sequence[Run]) -> Iterator[tuple[str, list[float], list[tuple[float, float] | None]]]:
    """Yield each ratio with its value in each run: first those that a report states, then across runtimes."""
    names = list(runs[0])
    for name in names:
        if "float32" not in name and runs[0][name]["ratio_to_float"] is not None:
            yield (
                f"{name} / float32",
                [run[name]["ratio_to_float"] for run in runs],
                [run[name]["ratio_ci95"] for run in runs],
            )
    for name in names[1:]:
        medians = [run[name]["p50_ms"] / run[names[0]]["p50_ms"] for run in runs]
        yield f"p50: {name} / {names[0]}", medians, [None] * len(runs)


if __name__ == "__main__":
    main(sys.argv[1:])
