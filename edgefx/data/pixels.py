"""From one image file to uint8 RGB [H, W, 3]: the one decoder and the one resize of edgefx.

For plain RGB and grey files and `Resize.STRETCH`, the pixels are bit for bit those of
``Image.open(path).convert("RGB").resize((width, height), Image.BILINEAR)``.
"""

from __future__ import annotations

import hashlib
import io
import struct
import threading
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError, WebPImagePlugin  # noqa: F401 - registers WebP, which Pillow does not preload

from edgefx.data.folders import MAX_FILE_BYTES
from edgefx.storage.regular import read_bytes
from edgefx.types import Resize

_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF")  # nothing else is tried: a wider net is a wider attack
# Of one image, and of all that are decoded at the same time. It is the size from which Pillow warns of a
# "decompression bomb"; decoded and converted, an image takes up to 8 bytes a pixel.
MAX_PIXELS = 89_478_485
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)  # refused here, with the reason
_ORIENTATION = 0x0112
# EXIF 2.32, tag Orientation: what has to be done to show the image upright.
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# What Pillow's decoders raise for damaged files, besides OSError.
_DAMAGE = (SyntaxError, ValueError, EOFError, IndexError, KeyError, TypeError, struct.error, zlib.error)


class _Budget:
    """Pixels that may be decoded at the same time by all threads; who wants more waits for the others.

    One image may want all there is, and is then decoded alone.
    """

    def __init__(self, pixels: int) -> None:
        self._pixels = pixels
        self._left = pixels
        self._changed = threading.Condition()

    @contextmanager
    def take(self, pixels: int) -> Iterator[None]:
        """Hold a share while the block runs."""
        share = min(pixels, self._pixels)
        with self._changed:
            self._changed.wait_for(lambda: self._left >= share)
            self._left -= share
        try:
            yield
        finally:
            with self._changed:
                self._left += share
                self._changed.notify_all()


_DECODING = _Budget(MAX_PIXELS)


@dataclass(frozen=True, kw_only=True)
class Decoded:
    """One file: the hash of its bytes, and its pixels or the reason why there are none."""

    digest: str
    pixels: NDArray[np.uint8] | None
    reason: str = ""


def read(path: Path, height: int, width: int, resize: Resize) -> Decoded:
    """Read, hash, decode and resize one file; a file that cannot be decoded gives a reason, not an error.

    The size that the header states is judged before anything is decoded. JPEG's ``draft``, which decodes at a
    fraction of the size, is not used: its pixels differ, and so would what is calibrated with them.
    """
    try:
        data = read_bytes(path, limit_bytes=MAX_FILE_BYTES)
    except OSError as error:
        return Decoded(digest="unreadable", pixels=None, reason=error.strerror or str(error))
    digest = hashlib.sha256(data).hexdigest()
    try:
        with Image.open(io.BytesIO(data), formats=_FORMATS) as image:
            count = image.width * image.height
            if count > MAX_PIXELS:
                reason = f"too large: {image.width} x {image.height} pixels, at most {MAX_PIXELS} are decoded"
                return Decoded(digest=digest, pixels=None, reason=reason)
            with _DECODING.take(count):
                image.load()
                pixels = np.asarray(fit(to_rgb(image), height=height, width=width, resize=resize))
    except UnidentifiedImageError:
        reason = "not a JPEG, PNG, WebP, BMP or GIF image" if data else "the file is empty"
    except Image.DecompressionBombError as error:
        reason = f"too large: {error}"
    except OSError as error:
        reason = str(error)
    except _DAMAGE as error:
        reason = f"damaged: {error}"
    else:
        return Decoded(digest=digest, pixels=pixels)
    return Decoded(digest=digest, pixels=None, reason=reason)


def to_rgb(image: Image.Image) -> Image.Image:
    """Convert a loaded image of any mode to upright RGB.

    Alpha is dropped and the colours below it kept, as both Pillow's ``convert("RGB")`` and TensorFlow's
    ``decode_image(channels=3)`` do. 16-bit grey keeps its high byte, as TensorFlow's 8-bit decoding does;
    Pillow's own conversion would clip at 255. Of an animation it is the first frame.
    """
    orientation = _orientation(image)
    if image.mode.startswith("I"):
        grey = np.asarray(image) >> 8  # of its own type: a wider one would take 8 bytes a pixel
        image = Image.fromarray(np.clip(grey, 0, 255).astype(np.uint8))
    image.info.pop("transparency", None)  # else Pillow warns on stderr; the colours do not depend on it
    rgb = image.convert("RGB")
    return rgb.transpose(_UPRIGHT[orientation]) if orientation in _UPRIGHT else rgb


def fit(image: Image.Image, *, height: int, width: int, resize: Resize) -> Image.Image:
    """Resize to height x width, bilinear with antialiasing.

    `CROP` cuts the largest centred box of the right shape in the source's coordinates, as Pillow's
    ``ImageOps.fit`` does; `PAD` centres the whole image on black, as ``ImageOps.pad`` does.
    """
    bilinear = Image.Resampling.BILINEAR
    if resize is Resize.STRETCH:
        return image.resize((width, height), bilinear)
    scale_x, scale_y = width / image.width, height / image.height
    if resize is Resize.CROP:
        scale = max(scale_x, scale_y)
        box_width, box_height = min(image.width, width / scale), min(image.height, height / scale)
        left, top = (image.width - box_width) / 2, (image.height - box_height) / 2
        return image.resize((width, height), bilinear, box=(left, top, left + box_width, top + box_height))
    scale = min(scale_x, scale_y)
    inner = max(1, round(image.width * scale)), max(1, round(image.height * scale))
    canvas = Image.new("RGB", (width, height))
    canvas.paste(image.resize(inner, bilinear), ((width - inner[0]) // 2, (height - inner[1]) // 2))
    return canvas


def _orientation(image: Image.Image) -> int:
    try:
        value = image.getexif().get(_ORIENTATION, 1)
    except (OSError, *_DAMAGE):
        return 1  # damaged metadata beside intact pixels: viewers show such a file as stored
    return value if isinstance(value, int) else 1
