"""`edgefx npu`: an integer artifact compiled for NPUs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgefx.cli.context import App, pass_app
from edgefx.cli.options import json_option, npu_options

if TYPE_CHECKING:
    from edgefx.api.values import OptimiseName


@click.command(
    epilog="""\b
Examples:
  edgefx npu build/b0-int8.tflite -t ethos-u55-128
  edgefx npu build/b0-int8.tflite -t 'ethos-u85-*' -o npu/
  edgefx npu build/b0-int8.tflite -t ethos-u55-256 --system-config Ethos_U55_Deep_Embedded
"""
)
@click.argument("artifact", type=click.Path(path_type=Path))
@click.option(
    "-t",
    "--target",
    "targets",
    multiple=True,
    required=True,
    metavar="NPU",
    help="An NPU: ethos-u55-{32,64,128,256}, ethos-u65-{256,512} or ethos-u85-{128,256,512,1024,2048}; a"
    " name, a comma list or a glob; may be repeated.",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="The folder to write to.  [default: that of ARTIFACT]",
)
@npu_options
@json_option
@pass_app
def command(
    app: App,
    *,
    artifact: Path,
    targets: tuple[str, ...],
    output: Path | None,
    system_config: str | None,
    memory_mode: str | None,
    optimise: OptimiseName | None,
    as_json: bool,
) -> int:
    """Compile ARTIFACT, a .tflite file of the target tflite-int8, for Arm Ethos-U NPUs.

    It takes the package ethos-u-vela. Times and memory are Vela's estimates: nothing is run on an NPU, and
    the accuracy shown is that of ARTIFACT, from the report beside it. Writes a .tflite file for each NPU, and
    a JSON file with the figures of all.
    """
    from edgefx import api
    from edgefx.report import npu as report

    made = api.npu(
        artifact,
        targets=targets,
        output=output,
        system_config=system_config,
        memory_mode=memory_mode,
        optimise=optimise,
        progress=app,
    )
    if as_json:
        app.write_json(made)
    else:
        report.render(made, app.stdout)
    return int(made.exit_code)
