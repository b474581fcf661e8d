"""Tables with a drawing in each row: drops with their intervals, latencies, classes, layers."""

from __future__ import annotations

from collections.abc import Sequence

from edgefx.latency_histogram import LatencyHistogram
from edgefx.report.changed import class_name, p_value
from edgefx.report.page.svg import Axis, scale, track
from edgefx.report.page.tables import PageCell, PageHead, PageTable, name, number
from edgefx.report.text import interval, ms, percent, ratio, signed
from edgefx.results import Changes, Latency, LayerSensitivity, RunReport, TargetResult
from edgefx.types import ModelSpec
from edgefx.verdicts import on_device


def drops(report: RunReport) -> PageTable | None:
    """Draw each target's drop of top-1 with its interval and its limits; None without labels."""
    shown = [
        (result, result.accuracy.drop_pp, result.accuracy.drop_ci95_pp)
        for result in report
        if result.accuracy and result.accuracy.drop_pp is not None and result.accuracy.drop_ci95_pp
    ]
    if not shown:
        return None
    limits = {result.target: _limits(result) for result, _, _ in shown}
    ends = [value for _, point, bounds in shown for value in (point, *bounds)]
    axis = Axis.around([0.0, *ends, *(value for found in limits.values() for value in found)])
    rows = []
    for result, point, bounds in shown:
        accuracy = result.accuracy
        assert accuracy is not None
        says = f"{result.target}: {signed(point)} pp, 95 % CI {interval(bounds)}"
        drawing = track(
            axis, says=says, runtime=_runtime(result.target), point=point, span=bounds,
            limits=limits[result.target], zero=0.0,
        )  # fmt: skip
        rows.append(
            [
                name(result.target),
                PageCell(drawing=drawing, style="track"),
                number(signed(point), point),
                number(interval(bounds, 1), bounds[1]),
                number("" if accuracy.lost is None else str(accuracy.lost), accuracy.lost),
                number("" if accuracy.gained is None else str(accuracy.gained), accuracy.gained),
                number(str(accuracy.images), accuracy.images),
            ]
        )
    return PageTable(
        says="Drop of top-1 against the float model, in percentage points; right of zero is worse",
        heads=[
            PageHead(text="target", style="left"),
            PageHead(text="", style="track", drawing=scale(axis, "percentage points")),
            PageHead(text="drop pp"),
            PageHead(text="95 % CI"),
            PageHead(text="lost", meaning="Right before, wrong after"),
            PageHead(text="gained", meaning="Wrong before, right after"),
            PageHead(text="images"),
        ],
        rows=rows,
        style="sortable plot",
    )


def latencies(report: RunReport) -> PageTable | None:
    """Draw how each target's latencies are distributed, on devices too; None where none was measured."""
    shown = [(result.target, result.latency) for result in report if result.latency]
    shown += [
        (on_device(one.target, device.device), one.latency)
        for device in report.devices
        for one in device.targets
        if one.latency
    ]
    if not shown:
        return None
    axis = Axis.around([value for _, one in shown for value in _ends(one)], log=True, margin=0.04)
    rows = []
    for target, one in shown:
        low, high = _ends(one)
        drawing = track(
            axis, says=_distribution(target, one), runtime=_runtime(target), point=one.p50_ms,
            span=(low, high), thick=(low, one.p95_ms), ridge=one.histogram,
        )  # fmt: skip
        rows.append(
            [
                name(target),
                PageCell(drawing=drawing, style="track"),
                *(number(ms(value), value) for value in (one.min_ms, one.p50_ms, one.p95_ms, one.p99_ms)),
                number(ratio(one.ratio_to_float), one.ratio_to_float),
                PageCell(text=f"{one.noise:.0%}", value=one.noise, style="warn" if one.noisy else ""),
            ]
        )
    return PageTable(
        says="Latency in ms, on a logarithmic scale: above, how the inferences are distributed, each target's"
        " highest bin equally high; below, thick to the 95th percentile, thin to the 99th",
        heads=[
            PageHead(text="target", style="left"),
            PageHead(text="", style="track", drawing=scale(axis, "ms")),
            PageHead(text="fastest"),
            PageHead(text="p50"),
            PageHead(text="p95"),
            PageHead(text="p99"),
            PageHead(text="x float", meaning="Median over that of the same runtime's float32 artifact"),
            PageHead(text="noise", meaning="By how much the speed changed while it was measured"),
        ],
        rows=rows,
        style="sortable plot",
    )


def _distribution(target: str, one: Latency) -> str:
    """Say what a drawing of latencies shows."""
    low, high = _ends(one)
    says = f"{target}: fastest {ms(low)} ms, median {ms(one.p50_ms)} ms, slowest {ms(high)} ms"
    if one.histogram is None:
        return says
    quartiles = (ms(one.histogram.quantile(share)) for share in (0.25, 0.75))
    return f"{says}; half of {one.rounds} inferences took {' to '.join(quartiles)} ms"


def classes(model: ModelSpec, target: str, changes: Changes) -> PageTable:
    """Draw the drops of a target's classes."""
    ends = [value for one in changes.by_class for value in one.drop_ci95_pp]
    axis = Axis.around([0.0, *ends])
    more = changes.classes - len(changes.by_class)
    return PageTable(
        says=(
            f"{target}: drop by class in percentage points"
            + (f"; {more} other classes are left out" if more > 0 else "")
        ),
        heads=[
            PageHead(text="class", style="left"),
            PageHead(text="", style="track", drawing=scale(axis, "percentage points")),
            PageHead(text="drop pp"),
            PageHead(text="95 % CI"),
            PageHead(text="lost"),
            PageHead(text="gained"),
            PageHead(text="images"),
            PageHead(text="p", meaning="Exact McNemar test, corrected for the number of classes (Holm)"),
        ],
        rows=[
            [
                name(class_name(model, one.label)),
                PageCell(
                    drawing=track(
                        axis,
                        says=f"{signed(one.drop_pp, 1)} pp, 95 % CI {interval(one.drop_ci95_pp, 1)}",
                        runtime=_runtime(target),
                        point=one.drop_pp,
                        span=one.drop_ci95_pp,
                        zero=0.0,
                    ),
                    style="track",
                ),
                number(signed(one.drop_pp, 1), one.drop_pp),
                number(interval(one.drop_ci95_pp, 1), one.drop_ci95_pp[1]),
                number(str(one.lost), one.lost),
                number(str(one.gained), one.gained),
                number(str(one.images), one.images),
                PageCell(
                    text=p_value(one.p_value), value=one.p_value, style="bad" if one.significant else ""
                ),
            ]
            for one in changes.by_class
        ],
        style="sortable plot",
    )


def shifts(model: ModelSpec, target: str, changes: Changes) -> PageTable:
    """List from which class to which a target's answers went."""
    return PageTable(
        says=f"{target}: from which class to which",
        heads=[
            PageHead(text="float model", style="left"),
            PageHead(text=target, style="left"),
            PageHead(text="images"),
            PageHead(text="right before"),
        ],
        rows=[
            [
                name(class_name(model, one.before)),
                PageCell(text=class_name(model, one.after), style="left"),
                number(str(one.images), one.images),
                number("" if one.lost is None else str(one.lost), one.lost),
            ]
            for one in changes.shifts
        ],
    )


def layers(target: str, ranked: Sequence[LayerSensitivity], kept: Sequence[str], *, most: int) -> PageTable:
    """Draw what quantizing each layer alone does, the worst first."""
    shown = ranked[:most]
    found = [one.mean_kl for one in shown if one.mean_kl > 0] or [1.0]
    axis = Axis.around([*found, max(found) / 1e4], log=True, margin=0.02)
    return PageTable(
        says=f"{target}: mean KL from the float scores with the layer alone quantized, logarithmic",
        heads=[
            PageHead(text="layer", style="left"),
            PageHead(text="", style="track", drawing=scale(axis, "nats")),
            PageHead(text="KL alone"),
            PageHead(text="top-1 changed"),
            PageHead(text="kept in float", style="left"),
        ],
        rows=[
            [
                name(one.layer),
                PageCell(
                    drawing=track(
                        axis,
                        says=f"{one.mean_kl:.2g} nats",
                        runtime=_runtime(target),
                        thick=(axis.low, one.mean_kl),
                    ),
                    style="track",
                ),
                number(f"{one.mean_kl:.1e}", one.mean_kl),
                number(percent(one.top1_changed, 1), one.top1_changed),
                PageCell(text="yes" if one.layer in kept else "no", style="left"),
            ]
            for one in shown
        ],
        style="sortable plot",
    )


def _limits(result: TargetResult) -> tuple[float, ...]:
    return tuple(gate.gate.limit for gate in result.gates if gate.gate.metric == "drop_pp")


def _ends(one: Latency) -> tuple[float, float]:
    return one.min_ms, max(one.p95_ms, one.p99_ms or 0.0, _slowest(one.histogram))


def _slowest(found: LatencyHistogram | None) -> float:
    return 0.0 if found is None else found.edge(len(found.counts))


def _runtime(target: str) -> str:
    return target.partition("-")[0]
