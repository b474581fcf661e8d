"""`edgefx diff`: which inputs changed between two runs, and what that did."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import click

from edgefx.cli.context import App, pass_app
from edgefx.cli.options import json_option


@click.command(
    epilog="""\b
Examples:
  edgefx diff build-main/ build-branch/
  edgefx diff old/edgefx.lock.json new/ --report diff.md
  edgefx diff build-main/ build-branch/ --fail-on drop_pp=0.5pp --fail-on size_bytes=5%
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
@click.option(
    "--fail-on",
    multiple=True,
    metavar="METRIC=CHANGE",
    help="Exit with 1 when METRIC got worse by more than CHANGE, in its unit or in % of what it was; may be"
    " repeated. A drop is judged on the images that both runs share, by its 95 % interval.",
)
@click.option(
    "--on-inconclusive",
    type=click.Choice(["fail", "warn"]),
    default="fail",
    show_default=True,
    help="Whether a change that cannot be judged fails with exit code 1, or only warns.",
)
@json_option
@pass_app
def command(
    app: App,
    *,
    run_a: Path,
    run_b: Path,
    report: Path | None,
    fail_on: tuple[str, ...],
    on_inconclusive: Literal["fail", "warn"],
    as_json: bool,
) -> int:
    """Compare RUN_A with RUN_B: inputs, size, accuracy image by image, latency.

    A run is given by its output folder, or by the edgefx.lock.json or report.json in it. Recipe keys, model,
    images, versions and machine are compared, and which images an artifact now classifies otherwise. Of the
    output folders of two matrices, the runs of the same name are compared.
    """
    from edgefx import api
    from edgefx.errors import UsageError
    from edgefx.report import comparison, save
    from edgefx.storage.serde import dumps

    if report is not None and report.suffix not in (".md", ".json"):
        raise UsageError(f"--report {report}: the suffix must be .md or .json", hint="for example diff.md")
    result = api.diff(run_a, run_b, fail_on=fail_on, on_inconclusive=on_inconclusive)
    if report is not None:
        save(comparison.markdown(result) if report.suffix == ".md" else dumps(result), report)
    if as_json:
        app.write_json(result)
    else:
        comparison.render_diff(result, app.stdout)
    return int(result.exit_code)
