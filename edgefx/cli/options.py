"""Options and arguments that several commands take; each means the same everywhere."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

from edgefx import units
from edgefx.cli import completion
from edgefx.cli.context import App
from edgefx.errors import UsageError
from edgefx.models import scaling
from edgefx.vocabulary import (
    LAUNCHES,
    MIN_IMAGES,
    MIN_SECONDS,
    MOST_LAUNCHES,
    NATIVE,
    Effort,
    Hardware,
    ModelTask,
    OnInconclusive,
    Optimise,
    Resize,
)


class PositiveNumber(click.FloatRange):
    """A finite number above zero: of infinity and NaN, no command can make sense."""

    name = "positive number"

    def __init__(self, *, or_zero: bool = False) -> None:
        super().__init__(min=0, min_open=not or_zero)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Read the number; see `click.ParamType.convert`."""
        number = float(super().convert(value, param, ctx))
        if not math.isfinite(number):
            self.fail(f"{value} is not a finite number.", param, ctx)
        return number


class ImageCount(click.IntRange):
    """A number of images, or "all"."""

    name = "images"

    def __init__(self) -> None:
        super().__init__(min=1)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Read the number; see `click.ParamType.convert`."""
        return value if value == "all" else super().convert(value, param, ctx)


class Counts(click.IntRange):
    """One number from 1 on, or several, separated by commas."""

    name = "number"

    def __init__(self) -> None:
        super().__init__(min=1)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Read the numbers; see `click.ParamType.convert`."""
        if isinstance(value, tuple):
            return value
        parts: list[Any] = str(value).split(",")
        return tuple(dict.fromkeys(super(Counts, self).convert(part, param, ctx) for part in parts))


# As the recipe's schema has it: more is no classifier, but fills the memory.
classes_range = click.IntRange(min=2, max=100_000)


class IoDtypes(click.ParamType[str]):
    """Element types of an artifact's ends."""

    name = "types"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Check the text."""
        try:
            units.parse_io_dtypes(str(value))
        except UsageError as error:
            self.fail(f"{error.message.partition(': ')[2]}; {error.hint}", param, ctx)
        return str(value)


class _Task(click.ParamType[str]):
    """A task, or that of an output."""

    name = "task"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Check the text."""
        try:
            units.parse_tasks(str(value))
        except UsageError as error:
            self.fail(f"{error.message.partition(': ')[2]}; {error.hint}", param, ctx)
        return str(value)

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """Offer the tasks, behind what is typed of an output."""
        del ctx, param
        output, is_assigned, _ = incomplete.rpartition("=")
        return [
            CompletionItem(f"{output}{is_assigned}{task}")
            for task in ModelTask
            if f"{output}{is_assigned}{task}".startswith(incomplete)
        ]


def _joined(given: Sequence[str]) -> str | None:
    """Put together what was said of several outputs.

    Raises:
        UsageError: A task was said twice.
    """
    if not given:
        return None
    text = ",".join(given)
    units.parse_tasks(text)
    return text


class _InputSize(click.ParamType[int | str]):
    """Pixels of an input image: a side of a square one, or HxW."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int | str:
        """Check the text; a side of its own becomes a number."""
        try:
            units.parse_size_of_input(str(value))
        except UsageError as error:
            self.fail(f"{error.message.partition(': ')[2]}; {error.hint}", param, ctx)
        text = str(value)
        return int(text) if text.isdigit() else text


input_size_option = click.option(
    "--input-size",
    type=_InputSize(),
    metavar="PX|HxW",
    help="Height and width of the input in pixels: one number, or two, such as 224x320.",
)
_HINT_OPTIONS = (
    click.option(
        "--task",
        type=_Task(),
        multiple=True,
        callback=lambda _ctx, _param, given: _joined(given),
        metavar="[OUTPUT=]TASK",
        help=f"What the model answers: {', '.join(ModelTask)}; OUTPUT=TASK for each of several outputs.  "
        "[default: told from its last layers; needed for a single value without sigmoid]",
    ),
    click.option(
        "--head", metavar="NAME", help="Which output to compile, of a model with several.  [default: all]"
    ),
    click.option(
        "--pixels",
        metavar="[bgr:]LOW..HIGH|imagenet|mean=M/std=S",
        help="The pixels that the model was trained on, where it does not scale them itself: what black and "
        "white were, such as 0..1 or -1..1, ImageNet's mean and deviation, or others, of raw pixels; bgr: in "
        "front where blue came first; caffe for the preprocessing of Keras' ResNet50. The artifact takes raw "
        "RGB.",
    ),
    click.option(
        "--custom-objects",
        type=click.Path(path_type=Path),
        metavar="FILE.py",
        help="Python file that defines the model's custom layers and functions. It is run.",
    ),
    click.option(
        "--threshold",
        type=click.FloatRange(0, 1, min_open=True, max_open=True),
        metavar="P",
        help="Probability above which a score of its own counts as a yes: of binary and multilabel models.  "
        "[default: 0.5]",
    ),
)


_COEFFICIENTS = {
    "phi": "Scale a model that is given by name, such as b0, by compound scaling: depth by 1.2^PHI, width by "
    "1.1^PHI, resolution by 1.15^PHI. The same as b0:phi=PHI.",
    "width": "Scale the width of a model that is given by name: b0:width=FACTOR.",
    "depth": "Scale its depth: b0:depth=FACTOR.",
    "resolution": "Scale the height and width of its input: b0:resolution=FACTOR.",
}


def scaling_options(argument: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Decorator: the options that scale a model of the zoo; they become a part of its name.

    Args:
        argument: The command's argument that names the model.
    """

    def decorated(command: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(command)
        def scaled(*args: Any, **options: Any) -> Any:
            given = {key: options.pop(key) for key in scaling.KEYS}
            name = scaling.named(options[argument], given, input_size=options["input_size"])
            return command(*args, **{**options, argument: name})

        wrapped: Callable[..., Any] = scaled
        for key in reversed(scaling.KEYS):
            metavar = "PHI" if key == "phi" else "FACTOR"
            wrapped = click.option(f"--{key}", type=float, metavar=metavar, help=_COEFFICIENTS[key])(wrapped)
        return wrapped

    return decorated


def hint_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that say of a model what its file does not tell."""
    for option in reversed(_HINT_OPTIONS):
        command = option(command)
    return command


calib_option = click.option(
    "--calib",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Folder of typical images from which the INT8 ranges are calibrated; labels are not needed.",
)
samples_option = click.option(
    "--samples",
    type=click.IntRange(min=1),
    metavar="N",
    help="Number of images to calibrate on.  [default: 100, or half of a small folder]",
)
effort_option = click.option(
    "--effort",
    type=click.Choice([effort.value for effort in Effort]),
    default=Effort.BALANCED.value,
    show_default=True,
    help="Time to spend on INT8 accuracy: at most 1, 3 or 15 times what the runtime's own converter takes.",
)


def _without_cache(ctx: click.Context, _param: click.Parameter, value: bool) -> None:
    App.of(ctx).use_cache = not value


no_cache_option = click.option(
    "--no-cache",
    is_flag=True,
    expose_value=False,
    callback=_without_cache,
    help="Compute everything anew, and keep nothing for later runs.",
)


def _with_unsafe(ctx: click.Context, _param: click.Parameter, value: bool) -> None:
    App.of(ctx).allow_unsafe = value


allow_unsafe_option = click.option(
    "--allow-unsafe",
    is_flag=True,
    expose_value=False,
    callback=_with_unsafe,
    help="Load a model file even if loading it could run code, read files or fill the memory, and run the "
    "custom objects that a recipe or a lock file names. Use it only for what you trust the makers of; the "
    "report records it.",
)
json_option = click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON document on stdout instead of a table."
)
report_option = click.option(
    "--report",
    "report_files",
    type=click.Path(path_type=Path),
    multiple=True,
    metavar="[FORMAT=]FILE",
    help="Also write the report to FILE, in the format of its suffix (.md, .json, .txt, .html, .xml for "
    "JUnit, .prom for OpenMetrics) or in FORMAT: markdown, json, terminal, html, junit, openmetrics, gitlab "
    "(code quality), benchmark-json (github-action-benchmark), or github, which needs no FILE: it adds to "
    "the summary and the annotations of the GitHub Actions job. May be repeated.",
)
log_to_option = click.option(
    "--log-to",
    type=click.Choice(["mlflow"]),
    help="Also log recipe, figures, artifacts and what they came from to MLflow, where MLFLOW_TRACKING_URI "
    "says; it needs the package mlflow.",
)
resize_option = click.option(
    "--resize",
    type=click.Choice([resize.value for resize in Resize]),
    default=Resize.STRETCH.value,
    show_default=True,
    help="How to fit an image of any shape to the model's input.",
)
rounds_option = click.option(
    "--rounds",
    type=click.IntRange(min=1),
    default=100,
    show_default=True,
    metavar="N",
    help="Least number of timed inferences per artifact.",
)
min_seconds_option = click.option(
    "--min-seconds",
    type=PositiveNumber(or_zero=True),
    default=MIN_SECONDS,
    show_default=True,
    metavar="S",
    help="Least time that the timed inferences of each artifact take together: fast ones get more of them.",
)
launches_option = click.option(
    "--launches",
    type=click.IntRange(1, MOST_LAUNCHES),
    default=LAUNCHES,
    show_default=True,
    metavar="N",
    help="Number of processes started for each artifact, one after the other, to share its inferences: one "
    "alone does not tell how the next would differ.",
)
price_option = click.option(
    "--price-per-hour",
    type=click.FloatRange(min=0),
    metavar="PRICE",
    help="What an hour of the machine costs, in any currency: the report then says what 1000 inferences "
    "cost.",
)
hardware_option = click.option(
    "--hardware",
    default=NATIVE,
    show_default=True,
    metavar="CLASS|FILE",
    help=f"The class of CPU that onnx-int8, onnx-dynamic and openvino-int8 are made for: {NATIVE} (this "
    f"machine), {', '.join(Hardware)}, or the path of a profile: a .json file of edgefx device profile, or a "
    ".yaml file.",
)
min_images_option = click.option(
    "--min-images",
    type=click.IntRange(min=1),
    metavar="N",
    help=f"A gate on accuracy needs this many evaluation images, else it is INCONCLUSIVE.  "
    f"[default: {MIN_IMAGES}]",
)
on_inconclusive_option = click.option(
    "--on-inconclusive",
    type=click.Choice([choice.value for choice in OnInconclusive]),
    help="Which gates that cannot be judged fail with exit code 1: all of them (fail), those whose figure "
    "means nothing, such as the accuracy of a model that guesses (fail-if-doubtful), or none (warn). With "
    "fail-if-doubtful, a figure that keeps its limit while its 95 % interval does not is only warned of.  "
    f"[default: {OnInconclusive.FAIL_IF_DOUBTFUL}]",
)
seed_option = click.option(
    "--seed",
    type=int,
    default=0,
    show_default=True,
    metavar="S",
    help="Seed of everything that is sampled or trained.",
)
skip_bad_option = click.option(
    "--skip-bad-images",
    is_flag=True,
    help="Leave corrupt images out and report how many; otherwise they are an error.",
)
threads_option = click.option(
    "--threads",
    type=click.IntRange(min=1),
    metavar="N",
    help="Number of threads the runtime uses.  [default: all cores]",
)


resume_option = click.option(
    "--resume", is_flag=True, help="Continue training from the checkpoint in the output folder."
)
dry_run_option = click.option(
    "--dry-run", is_flag=True, help="Show the steps as a tree and which results are cached, then stop."
)


def npu_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Decorator: the options of compilers for NPUs."""
    function = click.option(
        "--optimise",
        type=click.Choice([one.value for one in Optimise]),
        help="For NPUs: what to make small, the time (Performance) or the memory (Size). For tflm-int8, Size "
        "means flash: weights become lookup tables.  [default: Performance]",
    )(function)
    function = click.option(
        "--memory-mode",
        metavar="NAME",
        help="For NPUs: where weights and activations lie, one of Vela's memory modes, such as Sram_Only.  "
        "[default: what Vela assumes for the NPU]",
    )(function)
    return click.option(
        "--system-config",
        metavar="NAME",
        help="For NPUs: clock and memories to assume, one of Vela's system configurations, such as "
        "Ethos_U55_Deep_Embedded.  [default: what Vela assumes for the NPU, which is no chip in particular]",
    )(function)


def trust_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add --key, --root and --require-signature: by whom a bundle must be signed."""
    for option in (
        click.option(
            "--require-signature",
            is_flag=True,
            help="Refuse a bundle without a signature, and a call without --key or --root.",
        ),
        click.option(
            "--root",
            type=click.Path(path_type=Path),
            metavar="CERTS",
            help="The same for whoever has a certificate that leads to one of these, in PEM.",
        ),
        click.option(
            "--key",
            type=click.Path(path_type=Path),
            metavar="PUBKEY",
            help="Refuse a bundle that was not signed with the private key that belongs to this public key of"
            " ECDSA, in PEM; it needs the package cryptography.",
        ),
    ):
        function = option(function)
    return function


def device_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Decorator: the options that name a device."""
    function = click.option(
        "--device-dir",
        metavar="DIR",
        help="Folder of the device where artifacts and images are kept for the next time.  "
        "[default: ~/.cache/edgefx]",
    )(function)
    function = click.option(
        "--device-python",
        metavar="PATH",
        help="The device's Python: 3.9 or later, with NumPy and the runtime.  [default: python3]",
    )(function)
    return click.option(
        "--device",
        default="host",
        show_default=True,
        metavar="DEVICE",
        help="Where to run the artifacts: host (this machine), ssh://user@host[:port], a machine that the "
        "OpenSSH client reaches without asking for a password, adb://[serial], a phone, or a name of "
        "devices.yaml.",
    )(function)


devices_option = click.option(
    "--device",
    "devices",
    multiple=True,
    metavar="DEVICE",
    help="Measure latency on this device instead of on this machine, and report whether the artifacts answer "
    "there as here, and how accurate they are there: ssh://user@host[:port], or a name of devices.yaml, "
    "which may say more of it (edgefx device list). May be repeated; with --device host, latency is "
    "measured on this machine, too.",
)


def recipe_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Decorator: the options that change what a recipe says."""
    function = click.option(
        "--set",
        "settings",
        multiple=True,
        metavar="KEY=VALUE",
        help="Give a key of the recipe another value, for example quantize.effort=high. VALUE is YAML; "
        "relative paths in it are relative to the working folder. May be repeated.",
    )(function)
    return click.option(
        "-t",
        "--target",
        "targets",
        shell_complete=completion.targets,
        multiple=True,
        metavar="NAME",
        help="Make these targets instead of the recipe's: a name, a comma list or a glob. May be repeated.",
    )(function)
