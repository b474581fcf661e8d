"""The page of `edgefx benchmark --plot`: what each artifact really ran, as a flame graph and tables.

In the drawing an inference runs from left to right. Below the whole of it lie its blocks, below each block
its layers, below each layer its operations; widths are shares of the time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import groupby

from markupsafe import Markup

from edgefx.execution import (
    CONVERSION,
    FLOATS,
    INTEGERS,
    ExecutedOperation,
    ExecutedPart,
    ExecutionProfile,
    block_of,
)
from edgefx.report import page
from edgefx.report.execution import COLUMNS, SAYS_COLUMNS, has_blocks, headline, remarks
from edgefx.report.page.svg import fill
from edgefx.report.page.tables import PageHead, PageTable, name, number
from edgefx.report.text import counted, percent
from edgefx.views import Benchmark

_ROW = 24  # pixels
_NARROWEST = 0.03  # percent of the width below which nothing can be seen
_CAPTION = (
    "An inference from left to right: all of it, its blocks, its layers, its operations; the width is the "
    "share of the time. Blue: integers. Orange: floating point. Red: changes of format or layout. Grey: "
    "several kinds, or something else. A bar tells its figures when the pointer rests on it; the table has "
    "them too."
)


def dumps(result: Benchmark) -> str:
    """Return the page."""
    where = "this host" if result.device == "host" else result.device
    machine = result.environment
    return page.write(
        "execution.html",
        title="What really ran",
        subtitle=f"{where}: {machine.cpu}, {result.hardware}; edgefx {machine.edgefx}",
        artifacts=[_artifact(key, profile, result) for key, profile in result.profiles.items()],
        caption=_CAPTION,
        columns_say=SAYS_COLUMNS,
    )


def _artifact(key: str, profile: ExecutionProfile, result: Benchmark) -> dict[str, object]:
    latency = result.latencies[key]
    speed = f"p50 {latency.p50_ms:.3f} ms, {counted(latency.threads, 'thread')}"
    return {
        "name": key,
        "headline": f"{headline(profile)}. Latency without the profiler: {speed}",
        "remarks": list(remarks(profile, latency)),
        "drawing": _flame(profile),
        "blocks": _table("Blocks", "block", profile.blocks) if has_blocks(profile) else None,
        "layers": _table(f"Layers of {key}", "layer", profile.layers),
    }


def _table(says: str, title: str, parts: Sequence[ExecutedPart]) -> PageTable:
    return PageTable(
        says=says,
        heads=[PageHead(text=title, style="left"), *(PageHead(text=column.title) for column in COLUMNS)],
        rows=[
            [name(part.name), *(number(column.cell(part), column.value(part)) for column in COLUMNS)]
            for part in parts
        ],
    )


def _flame(profile: ExecutionProfile) -> Markup:
    """Draw the whole, blocks, layers and operations below each other."""
    operations = _grouped(profile)
    total = profile.operations_ms or 1.0
    rows = [
        [("inference", operations)],
        _runs(operations, lambda one: block_of(one.layer)),
        _runs(operations, lambda one: one.layer or one.kind),
        [(f"{one.kind} {one.name}", [one]) for one in operations],
    ]
    if not has_blocks(profile):
        del rows[1]
    bars = []
    for depth, row in enumerate(rows):
        left = 0.0
        for text, found in row:
            width = 100 * sum(one.ms for one in found) / total
            if width >= _NARROWEST:
                bars.append(_bar(text, found, left=left, width=width, top=depth * _ROW, total=total))
            left += width
    return fill(
        '<svg class="flame" width="100%" height="{}" role="img" aria-label="{}">{}</svg>',
        len(rows) * _ROW,
        headline(profile),
        Markup().join(bars),
    )


def _grouped(profile: ExecutionProfile) -> list[ExecutedOperation]:
    """Return the operations with those of a block, and in it those of a layer, side by side."""
    blocks = {part.name: place for place, part in enumerate(profile.blocks)}
    layers = {part.name: place for place, part in enumerate(profile.layers)}

    def place(one: ExecutedOperation) -> tuple[int, int]:
        return blocks[block_of(one.layer)], layers[one.layer or f"({one.kind})"]

    return sorted(profile.executed.operations, key=place)


def _runs(
    operations: Iterable[ExecutedOperation], name_of: Callable[[ExecutedOperation], str]
) -> list[tuple[str, list[ExecutedOperation]]]:
    return [(text, list(found)) for text, found in groupby(operations, name_of)]


def _bar(
    text: str, found: Sequence[ExecutedOperation], *, left: float, width: float, top: int, total: float
) -> Markup:
    ms = sum(one.ms for one in found)
    precisions = ", ".join(dict.fromkeys(one.precision for one in found))
    kernels = ", ".join(dict.fromkeys(one.kernel for one in found if one.kernel)) if len(found) == 1 else ""
    says = f"{text}: {ms:.4f} ms, {percent(ms / total, 2)}; {precisions}" + (
        f"; {kernels}" if kernels else ""
    )
    return fill(
        '<svg x="{:.3f}%" y="{}" width="{:.3f}%" height="{}" class="{}"><title>{}</title>'
        '<rect width="100%" height="{}"/>{}</svg>',
        left,
        top,
        width,
        _ROW - 2,
        _tone(found),
        says,
        _ROW - 2,
        fill('<text x="4" y="15">{}</text>', text) if width > 1.0 else "",
    )


def _tone(found: Sequence[ExecutedOperation]) -> str:
    kinds = set(_kinds(found))
    return kinds.pop() if len(kinds) == 1 else "mixed"


def _kinds(found: Iterable[ExecutedOperation]) -> Iterator[str]:
    for one in found:
        if one.precision in INTEGERS:
            yield "integers"
        elif one.precision in FLOATS:
            yield "floats"
        else:
            yield "conversions" if one.precision == CONVERSION else "mixed"
