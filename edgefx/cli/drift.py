"""`edgefx drift`: are new images like those that an artifact was measured on?"""

from __future__ import annotations

from pathlib import Path

import click

from edgefx.cli import completion
from edgefx.cli.context import App, pass_app
from edgefx.cli.options import json_option, seed_option, skip_bad_option, threads_option


@click.command(
    epilog="""\b
Examples:
  edgefx drift build/ photos/today/
  edgefx drift build/ photos/today/ --target tflite-int8 --openmetrics drift.prom
"""
)
@click.argument("run", metavar="RUN", type=click.Path(path_type=Path))
@click.argument("data", metavar="NEW_IMAGES", type=click.Path(path_type=Path))
@click.option(
    "-t",
    "--target",
    shell_complete=completion.targets,
    metavar="TARGET",
    help="Whose artifact answers.  [default: the first that can be run here]",
)
@click.option(
    "--reference",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Where the run's evaluation images (without any, its calibration images) are now.  [default: where "
    "they were]",
)
@click.option(
    "--samples",
    type=click.IntRange(1, 5000),
    default=500,
    show_default=True,
    metavar="N",
    help="Most images that are taken of either side; each is compared with every other.",
)
@click.option(
    "--alarm-rate",
    type=click.FloatRange(min=0, max=1, min_open=True, max_open=True),
    default=0.05,
    show_default=True,
    metavar="SHARE",
    help="In what share of samples without drift drift is said to be found.",
)
@click.option(
    "--openmetrics",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Also write the figures for Prometheus to FILE.",
)
@seed_option
@skip_bad_option
@threads_option
@json_option
@pass_app
def command(
    app: App,
    *,
    run: Path,
    data: Path,
    target: str | None,
    reference: Path | None,
    samples: int,
    alarm_rate: float,
    openmetrics: Path | None,
    seed: int,
    skip_bad_images: bool,
    threads: int | None,
    as_json: bool,
) -> int:
    """Tell whether NEW_IMAGES are like those that RUN was measured on.

    RUN is the output folder of a run. What images look like (brightness, contrast, saturation, warmth,
    sharpness), what the artifact answers (classes, confidence, all scores) and the features that its last
    layer makes these of are compared by permutation tests, and the exit code is 1 where they differ by more
    than chance. No labels are needed.
    """
    from edgefx import api
    from edgefx.report import drift as shown
    from edgefx.report import save

    with app.native_log():
        report = api.drift(
            run,
            data,
            target=target,
            reference=reference,
            samples=samples,
            alarm_rate=alarm_rate,
            seed=seed,
            skip_bad_images=skip_bad_images,
            threads=threads,
            progress=app,
        )
    if openmetrics is not None:
        save(shown.openmetrics(report), openmetrics, option="--openmetrics")
    if as_json:
        app.write_json(report)
    else:
        shown.render(report, app.stdout)
    return int(report.exit_code)
