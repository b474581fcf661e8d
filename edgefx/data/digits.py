"""The embedded handwritten digits: where the image folders are that ship with the package."""

from __future__ import annotations

from pathlib import Path

from edgefx.system.resources import folder


def calibration_folder() -> Path:
    """Return the folder of 100 training images (10 a class), 8 x 8 grey PNG, for calibration."""
    return folder("calibration") / "digits" / "calib"


def evaluation_folder() -> Path:
    """Return the folder of the 360 held-out images, 8 x 8 grey PNG; disjoint from the calibration images."""
    return folder("calibration") / "digits" / "val"
