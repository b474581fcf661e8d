"""What a report says of few or zero weights and fewer channels: what they save, and what they cost."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from edgefx.compression import ChannelRemoval, Compressed, CompressionEffect
from edgefx.report.text import count, counted, interval, ms, percent, ratio, signed, size
from edgefx.results import RunReport

_WORTH = 0.02  # of a figure, that must be saved at least to be called a saving


def lines(report: RunReport) -> Iterator[tuple[str, str]]:
    """Say what was compressed, figure by figure, and whether it pays."""
    for result in report:
        effect = result.compression
        if effect is not None:
            yield "compression", f"{result.target}, {effect.asked}: {_figures(effect)}"
            if effect.removal is not None:
                yield "", _removed(effect.removal)
            yield "", _price(effect)


def _figures(effect: CompressionEffect) -> str:
    before, after = effect.before, effect.after
    one, other = before.footprint, after.footprint
    pairs: tuple[tuple[str, Callable[[Any], str], float | None, float | None], ...] = (
        ("file", size, *((one.size_bytes, other.size_bytes) if effect.removal else (None, None))),
        ("zipped", size, one.zipped_bytes, other.zipped_bytes),
        ("as lookup tables of TFLM", size, one.lookup_bytes, other.lookup_bytes),
        ("flash (estimate)", size, before.flash_bytes, after.flash_bytes),
        ("cycles (estimate)", count, before.npu_cycles, after.npu_cycles),
        ("inference (estimate)", _ms, before.npu_ms, after.npu_ms),
    )
    parts = [_change(what, write, old, new) for what, write, old, new in pairs if old and new]
    if effect.latency_ci95 is not None:  # formed pass by pass, which two medians are not
        low, high = effect.latency_ci95
        parts.append(
            f"latency here {ms(before.p50_ms)} -> {ms(after.p50_ms)} ms, {ratio(effect.latency_ratio)}"
            f" ({low:.2f} to {high:.2f})"
        )
    if effect.removal is None:
        parts.append(f"zero weights {percent(one.zeros, 0)} -> {percent(other.zeros, 0)}")
    return "; ".join(parts)


def _removed(removal: ChannelRemoval) -> str:
    """Say which channels went, and what that alone cost."""
    most = max(removal.blocks, key=lambda block: (block.before - block.after, block.before))
    channels = sum(block.before - block.after for block in removal.blocks)
    blocks = counted(len(removal.blocks), "block")
    parts = [
        f"{count(channels)} channels of {blocks} removed, most: {most.layer} {most.before} -> {most.after}",
        _change("weights", count, removal.parameters_before, removal.parameters_after),
        _change("multiply-accumulates", count, removal.macs_before, removal.macs_after),
    ]
    if removal.drop_pp is not None:
        drop = f"{signed(removal.drop_pp)} pp ({interval(removal.drop_ci95_pp)})"
        parts.append(f"in float, before anything is quantized, a drop of {drop}")
    elif removal.mean_kl is not None:
        parts.append(f"in float, before anything is quantized, a mean KL of {removal.mean_kl:.2g}")
    return "; ".join(parts)


def _change(what: str, write: Callable[[Any], str], old: float, new: float) -> str:
    return f"{what} {write(old)} -> {write(new)} ({signed(100 * (new / old - 1), 1)} %)"


def _ms(value: float) -> str:
    return f"{ms(value)} ms"


def _price(effect: CompressionEffect) -> str:
    """Say what was lost, and where nothing was saved for it."""
    before, after = effect.before, effect.after
    if effect.images:
        on = f" on {counted(effect.images, 'image')}"
        text = f"drop {_drop(before)} without, {_drop(after)} with it{on}"
    else:
        text = "what it costs in accuracy was not measured"
    missing = [what for what, saved in _savings(effect) if saved < _WORTH]
    if before.p50_ms is not None:
        low, high = effect.latency_ci95 or (0.0, 1.0)
        if low > 1 - _WORTH:
            missing.append("latency here")
        elif high > 1 - _WORTH:
            text += "; whether it is faster here, this measurement does not tell"
    if missing:
        text += f"; it does not pay in {' or '.join(missing)}"
    return text


def _savings(effect: CompressionEffect) -> Iterator[tuple[str, float]]:
    """Yield the share that is saved of each figure."""
    before, after = effect.before, effect.after
    one, other = before.footprint, after.footprint
    pairs = (
        ("the download", one.zipped_bytes, other.zipped_bytes),
        ("lookup tables", one.lookup_bytes, other.lookup_bytes),
        ("the NPU's flash", before.flash_bytes, after.flash_bytes),
        ("the NPU's cycles", before.npu_cycles, after.npu_cycles),
    )
    for what, old, new in pairs:
        if old and new:
            yield what, 1 - new / old


def _drop(one: Compressed) -> str:
    if one.drop_pp is None:
        return f"mean KL {one.mean_kl:.2g}"
    return f"{signed(one.drop_pp)} pp ({interval(one.drop_ci95_pp)})"
