"""The result of `edgefx npu`, and how it is shown: estimates are called estimates."""

from __future__ import annotations

from rich.console import Console
from rich.text import Text

from edgefx.report import compilations
from edgefx.report.terminal import Facts, table
from edgefx.report.text import interval, ms, percent, signed, size
from edgefx.shipments import NpuReport, NpuResult


def render(report: NpuReport, console: Console) -> None:
    """Print a row per NPU, and what the figures are."""
    rows = table("NPU", "size", "on CPU", "est. ms", "at MHz", "est. SRAM", "est. DRAM", "est. flash")
    for result in report.results:
        rows.add_row(*_cells(result))
    console.print(Text(str(report.source), style="bold"))
    console.print(rows, highlight=False)
    console.print()
    console.print(Facts([*_facts(report)]), highlight=False)


def _cells(result: NpuResult) -> tuple[str, ...]:
    made, estimate = result.artifact, result.estimate
    if made is None or estimate is None:
        return (result.target, "failed", *("-" for _ in range(6)))
    return (
        result.target,
        size(made.size_bytes),
        str(sum(op.count for op in result.on_cpu)),
        ms(estimate.inference_ms),
        f"{estimate.clock_mhz:g}",
        size(estimate.sram_bytes),
        size(estimate.dram_bytes) if estimate.dram_bytes else "-",
        size(estimate.flash_bytes) if estimate.flash_bytes else "-",
    )


def _facts(report: NpuReport) -> list[tuple[str, str | Text]]:
    facts: list[tuple[str, str | Text]] = [
        ("estimates", f"by {report.compiler}'s model of the NPU; nothing was run on one")
    ]
    accuracy = report.accuracy
    if accuracy is None:
        facts.append(("accuracy", f"not known: no report beside {report.source.name} tells it"))
    else:
        drop = (
            f", drop {signed(accuracy.drop_pp)} pp ({interval(accuracy.drop_ci95_pp)})"
            if accuracy.drop_pp is not None
            else ""
        )
        top1 = (
            f"top-1 {percent(accuracy.top1)}{drop}"
            if accuracy.top1 is not None
            else f"agreement {percent(accuracy.agreement)}"
        )
        facts.append(("accuracy", f"{top1}: that of {report.measured_target}, which was compiled, on a CPU"))
    assumed: dict[str, list[str]] = {}
    for result in report.results:
        what = f"{result.system_config}, {result.memory_mode}, optimised for {result.optimise}"
        assumed.setdefault(what, []).append(result.target)
        if result.failure is not None:
            facts.append(("FAILED", f"{result.target}: {result.failure.message}"))
        elif result.on_cpu:
            left = ", ".join(f"{op.op} x {op.count}" for op in result.on_cpu)
            facts.append(("on the CPU", f"{result.target}: {left}"))
            facts += [("on the CPU", text) for text in compilations.on_cpu(result.target, result.placements)]
    facts += [("assumed", f"{what}: {', '.join(names)}") for what, names in assumed.items()]
    return facts
