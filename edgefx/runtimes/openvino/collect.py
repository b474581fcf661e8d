"""OpenVINO's own profile of a model, as raw as it gives it.

A script of its own, which edgefx also sends to devices: it takes Python 3.9 or later, its standard library,
NumPy and the runtime, and imports nothing of edgefx.
"""

from __future__ import annotations

import statistics
import time
from typing import Any

_NO_KERNEL = ("undef", "unknown")


def collect(path: str, threads: int, runs: int, *, is_float32: bool = False) -> dict[str, Any]:
    """Run a model with its counters on.

    Args:
        path: The ``.xml`` file.
        threads: Inference threads.
        runs: Inferences; all but the first count, as the counters cannot be set back.
        is_float32: Whether it is asked to compute in float32, where it might take bf16.

    Returns:
        "runs", the number that count; "total_us", the median of them; "nodes", each with "name", "kind",
        "kernel" and "us", its mean in them, as the counters have it; "graph": by name, precision and type.
    """
    import numpy as np
    import openvino

    core = openvino.Core()
    model = core.read_model(path)
    if any(port.get_partial_shape().is_dynamic for port in model.inputs):
        model.reshape({port: _fixed(port) for port in model.inputs})
    config = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": threads, "PERF_COUNT": True}
    if is_float32:
        config["INFERENCE_PRECISION_HINT"] = "f32"
    compiled = core.compile_model(model, "CPU", config)
    request = compiled.create_infer_request()
    random = np.random.default_rng(0)
    feeds = []
    for number, port in enumerate(compiled.inputs):
        values = random.integers(0, 128, tuple(port.shape)).astype(port.element_type.to_dtype())
        feeds.append(openvino.Tensor(values))
        request.set_input_tensor(number, feeds[-1])
    request.infer()
    first = {one.node_name: _us(one) for one in request.get_profiling_info()}
    totals = []
    for _ in range(runs):
        begin = time.perf_counter_ns()
        request.infer(share_outputs=True)
        totals.append((time.perf_counter_ns() - begin) / 1e3)
    # The counters are means over every inference since the model was compiled, cut to microseconds.
    nodes = [
        {
            "name": one.node_name,
            "kind": one.node_type,
            "kernel": one.exec_type,
            "us": max(0.0, (_us(one) * (runs + 1) - first[one.node_name]) / runs),
        }
        for one in request.get_profiling_info()
        # What was fused has no kernel. What takes less than a microsecond is said not to have run.
        if not one.exec_type.startswith(_NO_KERNEL)
    ]
    graph = {}
    for operation in compiled.get_runtime_model().get_ops():
        info = operation.get_rt_info()
        graph[operation.get_friendly_name()] = [
            str(info["runtimePrecision"].value),
            str(info["layerType"].value),
        ]
    return {"runs": runs, "total_us": statistics.median(totals), "nodes": nodes, "graph": graph}


def _us(one: Any) -> float:
    return float(one.real_time.total_seconds() * 1e6)


def _fixed(port: Any) -> list[int]:
    return [size.get_length() if size.is_static else 1 for size in port.get_partial_shape()]
