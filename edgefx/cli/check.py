"""`edgefx check`: whether NPUs and microcontrollers take a model as a whole."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from edgefx.cli import completion
from edgefx.cli.context import App, pass_app
from edgefx.cli.options import (
    allow_unsafe_option,
    classes_range,
    hint_options,
    input_size_option,
    json_option,
    npu_options,
    scaling_options,
)

if TYPE_CHECKING:
    from edgefx.api.values import OptimiseName


@click.command(
    epilog="""\b
Examples:
  edgefx check model.keras -t ethos-u55-256
  edgefx check model.keras -t 'ethos-*,tflm-int8' --json
"""
)
@click.argument("model", shell_complete=completion.models)
@click.option(
    "-t",
    "--target",
    "targets",
    shell_complete=completion.targets,
    multiple=True,
    required=True,
    metavar="NAME",
    help="An NPU or tflm-int8: a name, a comma list or a glob such as 'ethos-u55-*'. May be repeated.",
)
@npu_options
@click.option(
    "--classes", type=classes_range, metavar="N", help="Number of classes of a model that is given by name."
)
@input_size_option
@scaling_options("model")
@hint_options
@allow_unsafe_option
@json_option
@pass_app
def command(
    app: App,
    *,
    model: str,
    targets: tuple[str, ...],
    system_config: str | None,
    memory_mode: str | None,
    optimise: OptimiseName | None,
    classes: int | None,
    input_size: int | str | None,
    as_json: bool,
    **hints: Any,
) -> int:
    """Say what of MODEL an NPU would leave to the CPU, or TensorFlow Lite for Microcontrollers not load.

    No images are needed: the model is quantized with ranges that mean nothing, which change no operation, and
    given to the compilers. Each layer that is not taken is named with the reason and what to do, and those
    whose number of channels wastes the NPU's time. The exit code is 1 when a layer is not taken.
    """
    from edgefx import api
    from edgefx.report import check as report

    with app.native_log():
        found = api.check(
            model,
            targets=targets,
            system_config=system_config,
            memory_mode=memory_mode,
            optimise=optimise,
            classes=classes,
            input_size=input_size,
            **hints,
            allow_unsafe=app.allow_unsafe,
            progress=app,
        )
    if as_json:
        app.write_json(found)
    else:
        report.render(found, app.stdout)
    return int(found.exit_code)
