"""Compound scaling: an EfficientNet of any size, by a name such as ``b0:phi=1.5`` or ``lite0:width=0.75``.

Depth grows with ``1.2 ** phi``, width with ``1.1 ** phi`` and resolution with ``1.15 ** phi``, so that each
step of phi about doubles the work (Tan & Le 2019, equation 3: ``1.2 * 1.1**2 * 1.15**2`` is about 2). The
published B1 to B7 are rounded by hand, and not quite on that line. Imports nothing heavy.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from edgefx.errors import UsageError

_ALPHA, _BETA, _GAMMA = 1.2, 1.1, 1.15  # of depth, width, resolution
# What coefficients are counted from: the members of families that have none of their own.
BASES = ("b0", "v2-b0", "lite0", "edgetpu-s")
_LIMITS = {"phi": (-4.0, 7.0), "width": (0.1, 4.0), "depth": (0.1, 4.0)}
_EXAMPLE = "say for example b0:phi=1.5, or b0:width=1.2,depth=1.4, with --input-size for the resolution"


@dataclass(frozen=True)
class Scaling:
    """Coefficients, those of the base being 1.

    Attributes:
        width: Of channels, which are rounded to multiples of 8, at most 10 % below.
        depth: Of blocks per stage, rounded up.
        resolution: Of height and width in pixels, which are rounded to an even number.
        suffix: What the variant's name has behind that of its base.
    """

    width: float
    depth: float
    resolution: float
    suffix: str

    def size(self, pixels: int) -> int:
        """Scale a resolution."""
        return max(2 * round(pixels * self.resolution / 2), 32)


def read(name: str) -> tuple[str, Scaling]:
    """Read a variant's name: its base, and the coefficients behind the colon.

    Raises:
        UsageError: The coefficients make no sense, or the base cannot be scaled.
    """
    base, _, text = name.lower().partition(":")
    if base not in BASES:
        raise UsageError(
            f"{name}: '{base}' has coefficients of its own; scaling counts from {', '.join(BASES)}",
            hint=_EXAMPLE,
        )
    given: dict[str, float] = {}
    for part in text.split(","):
        key, _, value = part.strip().partition("=")
        if key not in _LIMITS or key in given:
            raise UsageError(f"{name}: '{part}' is none of phi=, width= and depth=, once each", hint=_EXAMPLE)
        given[key] = _number(name, key, value)
    if "phi" in given and len(given) > 1:
        raise UsageError(f"{name}: phi is width, depth and resolution in one", hint=_EXAMPLE)
    suffix = "".join(f"-{key}{value:g}" for key, value in given.items())
    if "phi" in given:
        phi = given["phi"]
        return base, Scaling(_BETA**phi, _ALPHA**phi, _GAMMA**phi, suffix)
    return base, Scaling(given.get("width", 1.0), given.get("depth", 1.0), 1.0, suffix)


def _number(name: str, key: str, value: str) -> float:
    low, high = _LIMITS[key]
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not low <= number <= high:
        raise UsageError(
            f"{name}: {key} is a number from {low:g} to {high:g}, not '{value:.40}'", hint=_EXAMPLE
        )
    return number
