"""`edgefx verify`: check a bundle."""

from __future__ import annotations

from pathlib import Path

import click

from edgefx.cli.context import App, pass_app
from edgefx.cli.options import json_option


@click.command(
    epilog="""\b
Examples:
  edgefx verify digits.edgefx.zip
  edgefx verify digits.edgefx.zip --key public.pem --require-signature
"""
)
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option(
    "--key",
    type=click.Path(path_type=Path),
    metavar="PUBKEY",
    help="Check that the bundle was signed with the private key that belongs to this public key of Ed25519,"
    " in PEM; it needs the package cryptography.",
)
@click.option(
    "--require-signature",
    is_flag=True,
    help="Refuse a bundle without a signature, and a call without --key.",
)
@json_option
@pass_app
def command(app: App, *, bundle: Path, key: Path | None, require_signature: bool, as_json: bool) -> None:
    """Check every byte of BUNDLE, made by edgefx bundle, and with --key who signed it.

    Exit code 1 says that it is damaged, was changed, or is not signed as asked for. Nothing is unpacked.
    Without a signature that is checked, a bundle proves that it is whole, and not who made it.
    """
    from edgefx import api
    from edgefx.report import bundle as report

    checked = api.verify(bundle, key=key, require_signature=require_signature)
    if as_json:
        app.write_json(checked)
    else:
        report.render_verified(checked, app.stdout)
