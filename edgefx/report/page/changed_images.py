"""Cards: images that change their class, small, with what was answered and what these answers rest on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from edgefx.measured import Explanation, FlippedImage
from edgefx.report.changed import class_name
from edgefx.report.explained import answer, likeness, whose
from edgefx.report.page import heat
from edgefx.report.page.thumbnails import Thumbnails
from edgefx.results import RunReport
from edgefx.types import ModelSpec

MOST_CARDS = 48  # images that are shown
_PIXELATED = 64  # pixels: smaller images are shown with sharp pixels


@dataclass(frozen=True, kw_only=True)
class Card:
    """One image that some targets answer otherwise than the float model.

    Attributes:
        image: Its file.
        picture: A data URL, or "".
        label: What is right, or "".
        before: The float model's class, with its probability.
        after: Target, class with probability, and "good" or "bad" where that is right or was lost.
        maps: What answers rest on: whose they are, the same in words, and a data URL or "".
    """

    image: str
    picture: str
    label: str
    before: str
    after: tuple[tuple[str, str, str], ...]
    maps: tuple[tuple[str, str, str], ...] = ()


def context(
    cards: Iterable[Card], model: ModelSpec, explanations: Sequence[Explanation]
) -> dict[str, object]:
    """Return what a template needs to show cards."""
    return {
        "cards": list(cards),
        "explained": len(explanations),
        "small": max(model.height, model.width) < _PIXELATED,
    }


def of_run(report: RunReport, pictures: Thumbnails) -> Iterator[Card]:
    """Yield the flipped images, those first of which the float model was surest, each with all targets."""
    by_image: dict[str, list[tuple[str, FlippedImage]]] = {}
    for result in report:
        for one in result.changes.surest if result.changes else ():
            by_image.setdefault(one.image, []).append((result.target, one))
    explained = {one.image: one for one in report.explanations}
    order = sorted(by_image.values(), key=lambda found: -found[0][1].before_confidence)
    for found in order[:MOST_CARDS]:
        first = found[0][1]
        yield Card(
            image=first.image,
            picture=pictures.get(first),
            label=class_name(report.model, first.label),
            before=answer(report.model, first.before, first.before_confidence),
            after=tuple(
                (target, answer(report.model, one.after, one.after_confidence), _became(one))
                for target, one in found
            ),
            maps=tuple(_maps(explained[first.image], pictures)) if first.image in explained else (),
        )


def of_explanations(
    explanations: Sequence[Explanation], model: ModelSpec, pictures: Thumbnails
) -> Iterator[Card]:
    """Yield images of which nothing is known but what their answers rest on."""
    for one in explanations:
        answered = {each.target: answer(model, each.label, each.confidence) for each in one.maps}
        yield Card(
            image=one.image,
            picture=pictures.get(one),
            label="",
            before=answered.pop("", "\u2013"),
            after=tuple((target, said, "") for target, said in answered.items()),
            maps=tuple(_maps(one, pictures)),
        )


def _maps(explanation: Explanation, pictures: Thumbnails) -> Iterator[tuple[str, str, str]]:
    """Yield what each answer rests on: whose it is, the same in words, and its picture."""
    for one, picture in zip(explanation.maps, pictures.maps(explanation), strict=True):
        like = likeness(explanation, one)
        yield (
            whose(one) if like is None else f"{whose(one)}, r\u00a0{like:.2f}",
            f"{whose(one)}: {heat.words(one.drops)}",
            picture,
        )


def _became(one: FlippedImage) -> str:
    if one.label is None:
        return ""
    return "good" if one.after == one.label else "bad" if one.before == one.label else ""
