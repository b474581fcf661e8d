"""Read a gate that is written as a condition: ``tflite-*: drop_pp <= 0.5``. Standard library only.

What is before the colon are targets, by name or glob. ``tflite-*@pi5`` are those on a device, ``@pi5`` and,
where no target is called so, ``pi5`` are all targets on it.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Collection
from dataclasses import replace
from datetime import date
from typing import TypeVar

from edgefx.errors import Block, UsageError
from edgefx.metrics import METRICS, MetricRow, Unit
from edgefx.recipe.expected_failures import ExpectedFailure
from edgefx.verdicts import Gate
from edgefx.vocabulary import HOST

EXAMPLE = "tflite-*: drop_pp <= 0.5"
EXPECTED_EXAMPLE = "openvino-int8: drop_pp until 2026-12-31: waits for the next release"
_EXPECTED = re.compile(
    r"\s*(?P<gate>.*?)\s+until\s+(?P<day>[0-9-]+)\s*(?::\s*(?P<reason>.*?))?\s*", re.ASCII | re.DOTALL
)
G = TypeVar("G", Gate, ExpectedFailure)
_FORM = re.compile(
    r"\s*(?:(?P<output>[A-Za-z0-9_.\-]+)\.)?(?P<metric>[A-Za-z0-9_]*)\s*(?P<sign>[<>=!~]*)\s*(?P<limit>.*)",
    re.ASCII | re.DOTALL,
)
_NUMBER = re.compile(
    r"(?P<number>[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?)\s*(?P<unit>[A-Za-z%]*)", re.ASCII
)
# What a metric may be written in, and how much of its own unit that is; "" where its name says the unit.
_UNITS: dict[Unit, dict[str, float]] = {
    Unit.POINTS: {"": 1, "pp": 1},
    Unit.PERCENT: {"": 1, "%": 1},
    Unit.SHARE: {"": 1, "%": 0.01},
    Unit.MILLISECONDS: {"": 1, "ms": 1, "s": 1000},
    Unit.BYTES: {"": 1, "B": 1, "kB": 1e3, "MB": 1e6, "GB": 1e9, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30},
    Unit.MEGABYTES: {"": 1, "kB": 1e-3, "MB": 1, "GB": 1e3},
    Unit.RATIO: {"": 1, "x": 1},
    Unit.NATS: {"": 1, "nats": 1},
    Unit.PROBABILITY: {"": 1},
    Unit.COUNT: {"": 1},
    Unit.NUMBER: {"": 1},
}


def parse(text: str, *, option: str = "--gate") -> Gate:
    """Read ``[TARGETS[@DEVICE]:] [OUTPUT.]METRIC <= LIMIT``, or ``>=`` where more is better.

    Args:
        text: The condition; TARGETS are names or globs, separated by commas, OUTPUT is one of several outputs
            of the model, LIMIT is a number with or without its unit. A name alone is taken for a target; see
            `on_devices`.
        option: What a message calls it.

    Raises:
        UsageError: It is of another form; the message points at the place.
    """
    where = _Where(text, option)
    match, targets, devices = _read(text, where)
    row = _metric(match, where)
    sign = "<=" if row.better == "less" else ">="
    if match["sign"] != sign:
        better = "less" if row.better == "less" else "more"
        what = f"'{match['sign']}' instead of {sign}" if match["sign"] else f"no {sign} after the metric"
        raise where.error(what, match.span("sign"), f"{better} of {row.id} is better, so a limit is {sign}")
    return Gate(
        metric=row.id,
        limit=_limit(row, match, where),
        targets=targets,
        devices=devices,
        output=match["output"] or "",
    )


def parse_expected(text: str, *, option: str = "--expect-failure") -> ExpectedFailure:
    """Read ``[TARGETS[@DEVICE]:] [OUTPUT.]METRIC until YYYY-MM-DD: REASON``.

    Args:
        text: What is expected to fail, until when, and why; TARGETS and OUTPUT as for `parse`.
        option: What a message calls it.

    Raises:
        UsageError: It is of another form; the message points at the place.
    """
    where = _Where(text, option)
    form = _EXPECTED.fullmatch(text)
    if form is None:
        raise where.error("no day and reason", (len(text), len(text)), f"for example '{EXPECTED_EXAMPLE}'")
    try:
        day = date.fromisoformat(form["day"])
    except ValueError as error:
        raise where.error("no such day", form.span("day"), "write it as 2026-12-31") from error
    if not form["reason"]:
        raise where.error("no reason", (len(text), len(text)), f"for example '{EXPECTED_EXAMPLE}'")
    match, targets, devices = _read(form["gate"], where)
    row = _metric(match, where)
    if match["sign"] or match["limit"]:
        place = match.start("sign"), len(form["gate"])
        raise where.error("a limit", place, "leave it out: any limit on that metric is meant")
    return ExpectedFailure(
        metric=row.id,
        targets=targets,
        devices=devices,
        output=match["output"] or "",
        until=day.isoformat(),
        reason=form["reason"],
    )


def _read(text: str, where: _Where) -> tuple[re.Match[str], tuple[str, ...], tuple[str, ...]]:
    """Divide a condition into its parts, its targets and its devices."""
    head, colon, _ = text.rpartition(":")
    if not colon or set("<>=") & set(head):
        head, colon = "*", ""
    match = _FORM.fullmatch(text, len(head) + 1 if colon else 0)
    assert match is not None, "every part may be empty"
    pairs = dict.fromkeys(_scope(one) for one in filter(None, (one.strip() for one in head.split(","))))
    if not pairs:
        raise where.error("no target before the colon", (0, len(head)), f"for example '{EXAMPLE}'")
    targets, devices = (tuple(dict.fromkeys(part)) for part in zip(*pairs, strict=True))
    if len(pairs) < len(targets) * len(devices):
        raise where.error(
            "not the same targets on all of these devices", (0, len(head)), "write a gate for each device"
        )
    return match, targets, tuple(name for name in devices if name != HOST)


def on_devices(gate: G, devices: Collection[str]) -> G:
    """Take those names for devices that were given where a target could stand: ``pi5: p95_ms <= 20``.

    Args:
        gate: From `parse`.
        devices: Names that are devices, and no targets.

    Raises:
        UsageError: Only some of the names are devices.
    """
    names = tuple(name for name in gate.targets if name in devices)
    if gate.devices or not names:
        return gate
    if len(names) < len(gate.targets):
        raise UsageError(
            f"{', '.join(gate.targets)}: {', '.join(names)} is a device, the others are targets",
            hint=f"write tflite-*@{names[0]} for targets on a device",
        )
    return replace(gate, targets=("*",), devices=tuple(name for name in names if name != HOST))


def of_device(scope: str, condition: str, *, option: str = "gates.devices") -> Gate:
    """Read a limit on a figure of a device.

    Args:
        scope: The device, or ``TARGETS@DEVICE``.
        condition: ``METRIC <= LIMIT``.
        option: What a message calls it.

    Raises:
        UsageError: It cannot be read, or is none for a device.
    """
    gate = parse(f"{scope}: {condition}", option=option)
    gate = gate if gate.devices else on_devices(gate, gate.targets)
    if not gate.devices:
        raise UsageError(
            f"{option}: '{scope}' is no device",
            hint="what this machine measures is limited by the other keys",
        )
    return gate


def of_run(condition: str, *, option: str = "gates.conditions") -> Gate:
    """Read a limit on a figure of this machine: ``[TARGETS:] [OUTPUT.]METRIC <= LIMIT``.

    Args:
        condition: It.
        option: What a message calls it.

    Raises:
        UsageError: It cannot be read, is for a device, or limits what no run limits.
    """
    gate = parse(condition, option=option)
    if gate.devices:
        raise UsageError(
            f"{option}: '{condition}' is for a device", hint="limits on devices are those of gates.devices"
        )
    if not METRICS[gate.metric].gate:
        limited = ", ".join(row.id for row in METRICS.values() if row.gate)
        raise UsageError(f"{option}: {gate.metric} is no limit of a run", hint=f"limit one of: {limited}")
    return gate


def _scope(text: str) -> tuple[str, str]:
    """Return the target's name or glob, and the device."""
    target, at, device = text.partition("@")
    if "://" in target:  # ssh://user@host
        return "*", text
    return (target.strip() or "*", device.strip() or HOST) if at else (text, HOST)


def _metric(match: re.Match[str], where: _Where) -> MetricRow:
    name = match["metric"]
    if name in METRICS:
        return METRICS[name]
    if not name:
        raise where.error("no metric", match.span("metric"), f"for example '{EXAMPLE}'")
    by_key = [row.id for row in METRICS.values() if row.gate == name]
    close = by_key or difflib.get_close_matches(name.lower(), METRICS, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(close)}?" if close else f"known: {', '.join(METRICS)}"
    raise where.error(f"unknown metric '{name}'", match.span("metric"), hint)


def _limit(row: MetricRow, match: re.Match[str], where: _Where) -> float:
    units = _UNITS[row.unit]
    text = match["limit"].rstrip()
    number = _NUMBER.fullmatch(text)
    place = match.start("limit"), match.start("limit") + len(text)
    example = f"for example '{row.id} {match['sign']} {_example(row)}'"
    if number is None or not math.isfinite(float(number["number"])):
        raise where.error("no number" if text else "no limit", place, example)
    unit = next((one for one in units if one.lower() == number["unit"].lower()), None)
    if unit is None:
        known = ", ".join(filter(None, units)) or "a number alone"
        start = place[0] + number.start("unit")
        raise where.error(f"'{number['unit']}' is no unit of {row.id}", (start, place[1]), f"give {known}")
    limit = float(number["number"]) * units[unit]
    if not math.isfinite(limit):
        raise where.error("too large a number", place, example)
    if row.unit is Unit.SHARE and not 0 <= limit <= 1:
        raise where.error("a share is between 0 and 1, or 0% and 100%", place, example)
    if limit < 0 and row.unit not in (Unit.POINTS, Unit.PERCENT, Unit.NUMBER):
        raise where.error(f"{row.id} is never below 0", place, example)
    return limit


def _example(row: MetricRow) -> str:
    shown = {Unit.SHARE: "98%", Unit.BYTES: "6MB", Unit.MILLISECONDS: "20ms", Unit.MEGABYTES: "200MB"}
    return shown.get(row.unit, "1pp" if row.unit is Unit.POINTS else "0.5")


class _Where:
    """A text with a place in it."""

    def __init__(self, text: str, option: str) -> None:
        self._text = text
        self._option = option

    def error(self, what: str, place: tuple[int, int], hint: str) -> UsageError:
        start, end = place
        if start < 0:
            start, end = 0, 0
        pointer = " " * start + "^" + "~" * max(0, end - start - 1)
        return UsageError(f"{self._option}: {what}", hint=hint, details=[Block.of([self._text, pointer])])
