"""A latency worker that asks for more memory than there is ends alone, and is named."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgefx.benchmarking import memory
from edgefx.benchmarking.devices.local import Worker
from edgefx.errors import BenchmarkError
from edgefx.system import host


def greedy(path: Path, *, tensors: int) -> Path:
    """Write a model that holds some tensors of half a gigabyte at the same time."""
    names = [f"large{number}" for number in range(tensors)]
    nodes = []
    for name in names:
        nodes.append(helper.make_node("Mul", ["image", f"{name}/factor"], [f"{name}/small"]))
        nodes.append(helper.make_node("Tile", [f"{name}/small", "repeats"], [name]))
    nodes.append(helper.make_node("Sum", names, ["sum"]))
    nodes.append(helper.make_node("ReduceMean", ["sum"], ["scores"], axes=[1, 2], keepdims=0))
    graph = helper.make_graph(
        nodes,
        "greedy",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 1, 1, 3])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, [1, 3])],
        [
            numpy_helper.from_array(np.array([1, 6000, 7000, 1]), "repeats"),
            # Not the same factor, or the runtime would make one tensor of all.
            *(
                numpy_helper.from_array(np.array([number], np.float32), f"{name}/factor")
                for number, name in enumerate(names)
            ),
        ],
    )
    path.write_bytes(
        helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8
        ).SerializeToString()
    )
    return path


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux limits another process")
def test_a_worker_without_memory_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = greedy(tmp_path / "greedy.onnx", tensors=4)
    monkeypatch.setattr(memory, "available_bytes", lambda: 0)  # leaves the least that is allowed: 1 GB
    with Worker(path, 1) as worker:
        worker.wait_ready()
        with pytest.raises(BenchmarkError) as caught:
            worker.open()
    assert str(path) in caught.value.message
    assert "out of memory" in caught.value.hint
    assert "allocate memory" in " ".join([caught.value.message, *caught.value.details])


def test_a_control_group_counts(tmp_path: Path) -> None:
    everything = host.available_bytes(tmp_path)
    assert everything > 10**8
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "memory.current").write_text("1000\n")
    assert host.available_bytes(tmp_path) > 10**8
    (tmp_path / "memory.max").write_text("5000\n")
    assert host.available_bytes(tmp_path) == 4000
