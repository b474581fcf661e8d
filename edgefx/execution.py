"""What a runtime really executed: its operations, with the time and the precision of each."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Final

CONVERSION: Final = "conversion"
INTEGERS: Final = ("int8", "int16")
FLOATS: Final = ("float32", "float16", "bfloat16", "float64")

_BLOCK = re.compile(r"(?:^|_)(block\d+[a-z]*)_")
_ENTRY = ("rescaling", "normalization", "input", "image")


@dataclass(frozen=True, kw_only=True)
class ExecutedOperation:
    """One operation as the runtime executed it, which may be several of the file fused.

    Attributes:
        name: What the runtime calls it.
        kind: Its type, in the runtime's words.
        precision: What it computes in: "int8", "float32", ...; "conversion" for what only changes the format
            or the layout of a value (quantizing, dequantizing, casts, reorders).
        ms: Its time in one inference, as `Executed.method` says.
        layer: The canonical layer that it belongs to, by its name; what the runtime inserts belongs to the
            layer that is executed next. None where nothing tells.
        kernel: The implementation, where the runtime names it.
        delegate: What executed it, where it is not the runtime itself.
    """

    name: str
    kind: str
    precision: str
    ms: float
    layer: str | None = None
    kernel: str = ""
    delegate: str | None = None


@dataclass(frozen=True, kw_only=True)
class Executed:
    """What a runtime tells of its inferences.

    Attributes:
        operations: In the order of execution.
        inference_ms: One whole inference while it was profiled, the median.
        runs: How many inferences count.
        method: How the times were taken, for people.
        delegate_coverage: The share of the file's operations that a delegate executed; None for a runtime
            that has no delegates.
    """

    operations: tuple[ExecutedOperation, ...]
    inference_ms: float
    runs: int
    method: str
    delegate_coverage: float | None = None


@dataclass(frozen=True, kw_only=True)
class ExecutedPart:
    """The operations of one layer, or of one block.

    Attributes:
        name: The canonical layer, or the block.
        ms: Their time together.
        share: Of the time of all operations.
        by_precision: The same time by what it was computed in.
        operations: How many they are.
    """

    name: str
    ms: float
    share: float
    by_precision: dict[str, float]
    operations: int


@dataclass(frozen=True, kw_only=True)
class ExecutionProfile:
    """What an artifact really ran, by operation, layer and block.

    Attributes:
        executed: Everything that the runtime told.
        layers: By canonical layer, in the order of execution.
        blocks: By block of the EfficientNet, likewise: "stem", "block1a", ..., "head".
        int8_share: Of the time of all operations, that of those that compute on integers.
        float_share: That of those that compute in floating point.
        conversion_share: That of those that only change format or layout.
        outside_delegate: The operations that no delegate executed; empty for a runtime without delegates.
    """

    executed: Executed
    layers: tuple[ExecutedPart, ...]
    blocks: tuple[ExecutedPart, ...]
    int8_share: float
    float_share: float
    conversion_share: float
    outside_delegate: tuple[str, ...] = ()

    @property
    def operations_ms(self) -> float:
        """All operations together."""
        return sum(one.ms for one in self.executed.operations)

    @property
    def delegate_coverage(self) -> float | None:
        """See `Executed.delegate_coverage`."""
        return self.executed.delegate_coverage


def summarize(executed: Executed) -> ExecutionProfile:
    """Sum what was executed by layer, by block and by precision."""
    operations = executed.operations
    total = sum(one.ms for one in operations) or 1.0

    def share(precisions: Iterable[str]) -> float:
        chosen = set(precisions)
        return sum(one.ms for one in operations if one.precision in chosen) / total

    has_delegate = executed.delegate_coverage is not None
    outside = [one for one in operations if one.delegate is None] if has_delegate else []
    return ExecutionProfile(
        executed=executed,
        layers=_parts(operations, lambda one: one.layer or f"({one.kind})", total),
        blocks=_parts(operations, lambda one: block_of(one.layer), total),
        int8_share=share(INTEGERS),
        float_share=share(FLOATS),
        conversion_share=share([CONVERSION]),
        outside_delegate=tuple(f"{one.kind} {one.name}" for one in outside),
    )


def _parts(
    operations: Iterable[ExecutedOperation], name_of: Callable[[ExecutedOperation], str], total: float
) -> tuple[ExecutedPart, ...]:
    by_name: dict[str, list[ExecutedOperation]] = {}
    for one in operations:
        by_name.setdefault(name_of(one), []).append(one)
    parts = []
    for name, found in by_name.items():
        by_precision: dict[str, float] = {}
        for one in found:
            by_precision[one.precision] = by_precision.get(one.precision, 0.0) + one.ms
        ms = sum(one.ms for one in found)
        parts.append(
            ExecutedPart(name=name, ms=ms, share=ms / total, by_precision=by_precision, operations=len(found))
        )
    return tuple(parts)


def block_of(layer: str | None) -> str:
    """Return the block of an EfficientNet that a layer belongs to, by its name.

    "stem", "block1a" and so on; "input" for what scales pixels, "head" for what comes behind the last block;
    "other" for a layer of some other model, or none.
    """
    if layer is None:
        return "other"
    if found := _BLOCK.search(layer):
        return found[1]
    name = layer.lower()
    if name.startswith("stem") or "_stem" in name:
        return "stem"
    if name.startswith(_ENTRY):
        return "input"
    if name.startswith(("top_", "avg_pool", "predictions", "head", "probabilities")):
        return "head"
    return "other"


def layer_named(name: str) -> str | None:
    """Return the layer that the name of an operation or of a tensor begins with; None where it has no parts.

    edgefx names everything ``<layer>/<operation>``; files of other tools may begin with a slash, and then
    the module that holds the operation counts.
    """
    if name.startswith("/"):
        return name.strip("/").rpartition("/")[0] or None
    layer, slash, _ = name.partition("/")
    return layer if slash and layer else None


def with_neighbours(operations: Iterable[ExecutedOperation]) -> tuple[ExecutedOperation, ...]:
    """Give operations without a layer the one that is executed next; behind the last one, that."""
    given = list(operations)
    layer = next((one.layer for one in reversed(given) if one.layer), None)
    result: list[ExecutedOperation] = []
    for one in reversed(given):
        layer = one.layer or layer
        result.append(replace(one, layer=layer))
    return tuple(reversed(result))
