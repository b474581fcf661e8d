"""Which parts of changed images answers rest on, in words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from edgefx.measured import Explanation, Saliency
from edgefx.report.changed import class_name
from edgefx.report.page import heat
from edgefx.report.text import percent
from edgefx.types import ModelSpec


def whose(one: Saliency) -> str:
    """Return whose answer a map is of."""
    return one.target or "float model"


def likeness(explanation: Explanation, one: Saliency) -> float | None:
    """Return the correlation of one of an image's maps with the first; None of the first itself."""
    first = explanation.maps[0]
    return None if one is first else heat.likeness(first.drops, one.drops)


def answer(model: ModelSpec, label: int, confidence: float) -> str:
    """Return a class with its probability."""
    return f"{class_name(model, label)} {percent(confidence, 1)}"


def rows(explanations: Sequence[Explanation], model: ModelSpec) -> Iterator[tuple[str, str]]:
    """Yield a label and a line for each image; a single one where there is none."""
    if not explanations:
        yield "explained", "nothing: no image changes its class"
    for explanation in explanations:
        yield "explained", f"{explanation.image}: {'; '.join(_said(explanation, model))}"


def _said(explanation: Explanation, model: ModelSpec) -> Iterator[str]:
    for one in explanation.maps:
        like = likeness(explanation, one)
        alike = "" if like is None else f" (r {like:.2f} with the float model's map)"
        said = f"{answer(model, one.label, one.confidence)}: {heat.words(one.drops)}"
        yield f"{whose(one)}, {said}{alike}"
