"""`edgefx diff`: which inputs changed between two runs, and what that did."""

from __future__ import annotations

from pathlib import Path

import click

from edgefx.cli.context import App, pass_app
from edgefx.cli.options import json_option


@click.command(
    epilog="""\b
Examples:
  edgefx diff build-main/ build-branch/
  edgefx diff old/edgefx.lock.json new/ --report diff.md
"""
)
@click.argument("run_a", type=click.Path(path_type=Path))
@click.argument("run_b", type=click.Path(path_type=Path))
@click.option(
    "--report",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Also write the comparison to FILE, in the format of its suffix: .md or .json.",
)
@json_option
@pass_app
def command(app: App, *, run_a: Path, run_b: Path, report: Path | None, as_json: bool) -> None:
    """Compare RUN_A with RUN_B: inputs, size, accuracy image by image, latency.

    A run is given by its output folder, or by the edgefx.lock.json or report.json in it. Recipe keys, model,
    images, versions and machine are compared, and which images an artifact now classifies otherwise.
    """
    from edgefx import api
    from edgefx.errors import UsageError
    from edgefx.report import comparison, save
    from edgefx.storage.serde import dumps

    if report is not None and report.suffix not in (".md", ".json"):
        raise UsageError(f"--report {report}: the suffix must be .md or .json", hint="for example diff.md")
    result = api.diff(run_a, run_b)
    if report is not None:
        save(comparison.markdown(result) if report.suffix == ".md" else dumps(result), report)
    if as_json:
        app.write_json(result)
    else:
        comparison.render_diff(result, app.stdout)
