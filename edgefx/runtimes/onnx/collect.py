"""ONNX Runtime's own profile of a file: times of every node, as raw as it gives them.

A script of its own, which edgefx also sends to devices: it takes Python 3.9 or later, its standard library,
NumPy and the runtime, and imports nothing of edgefx.
"""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

_WARMUP = 10


def collect(path: str, threads: int, runs: int, *, is_float32: bool = False) -> dict[str, Any]:
    """Run a file under the profiler.

    Args:
        path: The ``.onnx`` file.
        threads: Intra-op threads.
        runs: Inferences that count.
        is_float32: Not used: the file says what it computes in.

    Returns:
        "runs"; "total_us", the median of whole inferences; "nodes", each with "name", "op", "inputs" (types)
        and "us", the mean of the middle half of its times: what else a machine does must not count.
    """
    del is_float32
    import numpy as np
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.enable_profiling = True
    with tempfile.TemporaryDirectory(prefix="edgefx-profile-") as folder:
        options.profile_file_prefix = str(Path(folder) / "ort")
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        random = np.random.default_rng(0)
        feeds = {end.name: _values(end, random) for end in session.get_inputs()}
        totals = []
        for _ in range(_WARMUP + runs):
            begin = time.perf_counter_ns()
            session.run(None, feeds)
            totals.append((time.perf_counter_ns() - begin) / 1e3)
        events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    return _summed(events, totals[_WARMUP:])


def _values(end: Any, random: Any) -> Any:
    import numpy as np

    shape = [size if isinstance(size, int) and size > 0 else 1 for size in end.shape]
    if end.type in ("tensor(uint8)", "tensor(int8)"):
        return random.integers(0, 128, shape).astype(end.type[7:-1])
    if end.type in ("tensor(float)", "tensor(float16)", "tensor(double)"):
        dtype = {"tensor(float)": "float32", "tensor(float16)": "float16", "tensor(double)": "float64"}
        return random.integers(0, 256, shape).astype(dtype[end.type])
    dtype = {"tensor(int32)": "int32", "tensor(int64)": "int64", "tensor(bool)": "bool"}
    return np.zeros(shape, dtype[end.type])


def _summed(events: list[dict[str, Any]], totals: list[float]) -> dict[str, Any]:
    """Divide the events into inferences, and sum up the times of each node."""
    inferences: list[list[dict[str, Any]]] = []
    nodes: list[dict[str, Any]] = []
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            nodes.append(event)
        elif event.get("cat") == "Session" and event["name"] == "model_run":
            inferences.append(nodes)
            nodes = []
    us: dict[str, list[float]] = {}
    first: dict[str, dict[str, Any]] = {}
    for inference in inferences[len(inferences) - len(totals) :]:
        for event in inference:
            us.setdefault(event["name"], []).append(event["dur"])
            first.setdefault(event["name"], event)
    return {
        "runs": len(totals),
        "total_us": statistics.median(totals),
        "nodes": [
            {
                "name": name[: -len("_kernel_time")],
                "op": first[name]["args"]["op_name"],
                "inputs": [next(iter(one)) for one in first[name]["args"].get("input_type_shape", []) if one],
                "us": _middle(times),
            }
            for name, times in us.items()
        ],
    }


def _middle(times: list[float]) -> float:
    """Return the mean of the values between the quartiles."""
    ordered, cut = sorted(times), len(times) // 4
    return statistics.mean(ordered[cut : len(ordered) - cut])
