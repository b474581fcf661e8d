"""What the functions take: the types of options, and how a value becomes what the core takes."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias, TypeVar

from edgefx.errors import UnknownNameError, UsageError
from edgefx.units import parse_size_of_input, parse_tasks
from edgefx.vocabulary import (
    MOST_EXPLAINED,
    Effort,
    Ending,
    IoDtype,
    ModelTask,
    OnInconclusive,
    Optimise,
    QatMode,
    Resize,
)

if TYPE_CHECKING:
    from edgefx.models.hints import Hints

StrPath: TypeAlias = str | os.PathLike[str]
Targets: TypeAlias = str | Sequence[str]
EffortName: TypeAlias = Effort | Literal["fast", "balanced", "high"]
ResizeName: TypeAlias = Resize | Literal["stretch", "crop", "pad"]
IoDtypeName: TypeAlias = IoDtype | str  # "uint8", or "input=uint8,output=float32"
EndingName: TypeAlias = Ending | Literal["scores", "logits"]
QatName: TypeAlias = QatMode | Literal["distill", "supervised"]
TaskName: TypeAlias = ModelTask | str  # "regression", or "class=classification,quality=regression"
OptimiseName: TypeAlias = Optimise | Literal["Performance", "Size"]
OnInconclusiveName: TypeAlias = OnInconclusive | Literal["fail", "fail-if-doubtful", "warn"]
E = TypeVar("E", bound=StrEnum)


def hints(
    task: TaskName | None,
    head: str | None,
    pixels: str | None,
    custom_objects: StrPath | None,
    threshold: float | None,
) -> Hints:
    """Return what was said of a model.

    Raises:
        UsageError: The task is none, or the threshold no probability between 0 and 1.
    """
    from edgefx.models.hints import Hints

    if threshold is not None and not 0 < threshold < 1:
        raise UsageError(f"threshold={threshold!r} is no probability", hint="give one between 0 and 1")
    return Hints(
        task=None if task is None else parse_tasks(str(task), option="task"),
        head=head,
        pixels=pixels,
        custom_objects=path(custom_objects),
        threshold=threshold,
    )


def input_size(value: int | str | None) -> None:
    """Check the size of an input image.

    Raises:
        UsageError: It is neither pixels nor "HxW".
    """
    if value is not None:
        parse_size_of_input(value, option="input_size")


def patterns(targets: Targets) -> tuple[str, ...]:
    """Return one name or several as several."""
    return (targets,) if isinstance(targets, str) else tuple(targets)


def path(given: StrPath | None) -> Path | None:
    """Return a path as an object."""
    return None if given is None else Path(given)


def text(given: StrPath | None) -> str | None:
    """Return a path or a name as text."""
    return None if given is None else os.fspath(given)


def choice(kind: type[E], value: str, option: str) -> E:
    """Return the member of an enumeration that a word names.

    Raises:
        UnknownNameError: No member has this name.
    """
    try:
        return kind(value)
    except ValueError:
        raise UnknownNameError(option, str(value), [str(one) for one in kind]) from None


def check(least: float, **options: float | None) -> None:
    """Check the numbers that options are given, where no recipe's schema does.

    Args:
        least: The smallest that each of them may be.
        options: The numbers by the options' names; None stands for a default.

    Raises:
        UsageError: A number is smaller, or none that can be compared.
    """
    for name, value in options.items():
        if value is not None and not least <= value < math.inf:
            raise UsageError(
                f"{name}={value}: not a number of {least:g} or more", hint=f"for example {name}=10"
            )


def explained(images: int) -> None:
    """Check of how many images to find out what answers rest on, where no recipe's schema does.

    Raises:
        UsageError: It is no number, or more than are shown.
    """
    check(0, explain=images)
    if images > MOST_EXPLAINED:
        raise UsageError(f"explain={images}: too many images", hint=f"give {MOST_EXPLAINED} at most")


def threads(asked: int | None) -> int:
    """Return the number of runtime threads: as asked, else all cores that this process may use.

    Raises:
        UsageError: Fewer than one is asked for.
    """
    from edgefx.system.host import cores

    check(1, threads=asked)
    return asked or cores()
