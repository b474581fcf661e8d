"""What LiteRT's own tool, `benchmark_model`, prints of an artifact that it has run.

It prints averages and percentiles, and no single inference: a figure of several calls is made of the calls.
There are two tools of that name: that of TensorFlow Lite's interpreter, and that of LiteRT 2, which prints
the same of the inferences, and a summary of its own. Lines may begin with what a log puts before them, such
as ``INFO:`` or ``I tflite  :``.

https://ai.google.dev/edge/litert/models/measurement, https://ai.google.dev/edge/litert/next/benchmark
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

_NUMBER = r"([0-9.]+(?:e[+-]?[0-9]+)?)"
_STARTS = re.compile(rf"Inference timings in us: Init: {_NUMBER}, First inference: {_NUMBER}, Warmup")
_STARTS_OF_LITERT = re.compile(rf"(Model initialization|Warmup \(first\)): +{_NUMBER} ms")
_COUNT = re.compile(r"count=([0-9]+) .*")
_FIELD = re.compile(rf"\b(count|curr|min|max|avg|std|median|p5|p95)={_NUMBER}")
# The first two are of --report_peak_memory_footprint; of each pair the latter is that of LiteRT 2. The third
# was once called "Peak memory footprint".
_MEMORY = (
    re.compile(rf"Overall peak memory footprint \(MB\) via periodic monitoring: {_NUMBER}"),
    re.compile(rf"Peak memory: +{_NUMBER} MB"),
    re.compile(
        rf"(?:Memory footprint delta from the start of the tool|Peak memory footprint) \(MB\): "
        rf"init={_NUMBER} overall={_NUMBER}"
    ),
    re.compile(rf"Overall footprint: +{_NUMBER} MB"),
)
_DELEGATE = re.compile(r"Replacing ([0-9]+) out of ([0-9]+) node\(s\) with delegate \(([^)]*)\) node")
_MIB = 1024 * 1024 / 1e6


@dataclass(frozen=True, kw_only=True)
class Delegated:
    """What a delegate took: so many of the nodes that were left."""

    name: str
    nodes: int
    of: int


@dataclass(frozen=True, kw_only=True)
class ToolRun:
    """One call of the tool.

    Attributes:
        init_ms: Opening the file.
        first_ms: The first inference, which belongs to the warm-up.
        count: Timed inferences.
        mean_ms: Their mean.
        min_ms: The fastest of them.
        std_ms: Their standard deviation.
        median_ms: Their median; None of a tool that prints none (before 2024), and so is `p95_ms`.
        p95_ms: Their 95th percentile.
        memory_mb: The memory that the tool saw its process take, in 10^6 bytes.
        delegates: In the order in which they took nodes.
    """

    init_ms: float
    first_ms: float
    count: int
    mean_ms: float
    min_ms: float
    std_ms: float
    median_ms: float | None
    p95_ms: float | None
    memory_mb: float | None
    delegates: tuple[Delegated, ...]

    @property
    def coverage(self) -> float | None:
        """The share of the file's nodes that delegates took; None where none is named."""
        if not self.delegates or not self.delegates[0].of:
            return None
        return min(1.0, sum(one.nodes for one in self.delegates) / self.delegates[0].of)


def parse(output: str) -> ToolRun:
    """Read what the tool has printed, on stdout and stderr together.

    Raises:
        ValueError: It has not printed how long inferences took.
    """
    starts = _starts_us(output)
    counts = [match.group() for match in _COUNT.finditer(output)]
    if starts is None or not counts:
        raise ValueError("it does not say how long inferences took")
    # The last line of counts is that of the timed inferences; those before are of the warm-up.
    figures = {name: float(value) for name, value in _FIELD.findall(counts[-1])}
    mean_us = figures.get("avg", figures.get("curr"))  # of a single inference nothing else is said
    if mean_us is None:
        raise ValueError("it does not say how long inferences took")
    median, p95 = figures.get("median"), figures.get("p95")
    return ToolRun(
        init_ms=starts[0] / 1e3,
        first_ms=starts[1] / 1e3,
        count=int(figures["count"]),
        mean_ms=mean_us / 1e3,
        min_ms=figures.get("min", mean_us) / 1e3,
        std_ms=figures.get("std", 0.0) / 1e3,
        median_ms=None if median is None else median / 1e3,
        p95_ms=None if p95 is None else p95 / 1e3,
        memory_mb=_memory(output),
        delegates=tuple(
            Delegated(name=name, nodes=int(nodes), of=int(of))
            for nodes, of, name in _DELEGATE.findall(output)
        ),
    )


def _starts_us(output: str) -> tuple[float, float] | None:
    """Return how long opening the file took, and the first inference; None where it is not said."""
    if found := _STARTS.findall(output):
        return float(found[-1][0]), float(found[-1][1])
    named = {name: 1e3 * float(value) for name, value in _STARTS_OF_LITERT.findall(output)}
    return (named["Model initialization"], named["Warmup (first)"]) if len(named) == 2 else None


def _memory(output: str) -> float | None:
    for form in _MEMORY:
        if match := form.search(output):
            return float(match.groups()[-1]) * _MIB
    return None


def last_words(output: str, most: int = 10) -> Sequence[str]:
    """Return the last lines, for an error."""
    return [line for line in output.splitlines() if line.strip()][-most:]
