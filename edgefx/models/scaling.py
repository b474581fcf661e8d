"""Compound scaling: an EfficientNet of any size, by a name such as ``b0:phi=1.5`` or ``lite0:width=0.75``.

Options and a recipe's keys of the same meaning make such a name (`named`).

Depth grows with ``1.2 ** phi``, width with ``1.1 ** phi`` and resolution with ``1.15 ** phi``, so that each
step of phi about doubles the work (Tan & Le 2019, equation 3: ``1.2 * 1.1**2 * 1.15**2`` is about 2). The
published B1 to B7 are rounded by hand, and not quite on that line. Imports nothing heavy.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from edgefx.errors import UsageError

_ALPHA, _BETA, _GAMMA = 1.2, 1.1, 1.15  # of depth, width, resolution
# What coefficients are counted from: the members of families that have none of their own.
BASES = ("b0", "v2-b0", "lite0", "edgetpu-s")
_LIMITS = {"phi": (-4.0, 7.0), "width": (0.1, 4.0), "depth": (0.1, 4.0), "resolution": (0.1, 4.0)}
KEYS = tuple(_LIMITS)
_EXAMPLE = "say for example b0:phi=1.5, or b0:width=1.2,depth=1.4,resolution=1.3"


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


def named(
    model: str, coefficients: Mapping[str, float | None], *, input_size: int | str | None = None
) -> str:
    """Return the name of a model that is scaled by coefficients of its own.

    Args:
        model: What the user names.
        coefficients: Of `KEYS`; None for what is not given.
        input_size: The height and width that the user gives.

    Raises:
        UsageError: They make no sense, or the same is said twice.
    """
    given = {key: value for key, value in coefficients.items() if value is not None}
    if not given:
        return model
    text = ",".join(f"{key}={value!r}" for key, value in given.items())
    if model.partition(":")[0].lower() not in BASES:
        raise UsageError(
            f"{model} cannot be scaled ({text}): scaling counts from {', '.join(BASES)}",
            hint="other names have coefficients of their own, and a model file is as large as it is",
        )
    if ":" in model:
        raise UsageError(f"{model}: is scaled by its name, and again by {text}", hint=f"say it once: {model}")
    if "resolution" in given and input_size is not None:
        raise UsageError(
            f"{model}: resolution and input size both say how large images are", hint="give one of them"
        )
    name = f"{model}:{text}"
    read(name)
    return name


def folded(said: Any) -> Any:
    """Make the coefficients of a recipe's section a part of its model's name, all that the rest knows of.

    Raises:
        UsageError: See `named`.
    """
    if not isinstance(said, dict) or not isinstance(said.get("source"), str):
        return said
    given = {key: said.get(key) for key in KEYS}
    source = named(said["source"], given, input_size=said.get("input_size"))
    return {**{key: value for key, value in said.items() if key not in given}, "source": source}


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
            raise UsageError(
                f"{name}: '{part}' is none of phi=, width=, depth= and resolution=, once each", hint=_EXAMPLE
            )
        given[key] = _number(name, key, value)
    if "phi" in given and len(given) > 1:
        raise UsageError(f"{name}: phi is width, depth and resolution in one", hint=_EXAMPLE)
    suffix = "".join(f"-{key}{value:g}" for key, value in given.items())
    if "phi" in given:
        phi = given["phi"]
        return base, Scaling(_BETA**phi, _ALPHA**phi, _GAMMA**phi, suffix)
    width, depth, resolution = (given.get(key, 1.0) for key in ("width", "depth", "resolution"))
    return base, Scaling(width, depth, resolution, suffix)


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
