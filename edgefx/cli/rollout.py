"""`edgefx rollout`: how a bundle is to reach a fleet of devices."""

from __future__ import annotations

from pathlib import Path

import click

from edgefx.cli.context import App, pass_app
from edgefx.cli.group import LazyGroup
from edgefx.cli.options import json_option, trust_options
from edgefx.errors import ExitCode

_COMMANDS = {"check": ("edgefx.cli.rollout:check", "Say whether a rollout is ready to begin.")}


@click.group(
    cls=LazyGroup,
    commands_table=_COMMANDS,
    epilog="""\b
Examples:
  edgefx rollout check rollout.yaml
  edgefx rollout check rollout.yaml --json
""",
)
def command() -> None:
    """Check how a bundle is to reach a fleet of devices, stage by stage, and how they go back.

    edgefx updates no device: that is for SWUpdate, Mender or a script, which carry out what was checked.
    """


@click.command(
    epilog="""\b
Examples:
  edgefx rollout check rollout.yaml
  edgefx rollout check rollout.yaml --key public.pem --require-signature --json
"""
)
@click.argument("file", type=click.Path(path_type=Path))
@trust_options
@json_option
@pass_app
def check(
    app: App, *, file: Path, key: Path | None, root: Path | None, require_signature: bool, as_json: bool
) -> ExitCode:
    """Say whether the rollout that FILE describes is ready to begin.

    Both bundles are checked as edgefx verify does. The new artifact must take the same images and give the
    same classes in the same form as the one that devices can go back to, its own gates must not have failed,
    and the shares of the stages must rise to 100%. Exit code 1 says that it must not begin.
    """
    from edgefx import api
    from edgefx.report import rollout as report

    found = api.check_rollout(file, key=key, root=root, require_signature=require_signature)
    if as_json:
        app.write_json(found)
    else:
        report.render_rollout(found, app.stdout)
    return found.exit_code
