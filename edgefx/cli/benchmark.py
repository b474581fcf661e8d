"""`edgefx benchmark`: latency of artifacts on this machine or on a device."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edgefx.cli.context import App, pass_app
from edgefx.cli.options import (
    Counts,
    PositiveNumber,
    device_options,
    json_option,
    launches_option,
    min_seconds_option,
    price_option,
    rounds_option,
)
from edgefx.cli.pages import plot_option
from edgefx.errors import ExitCode


@click.command(
    epilog="""\b
Examples:
  edgefx benchmark build/b0-int8.tflite build/b0-float32.tflite
  edgefx benchmark build/*.onnx --threads 1,2,4 --json
  edgefx benchmark build/*.tflite --device ssh://pi@raspberrypi.local
  edgefx benchmark build/*.tflite --device adb:// --benchmark-model android_aarch64_benchmark_model
  edgefx benchmark build/*-int8.* --streams 1,2,4
  edgefx benchmark build/b0-int8.onnx --threads 1 --profile --plot b0.html
"""
)
@click.argument("artifacts", nargs=-1, required=True, type=click.Path(path_type=Path))
@rounds_option
@min_seconds_option
@launches_option
@price_option
@click.option(
    "--warmup",
    type=click.IntRange(min=0),
    default=5,
    show_default=True,
    metavar="N",
    help="Least number of inferences before the timed ones; more follow where an artifact still gets faster.",
)
@click.option(
    "--seconds",
    type=PositiveNumber(),
    default=30.0,
    show_default=True,
    metavar="S",
    help="Time limit for all timed inferences together; slow artifacts get fewer rounds to keep it.",
)
@click.option(
    "--threads",
    type=Counts(),
    default=(),
    metavar="N[,N...]",
    help="Number of threads the runtime uses; with several, each artifact is measured with each.  "
    "[default: all cores]",
)
@click.option(
    "--batch",
    type=Counts(),
    default=(),
    metavar="N[,N...]",
    help="Also measure the throughput with N images at once, of artifacts that leave their batch free.",
)
@click.option(
    "--streams",
    type=Counts(),
    default=(),
    metavar="N[,N...]",
    help="Also measure the throughput of N inferences at the same time. They share the cores; with --threads "
    "each has as many threads.",
)
@click.option(
    "--energy",
    is_flag=True,
    help="Also measure the energy of an inference, where the machine has a counter that can be read (RAPL, "
    "hwmon).",
)
@click.option(
    "--energy-csv",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Measure it by an external meter, which writes the columns time and watts to FILE meanwhile.",
)
@click.option(
    "--profile",
    is_flag=True,
    help="Also say what really ran: time and precision of every operation, layer and block, by the runtime's "
    "own profiler.",
)
@plot_option("Also draw the profile as a flame graph into a self-contained HTML page. Means --profile.")
@click.option(
    "--limit",
    type=click.IntRange(min=0),
    default=10,
    show_default=True,
    metavar="N",
    help="Number of layers of the profile in the table; 0 shows all.",
)
@device_options
@click.option(
    "--benchmark-model",
    type=click.Path(path_type=Path),
    metavar="PATH",
    help="LiteRT's benchmark_model for Android, a file of this machine, to measure .tflite files on a phone "
    "(adb://) that has no Python.  [default: that of the installed LiteRT, which is fetched]",
)
@json_option
@pass_app
def command(
    app: App,
    *,
    artifacts: tuple[Path, ...],
    threads: tuple[int, ...],
    profile: bool,
    plot: Path | None,
    limit: int,
    as_json: bool,
    **same: Any,
) -> int:
    """Measure the batch-1 latency of ARTIFACTS, interleaved so that they compare.

    Each runs in a process of its own. Artifacts of one runtime are compared with its float32 artifact when
    that one, named *-float32 as `edgefx compile` names it, is given too.
    """
    from edgefx import api

    if plot is not None:
        from edgefx.report.page import execution as page
        from edgefx.report.page import plot as plot_file

        plot_file.check(plot)
    with app.native_log():
        result = api.benchmark(
            artifacts,
            threads=threads or None,
            profile=profile or plot is not None,
            progress=app,
            **same,
        )
        app.keep_log = bool(result.failures)
    if result.failures and app.log_path:
        app.note(f"log: {app.log_path}")
    if plot is not None:
        plot_file.write(lambda: page.dumps(result), plot)
    if as_json:
        app.write_json(result)
    else:
        from edgefx.report.evaluation import render_benchmark

        render_benchmark(result, app.stdout, limit=limit)
    return int(ExitCode.STAGE_FAILED if result.failures else ExitCode.OK)
