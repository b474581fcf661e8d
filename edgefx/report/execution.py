"""What artifacts really ran, for people: shares, blocks, and the layers that take the most time.

Readable at 60 columns (columns are left out, the least telling first), without colours, and through a pipe.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.text import Text

from edgefx.execution import CONVERSION, FLOATS, INTEGERS, ExecutedPart, ExecutionProfile
from edgefx.report.terminal import Heading, fitting
from edgefx.report.text import counted, percent
from edgefx.results import Latency
from edgefx.views import Benchmark

_BAR = 24  # characters of the longest
_TOO_LONG = 1.25  # times the latency: the profiler's own work shows
_STEP_MS = 1e-3  # of the runtimes' timers
_MOST_NAMED = 8  # operations that fell out of a delegate
SAYS_COLUMNS = (
    "int8, float, conversion: the shares of the time in integers, in floating point, and in changes of "
    "format or layout."
)


@dataclass(frozen=True, kw_only=True)
class PartColumn:
    """A column of blocks or layers; `rank` says which go first where there is no room, 0 never does."""

    title: str
    cell: Callable[[ExecutedPart], str]
    value: Callable[[ExecutedPart], float]
    rank: int = 0


def _share_of(part: ExecutedPart, precisions: Sequence[str]) -> float:
    spent = sum(ms for precision, ms in part.by_precision.items() if precision in precisions)
    return spent / part.ms if part.ms else 0.0


def _precision_column(title: str, precisions: Sequence[str], rank: int) -> PartColumn:
    return PartColumn(
        title=title,
        cell=lambda part: percent(_share_of(part, precisions), 0) if part.ms else "",
        value=lambda part: _share_of(part, precisions),
        rank=rank,
    )


COLUMNS = (
    PartColumn(title="ms", cell=lambda part: f"{part.ms:.3f}", value=lambda part: part.ms),
    PartColumn(title="share", cell=lambda part: percent(part.share, 1), value=lambda part: part.share),
    _precision_column("int8", INTEGERS, 1),
    _precision_column("float", FLOATS, 1),
    _precision_column("conversion", (CONVERSION,), 2),
    PartColumn(
        title="operations",
        cell=lambda part: str(part.operations),
        value=lambda part: float(part.operations),
        rank=4,
    ),
)


def slowest(parts: Sequence[ExecutedPart], limit: int) -> list[ExecutedPart]:
    """Return those that take the most time, all of them where the limit is 0."""
    ordered = sorted(parts, key=lambda part: -part.ms)
    return ordered[:limit] if limit else ordered


def has_blocks(profile: ExecutionProfile) -> bool:
    """Whether the layers' names are those of an EfficientNet."""
    return any(part.name != "other" for part in profile.blocks)


def headline(profile: ExecutionProfile) -> str:
    """Say in a sentence where the time goes."""
    shares = (("int8", profile.int8_share), ("float", profile.float_share))
    said = [f"{percent(share, 1)} {name}" for name, share in shares]
    said.append(f"{percent(profile.conversion_share, 1)} conversion")
    rest = 1 - profile.int8_share - profile.float_share - profile.conversion_share
    if rest >= 0.0005:
        said.append(f"{percent(rest, 1)} other")
    count = counted(len(profile.executed.operations), "operation")
    return f"{profile.operations_ms:.3f} ms in {count}: {', '.join(said)}"


def remarks(profile: ExecutionProfile, latency: Latency) -> Iterator[str]:
    """Yield what must be known of a profile: the delegate's share, and what its times are worth."""
    coverage, outside = profile.delegate_coverage, profile.outside_delegate
    if coverage is not None:
        said = f"delegate: {percent(coverage, 1)} of the file's operations"
        if outside:
            more = len(outside) - _MOST_NAMED
            named = ", ".join(outside[:_MOST_NAMED]) + (f" and {more} more" if more > 0 else "")
            said += f"; outside of it: {named}"
        yield said
    executed = profile.executed
    short = sum(one.ms < _STEP_MS for one in executed.operations)
    if 2 * short > len(executed.operations):
        yield f"rough: {short} of the operations take less than the timer's step of 1 µs"
    times = profile.operations_ms / latency.p50_ms
    if times > _TOO_LONG and not latency.noisy:
        yield (
            f"rough: the operations take {times:.1f} times the latency together, as the profiler works for"
            " each of them; where they are small, their number counts more than what they do"
        )
    yield f"{executed.method}; {counted(executed.runs, 'run')}, apart from the latency above"


def render(result: Benchmark, console: Console, *, limit: int) -> None:
    """Print profiles on `console`.

    Args:
        result: Has them.
        console: Where to.
        limit: Most layers to show of each; 0 shows all.
    """
    for name, profile in result.profiles.items():
        console.print()
        console.print(Text(name, style="bold"), highlight=False)
        console.print(headline(profile), highlight=False)
        if has_blocks(profile):
            _print_parts(profile.blocks, "block", console)
        layers = slowest(profile.layers, limit)
        title = "layer" if len(layers) == len(profile.layers) else "slowest layer"
        _print_parts(layers, title, console)
        for line in remarks(profile, result.latencies[name]):
            console.print(Text(line, style="dim"), highlight=False)


def _print_parts(parts: Sequence[ExecutedPart], title: str, console: Console) -> None:
    longest = max((part.ms for part in parts), default=0.0) or 1.0
    headings = [
        Heading(title=title),
        *(Heading(title=column.title, rank=column.rank) for column in COLUMNS),
        Heading(title="", left=True, rank=5),
    ]
    cells: list[list[str | Text]] = [
        [part.name, *(column.cell(part) for column in COLUMNS), _bar(part.ms / longest)] for part in parts
    ]
    for found in fitting(headings, cells, console):
        if not isinstance(found, Text):  # which columns were left out is plain to see in the other table
            console.print(found, highlight=False)


def _bar(share: float) -> Text:
    return Text("#" * max(1, round(share * _BAR)), style="dim")
