"""How few values each layer's weights may have so that a file becomes small enough, with the least loss.

Shoham and Gersho, "Efficient bit allocation for an arbitrary set of quantizers" (1988): of all layers, the
step to fewer values is taken that loses least for each byte that it saves, until enough is saved.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Choice:
    """One way to store the weights of a layer.

    Attributes:
        values: How many distinct ones they may have; None for all.
        size: Bytes that they take.
        loss: What is lost by it; losses of layers are added up.
    """

    values: int | None
    size: int
    loss: float


def allocate(choices: Mapping[str, Sequence[Choice]], saved: float) -> dict[str, Choice]:
    """Choose for each layer so that together they save some bytes, with the least loss.

    Args:
        choices: Of each layer, its present one first.
        saved: Bytes to save against the present ones. Where that cannot be had, most is saved.
    """
    chosen = {name: own[0] for name, own in choices.items()}
    steps = [(ratio, name, choice) for name, own in choices.items() for ratio, choice in _steps(own)]
    for _, name, choice in sorted(steps, key=lambda step: step[0]):
        if saved <= 0:
            break
        saved -= chosen[name].size - choice.size
        chosen[name] = choice
    return chosen


def _steps(choices: Sequence[Choice]) -> Iterator[tuple[float, Choice]]:
    """Yield the choices on the lower convex hull of loss over size, largest first, with their loss a byte."""
    present = choices[0]
    while smaller := [one for one in choices if one.size < present.size]:
        ratio, best = min(
            (((one.loss - present.loss) / (present.size - one.size), one) for one in smaller),
            key=lambda step: (step[0], step[1].size),
        )
        yield ratio, best
        present = best
