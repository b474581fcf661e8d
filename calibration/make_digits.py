"""Write the embedded `digits` image folders, and the split that the digits model is trained on.

The images are scikit-learn's copy of the UCI handwritten digits (1797 real 8 x 8 grey images, values
0..16). `split` holds 20 % of them back; `main` writes, as native 8 x 8 grey PNG files,

* ``calibration/digits/calib/<0-9>/``: 100 images (10 a class) taken from the training part,
* ``calibration/digits/val/<0-9>/``: all 360 held-out images.

Run it from the checkout: ``python calibration/make_digits.py``. The bytes are the same on each run.
"""

from __future__ import annotations

import shutil
import struct
import sys
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Images = NDArray[np.uint8]
Labels = NDArray[np.int64]

CALIBRATION_PER_CLASS = 10


def split(*, seed: int = 0) -> tuple[Images, Labels, Images, Labels]:
    """Return the digits, divided into a training and a held-out part, stratified 80/20.

    Args:
        seed: Seed of the shuffle; the committed folders and weights were made with 0.

    Returns:
        Training images uint8 [1437, 8, 8] in 0..255, training labels int64 [1437], held-out images
        uint8 [360, 8, 8], held-out labels int64 [360].
    """
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    digits = load_digits()
    images = np.rint(digits.images * (255.0 / 16.0)).astype(np.uint8)
    labels = digits.target.astype(np.int64)
    train, val = train_test_split(np.arange(len(labels)), test_size=0.2, random_state=seed, stratify=labels)
    return images[train], labels[train], images[val], labels[val]


def calibration_subset(images: Images, labels: Labels) -> tuple[Images, Labels]:
    """Return the first `CALIBRATION_PER_CLASS` images of each class, in class order."""
    chosen = np.concatenate([np.flatnonzero(labels == digit)[:CALIBRATION_PER_CLASS] for digit in range(10)])
    return images[chosen], labels[chosen]


def png(image: Images) -> bytes:
    """Encode an 8-bit grey image as PNG.

    Written out here (signature, IHDR, IDAT, IEND; PNG specification, section 5) because an image
    library's bytes change with its version, and deflate level 0 (stored) does not depend on zlib's either.
    """
    height, width = image.shape

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)  # 8 bits, grey, no interlace
    rows = b"".join(b"\0" + row.tobytes() for row in image)  # filter type 0: none
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows, 0)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def write(folder: Path, images: Images, labels: Labels) -> int:
    """Replace `folder` with a sub-folder per digit; returns the number of files."""
    if folder.exists():
        shutil.rmtree(folder)
    for digit in range(10):
        (folder / str(digit)).mkdir(parents=True)
        for number, index in enumerate(np.flatnonzero(labels == digit)):
            (folder / str(digit) / f"{number:03}.png").write_bytes(png(images[index]))
    return len(labels)


def main() -> None:
    """Write `digits/calib` and `digits/val` beside this script."""
    here = Path(__file__).resolve().parent / "digits"
    train_images, train_labels, val_images, val_labels = split()
    calib = write(here / "calib", *calibration_subset(train_images, train_labels))
    val = write(here / "val", val_images, val_labels)
    sys.stdout.write(f"{here}: {calib} calibration and {val} held-out images\n")


if __name__ == "__main__":
    main()
