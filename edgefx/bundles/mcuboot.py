"""A model alone as an image that the boot loader MCUboot takes into a slot of its own, by `imgtool`.

Firmware and model are then updated apart. The image begins with MCUboot's header, so that the model is found
`HEADER_BYTES` behind the beginning of the slot, and ends with its hash and a signature. One by an Ed25519
key is the same for the same bytes; for other kinds imgtool draws random numbers.
Format: https://docs.mcuboot.com/design.html.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from pathlib import Path

from edgefx.errors import UsageError
from edgefx.harmless import line
from edgefx.system.packages import require

HEADER_BYTES = 32  # a multiple of the 16 bytes to which the model must be aligned
_ALIGN = 4  # bytes that flash is written in at once; what swaps images needs to know it
_SECTOR = 4096  # a slot is made of whole sectors
_TRAILER = 8192  # what signature, hash and the state of a swap take at most
_VERSION = re.compile(r"\d{1,3}\.\d{1,3}\.\d{1,5}(\+\d{1,9})?")


def checked(version: str, *, key: Path | None) -> Path:
    """Return the key, once what `image` is given has been checked, before anything is done.

    Raises:
        UsageError: The version is none of MCUboot's, or there is no key.
        MissingDependencyError: `imgtool` is not installed.
    """
    if not _VERSION.fullmatch(version):
        raise UsageError(
            f"--mcuboot {line(version, most=40)}: no version of an image",
            hint="write --mcuboot 1.2.3, or 1.2.3+4 with a build number",
        )
    if key is None:
        raise UsageError(
            "--mcuboot needs a key: MCUboot takes signed images", hint="give --mcuboot-key boot.pem, too"
        )
    require("imgtool", purpose="images for MCUboot")
    return key


def image(content: bytes, *, key: Path, version: str, slot_bytes: int | None = None) -> bytes:
    """Return a signed image.

    Args:
        content: The model.
        key: The private key, in PEM, of a kind that imgtool signs with.
        version: As MCUboot counts: "1.2.3" or "1.2.3+4".
        slot_bytes: The size of the slot in flash; None for one that is large enough.

    Raises:
        UsageError: It does not fit the slot, or imgtool refused it, such as for its key.
    """
    needed = HEADER_BYTES + len(content) + _TRAILER
    slot = slot_bytes if slot_bytes is not None else -(-needed // _SECTOR) * _SECTOR
    if slot < HEADER_BYTES + len(content):
        raise UsageError(
            f"the model has {len(content)} bytes, and the slot {slot}",
            hint="give a larger --slot-size, or none",
        )
    with tempfile.TemporaryDirectory(prefix="edgefx-") as name:
        model, made = Path(name) / "model.bin", Path(name) / "image.bin"
        model.write_bytes(content)
        command = [sys.executable, "-P", "-m", "imgtool.main", "sign", "--key", str(key.resolve())]
        command += ["--header-size", str(HEADER_BYTES), "--pad-header", "--align", str(_ALIGN)]
        command += ["--slot-size", str(slot), "--version", version, str(model), str(made)]
        ran = subprocess.run(  # noqa: S603 - arguments as a list
            command, capture_output=True, text=True, errors="replace", check=False, stdin=subprocess.DEVNULL
        )
        if ran.returncode or not made.is_file():
            said = [text for text in (ran.stdout + ran.stderr).splitlines() if text.strip()]
            raise UsageError(
                f"imgtool refused to make an image: {line((said or ['it said nothing'])[-1])}",
                hint="the key is that of --mcuboot-key, in PEM, without a passphrase; make one with: "
                "imgtool keygen --type ed25519 --key boot.pem",
            )
        return made.read_bytes()
