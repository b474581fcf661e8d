"""Maps of saliency in colours that everybody tells apart, on pages of any colour, and in words."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import TYPE_CHECKING

from edgefx.report.text import signed

if TYPE_CHECKING:
    from PIL.Image import Image

FOR = (230, 97, 1)  # both of ColorBrewer's PuOr, which is safe for all kinds of colour blindness
AGAINST = (94, 60, 153)
_STRONGEST = 0.85  # opacity of the largest change
_FADED = 0.55  # of the picture's contrast that is left below the colours

Drops = Sequence[Sequence[float]]


def over(picture: Image, drops: Drops, strongest: float) -> Image:
    """Colour a picture by what covering its parts does.

    Args:
        picture: What is coloured, in grey.
        drops: As in `edgefx.measured.Saliency`: parts overlap by half, and the mean is shown
            where they do.
        strongest: The change that is shown in the full colour.
    """
    from PIL import Image

    grey = picture.convert("L").point(lambda value: int(128 + _FADED * (value - 128))).convert("RGB")
    cells = _cells(drops)
    share = [[one / strongest if strongest else 0.0 for one in row] for row in cells]
    for colour, sign in ((FOR, 1), (AGAINST, -1)):
        opacity = Image.new("L", (len(cells[0]), len(cells)))
        opacity.putdata([round(255 * _STRONGEST * max(0.0, sign * one)) for row in share for one in row])
        grey.paste(colour, mask=opacity.resize(grey.size, Image.Resampling.BILINEAR))
    return grey


def _cells(drops: Drops) -> list[list[float]]:
    """Return the mean of the changes over the parts that cover each cell, which is half of one."""
    height, width = len(drops), len(drops[0])
    cells = []
    for row in range(height + 1):
        rows = drops[max(0, row - 1) : row + 1]
        cells.append(
            [
                statistics.fmean(one for line in rows for one in line[max(0, column - 1) : column + 1])
                for column in range(width + 1)
            ]
        )
    return cells


def words(drops: Drops) -> str:
    """Say where covering does most, for those who do not see the colours."""
    height, width = len(drops), len(drops[0])
    change, row, column = max(
        ((one, row, column) for row, line in enumerate(drops) for column, one in enumerate(line)),
        key=lambda found: abs(found[0]),
    )
    if not change:
        return "no part alone changes it"
    where = (
        _where(row, height, ("top", "middle", "bottom")),
        _where(column, width, ("left", "centre", "right")),
    )
    return f"most at the {' '.join(where)}, where covering changes it by {signed(-100 * change, 1)} pp"


def likeness(first: Drops, second: Drops) -> float | None:
    """Return the correlation of two maps; None where one of them is the same everywhere."""
    flat = [[one for row in drops for one in row] for drops in (first, second)]
    if len(flat[0]) != len(flat[1]) or any(min(one) == max(one) for one in flat):
        return None
    return statistics.correlation(*flat)


def _where(place: int, count: int, names: tuple[str, str, str]) -> str:
    return names[min(2, 3 * place // count)]
