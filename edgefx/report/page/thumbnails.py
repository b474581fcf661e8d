"""Small pictures of evaluation images, embedded in a page: the very files that were evaluated, or none."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from pathlib import Path

from edgefx.measured import FlippedImage
from edgefx.types import ModelSpec, Resize

SIDE = 96  # pixels of the longer side at most
MOST_BYTES = 1_500_000  # of all pictures of a page, encoded
_QUALITY = 78


class Thumbnails:
    """The pictures of a page, made as they are asked for, until `MOST_BYTES` are used up.

    A picture is what the model saw: decoded and resized as for the evaluation. A path that leads out of the
    folder, or a file that is not the one that was evaluated, by its hash, gives none: a report that somebody
    else made cannot put other files of this machine into a page.

    Args:
        root: The folder of evaluation images; None for a page without pictures.
        model: The model: its input size.
        resize: How images became its input.
    """

    def __init__(self, root: Path | None, model: ModelSpec, resize: Resize) -> None:
        self._root = root
        self._model = model
        self._resize = resize
        self._left = MOST_BYTES
        self._made: dict[str, str] = {}

    def get(self, image: FlippedImage) -> str:
        """Return a picture as a data URL; "" where there is none."""
        if image.image not in self._made:
            made = self._encoded(image) if self._root is not None else ""
            self._left -= len(made)
            self._made[image.image] = made if self._left >= 0 else ""
        return self._made[image.image]

    def _encoded(self, image: FlippedImage) -> str:
        from PIL import Image

        from edgefx.data.pixels import read

        assert self._root is not None
        path = self._root / image.image
        if self._left <= 0 or ".." in Path(image.image).parts or not path.is_relative_to(self._root):
            return ""
        found = read(path, self._model.height, self._model.width, self._resize)
        if found.pixels is None or found.digest != image.sha256:
            return ""
        picture = Image.fromarray(found.pixels)
        picture.thumbnail((SIDE, SIDE))
        stream = io.BytesIO()
        picture.save(stream, "JPEG", quality=_QUALITY, optimize=True)
        return f"data:image/jpeg;base64,{base64.b64encode(stream.getvalue()).decode('ascii')}"


def folder_of(roots: Mapping[str, str], role: str = "evaluation") -> Path | None:
    """Return a role's folder of images, where it is on this machine."""
    path = Path(roots[role]) if role in roots else None
    return path if path is not None and path.is_dir() else None
