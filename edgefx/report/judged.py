"""What formats for machines need of a run, of a matrix, or of `edgefx gate`: targets, figures, verdicts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from edgefx.metrics import Figures
from edgefx.provenance.gating import GateReport
from edgefx.results import RunReport
from edgefx.verdicts import GateResult, Verdict, on_device
from edgefx.views import MatrixReport


@dataclass(frozen=True, kw_only=True)
class Row:
    """One target of one run.

    Attributes:
        source: What was compiled, or the report that was judged: a path or a name.
        run: The run of a matrix, or the report of several; "" for the only one.
        target: The target's name; "" for a run that failed as a whole.
        figures: What was measured.
        gates: What became of each gate.
        failure: Why there is no artifact; "" where there is one.
        device: Where its figures were measured; "" for this machine.
    """

    source: str
    run: str
    target: str
    figures: Figures
    gates: tuple[GateResult, ...]
    failure: str
    device: str = ""

    @property
    def name(self) -> str:
        """The target with its run and its device."""
        return "/".join(filter(None, (self.run, on_device(self.target, self.device))))


def rows(report: RunReport | MatrixReport | GateReport) -> tuple[Row, ...]:
    """Return every target of a report, run by run."""
    if isinstance(report, RunReport):
        return tuple(_of_run(report, ""))
    if isinstance(report, GateReport):
        return tuple(_of_gate(report))
    return tuple(
        row for run in report.runs for row in (_of_run(run.report, run.name) if run.report else ())
    ) + tuple(
        Row(
            source=report.recipe,
            run=run.name,
            target="",
            figures=Figures(),
            gates=(),
            failure=run.error.message if run.error else "it has no report",
        )
        for run in report.runs
        if run.report is None
    )


def is_bad(gate: GateResult) -> bool:
    """Whether the exit code is 1 because of a gate."""
    return gate.verdict is not Verdict.PASS and not gate.tolerated


def _of_run(report: RunReport, run: str) -> Iterator[Row]:
    for result in report:
        failure = result.failure
        yield Row(
            source=report.model.source,
            run=run,
            target=result.target,
            figures=Figures.of(result),
            gates=result.gates,
            failure=f"stage {failure.stage}: {failure.message}" if failure else "",
        )
    for device in report.devices:
        if device.failure is not None:
            yield Row(
                source=report.model.source,
                run=run,
                target="",
                figures=Figures(),
                gates=(),
                failure=device.failure.message,
                device=device.device,
            )
        for one in device.targets:
            yield Row(
                source=report.model.source,
                run=run,
                target=one.target,
                figures=Figures(accuracy=one.accuracy, latency=one.latency),
                gates=one.gates,
                failure=f"stage {one.failure.stage}: {one.failure.message}" if one.failure else "",
                device=device.device,
            )


def _of_gate(report: GateReport) -> Iterator[Row]:
    is_alone = len({target.report for target in report}) == 1
    for target in report:
        yield Row(
            source=str(target.report),
            run="" if is_alone else str(target.report),
            target=target.target,
            figures=target.figures,
            gates=target.gates,
            failure=target.failure,
        )
