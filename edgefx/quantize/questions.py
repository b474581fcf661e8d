"""Questions to a float graph: what its activations are on the calibration images.

A pass over the images costs about as much as all that is made of what it gives, so questions to one and the
same graph are asked together; and what is made of one image is made on its core, while the others compute.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, Protocol, TypeAlias, TypeVar

from numpy.typing import NDArray

from edgefx.protocols import Task
from edgefx.system.parallel import ordered

Values: TypeAlias = Mapping[str, NDArray[Any]]  # by tensor, each with its leading 1
Told = TypeVar("Told")
Kept = TypeVar("Kept")
Image = TypeVar("Image")


class Question(Protocol[Told, Kept]):
    """One question. `told` and `add` are called in the order of the images, `keep` in any, in threads."""

    @property
    def names(self) -> Collection[str]:
        """The tensors to look at."""

    def told(self) -> Iterable[Told]:
        """Return what `keep` is told of each image."""

    def keep(self, told: Told, values: Values) -> Kept:
        """Return what is kept of an image's tensors: no views, since their memory is used again."""

    def add(self, kept: Kept) -> None:
        """Add what was kept of the next image."""


def names_of(questions: Iterable[Question[Any, Any]]) -> list[str]:
    """Return the tensors that any of the questions looks at."""
    return list(dict.fromkeys(name for question in questions for name in question.names))


def ask(
    questions: Sequence[Question[Any, Any]],
    images: Iterable[Image],
    run: Callable[[Image, Callable[[Values], list[Any]]], list[Any]],
    *,
    task: Task,
    workers: int | None = None,
) -> None:
    """Answer questions in one pass.

    Args:
        questions: To one graph.
        images: That it is run on.
        run: Runs it on an image, calls its second argument with the tensors of `names_of`, and returns what
            that returns.
        task: Counts images.
        workers: Images at a time; one per core by default.
    """

    def one(item: tuple[Image, tuple[Any, ...]]) -> list[Any]:
        image, told = item

        def keep(values: Values) -> list[Any]:
            return [
                question.keep(of_image, {name: values[name] for name in question.names})
                for question, of_image in zip(questions, told, strict=True)
            ]

        return run(image, keep)

    told = zip(*(question.told() for question in questions), strict=False)
    for kept in ordered(one, zip(images, told, strict=False), workers=workers):
        for question, of_image in zip(questions, kept, strict=True):
            question.add(of_image)
        task.advance()
