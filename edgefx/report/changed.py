"""Which classes and images answer otherwise than the float model, in words: the significant, or the worst."""

from __future__ import annotations

from collections.abc import Iterator

from edgefx.measured import Changes, ClassChange, FlippedImage
from edgefx.report.text import counted, interval, percent, signed
from edgefx.results import RunReport
from edgefx.types import ModelSpec

_SHOWN = 3


def lines(report: RunReport) -> Iterator[tuple[str, str]]:
    """Yield a label and a line for each target of which something changed."""
    for result in report:
        changes = result.changes
        if changes is not None and changes.flipped:
            yield "changed", f"{result.target}: {_flipped(report.model, changes)}"
            if changes.classes:
                yield "by class", f"{result.target}: {_classes(report.model, changes)}"


def class_name(model: ModelSpec, label: int | None) -> str:
    """Return a class's name, or its index where the model has no names."""
    if label is None:
        return ""
    return model.class_names[label] if label < len(model.class_names) else str(label)


def shift(model: ModelSpec, before: int, after: int) -> str:
    """Say from which class to which."""
    return f"{class_name(model, before)} -> {class_name(model, after)}"


def p_value(value: float) -> str:
    """Write a p-value."""
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def _flipped(model: ModelSpec, changes: Changes) -> str:
    shifts = ", ".join(
        f"{shift(model, one.before, one.after)} ({one.images})" for one in changes.shifts[:_SHOWN]
    )
    surest = "; ".join(_image(model, one) for one in changes.surest[:_SHOWN])
    return (
        f"the class of {changes.flipped} of {counted(changes.images, 'image')}: {shifts}; where the float"
        f" model was surest: {surest}"
    )


def _image(model: ModelSpec, one: FlippedImage) -> str:
    before = f"{class_name(model, one.before)} {percent(one.before_confidence, 0)}"
    after = f"{class_name(model, one.after)} {percent(one.after_confidence, 0)}"
    return f"{one.image} ({before} -> {after})"


def _classes(model: ModelSpec, changes: Changes) -> str:
    chosen = [one for one in changes.by_class if one.significant]
    if chosen:
        head = f"{changes.significant} of {changes.classes} changed beyond chance (Holm, 5 %)"
    else:
        head = f"none of {changes.classes} changed beyond chance (Holm, 5 %)"
        chosen = [one for one in changes.by_class if one.drop_pp > 0]
    worst = ", ".join(_class(model, one) for one in chosen[:_SHOWN])
    return f"{head}; {'' if changes.significant else 'largest '}drops in pp: {worst}" if worst else head


def _class(model: ModelSpec, one: ClassChange) -> str:
    return (
        f"{class_name(model, one.label)} {signed(one.drop_pp, 1)} ({interval(one.drop_ci95_pp, 1)}) of"
        f" {counted(one.images, 'image')}"
    )
