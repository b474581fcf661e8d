"""What a user can say of a model that its file does not tell."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from edgefx.types import ModelTask


@dataclass(frozen=True, kw_only=True)
class Hints:
    """How a model is to be understood; each None is found out, or is as usual.

    Attributes:
        task: What it answers; of several outputs, by their names.
        head: The one of several outputs that is meant; None for all of them.
        pixels: What its pixels were in training; see `edgefx.models.front.front`.
        custom_objects: A Python file that defines its custom classes and functions.
        threshold: The probability above which a score that stands alone counts as a yes.
    """

    task: ModelTask | Mapping[str, ModelTask] | None = None
    head: str | None = None
    pixels: str | None = None
    custom_objects: Path | None = None
    threshold: float | None = None

    @property
    def only_task(self) -> ModelTask | None:
        """What the only output answers; None where that is not said, or is said of several outputs."""
        return self.task if isinstance(self.task, ModelTask) else None

    @property
    def section(self) -> dict[str, Any]:
        """The same as keys of a recipe's section ``model``."""
        own = {field.name: getattr(self, field.name) for field in fields(self)}
        if isinstance(self.task, Mapping):
            own["task"] = ",".join(f"{name}={task}" for name, task in self.task.items())
        return own


NO_HINTS = Hints()
