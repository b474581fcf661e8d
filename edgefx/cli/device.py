"""`edgefx device`: the machines that artifacts are run on over SSH."""

from __future__ import annotations

import shlex
from pathlib import Path

import click

from edgefx.cli.context import App, pass_app
from edgefx.cli.group import LazyGroup
from edgefx.cli.options import Counts, PositiveNumber, json_option
from edgefx.errors import ExitCode, UsageError
from edgefx.vocabulary import Runtime

_COMMANDS = {
    "list": ("edgefx.cli.device:list_", "List the devices that devices.yaml names."),
    "check": ("edgefx.cli.device:check", "Connect devices and say what they are and lack."),
    "card": ("edgefx.cli.device:card", "Write what artifacts did on devices into small files to commit."),
    "profile": ("edgefx.cli.device:profile", "Measure what is faster in INT8 on a device, for --hardware."),
    "setup": ("edgefx.cli.device:setup", "Install runtimes on a device, in a virtual environment."),
}


@click.group(
    cls=LazyGroup,
    commands_table=_COMMANDS,
    epilog="""\b
Examples:
  edgefx device check ssh://pi@raspberrypi.local --json
  edgefx device setup pi5 --runtime tflite
  edgefx device profile pi5 -o pi5.json
""",
)
def command() -> None:
    """List, check, set up and measure the devices that `--device` can name.

    A device is an address, ssh://user@host, or a name in devices.yaml: that of the working folder, else
    ~/.config/edgefx/devices.yaml; EDGEFX_DEVICES names another file.
    """


@click.command(name="list", epilog="Example: edgefx device list --json")
@json_option
@pass_app
def list_(app: App, *, as_json: bool) -> None:
    """List the devices that devices.yaml names."""
    from edgefx.benchmarking.devices import book
    from edgefx.report.device import render_list

    found = tuple(book.devices().values())
    if as_json:
        app.write_json(found)
    else:
        render_list(found, str(book.path()), app.stdout)


@click.command(
    epilog="""\b
Examples:
  edgefx device check
  edgefx device check pi5 ssh://pi@raspberrypi.local --json
"""
)
@click.argument("devices", nargs=-1, metavar="[DEVICE]...")
@click.option("--device-python", metavar="PATH", help="The devices' Python.  [default: python3]")
@json_option
@pass_app
def check(app: App, *, devices: tuple[str, ...], device_python: str | None, as_json: bool) -> int:
    """Connect each DEVICE (by default all of devices.yaml) and say what it is and lacks."""
    from edgefx.benchmarking.devices import book
    from edgefx.benchmarking.devices.connect import DeviceChoice
    from edgefx.pipeline import devices as use_case
    from edgefx.report.device import render_check

    names = devices or tuple(book.devices())
    if not names:
        raise UsageError("no device given", hint=f"give ssh://user@host, or name devices in {book.path()}")
    if "host" in names:
        raise UsageError("this machine is no device to check", hint="run: edgefx doctor")
    choices = [DeviceChoice(device=name, python=device_python) for name in names]
    found, code = use_case.check(choices, app)
    if as_json:
        app.write_json(found)
    else:
        render_check(found, app.stdout)
    return int(code)


@click.command(
    epilog="""\b
Examples:
  edgefx device card build/ -o cards/
  edgefx diff cards/ new-cards/ --fail-on p50_ms=10%
"""
)
@click.argument("report", type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    default=Path("cards"),
    show_default=True,
    metavar="DIR",
    help="Folder for the cards.",
)
@json_option
@pass_app
def card(app: App, *, report: Path, output: Path, as_json: bool) -> None:
    """Write a result card for each artifact of REPORT on each device that measured it, and here.

    REPORT is the output folder of a run, or the report.json in it. A card, *.card.json, says what the device
    and its runtime are, which artifact it was, accuracy, answers, medians and intervals. edgefx diff and
    edgefx gate take cards, and folders of cards.
    """
    from edgefx.provenance import cards
    from edgefx.views import WrittenReports

    found = cards.of_run(report)
    files = tuple(cards.write(one, output) for one in found)
    if as_json:
        app.write_json(WrittenReports(files=files))
    else:
        app.write("\n".join(map(str, files)))


@click.command(
    epilog="""\b
  Examples:
  edgefx device profile
  edgefx device profile pi5 --runtime onnx --threads 1,4 -o pi5.json
  edgefx compile model.keras -t onnx-int8 --calib photos/ --hardware pi5.json
"""
)
@click.argument("device", default="host", metavar="[DEVICE]")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    default=Path("hardware.json"),
    show_default=True,
    metavar="FILE.json",
    help="Where the profile goes. One that is there is replaced.",
)
@click.option(
    "--runtime",
    "runtimes",
    type=click.Choice([str(Runtime.ONNX), str(Runtime.OPENVINO)]),
    multiple=True,
    help="Runtime to measure. May be repeated.  [default: those that are installed there]",
)
@click.option(
    "--threads",
    type=Counts(),
    default=(),
    metavar="N[,N...]",
    help="Numbers of threads; what counts is the time with all of them together.  [default: 1 and all cores]",
)
@click.option(
    "--seconds",
    type=PositiveNumber(),
    default=170.0,
    show_default=True,
    metavar="S",
    help="Time limit. More time measures more forms, and those with less chance in them.",
)
@click.option("--device-python", metavar="PATH", help="The device's Python.  [default: python3]")
@click.option("--device-dir", metavar="DIR", help="Folder of the device.  [default: ~/.cache/edgefx]")
@json_option
@pass_app
def profile(
    app: App,
    *,
    device: str,
    output: Path,
    runtimes: tuple[str, ...],
    threads: tuple[int, ...],
    seconds: float,
    device_python: str | None,
    device_dir: str | None,
    as_json: bool,
) -> None:
    """Measure which convolutions are faster in INT8 on DEVICE, by default on this machine.

    Small models of one convolution each are timed in float and in INT8, with the conversions that INT8 takes
    there. The profile that is written can be given to --hardware of edgefx compile: onnx-int8 and
    openvino-int8 then compute in INT8 what is faster in it on that device, and the rest in float. Measure
    while the device has nothing else to do.
    """
    from edgefx.benchmarking.devices.connect import DeviceChoice
    from edgefx.pipeline import hardware as use_case
    from edgefx.report.hardware import render
    from edgefx.storage import hardware as files

    files.check_destination(output)
    choice = DeviceChoice(device=device, python=device_python, folder=device_dir)
    wanted = [Runtime(name) for name in runtimes]
    found = use_case.profile(choice, app, runtimes=wanted, threads=threads, seconds=seconds)
    files.write(found, output)
    if as_json:
        app.write(files.dumps(found))
    else:
        render(found, app.stdout)
    app.note(f"use it with --hardware {shlex.quote(str(output))}")


@click.command(
    epilog="""\b
Examples:
  edgefx device setup pi5 --runtime tflite
  edgefx device setup ssh://pi@raspberrypi.local --runtime onnx --offline
"""
)
@click.argument("device")
@click.option(
    "--runtime",
    "runtimes",
    type=click.Choice([str(runtime) for runtime in Runtime]),
    multiple=True,
    help="Runtime to install. May be repeated.  [default: tflite]",
)
@click.option(
    "--offline",
    is_flag=True,
    help="Download the wheels to this machine and copy them, for a device without internet.",
)
@click.option("--device-python", metavar="PATH", help="The Python to start from.  [default: python3]")
@click.option("--device-dir", metavar="DIR", help="Folder of the device.  [default: ~/.cache/edgefx]")
@json_option
@pass_app
def setup(
    app: App,
    *,
    device: str,
    runtimes: tuple[str, ...],
    offline: bool,
    device_python: str | None,
    device_dir: str | None,
    as_json: bool,
) -> int:
    """Make a virtual environment on DEVICE and install NumPy and runtimes in it, from their wheels."""
    from edgefx.benchmarking.devices.connect import DeviceChoice
    from edgefx.pipeline import devices as use_case
    from edgefx.report.device import render_check
    from edgefx.views import DeviceCheck

    choice = DeviceChoice(device=device, python=device_python, folder=device_dir)
    wanted = [Runtime(name) for name in runtimes or ("tflite",)]
    python, state = use_case.setup(choice, wanted, app, offline=offline)
    words = shlex.join(["--device", device, "--device-python", python])
    app.note(f"use it with {words}, or name it in devices.yaml")
    if as_json:
        app.write_json(state)
    else:
        render_check(DeviceCheck(devices=(state,)), app.stdout)
    broken = any(state.lacking[runtime] for runtime in wanted)
    return int(ExitCode.MISSING_DEPENDENCY if broken else ExitCode.OK)
