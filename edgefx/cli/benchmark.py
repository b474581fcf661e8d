"""`edgefx benchmark`: latency of artifacts on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgefx.cli.context import App, pass_app
from edgefx.cli.options import available_cores, existing, json_option, rounds_option, threads_option
from edgefx.errors import BenchmarkError, ExitCode, UsageError
from edgefx.types import Precision

if TYPE_CHECKING:
    from edgefx.benchmark.latency import Subject


@click.command(
    epilog="""\b
Examples:
  edgefx benchmark build/b0-int8.tflite build/b0-float32.tflite
  edgefx benchmark build/*.onnx --threads 1 --json
"""
)
@click.argument("artifacts", nargs=-1, required=True, type=click.Path(path_type=Path))
@rounds_option
@click.option(
    "--warmup",
    type=click.IntRange(min=0),
    default=5,
    show_default=True,
    metavar="N",
    help="Inferences before the timed ones.",
)
@click.option(
    "--seconds",
    type=click.FloatRange(min=0, min_open=True),
    default=30.0,
    show_default=True,
    metavar="S",
    help="Time limit of all timed inferences together; slow artifacts then get fewer rounds.",
)
@threads_option
@json_option
@pass_app
def command(
    app: App,
    *,
    artifacts: tuple[Path, ...],
    rounds: int,
    warmup: int,
    seconds: float,
    threads: int | None,
    as_json: bool,
) -> int:
    """Measure the batch-1 latency of ARTIFACTS on this machine, interleaved so that they compare.

    Each runs in a process of its own. Artifacts of one runtime are compared with its float32 artifact when
    that one, named *-float32 as `edgefx compile` names it, is given too.
    """
    from edgefx.benchmark.devices.host import environment
    from edgefx.benchmark.latency import measure
    from edgefx.report.evaluation import Benchmark

    subjects = _subjects(artifacts)
    failures: dict[str, str] = {}

    def failed(subject: Subject, error: BenchmarkError) -> None:
        failures[subject.key] = error.message
        app.keep_log = True
        app.warn(error.message + (f" ({error.hint})" if error.hint else ""))

    with app.native_log():
        measured = measure(
            subjects,
            threads=threads or available_cores(),
            rounds=rounds,
            warmup=warmup,
            budget_s=seconds,
            progress=app,
            on_failure=failed,
        )
        if not measured:
            raise BenchmarkError("no artifact could be measured", details=failures.values())
    if failures and app.log_path:
        app.note(f"log: {app.log_path}")
    result = Benchmark(environment=environment(), latencies=measured, failures=failures)
    if as_json:
        from edgefx.report.json import dumps

        app.write(dumps(result))
    else:
        from edgefx.report.evaluation import render_benchmark

        render_benchmark(result, app.stdout)
    return int(ExitCode.STAGE_FAILED if failures else ExitCode.OK)


def _subjects(artifacts: tuple[Path, ...]) -> list[Subject]:
    """Pair each artifact with the float32 artifact of its runtime, by the names that `compile` gives.

    Raises:
        UsageError: A file that does not exist, or that no runtime opens.
    """
    from edgefx.benchmark.latency import Subject
    from edgefx.targets import TARGETS

    runtimes = {row.suffix: row.runtime for row in TARGETS.values()}
    given = list(dict.fromkeys(artifacts))
    for path in given:
        if existing(path).suffix not in runtimes:
            raise UsageError(
                f"{path}: not an artifact edgefx can open",
                hint="expected a .tflite, .onnx or OpenVINO .xml file",
            )
    floats = {path.suffix: str(path) for path in given if _precision(path) is Precision.FLOAT32}
    return [
        Subject(key=str(path), path=path, precision=_precision(path), float_key=floats.get(path.suffix))
        for path in given
    ]


def _precision(path: Path) -> Precision | None:
    """Return the precision that `compile` put into the file's name, if it did."""
    name = path.stem.rpartition("-")[2]
    return Precision(name) if name in set(Precision) else None
