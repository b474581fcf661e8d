"""`edgefx bundle`: what a run made, in one archive."""

from __future__ import annotations

from pathlib import Path

import click

from edgefx.cli.context import App, pass_app
from edgefx.cli.options import json_option
from edgefx.errors import UsageError
from edgefx.units import parse_size


@click.command(
    epilog="""\b
Examples:
  edgefx bundle build/
  edgefx bundle build/ -t tflite-int8 -o release/flowers.zip
  edgefx bundle build/ --sign key.pem
  edgefx bundle build/ --sign key.pem --certificate chain.pem
  edgefx bundle build/ -t tflm-int8 --mcuboot 1.2.3 --mcuboot-key boot.pem
  edgefx bundle build/ --oci release/
  edgefx bundle build/ -t onnx-int8 --serving triton=models/
"""
)
@click.argument("run", type=click.Path(path_type=Path))
@click.option(
    "-t",
    "--target",
    "targets",
    multiple=True,
    metavar="NAME",
    help="Bundle only this target; a name, a comma list or a glob; may be repeated.  [default: all]",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="The archive to write.  [default: MODEL.edgefx.zip in RUN]",
)
@click.option(
    "--sign",
    type=click.Path(path_type=Path),
    metavar="KEY",
    help="Sign with this private key in PEM, ECDSA on P-256, P-384 or P-521, in the format of OpenSSF Model"
    " Signing; it needs the package cryptography.",
)
@click.option(
    "--certificate",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Put the certificate of that key into the signature: PEM, the key's own first, then those of its"
    " issuers.",
)
@click.option(
    "--oci",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Write the same files as an OCI image layout, too, for registries: CNCF ModelPack.",
)
@click.option(
    "--serving",
    multiple=True,
    metavar="LAYOUT=DIR",
    help="Add the artifacts to a model repository, too, each as the next version of its model: for triton, "
    "tf-serving or openvino (OpenVINO Model Server); may be repeated.",
)
@click.option(
    "--mcuboot",
    metavar="VERSION",
    help="Put an image of the tflm-int8 or tflite-int8 model alone into the archive, too, for the boot "
    "loader MCUboot, signed with the key of --mcuboot-key; it needs the package imgtool.",
)
@click.option(
    "--mcuboot-key",
    type=click.Path(path_type=Path),
    metavar="KEY",
    help="The private key of that image, in PEM, of a kind that the boot loader checks.",
)
@click.option(
    "--slot-size",
    metavar="SIZE",
    help="The size of that image's slot in flash, such as 512KiB.  [default: large enough]",
)
@json_option
@pass_app
def command(
    app: App,
    *,
    run: Path,
    targets: tuple[str, ...],
    output: Path | None,
    sign: Path | None,
    certificate: Path | None,
    oci: Path | None,
    serving: tuple[str, ...],
    mcuboot: str | None,
    mcuboot_key: Path | None,
    slot_size: str | None,
    as_json: bool,
) -> None:
    """Put the artifacts of RUN, an output folder, and all that is known of them into one zip archive.

    In it are the artifacts, the class names, a manifest with how they are fed and what was measured, the
    report, a model card, checksums, and for tflite-int8 C sources to compile into firmware. The same run
    gives the same bytes. Check a bundle with: edgefx verify.
    """
    from edgefx import api
    from edgefx.report import bundle as report

    if mcuboot is None and not (slot_size is None and mcuboot_key is None):
        raise UsageError(
            f"{'--slot-size' if slot_size is not None else '--mcuboot-key'} is that of an image for MCUboot",
            hint="give --mcuboot VERSION, too",
        )
    made = api.bundle(
        run,
        output=output,
        targets=targets or None,
        sign=sign,
        certificate=certificate,
        oci=oci,
        serving=serving,
        mcuboot=mcuboot,
        mcuboot_key=mcuboot_key,
        slot_bytes=None if slot_size is None else parse_size(slot_size, option="--slot-size"),
    )
    if as_json:
        app.write_json(made)
    else:
        report.render_bundle(made, app.stdout)
