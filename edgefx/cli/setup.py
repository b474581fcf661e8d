"""`edgefx setup`: compilers with environments of their own."""

from __future__ import annotations

import click

from edgefx.cli.context import App, pass_app
from edgefx.cli.options import json_option


@click.command(
    epilog="""\b
Examples:
  edgefx setup iree
  EDGEFX_ENVIRONMENTS=/opt/edgefx edgefx setup iree --json
"""
)
@click.argument("compiler", metavar="COMPILER", type=click.Choice(["iree"]))
@json_option
@pass_app
def command(app: App, *, compiler: str, as_json: bool) -> None:
    """Install COMPILER, iree, in a virtual environment of its own, for the targets iree-*.

    Its packages are those of a lock that edgefx ships, with versions and hashes. The environment is kept in
    the folder that EDGEFX_ENVIRONMENTS names, by default beside the cache of results; removing it is safe.
    """
    from edgefx.compilers import iree
    from edgefx.report.setup import render_set_up

    made = {"iree": iree.ENVIRONMENT}[compiler].make(app.progress)
    if as_json:
        app.write_json(made)
    else:
        render_set_up(made, app.stdout)
