"""`edgefx verify`: check a bundle."""

from __future__ import annotations

from pathlib import Path

import click

from edgefx.cli.context import App, pass_app
from edgefx.cli.options import json_option, trust_options


@click.command(
    epilog="""\b
Examples:
  edgefx verify digits.edgefx.zip
  edgefx verify digits.edgefx.zip --key public.pem --require-signature
  edgefx verify digits.edgefx.zip --root authority.pem
  edgefx verify digits.edgefx.zip --key public.pem --signature model.sig
"""
)
@click.argument("bundle", type=click.Path(path_type=Path))
@trust_options
@click.option(
    "--signature",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Take the signature from this file, which model_signing made of the unpacked bundle.  [default: the"
    " one in BUNDLE]",
)
@json_option
@pass_app
def command(
    app: App,
    *,
    bundle: Path,
    key: Path | None,
    root: Path | None,
    signature: Path | None,
    require_signature: bool,
    as_json: bool,
) -> None:
    """Check every byte of BUNDLE, made by edgefx bundle, and with --key or --root who signed it.

    Exit code 1 says that it is damaged, was changed, or is not signed as asked for. Nothing is unpacked.
    Without a signature that is checked, a bundle proves that it is whole, and not who made it.
    """
    from edgefx import api
    from edgefx.report import bundle as report

    checked = api.verify(bundle, key=key, root=root, signature=signature, require_signature=require_signature)
    if as_json:
        app.write_json(checked)
    else:
        report.render_verified(checked, app.stdout)
