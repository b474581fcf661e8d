"""What a report says of artifacts that a compiler made: whose estimates these are, and for what hardware."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from edgefx.compilation import Arena, Compilation, LayerPlacement, Operator, Parity, Processor
from edgefx.report.text import counted, percent
from edgefx.results import RunReport
from edgefx.vocabulary import Optimise

_SHOWN = 6  # layers on the CPU that are named; report.json has all


def lines(report: RunReport) -> Iterator[tuple[str, str]]:
    """Say what the figures of compiled targets are, the same of several targets once."""
    compiled = [(result, result.compilation) for result in report if result.compilation is not None]
    estimated = [(result, made) for result, made in compiled if made.estimate is not None]
    yield from _grouped("estimates", ((result.target, _estimates(made)) for result, made in estimated))
    elsewhere = [(result, made) for result, made in compiled if not made.arena]
    measured = [(result, made) for result, made in elsewhere if result.accuracy]
    yield from _grouped("accuracy", ((result.target, _accuracy(made)) for result, made in measured))
    for result, made in compiled:
        yield from (("on the CPU", text) for text in on_cpu(result.target, made.placements))
        if made.arena is not None:
            yield "arena", f"{result.target}: {_arena(made.arena)}"
            if made.options.get("optimise") == Optimise.SIZE:
                yield "flash", f"{result.target}: {_PACKED}"
            yield "operators", f"{result.target}: {', '.join(map(_operator, made.operators))}"
        if result.parity is not None:
            yield "bits", f"{result.target}: {_parity(result.parity)}; the accuracy is this interpreter's"
        if made.parity is not None:
            yield "bits", f"{result.target}: {_parity(made.parity)}; the images are noise, computed here"


_PACKED = (
    "packed by --optimise Size: weights are lookup tables where that is smaller, decoded into the arena"
    " before the layer that reads them; LiteRT needs them decoded, as edgefx does it"
)


def on_cpu(target: str, placements: Sequence[LayerPlacement]) -> Iterator[str]:
    """Name the layers that an NPU leaves to the CPU, and why it does."""
    left = [one for one in placements if one.processor is Processor.CPU]
    for one in left[:_SHOWN]:
        reason = f": {one.reason}" if one.reason else ""
        yield f"{target}: layer {one.layer} ({', '.join(one.operations)}){reason}"
    if len(left) > _SHOWN:
        yield f"{target}: {counted(len(left) - _SHOWN, 'more layer')}; report.json names them"


def _estimates(made: Compilation) -> str:
    options = ", ".join(f"{name.replace('_', '-')} {value}" for name, value in made.options.items())
    default = ""
    unsaid = [name for name in made.by_default if name != "optimise"]
    if unsaid:
        flags = ", ".join(f"--{name.replace('_', '-')}" for name in unsaid)
        default = f"; without {flags}, as the compiler has it, which describes no chip in particular"
    return f"by {made.compiler}'s model of the NPU, nothing was run on one; {options}{default}"


def _arena(arena: Arena) -> str:
    return (
        f"reserve {arena.bytes} bytes: the least that it ran in here, {arena.needed_bytes}, and 10 %, rounded"
        " up; its tables are larger on this 64-bit machine, and a chip's fast kernels may take more memory"
    )


def _operator(one: Operator) -> str:
    return f"{one.name} v{one.version}"


def _parity(found: Parity) -> str:
    fast, reference = found.identical / found.images, found.identical_to_reference / found.images
    text = (
        f"of {counted(found.images, 'image')} the scores are bit by bit those of LiteRT's reference kernels"
        f" in {percent(reference, 1)}, and those of its fast kernels in {percent(fast, 1)}"
    )
    if found.identical < found.images:
        text += f", at most {counted(found.largest_step, 'step')} of the stored scores apart"
        text += f"; the first operation to differ is {found.parts_at}" if found.parts_at else ""
    return text


def _accuracy(made: Compilation) -> str:
    return f"that of {made.source}, the artifact that was compiled, on this CPU"


def _grouped(label: str, found: Iterable[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    """Yield each text once, with the targets that it is said of."""
    by_text: dict[str, list[str]] = {}
    for target, text in found:
        by_text.setdefault(text, []).append(target)
    yield from ((label, f"{', '.join(targets)}: {text}") for text, targets in by_text.items())
