"""Whether a device answers as this machine does: a few images are run on both, and compared bit by bit."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgefx.benchmarking.devices.remote import RemoteSession
from edgefx.measured import ComparedAnswers, Match
from edgefx.scores import of_first

if TYPE_CHECKING:
    from edgefx.protocols import Session
    from edgefx.types import ModelSpec, Scores

_COMPARED = 8  # images


def few(images: int) -> list[int]:
    """Choose a few of so many images, of all the folder: those are run on a device and here."""
    return sorted({number * images // _COMPARED for number in range(_COMPARED)})


def compared(here: Scores, there: Scores, spec: ModelSpec | None = None) -> ComparedAnswers:
    """Compare the scores of the same images.

    Args:
        here: Of this machine, float32 [N, columns].
        there: Of a device, likewise.
        spec: The model, where it has several outputs: then classes are those of the output that it is
            described by.
    """
    import numpy as np

    first_here, first_there = (of_first(one, spec) if spec is not None else one for one in (here, there))
    same_top1 = int((first_here.argmax(1) == first_there.argmax(1)).sum())
    same = Match.SAME_TOP1 if same_top1 == len(here) else Match.DIFFERS
    return ComparedAnswers(
        images=len(here),
        match=Match.IDENTICAL if here.tobytes() == there.tobytes() else same,
        same_top1=same_top1,
        max_abs_difference=float(np.abs(here - there).max()),
        outputs=tuple(
            one.name
            for one, place in (spec.parts if spec is not None else ())
            if here[:, place].tobytes() != there[:, place].tobytes()
        ),
    )


def throughput(session: Session, images: int, seconds: float) -> float:
    """Return images per second; a device counts what it takes itself, without what their way there took."""
    if isinstance(session, RemoteSession):
        images, seconds = session.images, session.seconds
    return images / max(seconds, 1e-9)
