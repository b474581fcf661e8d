"""Artifacts that a compiler made for an NPU: as targets of a plan, in reports, and as limits."""

from __future__ import annotations

import json
from dataclasses import replace
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from edgefx.compilation import (
    Arena,
    Compilation,
    LayerPlacement,
    NpuEstimate,
    Operator,
    Parity,
    Processor,
)
from edgefx.errors import EdgefxError
from edgefx.metrics import METRICS, Figures, Origin
from edgefx.pipeline.plan import plan, resolve
from edgefx.provenance import gating, lock
from edgefx.recipe.conditions import parse as condition
from edgefx.recipe.load import parse
from edgefx.report import markdown, terminal, write_report
from edgefx.results import RunReport
from edgefx.storage.serde import from_json, to_json
from edgefx.targets import COMPILED, TARGETS, matching, select
from edgefx.verdicts import Verdict
from tests.unit.report_samples import report

COMPILATION = Compilation(
    compiler="ethos-u-vela 5.2.0",
    source="tflite-int8",
    source_sha256="ab" * 32,
    operations=112,
    on_cpu=7,
    options={"system_config": "Ethos_U55_Deep_Embedded", "memory_mode": "Shared_Sram", "optimise": "Size"},
    by_default=("memory_mode",),
    placements=(
        LayerPlacement(layer="stem", operations=("Conv2D",), processor=Processor.NPU, cycles=30),
        *(
            LayerPlacement(
                layer=f"block{number}",
                operations=("Elu", "Mul"),
                processor=Processor.CPU,
                reason="not | supported",
            )
            for number in range(7)
        ),
    ),
    estimate=NpuEstimate(
        inference_ms=2.5,
        clock_mhz=200,
        cycles=500_000,
        sram_bytes=1_500_000,
        dram_bytes=0,
        flash_bytes=4_000_000,
    ),
)

ESTIMATES = (
    "estimates ethos-u55-128: by ethos-u-vela 5.2.0's model of the NPU, nothing was run on one; system-config"
    " Ethos_U55_Deep_Embedded, memory-mode Shared_Sram, optimise Size; without --memory-mode, as the compiler"
    " has it, which describes no chip in particular"
)


def compiled() -> RunReport:
    made = report()
    first = replace(made.targets[0], target="ethos-u55-128", compilation=COMPILATION, latency=None, gates=())
    return replace(made, targets=(first, *made.targets[1:]))


def test_a_glob_means_runtimes_unless_it_matches_none_of_them() -> None:
    assert matching("*") == list(TARGETS)
    assert matching("ethos-*") == [name for name in COMPILED if name.startswith("ethos-")]
    assert [row.name for row in select(["ETHOS-U55-256, tflite-int8"])] == ["tflite-int8", "ethos-u55-256"]
    for row in COMPILED.values():
        assert (row.source, row.integer_only, row.needs_calibration) == ("tflite-int8", True, True)


def test_estimates_are_called_so_and_the_accuracy_is_anothers() -> None:
    stream = StringIO()
    terminal.render(compiled(), Console(file=stream, width=200))
    words = " ".join(stream.getvalue().split())
    for text in (
        "est. ms est. SRAM est. DRAM est. flash",
        "93.8% 2.50 1.50 MB 0 B 4.00 MB",
        ESTIMATES,
        "ethos-u55-128: that of tflite-int8, the artifact that was compiled, on this CPU",
        "ethos-u55-128: layer block0 (Elu, Mul): not | supported",
        "ethos-u55-128: 1 more layer; report.json names them",
    ):
        assert text in words
    assert "block6" not in words
    text = markdown.dumps(compiled())
    assert "that of tflite-int8, the artifact that was compiled" in text
    assert "| ethos-u55-128 |" in text


def for_tflm(identical: int) -> RunReport:
    made = report()
    compilation = Compilation(
        compiler="tflite-micro 0",
        source="tflite-int8",
        source_sha256="ab" * 32,
        operations=3,
        arena=Arena(needed_bytes=81_040, bytes=90_112),
        operators=(Operator(name="CONV_2D", version=3, count=2), Operator(name="MEAN", version=1, count=1)),
    )
    parity = Parity(
        images=200,
        identical=identical,
        identical_to_reference=200,
        largest_step=4,
        parts_at="stem (CONV_2D)" if identical < 200 else "",
    )
    first = replace(made.targets[0], target="tflm-int8", compilation=compilation, parity=parity, latency=None)
    return replace(made, targets=(first,))


def test_an_interpreter_says_what_it_takes_and_where_it_parts_from_litert(tmp_path: Path) -> None:
    stream = StringIO()
    terminal.render(for_tflm(90), Console(file=stream, width=400))
    bits = (
        "of 200 images the scores are bit by bit those of LiteRT's reference kernels in 100.0%, and those of"
        " its fast kernels in 45.0%, at most 4 steps of the stored scores apart; the first operation to"
        " differ is stem (CONV_2D); the accuracy is this interpreter's"
    )
    arena = "tflm-int8: reserve 90112 bytes: the least that it ran in here, 81040, and 10 %, rounded up"
    for text in (arena, "tflm-int8: CONV_2D v3, MEAN v1", bits):
        assert text in stream.getvalue()
    assert "NPU" not in stream.getvalue()
    assert "in 100.0%; the accuracy" in markdown.dumps(for_tflm(200))
    write_report(for_tflm(90), tmp_path)
    limits = [condition(f"arena_bytes <= {text}") for text in ("90112", "88KiB", "90kB")]
    verdicts = [gate.verdict for gate in gating.judge([tmp_path], limits).targets[0].gates]
    assert verdicts == [Verdict.PASS, Verdict.PASS, Verdict.FAIL]


@pytest.mark.parametrize("name", ["tflm-float16", "tflm-dynamic"])
def test_microcontrollers_take_integers_and_the_reason_is_said(name: str) -> None:
    with pytest.raises(EdgefxError) as refused:
        select([name])
    assert "compute on integers" in refused.value.hint


def test_a_stored_report_can_be_judged(tmp_path: Path) -> None:
    write_report(compiled(), tmp_path)
    limits = ("npu_coverage >= 90%", "estimated_ms <= 2.5", "sram_bytes <= 1MB", "flash_bytes <= 4MB")
    found = gating.judge([tmp_path], [condition(f"ethos-*: {text}") for text in limits])
    assert [gate.verdict for gate in found.targets[0].gates] == [
        *(Verdict.PASS, Verdict.PASS, Verdict.FAIL, Verdict.PASS)
    ]
    others = gating.judge([tmp_path], [condition("openvino-*: sram_bytes <= 1MB")])
    (gate,) = next(one for one in others.targets if one.gates).gates
    assert (gate.verdict, gate.reason) == (Verdict.INCONCLUSIVE, "it was not compiled for an NPU")


def test_a_lock_keeps_what_metrics_read() -> None:
    locked = lock.LockedTarget(
        target="x", files=(), size_bytes=1, accuracy=None, latency=None, compilation=COMPILATION
    )
    document = json.loads(json.dumps(to_json(locked)))
    again = from_json(lock.LockedTarget, document)
    values = [
        row.value(one)
        for row in METRICS.values()
        if row.origin is Origin.NPU
        for one in (Figures(compilation=COMPILATION), again.figures)
    ]
    assert values[::2] == values[1::2]
    assert None not in values
    del document["compilation"]
    assert from_json(lock.LockedTarget, document).figures.compilation is None, "of an earlier version"


def test_options_hold_for_all_npus_and_targets_may_differ() -> None:
    recipe = parse(
        {
            "version": 1,
            "model": "digits",
            "npu": {"memory_mode": "Sram_Only"},
            "gates": {"max_sram": "2MB", "max_p95_ms": 20},
            "targets": [
                "tflite-int8",
                "ethos-u55-32",
                {"target": "ethos-u85-*", "npu": {"optimise": "Size"}},
            ],
        },
        where="test",
    )
    found = {target.name: target for target in resolve(recipe)}
    assert found["ethos-u55-32"].npu.said == {"memory_mode": "Sram_Only"}
    assert found["ethos-u85-256"].npu.said == {"memory_mode": "Sram_Only", "optimise": "Size"}
    assert found["ethos-u55-32"].integer_only
    assert not found["tflite-int8"].integer_only
    assert found["ethos-u55-32"].io_dtype == "int8"


def test_each_target_is_judged_by_the_limits_that_it_can_keep() -> None:
    pytest.importorskip("ethosu", reason="ethos-u-vela is not installed")
    document = {
        "version": 1,
        "model": "digits",
        "targets": ["tflite-int8", "ethos-u55-32"],
        "gates": {"max_sram": "2MB", "max_p95_ms": 20, "max_size": "1MB"},
    }
    planned = {target.name: target for target in plan(parse(document, where="test")).targets}
    metrics = {name: {gate.metric for gate in target.gates} for name, target in planned.items()}
    assert metrics == {"tflite-int8": {"p95_ms", "size_bytes"}, "ethos-u55-32": {"sram_bytes", "size_bytes"}}
    with pytest.raises(EdgefxError, match="unknown memory mode of ethos-u55-32 'Shared_Ram'"):
        plan(parse({**document, "npu": {"memory_mode": "Shared_Ram"}}, where="test"))
