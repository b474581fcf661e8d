"""The command line: the only room that prints.

`run` owns exit codes (DESIGN: contract 6) and turns every exception into a message on stderr; Click's own
handling exits 1 for an interruption and is not used.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import click

from edgefx.cli import failures
from edgefx.cli.context import App
from edgefx.cli.group import LazyGroup, global_options
from edgefx.errors import ExitCode

_INTERRUPTIONS = (signal.SIGINT, signal.SIGTERM)

COMMANDS: dict[str, tuple[str, str]] = {
    "compile": (
        "edgefx.cli.compile:command",
        "Compile a Keras model for edge runtimes and measure it.",
    ),
    "run": ("edgefx.cli.run:command", "Compile a model as a recipe file (YAML) says."),
    "recipe": ("edgefx.cli.recipe:command", "List, show, check and write recipes."),
    "reproduce": ("edgefx.cli.reproduce:command", "Run a lock file again and compare, byte by byte."),
    "diff": ("edgefx.cli.diff:command", "Compare two runs: inputs, size, accuracy by image, latency."),
    "gate": ("edgefx.cli.gate:command", "Judge the reports of finished runs by limits, without running."),
    "report": ("edgefx.cli.report:command", "Write the report of a finished run again: a page, or others."),
    "evaluate": ("edgefx.cli.evaluate:command", "Measure an artifact's accuracy on a folder of images."),
    "drift": ("edgefx.cli.drift:command", "Tell whether new images are like those of a run."),
    "benchmark": ("edgefx.cli.benchmark:command", "Measure the latency of artifacts, here or on a device."),
    "device": ("edgefx.cli.device:command", "List, check and set up devices that run artifacts."),
    "debug": ("edgefx.cli.debug:command", "Find the stage and the layers that lose accuracy."),
    "inspect": ("edgefx.cli.inspect:command", "Show what a model or an artifact is made of."),
    "check": ("edgefx.cli.check:command", "Say what of a model NPUs and microcontrollers do not take."),
    "npu": ("edgefx.cli.npu:command", "Compile an INT8 artifact for Arm Ethos-U NPUs."),
    "bundle": ("edgefx.cli.bundle:command", "Put what a run made into one archive, to ship and to flash."),
    "verify": ("edgefx.cli.verify:command", "Check a bundle, byte by byte, and its signature."),
    "rollout": ("edgefx.cli.rollout:command", "Check how a bundle is to reach a fleet of devices."),
    "setup": ("edgefx.cli.setup:command", "Install a compiler in an environment of its own."),
    "targets": ("edgefx.cli.targets:command", "List the targets that can be compiled for."),
    "models": ("edgefx.cli.models:command", "List the models that are known by name."),
    "cache": ("edgefx.cli.cache:command", "Show or clean the cache of stage results."),
    "doctor": ("edgefx.cli.doctor:command", "Check this machine: versions, CPU features, what is missing."),
}

_EPILOG = """\b
Examples:
  edgefx doctor
  edgefx compile model.keras --target tflite-int8 --calib train/ --eval test/
  edgefx run digits-demo

Exit codes: 0 success, 1 a gate failed, 2 usage, 3 missing dependency, 4 a stage failed, 70 a bug in edgefx,
130 interrupted (Ctrl-C), 143 terminated (SIGTERM).

Shell completion: eval "$(_EDGEFX_COMPLETE=bash_source edgefx)" in ~/.bashrc (or zsh_source, fish_source).
"""


def _print_version(ctx: click.Context, _param: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        from edgefx import __version__

        click.echo(f"edgefx {__version__}")
        ctx.exit()


@click.group(
    cls=LazyGroup,
    commands_table=COMMANDS,
    epilog=_EPILOG,
    params=global_options(),
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_version,
    help="Print the version and exit.",
)
def cli() -> None:
    """Turn a Keras EfficientNet into an edge artifact whose accuracy and speed are known.

    Calibrate on images like those the device will see, measure on others, and read the table.
    """


def run(argv: Sequence[str]) -> int:
    """Run the command line and return its exit code; never raises.

    Args:
        argv: The arguments without the program's name.
    """
    _plug_standard_streams()
    app = App(argv=argv)
    try:
        with _interruptible(app):
            # Not cli.main(): it maps broken pipes and interruptions to exit code 1.
            completion = os.environ.get("_EDGEFX_COMPLETE")
            if completion:
                from click.shell_completion import shell_complete

                return shell_complete(cli, {"obj": app}, "edgefx", "_EDGEFX_COMPLETE", completion)
            with cli.make_context("edgefx", list(argv), obj=app) as context:
                result = cli.invoke(context)
            app.flush()
            return int(result) if isinstance(result, int) else int(ExitCode.OK)
    except click.exceptions.Exit as leave:
        return failures.guard(app, app.flush) or leave.exit_code
    except BaseException as error:  # noqa: BLE001 - the outermost handler: every outcome gets its exit code
        return failures.report(app, KeyboardInterrupt() if app.interrupted else error)


@contextmanager
def _interruptible(app: App) -> Iterator[None]:
    """Let SIGTERM (a cancelled CI job) unwind as Ctrl-C does, and remember which came.

    Remembering matters: an interruption inside a library's callback may be swallowed there, or come out
    as some other exception.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(number: int, _frame: object) -> None:
        app.interrupted = True
        app.terminated = number == signal.SIGTERM
        raise KeyboardInterrupt

    # A background job of a shell without job control ignores Ctrl-C, and shall go on doing so.
    heeded = [number for number in _INTERRUPTIONS if signal.getsignal(number) is not signal.SIG_IGN]
    previous = {number: signal.signal(number, interrupt) for number in heeded}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _plug_standard_streams() -> None:
    """Open the null device on closed standard descriptors.

    Otherwise the next file that is opened becomes "stdout", and printing corrupts it.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number: this one
    if sys.stdout is None:
        sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115 - a descriptor
    if sys.stderr is None:
        sys.stderr = open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115 - a descriptor
