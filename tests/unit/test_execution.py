"""What was executed, summed by layer, block and precision, and the page that draws it."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import pytest

from edgefx.errors import OutputError, UsageError
from edgefx.execution import (
    CONVERSION,
    Executed,
    ExecutedOperation,
    ExecutionProfile,
    block_of,
    layer_named,
    summarize,
    with_neighbours,
)
from edgefx.report import execution as text
from edgefx.report.console import PlainConsole
from edgefx.report.page import execution as page
from edgefx.report.page import plot
from edgefx.results import Environment, Latency
from edgefx.runtimes.onnx import collect as onnx_collect
from edgefx.runtimes.onnx import profiler as onnx
from edgefx.runtimes.openvino import profiler as openvino
from edgefx.runtimes.tflite import profiler as tflite
from edgefx.views import Benchmark


def _operation(layer: str | None, ms: float, precision: str = "float32", **more: Any) -> ExecutedOperation:
    return ExecutedOperation(name=f"{layer}/x", kind="Conv", precision=precision, ms=ms, layer=layer, **more)


def _profile(*operations: ExecutedOperation, coverage: float | None = None) -> ExecutionProfile:
    return summarize(
        Executed(
            operations=operations, inference_ms=9.0, runs=20, method="a profiler", delegate_coverage=coverage
        )
    )


@pytest.mark.parametrize(
    ("layer", "block"),
    [
        ("stem_conv", "stem"),
        ("block1a_dwconv", "block1a"),
        ("block6d_se_excite", "block6d"),
        ("backbone_block2b_add", "block2b"),
        ("rescaling", "input"),
        ("normalization", "input"),
        ("top_conv", "head"),
        ("predictions", "head"),
        ("conv2d_7", "other"),
        (None, "other"),
    ],
)
def test_a_layer_belongs_to_a_block(layer: str | None, block: str) -> None:
    assert block_of(layer) == block


@pytest.mark.parametrize(
    ("name", "layer"),
    [
        ("block1a_add/Add_v2/fake_quantize", "block1a_add"),
        ("/features/features.0/Conv", "features/features.0"),
        ("Transpose", None),
        ("/Conv", None),
        ("", None),
    ],
)
def test_a_layer_is_what_a_name_begins_with(name: str, layer: str | None) -> None:
    assert layer_named(name) == layer


def test_what_a_runtime_inserts_belongs_to_the_layer_that_is_executed_next() -> None:
    found = with_neighbours(_operation(layer, 1.0) for layer in (None, "a", None, None, "b", None))
    assert [one.layer for one in found] == ["a", "a", "b", "b", "b", "b"]
    assert [one.layer for one in with_neighbours([_operation(None, 1.0)])] == [None]


def test_time_is_summed_by_layer_block_and_precision() -> None:
    found = _profile(
        _operation("stem_conv", 2.0, "int8"),
        _operation("block1a_dwconv", 1.0, "bfloat16"),
        _operation("block1a_add", 0.5, CONVERSION),
        _operation("stem_conv", 0.5, CONVERSION),
    )
    assert [part.name for part in found.layers] == ["stem_conv", "block1a_dwconv", "block1a_add"]
    assert found.layers[0].by_precision == {"int8": 2.0, CONVERSION: 0.5}
    assert [(part.name, part.ms, part.operations) for part in found.blocks] == [
        ("stem", 2.5, 2),
        ("block1a", 1.5, 2),
    ]
    assert (found.int8_share, found.float_share, found.conversion_share) == (0.5, 0.25, 0.25)
    assert sum(part.share for part in found.layers) == pytest.approx(1.0)
    assert found.outside_delegate == ()


def test_what_no_delegate_executed_is_named() -> None:
    found = _profile(
        _operation("stem_conv", 1.0, delegate="XNNPACK"), _operation("predictions", 1.0), coverage=0.5
    )
    assert found.outside_delegate == ("Conv predictions/x",)
    assert found.delegate_coverage == 0.5
    assert next(text.remarks(found, _latency(1.0))).startswith(
        "delegate: 50.0% of the file's operations; outside of it: Conv"
    )


def test_a_profile_that_takes_far_longer_than_the_latency_says_so() -> None:
    found = _profile(_operation("stem_conv", 3.4))
    assert any("3.4 times the latency" in line for line in text.remarks(found, _latency(1.0)))
    assert not any("times the latency" in line for line in text.remarks(found, _latency(3.2)))


def test_nothing_executed_is_no_division_by_zero() -> None:
    found = _profile()
    assert (found.int8_share, found.float_share, found.layers) == (0.0, 0.0, ())


def test_onnx_names_lose_what_the_runtime_appends() -> None:
    nodes = [
        {"name": "image_q", "op": "QuantizeLinear", "inputs": ["float"], "us": 1.0},
        {"name": "a/Conv_token_7", "op": "QLinearConv", "inputs": ["uint8", "float"], "us": 4.0},
        {"name": "Transpose_token_9", "op": "Transpose", "inputs": ["uint8"], "us": 1.0},
        {"name": "b/Conv_nchwc", "op": "Conv", "inputs": ["float"], "us": 2.0},
        {"name": "b/Max", "op": "MaxPool", "inputs": ["uint8"], "us": 2.0},
    ]
    found = onnx.executed(Path("x.onnx"), {"nodes": nodes, "total_us": 12.0, "runs": 5}).operations
    assert [one.precision for one in found] == [CONVERSION, "int8", CONVERSION, "float32", "int8"]
    assert [one.layer for one in found] == ["a", "a", "b", "b", "b"]
    assert found[1].name == "a/Conv"
    assert found[1].ms == pytest.approx(0.004)


def test_the_middle_half_of_an_operations_times_counts() -> None:
    def inference(us: int) -> list[dict[str, Any]]:
        node = {"cat": "Node", "name": "a/Conv_kernel_time", "dur": us, "args": {"op_name": "Conv"}}
        return [node, {"cat": "Session", "name": "model_run", "dur": us}]

    events = [event for us in (999, 10, 10, 12, 14, 5000) for event in inference(us)]
    found = onnx_collect._summed(events, [10.0, 10.0, 12.0, 14.0, 5000.0])  # the first one was to warm up
    assert found["nodes"][0]["us"] == 12.0
    assert found["total_us"] == 12.0


def test_openvino_precisions_come_from_the_execution_graph() -> None:
    nodes = [
        {"name": "image_f32_bf16", "kind": "Reorder", "kernel": "jit", "us": 1.0},
        {"name": "a/Conv", "kind": "Convolution", "kernel": "brgconv", "us": 5.0},
    ]
    graph = {"image_f32_bf16": ["f32", "Reorder"], "a/Conv": ["u8", "Convolution"]}
    found = openvino.executed(Path("x.xml"), {"nodes": nodes, "graph": graph, "total_us": 7.0, "runs": 9})
    assert [(one.precision, one.layer) for one in found.operations] == [(CONVERSION, "a"), ("int8", "a")]


def test_a_kernels_name_tells_its_precision() -> None:
    assert tflite._of_kernel("Convolution (NHWC, QC8) IGEMM") == "int8"
    assert tflite._of_kernel("Softmax (NC, F32)") == "float32"
    assert tflite._of_kernel("Fully Connected (NC, QS8, QC8W) GEMM") == "int8"
    assert tflite._of_kernel("Fully Connected (NC, QD8, F32, QC8W) GEMM") == "int8"
    assert tflite._of_kernel("Fully Connected (NC, F32, QC8W) GEMM") == "float32"
    assert tflite._of_kernel("Static Reshape (NC)") == CONVERSION
    assert tflite._of_kernel("Sigmoid (NC)") == "unknown"


def _latency(p50_ms: float) -> Latency:
    return Latency(
        device="host", threads=1, rounds=20, p50_ms=p50_ms, p95_ms=p50_ms, min_ms=p50_ms, cold_start_ms=9.0,
        peak_memory_mb=50.0, precision_ran="int8",
    )  # fmt: skip


def _benchmark(name: str, profile: ExecutionProfile) -> Benchmark:
    latency = _latency(1.0)
    environment = Environment(
        edgefx="0", python="3", os="Linux", machine="x86_64", cpu="a CPU", cpu_features=(), cores=2,
        memory_mb=1000, packages={},
    )  # fmt: skip
    return Benchmark(
        environment=environment, latencies={name: latency}, failures={}, profiles={name: profile}
    )


def test_the_page_is_self_contained_and_escapes_names() -> None:
    profile = _profile(_operation("stem_conv", 1.0), _operation("<b>x</b>", 3.0, "int8"))
    found = page.dumps(_benchmark("a<i>.onnx", profile))
    assert "<b>x" not in found
    assert "a<i>" not in found
    assert "&lt;b&gt;x&lt;/b&gt;" in found
    assert not re.search(r'(src|href)="(?!#)', found)
    assert found.count("<svg") > 4
    widths = [float(one) for one in re.findall(r'<svg x="[\d.]+%" y="72" width="([\d.]+)%"', found)]
    assert sum(widths) == pytest.approx(100.0, abs=0.1)


def test_a_page_is_html_and_goes_where_it_can_be_written(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="HTML page"):
        plot.check(tmp_path / "plot.png")
    (tmp_path / "file").touch()
    found = _benchmark("a.onnx", _profile(_operation("stem_conv", 1.0)))
    with pytest.raises(OutputError):
        plot.write(lambda: page.dumps(found), tmp_path / "file" / "plot.html")


@pytest.mark.parametrize("width", [60, 80, 120])
def test_the_tables_fit(width: int) -> None:
    profile = _profile(
        *(_operation(f"block{number}a_expand_activation", 0.1 * number) for number in range(1, 8)),
        _operation("stem_conv", 0.0004, "int8", delegate="XNNPACK"),
        coverage=0.5,
    )
    stream = io.StringIO()
    text.render(_benchmark("a.tflite", profile), PlainConsole(file=stream, width=width), limit=3)
    lines = stream.getvalue().splitlines()
    assert max(map(len, lines)) <= width
    first = [line.split()[0] for line in lines if line.startswith("block")]
    shown = [word for word in first if word.endswith("_activation")]
    assert shown == ["block7a_expand_activation", "block6a_expand_activation", "block5a_expand_activation"]
