"""The page of `edgefx gate`: verdicts on stored reports."""

from __future__ import annotations

from edgefx.provenance.gating import GateReport
from edgefx.report import gating, page
from edgefx.report.judged import is_bad
from edgefx.report.page import tables
from edgefx.report.page.run import Banner
from edgefx.report.page.tables import PageCell, PageHead, PageTable
from edgefx.report.text import counted
from edgefx.verdicts import Verdict


def dumps(report: GateReport) -> str:
    """Return the page."""
    judged = [(gating.label(report, target), gate) for target in report for gate in target.gates]
    against = f", drop and agreement against {report.against}" if report.against else ""
    return page.write(
        "gates.html",
        title="edgefx gate",
        subtitle=f"{counted(len({target.report for target in report}), 'report')}{against}",
        banner=_banner(report),
        joint=report.joint,
        gates=tables.of_gates(judged),
        regressions=_regressions(report) if report.regressions else None,
        notes=list(gating.notes(report)),
    )


def _banner(report: GateReport) -> Banner:
    found = [gate.verdict for target in report for gate in target.gates]
    found += [one.verdict for one in report.regressions]
    worst = next((one for one in (Verdict.FAIL, Verdict.INCONCLUSIVE, Verdict.PASS) if one in found), None)
    if worst is None:
        return Banner(word="no gates", tone="", says="nothing was limited")
    bad = sum(is_bad(gate) for target in report for gate in target.gates)
    bad += sum(one.failed for one in report.regressions)
    return Banner(
        word=worst.value,
        tone=tables.TONES[worst],
        says=f"{counted(len(found), 'verdict')}, {bad} of which fail; exit code {int(report.exit_code)}",
    )


def _regressions(report: GateReport) -> PageTable:
    return PageTable(
        says=f"What got worse than in {report.against}",
        heads=[PageHead(text=title, style="left") for title in ("target", "verdict", "tolerance", "why")],
        rows=[
            [
                tables.name(one.target),
                tables.verdict(one.verdict),
                PageCell(text=one.limit, style="left"),
                tables.words(one.reason),
            ]
            for one in report.regressions
        ],
    )
