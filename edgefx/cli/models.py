"""`edgefx models`: the models that are known by name."""

from __future__ import annotations

import click

from edgefx.cli.context import App, pass_app
from edgefx.cli.options import json_option


@click.command(epilog="Example: edgefx models --json")
@json_option
@pass_app
def command(app: App, as_json: bool) -> None:
    """List the models that are known by name.

    Any path to a .keras file, an .h5 file or a SavedModel folder is a model too.
    """
    from edgefx.models.zoo import FAMILIES

    rows = list(FAMILIES.values())
    if as_json:
        app.write_json(rows)
        return
    from edgefx.report.terminal import table as new_table

    left = ("weights", "what it is")
    table = new_table("model", "input", "classes", "parameters", "weights", "what it is", left=left)
    for row in rows:
        table.add_row(
            row.name,
            f"{row.input_size}x{row.input_size}",
            str(row.classes),
            _parameters(row.parameters_m),
            ", ".join(row.weights),
            row.summary,
        )
    app.print(table)
    app.note("a path to a .keras file, an .h5 file or a SavedModel folder is a model too")


def _parameters(millions: float) -> str:
    return f"{millions:.3f} M" if millions < 1 else f"{millions:.1f} M"
