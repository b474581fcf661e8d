"""Every target of a model: accuracy against the float model, and latency against its runtime's float32.

This is what a user gets, in one run without a cache. With --store and --against of `python -m
tests.benchmarks` it shows what a change made worse.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile

from .common import show
from .stored import Figure

# By how much a figure may move. One of the 360 images of digits is 0.28 pp. Ratios of the fastest of 400
# inferences differed by up to 3.4 % between two runs of one version on a busy machine, medians by 29 %.
_DROP_PP, _AGREEMENT, _LATENCY, _SIZE = 0.3, 0.003, 0.1, 0.02


def main(options: list[str]) -> dict[str, object]:
    """Compile, evaluate and benchmark all targets."""
    parser = argparse.ArgumentParser(prog="targets", description=__doc__)
    parser.add_argument("--model", default="digits", help="zoo name or file")
    parser.add_argument("--calib", help="calibration images (digits brings its own)")
    parser.add_argument("--eval", help="labelled images to measure accuracy on (digits brings its own)")
    parser.add_argument("--target", default="*")
    parser.add_argument("--rounds", type=int, default=400)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args(options)
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "edgefx", "-q", "compile", args.model, "--target", args.target]
        for option, given in (("--calib", args.calib), ("--eval", args.eval)):
            command += [option, given] if given else []
        command += ["--rounds", str(args.rounds), "--threads", "1", "--no-cache", "-o", folder, "--json"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(command)}\n{done.stderr}\nexit {done.returncode}")
    rows: dict[str, object] = {}
    targets = json.loads(done.stdout)["targets"]
    fastest = {target["target"]: target["latency"]["min_ms"] for target in targets}
    for target in targets:
        name, accuracy = target["target"], target["accuracy"]
        reference = f"{name.partition('-')[0]}-float32"
        if accuracy["drop_pp"] is not None:
            rows[f"{name}: drop, pp"] = Figure(round(accuracy["drop_pp"], 3), _DROP_PP, relative=False)
        rows[f"{name}: agreement"] = Figure(
            round(accuracy["agreement"], 4), _AGREEMENT, relative=False, higher_is_better=True
        )
        rows[f"{name}: size over float weights"] = Figure(round(target["size_ratio_to_float"], 3), _SIZE)
        if reference in fastest and name != reference:
            # Of the fastest inferences: whatever else the machine does makes only others slower.
            ratio = fastest[name] / fastest[reference]
            rows[f"{name}: fastest over float32's"] = Figure(round(ratio, 3), _LATENCY)
    return show(rows, as_json=args.json)
