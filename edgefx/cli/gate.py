"""`edgefx gate`: judge the reports of finished runs."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgefx.cli.annotations import annotate
from edgefx.cli.context import App, pass_app
from edgefx.cli.options import json_option, min_images_option, on_inconclusive_option, report_option
from edgefx.harmless import visible
from edgefx.vocabulary import MIN_IMAGES, OnInconclusive

if TYPE_CHECKING:
    from edgefx.verdicts import Verdict

_STYLES: dict[str, dict[str, Any]] = {
    "PASS": {"fg": "green"},
    "FAIL": {"fg": "red", "bold": True},
    "INCONCLUSIVE": {"fg": "yellow"},
}


@click.command(
    epilog="""\b
Examples:
  edgefx gate build/
  edgefx gate build/ --gate 'tflite-*: drop_pp <= 0.5' --gate 'size_bytes <= 6MB'
  edgefx gate build/ --gate 'drop_pp <= 1' --expect-failure 'onnx-int8: drop_pp until 2026-12-31: issue 7'
  edgefx gate build-branch/ --against build-main/ --gate 'drop_pp <= 0.5' --fail-on size_bytes=5%
"""
)
@click.argument("reports", nargs=-1, required=True, metavar="REPORT...", type=click.Path(path_type=Path))
@click.option(
    "--gate",
    "conditions",
    multiple=True,
    metavar="[TARGETS[@DEVICE]:] METRIC<=LIMIT",
    help="A limit on a metric of report.json, <= or >=, with or without its unit, for targets by name or "
    "glob, or for what a device measured ('pi5: p95_ms <= 20'); may be repeated.  [default: the gates that "
    "the reports hold]",
)
@click.option(
    "--against",
    type=click.Path(path_type=Path),
    metavar="OUT",
    help="Measure drop_pp and agreement against the artifacts of this run instead of the float model, image "
    "by image: its output folder, or its report.json with what lies beside it.",
)
@click.option(
    "--fail-on",
    multiple=True,
    metavar="METRIC=CHANGE",
    help="Exit with 1 when METRIC is worse than in the run of --against by more than CHANGE, as in edgefx "
    "diff; may be repeated.",
)
@click.option(
    "--calibrate",
    is_flag=True,
    help="Say how often each gate would pass and fail if nothing changed but the images.",
)
@click.option(
    "--expect-failure",
    "expected_failures",
    multiple=True,
    metavar="[TARGETS[@DEVICE]:] METRIC until DAY: REASON",
    help="A gate that need not pass up to and including DAY (2026-12-31), and why: its failure is shown, and "
    "does not fail the command. Whether it passes by then is said, too. May be repeated.",
)
@min_images_option
@on_inconclusive_option
@report_option
@json_option
@pass_app
def command(
    app: App,
    *,
    reports: tuple[Path, ...],
    conditions: tuple[str, ...],
    against: Path | None,
    fail_on: tuple[str, ...],
    calibrate: bool,
    expected_failures: tuple[str, ...],
    min_images: int | None,
    on_inconclusive: str | None,
    report_files: tuple[Path, ...],
    as_json: bool,
) -> int:
    """Judge REPORT..., the reports of finished runs, by limits; nothing is run.

    A report is given by the output folder of a run or of a matrix, or by the report.json or matrix.json in
    it.
    """
    from edgefx import api
    from edgefx.report import destination, gating, write

    for path in report_files:
        destination(path)
    result = api.gate(
        reports,
        gates=conditions,
        on_inconclusive=OnInconclusive(on_inconclusive or OnInconclusive.FAIL_IF_DOUBTFUL),
        min_images=min_images or MIN_IMAGES,
        against=against,
        fail_on=fail_on,
        calibrate=calibrate,
        expected_failures=expected_failures,
    )
    for path in report_files:
        write(result, path)
    annotate(app, result, report_files)
    if as_json:
        app.write_json(result)
    else:
        app.write("\n".join(_colored(app, verdict, line) for verdict, line in gating.lines(result)))
    return int(result.exit_code)


def _colored(app: App, verdict: Verdict | None, line: str) -> str:
    """Colour a line's verdict; Rich, which could do so too, takes longer to import than all the rest."""
    text = visible(line)
    if verdict is None or not app.colored(sys.stdout):
        return text
    return click.style(text[: len(verdict)], **_STYLES[verdict]) + text[len(verdict) :]
