"""What GitHub Actions is told besides the report: annotations, on stderr, where it looks for them too."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgefx.cli.context import App

if TYPE_CHECKING:
    from edgefx.provenance.gating import GateReport
    from edgefx.results import RunReport
    from edgefx.views import MatrixReport


def annotate(app: App, report: RunReport | MatrixReport | GateReport, files: Iterable[Path]) -> None:
    """Write annotations, where ``--report github`` is among the files and this is a job of GitHub Actions."""
    from edgefx.report import destination

    if all(destination(path).format != "github" for path in files):
        return
    if os.environ.get("GITHUB_ACTIONS") != "true":
        app.note("--report github: this is no job of GitHub Actions, so that there is nothing to annotate")
        return
    from edgefx.report import github
    from edgefx.report.judged import rows

    for line in github.commands(rows(report)):
        click.echo(line, err=True, color=True)
