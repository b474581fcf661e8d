"""What `edgefx gate` found, line by line and as Markdown; Rich is imported only for a console of its own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from edgefx.harmless import visible
from edgefx.metrics import METRICS
from edgefx.report.undecided import inconclusive
from edgefx.verdicts import Verdict

if TYPE_CHECKING:
    from rich.console import Console

    from edgefx.evaluation.expected import Expectation
    from edgefx.provenance.gating import GateReport, JudgedTarget

_WIDTH = max(map(len, Verdict))
_SAMPLES = {  # by whether there is a baseline
    False: "of which, on average, as many as here are lost and gained",
    True: "of which, on average, as many as here change, as often for the better as for the worse",
}


def lines(report: GateReport) -> Iterator[tuple[Verdict | None, str]]:
    """Yield each line with the verdict that it begins with, which is the first word of it."""
    for name, verdict, reason in _rows(report):
        yield verdict, f"{verdict:<{_WIDTH}}  {name}: {reason}"
    for line in notes(report):
        yield None, line


def render(report: GateReport, console: Console) -> None:
    """Print the lines."""
    from rich.text import Text

    from edgefx.report.terminal import VERDICT_STYLES

    for verdict, line in lines(report):
        text = Text(line)
        if verdict is not None:
            text.stylize(VERDICT_STYLES[verdict], 0, len(verdict))
        console.print(text, highlight=False, soft_wrap=True)


def text(report: GateReport) -> str:
    """Return the lines as text that ends in a newline."""
    return "".join(f"{visible(line)}\n" for _, line in lines(report))


def markdown(report: GateReport) -> str:
    """Return the verdicts as Markdown that ends in a newline."""
    from edgefx.report import markdown_text

    rows = [(name, str(verdict), reason) for name, verdict, reason in _rows(report)]
    parts = [
        markdown_text.heading("Gates"),
        "",
        *markdown_text.table(("target", "verdict", "reason"), (True, True, True), rows),
        "",
        *(markdown_text.item("note", line) for line in notes(report)),
    ]
    return "\n".join(parts).rstrip() + "\n"


def label(report: GateReport, target: JudgedTarget) -> str:
    """Return what a target is called: with its report, where there are several."""
    is_alone = len({one.report for one in report}) == 1
    return target.target if is_alone else f"{target.report}: {target.target}"


def _rows(report: GateReport) -> Iterator[tuple[str, Verdict, str]]:
    for target in report:
        for number, gate in enumerate(target.gates):
            found = target.expectations[number] if target.expectations else None
            expected = f"; {_expectation(found)}" if found else ""
            yield label(report, target), gate.verdict, f"{gate.reason}{expected}"
    if report.joint is not None:
        yield "all targets", report.joint.verdict, report.joint.reason
    for one in report.regressions:
        yield one.target, one.verdict, f"{one.limit}: {one.reason}"


def _expectation(found: Expectation) -> str:
    shares = (("PASS", found.passes), ("INCONCLUSIVE", found.inconclusive), ("FAIL", found.fails))
    parts = ", ".join(f"{verdict} {_percent(share)}" for verdict, share in shares)
    return f"on {found.images} other images it would be {parts}"


def _percent(share: float) -> str:
    return "below 0.1 %" if 0 < share < 0.001 else f"{100 * share:.1f} %"


def notes(report: GateReport) -> Iterator[str]:
    """Yield what else is to be known."""
    yield from report.notes
    yield from inconclusive(gate for target in report for gate in target.gates)
    if any(one is not None for target in report for one in target.expectations):
        yield (
            f"the shares are of all samples of so many images {_SAMPLES[report.against is not None]}; on the"
            " same images, unchanged code gets the same verdict again"
        )
    uncounted = dict.fromkeys(
        METRICS[gate.gate.metric].name
        for target in report
        for gate, found in zip(target.gates, target.expectations, strict=False)
        if found is None
    )
    if uncounted:
        yield f"not calibrated, since other images change nothing or were not counted: {', '.join(uncounted)}"
