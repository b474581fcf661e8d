"""Parse limits that carry a unit: ``1pp``, ``0.5%``, ``6MB``, ``20ms``. Standard library only."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING

from edgefx.errors import UsageError
from edgefx.quantization import CHANNEL_MULTIPLE, MOST_VALUES, WeightCompression
from edgefx.vocabulary import IoDtype, ModelTask

if TYPE_CHECKING:
    from edgefx.results import MaxDrop

_DROP_UNITS = ("pp", "%")  # the values of `results.DropUnit`, which the check of a recipe need not import
_QUANTITY = re.compile(r"\s*(?P<number>\d+(?:\.\d*)?|\.\d+)\s*(?P<unit>[A-Za-z%]*)\s*", re.ASCII)
_SIDES = re.compile(r"(?P<height>\d{1,9})(?:x(?P<width>\d{1,9}))?", re.ASCII)
SMALLEST_SIDE, LARGEST_SIDE = 8, 4096  # pixels of an input image
_MOST_BYTES = 2**63 - 1  # what a file system can count
_SHOWN_SIGNS = 40
_ENDS = ("input", "output")
_MOST_MS = 1e9  # eleven days
_FEWEST = 2  # values of weights
_TWO_OF_FOUR = "2:4"
_CHANNELS, _MULTIPLES = "channels:", ("4", "8", "16", "32")
_WHOLE = 100.0  # points, or percent: all there is to lose
_BYTES = {
    "b": 1,
    "kb": 10**3,
    "mb": 10**6,
    "gb": 10**9,
    "kib": 2**10,
    "mib": 2**20,
    "gib": 2**30,
}


def parse_size_of_input(text: str | int, *, option: str = "--input-size") -> tuple[int, int]:
    """Parse the size of an input image in pixels: 224 of a square one, "224x320" of others.

    Returns:
        Height and width.

    Raises:
        UsageError: Something else, or a side that no image has.
    """
    match = _SIDES.fullmatch(str(text))
    if match is None:
        raise UsageError(
            f"{option} {str(text)[:_SHOWN_SIGNS]}: neither a number of pixels nor height x width",
            hint=f"write {option} 224, or {option} 224x320 for 224 pixels high and 320 wide",
        )
    height = int(match["height"])
    width = int(match["width"] or height)
    if not all(SMALLEST_SIDE <= side <= LARGEST_SIDE for side in (height, width)):
        raise UsageError(
            f"{option} {str(text)[:_SHOWN_SIGNS]}: sides are from {SMALLEST_SIDE} to {LARGEST_SIDE} pixels",
            hint=f"write {option} 224, or {option} 224x320",
        )
    return height, width


def parse_drop(text: str, *, option: str = "--max-drop") -> MaxDrop:
    """Parse an accuracy drop: "1pp", "0.5 pp" (percentage points) or "0.5%" (of the baseline's top-1).

    The unit is required because "1" could mean either.

    Raises:
        UsageError: No number, or another unit.
    """
    from edgefx.results import DropUnit, MaxDrop

    number, unit = split_drop(text, option=option)
    return MaxDrop(value=number, unit=DropUnit(unit))


def parse_points(text: str, *, option: str = "a drop") -> float:
    """Parse percentage points: "1pp" or "0.5 pp".

    Raises:
        UsageError: No number, another unit, or more than all.
    """
    number, unit = _quantity(text, option=option, example="1pp")
    if unit != "pp":
        raise _unit_error(text, unit, option=option, hint=f"write {option} {_plain(number)}pp")
    if number > _WHOLE:
        raise _too_large(text, option=option, example="1pp", most=f"{_WHOLE:g}pp, all there is to lose")
    return number


def split_drop(text: str, *, option: str) -> tuple[float, str]:
    """Parse an accuracy drop into its number and its unit; see `parse_drop`.

    Raises:
        UsageError: No number, another unit, or more than all.
    """
    number, unit = _quantity(text, option=option, example="1pp")
    if unit in _DROP_UNITS:
        if number > _WHOLE:
            raise _too_large(
                text, option=option, example="1pp", most=f"{_WHOLE:g}{unit}, all there is to lose"
            )
        return number, unit
    plain = _plain(number)
    raise _unit_error(
        text,
        unit,
        option=option,
        hint=f"write {option} {plain}pp (percentage points) or {plain}% (of the baseline's top-1)",
    )


def parse_size(text: str, *, option: str = "--max-size") -> int:
    """Parse a file size in bytes, such as "6MB" (10^6), "600kB" (10^3) or "1.5MiB" (2^20).

    Raises:
        UsageError: No number, no unit, an unknown unit, less than one byte, or more than can be counted.
    """
    number, unit = _quantity(text, option=option, example="6MB")
    factor = _BYTES.get(unit)
    if factor is None:
        plain = _plain(number)
        hint = f"write {option} {plain}MB (1 MB = 10^6 bytes; also B, kB, GB, KiB, MiB, GiB)"
        raise _unit_error(text, unit, option=option, hint=hint)
    if not number * factor <= _MOST_BYTES:
        raise _too_large(text, option=option, example="6MB", most=f"{_MOST_BYTES / 1e9:.0f}GB")
    size = int(number * factor)
    if size < 1:
        raise UsageError(f"{option} {text}: less than one byte", hint=f"for example {option} 6MB")
    return size


def parse_ms(text: str, *, option: str = "--max-p95-ms") -> float:
    """Parse a latency in milliseconds: "20" or "20ms".

    Raises:
        UsageError: No number, another unit, zero, or more than anyone waits for.
    """
    number, unit = _quantity(text, option=option, example="20")
    if unit not in ("", "ms"):
        raise _unit_error(text, unit, option=option, hint=f"give milliseconds, for example {option} 20")
    if number <= 0:
        raise UsageError(f"{option} {text}: must be more than 0 ms", hint=f"for example {option} 20")
    if number > _MOST_MS:
        raise _too_large(text, option=option, example="20", most=f"{_MOST_MS:.0f} ms")
    return number


def parse_share(text: str, *, option: str = "a share") -> float:
    """Parse a share: "98%" or 0.98.

    Raises:
        UsageError: No number, another unit, or more than all.
    """
    number, unit = _quantity(text, option=option, example="98%")
    if unit not in ("", "%"):
        raise _unit_error(text, unit, option=option, hint=f"write {option} 98% or {option} 0.98")
    share = number / _WHOLE if unit else number
    if share > 1:
        raise UsageError(f"{option} {text}: more than all", hint=f"write {option} {_plain(number)}%")
    return share


def parse_prune(text: str, *, option: str = "--prune") -> WeightCompression:
    """Parse what is taken off the weights.

    Args:
        text: A share of less than all, which is made zero; "2:4", two of any four; or "channels:25%", which
            removes channels that hold a share, with "/8" behind it in multiples of 8 instead of 16.
        option: What says so, for messages.

    Raises:
        UsageError: Neither, or nothing, or all.
    """
    said = text.replace(" ", "")
    if said == _TWO_OF_FOUR:
        return WeightCompression(two_of_four=True)
    is_of_channels, rest = said.startswith(_CHANNELS), said.removeprefix(_CHANNELS)
    number, is_multiple, multiple = rest.partition("/") if is_of_channels else (rest, "", "")
    what = "removed" if is_of_channels else "made zero"
    hint = f"for example {option} 30%, {option} {_TWO_OF_FOUR} or {option} {_CHANNELS}25%"
    try:
        share = parse_share(number, option=option)
    except UsageError as error:
        raise UsageError(f"{option} {text}: {error.message.partition(': ')[2]}", hint=hint) from error
    if not 0 < share < 1:
        raise UsageError(f"{option} {text}: neither nothing nor all of the weights can be {what}", hint=hint)
    if not is_of_channels:
        return WeightCompression(zeros=share)
    if is_multiple and multiple not in _MULTIPLES:
        raise UsageError(
            f"{option} {text}: '{multiple}' is no multiple of channels that hardware computes at once",
            hint=f"one of {', '.join(_MULTIPLES)}: {option} {_CHANNELS}25%/8; without it, multiples of"
            f" {CHANNEL_MULTIPLE}",
        )
    return WeightCompression(channels=share, multiple=int(multiple or CHANNEL_MULTIPLE))


def parse_cluster(text: str, *, option: str = "--cluster") -> tuple[int | None, float]:
    """Parse how few values weights have: from 2 to 128, or the share of the file to save by it, "35%".

    Returns:
        The number or None, and the share or 0.

    Raises:
        UsageError: Neither.
    """
    hint = f"give a number of values, such as {option} 16, or a share of the file to save: {option} 35%"
    number, unit = _quantity(text, option=option, example="16, or 35%")
    if unit == "%":
        if not 0 < number < _WHOLE:
            raise UsageError(f"{option} {text}: neither nothing nor all of the file can be saved", hint=hint)
        return None, number / _WHOLE
    if unit or number != int(number):
        raise UsageError(f"{option} {text}: neither a number of values nor a share", hint=hint)
    if not _FEWEST <= number <= MOST_VALUES:
        wrong = f"{_FEWEST} or more" if number < _FEWEST else f"{MOST_VALUES} or less"
        raise UsageError(f"{option} {text}: must be {wrong}", hint=hint)
    return int(number), 0.0


def _quantity(text: str, *, option: str, example: str) -> tuple[float, str]:
    match = _QUANTITY.fullmatch(text)
    if match is None:
        raise UsageError(
            f"{option} '{text}': not a number with a unit", hint=f"for example {option} {example}"
        )
    number = float(match["number"])
    if not math.isfinite(number):  # hundreds of digits
        raise _too_large(text, option=option, example=example, most="a number of some digits")
    return number, match["unit"].lower()


def _too_large(text: str, *, option: str, example: str, most: str) -> UsageError:
    shown = text if len(text) <= _SHOWN_SIGNS else f"{text[:_SHOWN_SIGNS]}..."
    return UsageError(f"{option} {shown}: too large", hint=f"at most {most}; for example {option} {example}")


def _unit_error(text: str, unit: str, *, option: str, hint: str) -> UsageError:
    what = f"unknown unit '{unit}'" if unit else "the unit is missing"
    return UsageError(f"{option} {text}: {what}", hint=hint)


def _plain(number: float) -> str:
    return f"{number:.15g}"


def parse_io_dtypes(text: str, *, option: str = "--io-dtype") -> dict[str, IoDtype]:
    """Parse the element types of an artifact's ends: "uint8", or "input=uint8,output=float32".

    Returns:
        By end: "input", "output" for all outputs, or the name of one of several.

    Raises:
        UsageError: An unknown type, or an end twice.
    """
    example = f"for example {option} uint8, or {option} input=uint8,output=float32"
    if text in set(IoDtype):
        return dict.fromkeys(_ENDS, IoDtype(text))
    found: dict[str, IoDtype] = {}
    for part in text.split(","):
        end, _, word = part.strip().rpartition("=")
        if word not in set(IoDtype) or not end:
            raise UsageError(f"{option} {text}: '{part.strip()}' is no type of an end", hint=example)
        if end in found:
            raise UsageError(f"{option} {text}: says the {end} twice", hint=example)
        found[end] = IoDtype(word)
    return found


def io_dtypes_of(
    text: str | None,
) -> tuple[IoDtype | None, IoDtype | None, tuple[tuple[str, IoDtype], ...]]:
    """Return what `parse_io_dtypes` finds of the input, of the output (else None) and of named outputs."""
    found = parse_io_dtypes(text) if text is not None else {}
    return found.pop("input", None), found.pop("output", None), tuple(found.items())


def parse_tasks(text: str, *, option: str = "--task") -> ModelTask | dict[str, ModelTask]:
    """Parse what a model answers: "regression", or by output "class=classification,quality=regression".

    Raises:
        UsageError: An unknown task, or an output twice.
    """
    example = f"for example {option} regression, or of one of several outputs {option} quality=regression"
    found: dict[str, ModelTask] = {}
    for part in text.split(","):
        name, is_assigned, word = (one.strip() for one in part.rpartition("="))
        if word not in set(ModelTask) or bool(name) != bool(is_assigned) or (not name and "," in text):
            known = ", ".join(ModelTask)
            raise UsageError(
                f"{option} {text}: '{part.strip()}' is no task", hint=f"{example}; known: {known}"
            )
        if name in found:
            raise UsageError(f"{option} {text}: says the task of {name} twice", hint=example)
        found[name] = ModelTask(word)
    return found.get("") or found
