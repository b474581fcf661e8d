"""Evaluation throughput: our session and `inference.run` against a bare loop of the same runtime.

Both read the same uint8 images in memory, with the same number of threads, interleaved. Aim: >= 0.9 times.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgefx import runtimes, targets
from edgefx.evaluation import inference

from .common import show
from .stored import Figure

_TOLERANCE = 0.1
Images = NDArray[np.uint8]
TARGETS = ("tflite-int8", "tflite-float32", "onnx-int8", "onnx-float32", "openvino-int8", "openvino-float32")


def main(options: list[str]) -> dict[str, object]:
    """Compile the targets, then time both loops in turn."""
    parser = argparse.ArgumentParser(prog="throughput", description=__doc__)
    parser.add_argument("--model", default="digits")
    parser.add_argument("--calib", help="calibration images (digits brings its own)")
    parser.add_argument("--images", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args(options)
    rows: dict[str, object] = {}
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "edgefx", "compile", args.model, "--target", ",".join(TARGETS)]
        command += ["--no-eval", "--no-benchmark", "-o", folder] + (
            ["--calib", args.calib] if args.calib else []
        )
        subprocess.run(command, check=True, capture_output=True)
        for name in TARGETS:
            row = targets.TARGETS[name]
            (path,) = Path(folder).glob(f"*-{row.precision}{row.suffix}")
            rows[f"{name}: ours over bare loop, images/s"] = Figure(
                _ratio(name, path, args), _TOLERANCE, higher_is_better=True
            )
    return show(rows, as_json=args.json)


def _ratio(name: str, path: Path, args: argparse.Namespace) -> float:
    row = targets.TARGETS[name]
    bare = _BARE[row.runtime.value](path, args.threads)
    with runtimes.load(row).open_session(path, threads=args.threads, precision=row.precision) as session:
        height, width = session.input_spec.shape[1:3]
        images = np.random.default_rng(0).integers(0, 256, (args.images, height, width, 3), dtype=np.uint8)
        ratios = []
        for turn in range(args.rounds + 1):
            begin = time.perf_counter()
            for image in images:
                bare(image[None])
            between = time.perf_counter()
            inference.run(session, images)
            end = time.perf_counter()
            if turn:  # the first round warms up
                ratios.append((between - begin) / (end - between))
    return round(statistics.median(ratios), 3)


def _tflite(path: Path, threads: int) -> Callable[[Images], Any]:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(path), num_threads=threads)
    interpreter.allocate_tensors()
    source, sink = interpreter.get_input_details()[0], interpreter.get_output_details()[0]

    def run(image: Images) -> Any:
        interpreter.set_tensor(source["index"], image.astype(source["dtype"]))
        interpreter.invoke()
        return interpreter.get_tensor(sink["index"])

    return run


def _onnx(path: Path, threads: int) -> Callable[[Images], Any]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return lambda image: session.run(None, {"image": image.astype(np.float32)})


def _openvino(path: Path, threads: int) -> Callable[[Images], Any]:
    import openvino

    config = {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY"}
    request = openvino.Core().compile_model(str(path), "CPU", config).create_infer_request()
    return lambda image: request.infer([image.astype(np.float32)])[0]


_BARE = {"tflite": _tflite, "onnx": _onnx, "openvino": _openvino}
