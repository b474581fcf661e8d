"""What a report says of few or zero weights: what they save, and what they cost."""

from __future__ import annotations

from collections.abc import Iterator

from edgefx.compression import Compressed, CompressionEffect
from edgefx.report.text import count, counted, interval, percent, signed, size
from edgefx.results import RunReport

_WORTH = 0.02  # of a figure, that must be saved at least to be called a saving


def lines(report: RunReport) -> Iterator[tuple[str, str]]:
    """Say what was compressed, figure by figure, and whether it pays."""
    for result in report:
        effect = result.compression
        if effect is not None:
            yield "compression", f"{result.target}, {effect.asked}: {_figures(effect)}"
            yield "", _price(effect)


def _figures(effect: CompressionEffect) -> str:
    before, after = effect.before, effect.after
    pairs = (
        ("zipped", size, before.footprint.zipped_bytes, after.footprint.zipped_bytes),
        ("as lookup tables of TFLM", size, before.footprint.lookup_bytes, after.footprint.lookup_bytes),
        ("flash (estimate)", size, before.flash_bytes, after.flash_bytes),
        ("cycles (estimate)", count, before.npu_cycles, after.npu_cycles),
    )
    parts = [
        f"{what} {write(one)} -> {write(other)} ({signed(100 * (other / one - 1), 1)} %)"
        for what, write, one, other in pairs
        if one and other is not None
    ]
    parts.append(f"zero weights {percent(before.footprint.zeros, 0)} -> {percent(after.footprint.zeros, 0)}")
    return "; ".join(parts)


def _price(effect: CompressionEffect) -> str:
    """Say what was lost, and where nothing was saved for it."""
    before, after = effect.before, effect.after
    if effect.images:
        on = f" on {counted(effect.images, 'image')}"
        text = f"drop {_drop(before)} without, {_drop(after)} with it{on}"
    else:
        text = "what it costs in accuracy was not measured"
    missing = [what for what, saved in _savings(effect) if saved < _WORTH]
    if missing:
        text += f"; it does not pay in {' or '.join(missing)}"
    return text


def _savings(effect: CompressionEffect) -> Iterator[tuple[str, float]]:
    """Yield the share that is saved of each figure."""
    before, after = effect.before, effect.after
    yield "the download", 1 - after.footprint.zipped_bytes / before.footprint.zipped_bytes
    yield "lookup tables", 1 - after.footprint.lookup_bytes / before.footprint.lookup_bytes
    if before.flash_bytes and after.flash_bytes is not None:
        yield "the NPU's flash", 1 - after.flash_bytes / before.flash_bytes
    if before.npu_cycles and after.npu_cycles is not None:
        yield "the NPU's cycles", 1 - after.npu_cycles / before.npu_cycles


def _drop(one: Compressed) -> str:
    if one.drop_pp is None:
        return f"mean KL {one.mean_kl:.2g}"
    return f"{signed(one.drop_pp)} pp ({interval(one.drop_ci95_pp)})"
