"""What a user can say of a model that its file does not tell."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edgefx.types import ModelTask


@dataclass(frozen=True, kw_only=True)
class Hints:
    """How a model is to be understood; each None is found out, or is as usual.

    Attributes:
        task: What it answers.
        head: Which of several outputs is meant.
        pixels: What its pixels were in training; see `edgefx.models.front.front`.
        custom_objects: A Python file that defines its custom classes and functions.
        threshold: The probability above which a score that stands alone counts as a yes.
    """

    task: ModelTask | None = None
    head: str | None = None
    pixels: str | None = None
    custom_objects: Path | None = None
    threshold: float | None = None


NO_HINTS = Hints()
