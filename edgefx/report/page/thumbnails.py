"""Small pictures of evaluation images, embedded in a page: the very files that were evaluated, or none."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from edgefx.measured import Explanation, FlippedImage
from edgefx.report.page import heat
from edgefx.types import ModelSpec, Resize

if TYPE_CHECKING:
    from PIL.Image import Image

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

    def get(self, image: FlippedImage | Explanation) -> str:
        """Return a picture as a data URL; "" where there is none."""
        if image.image not in self._made:
            picture = self._picture(image)
            self._made[image.image] = "" if picture is None else self._encoded(picture)
        return self._made[image.image]

    def maps(self, explanation: Explanation) -> list[str]:
        """Return a picture of each map, as data URLs: the image in grey, coloured; "" beyond `MOST_BYTES`.

        All are as strong as the largest change in any of them, so that they compare. Without the image the
        colours stand on plain grey.
        """
        from PIL import Image

        picture = self._picture(explanation)
        if picture is None:
            width, height = self._model.width, self._model.height
            shrunk = SIDE / max(width, height)
            picture = Image.new("L", (max(1, round(width * shrunk)), max(1, round(height * shrunk))), 128)
        strongest = max(abs(one) for found in explanation.maps for row in found.drops for one in row)
        return [self._encoded(heat.over(picture, found.drops, strongest)) for found in explanation.maps]

    def _picture(self, image: FlippedImage | Explanation) -> Image | None:
        from PIL import Image

        from edgefx.data.pixels import read

        if self._root is None or self._left <= 0 or ".." in Path(image.image).parts:
            return None
        path = self._root / image.image
        if not path.is_relative_to(self._root):
            return None
        found = read(path, self._model.height, self._model.width, self._resize)
        if found.pixels is None or found.digest != image.sha256:
            return None
        picture = Image.fromarray(found.pixels)
        picture.thumbnail((SIDE, SIDE))
        return picture

    def _encoded(self, picture: Image) -> str:
        stream = io.BytesIO()
        picture.save(stream, "JPEG", quality=_QUALITY, optimize=True)
        made = f"data:image/jpeg;base64,{base64.b64encode(stream.getvalue()).decode('ascii')}"
        self._left -= len(made)
        return made if self._left >= 0 else ""


def folder_of(roots: Mapping[str, str], role: str = "evaluation") -> Path | None:
    """Return a role's folder of images, where it is on this machine."""
    path = Path(roots[role]) if role in roots else None
    return path if path is not None and path.is_dir() else None
