"""What SSH costs and what it leaves behind, on loopback, with an OpenSSH server started for this.

    python -m tests.benchmarks devices --cuts 50 --tries 3
    python -m tests.benchmarks devices --only compilations --model b0.keras --calib photos/ --effort fast

Connections are cut at random moments, while files are copied and while artifacts are timed, by killing the
server's processes: afterwards no process of the device and no half-written file may be left. Then the ratios
of the latencies of two artifacts, measured here and over SSH, are set side by side, and then the time that
`edgefx compile` takes when it measures on the device and when it measures here, in turn.
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from statistics import median

import edgefx
from edgefx.errors import DeviceError
from tests import tiny_onnx
from tests.e2e.ssh_server import SshServer, serving

DEVICE = "ssh://Device"


def main(options: list[str]) -> None:
    """Print what is asked for."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks devices")
    parser.add_argument("--cuts", type=int, default=50)
    parser.add_argument("--tries", type=int, default=3)
    parser.add_argument("--model", default="digits", help="for the time of a compilation")
    parser.add_argument("--calib", help="images for it")
    parser.add_argument("--effort", default="balanced", help="of its INT8 targets")
    parser.add_argument("--only", choices=("cuts", "ratios", "compilations"), help="one part of the three")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args(options)
    with tempfile.TemporaryDirectory() as folder, serving(Path(folder)) as server:
        os.environ["PATH"] = server.path()
        if asked.only in (None, "cuts"):
            _cuts(server, Path(folder), asked.cuts, random.Random(asked.seed))
        if asked.only in (None, "ratios"):
            _ratios(Path(folder), asked.tries)
        if asked.only in (None, "compilations"):
            calib = ["--calib", str(Path(asked.calib).resolve())] if asked.calib else []
            model = str(Path(asked.model).resolve()) if Path(asked.model).exists() else asked.model
            _compilations(Path(folder), asked.tries, [model, *calib, "--effort", asked.effort])


def _cuts(server: SshServer, folder: Path, count: int, draw: random.Random) -> None:
    cut, left, began = 0, 0, time.monotonic()
    for number in range(count):
        # A file of its own each time, so that something is copied; large enough to be met in the middle.
        path = tiny_onnx.write(folder / "cut.onnx", seed=number, hidden=40_000)
        done = threading.Event()
        cutting = threading.Thread(target=_cut_until, args=(server, draw.uniform(0.3, 4.0), done))
        cutting.start()
        try:
            edgefx.benchmark(path, rounds=10**6, seconds=60, device=DEVICE, device_python=sys.executable)
        except DeviceError:
            cut += 1
        finally:
            done.set()
            cutting.join()
        try:
            server.wait_until_idle()
        except AssertionError:
            left += 1
    took = time.monotonic() - began
    print(f"{cut} of {count} connections were cut, in {took:.0f} s; after {left} of them a process stayed")
    print(f"half-written files left: {len(server.unfinished())}")


def _cut_until(server: SshServer, wait_s: float, done: threading.Event) -> None:
    """Cut what connections there are after a while, and again: there may not have been one yet."""
    while not done.wait(wait_s):
        server.cut()
        wait_s = 0.5


def _ratios(folder: Path, tries: int) -> None:
    small = tiny_onnx.write(folder / "small-int8.onnx", hidden=2000)
    large = tiny_onnx.write(folder / "large-float32.onnx", hidden=8000)
    found: dict[str, list[float]] = {"host": [], DEVICE: []}
    for _ in range(tries):
        for device, ratios in found.items():
            python = None if device == "host" else sys.executable
            result = edgefx.benchmark(
                [small, large], rounds=400, seconds=10, threads=1, device=device, device_python=python
            )
            ratio = result.latencies[str(small)].ratio_to_float
            assert ratio is not None
            ratios.append(ratio)
    here, there = (median(ratios) for ratios in found.values())
    for device, ratios in found.items():
        print(f"{device}: ratios {', '.join(f'{ratio:.3f}' for ratio in ratios)}")
    print(f"ssh over host: {there / here:.3f}")


def _compilations(folder: Path, tries: int, what: list[str]) -> None:
    (folder / "devices.yaml").write_text(f"board:\n  address: {DEVICE}\n  python: {sys.executable}\n")
    command = [sys.executable, "-m", "edgefx", "compile", *what, "--no-cache"]
    command += ["--target", "tflite-int8,onnx-int8,openvino-int8"]
    times: dict[str, list[float]] = {"host": [], DEVICE: []}
    for _ in range(tries):
        for device, found in times.items():
            began = time.monotonic()
            wanted = [] if device == "host" else ["--device", "board"]
            done = subprocess.run(
                [*command, *wanted], cwd=folder, check=False, capture_output=True, text=True
            )
            found.append(time.monotonic() - began)
            if done.returncode:
                sys.exit(
                    f"{device}: exit code {done.returncode} after {found[-1]:.0f} s\n{done.stderr[-3000:]}"
                )
    for device, found in times.items():
        print(f"{device}: edgefx compile {what[0]} in {', '.join(f'{one:.1f}' for one in found)} s")
    here, there = (median(found) for found in times.values())
    print(f"measured on the device over measured here: {there / here:.2f}")
