"""The page of all runs of a matrix: one table, then each run's verdict and figures."""

from __future__ import annotations

from edgefx.metrics import METRICS, Figures
from edgefx.report import page
from edgefx.report.page import run as one_run
from edgefx.report.page import tables
from edgefx.report.page.run import Banner, Finding
from edgefx.report.page.tables import PageCell, PageHead, PageTable
from edgefx.report.text import counted, metric
from edgefx.verdicts import Verdict
from edgefx.views import MatrixReport


def dumps(report: MatrixReport) -> str:
    """Return the page."""
    runs = [(run, run.report) for run in report.runs]
    failed = [run for run, made in runs if made is None]
    words = ["FAILED" if made is None else one_run.banner(made).word for _, made in runs]
    return page.write(
        "matrix.html",
        title=report.recipe,
        subtitle=counted(len(report.runs), "run"),
        banner=_banner(report, words),
        overview=_overview(report),
        findings=[
            Finding(
                word="FAILED",
                tone="bad",
                text=f"{run.name}: {run.error.message if run.error else 'it has no report'}",
                remedy=run.error.hint if run.error else "",
            )
            for run in failed
        ],
        runs=[{"name": run.name, **one_run.summary(made)} for run, made in runs if made is not None],
    )


def _banner(report: MatrixReport, words: list[str]) -> Banner:
    order = ("FAILED", Verdict.FAIL, Verdict.INCONCLUSIVE, Verdict.PASS)
    worst = next((word for word in order if word in words), "no gates")
    tone = "" if worst == "no gates" else "bad" if worst == "FAILED" else tables.TONES[Verdict(worst)]
    counts = ", ".join(f"{words.count(word)} {word}" for word in dict.fromkeys(words))
    return Banner(word=worst, tone=tone, says=f"{counts}; exit code {int(report.exit_code)}")


def _overview(report: MatrixReport) -> PageTable:
    shown = [row for row in METRICS.values() if row.overview]
    rows = []
    for run in report.runs:
        for result in run.report or ():
            figures = Figures.of(result)
            cells = [tables.number(metric(row, row.value(figures)), row.value(figures)) for row in shown]
            came = tables.verdict("FAILED" if result.failure else result.verdict or "")
            rows.append([tables.name(run.name), PageCell(text=result.target, style="left"), came, *cells])
        if run.report is None:
            nothing = [tables.number("", None) for _ in shown]
            rows.append([tables.name(run.name), PageCell(style="left"), tables.verdict("FAILED"), *nothing])
    words = (PageHead(text=title, style="left") for title in ("run", "target", "verdict"))
    heads = [*words, *(PageHead(text=row.heading, meaning=row.meaning) for row in shown)]
    return PageTable(says="All targets of all runs; headings sort.", heads=heads, rows=rows)
