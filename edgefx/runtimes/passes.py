"""What quantization does, as data: one list of passes for each runtime and effort."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from edgefx.quantization import QuantScheme
from edgefx.vocabulary import Ranges


class Condition(StrEnum):
    """What makes a pass needless, or impossible; the value is how it is told to a user."""

    OWN_RANGES = "ranges were chosen by name (quantize.ranges)"
    KEPT_FLOAT = "layers are kept in float"
    TRAINED = "the weights were trained for quantization"
    COMPRESSED = "weights have few values, or zeros among them (quantize.cluster, quantize.prune)"


@dataclass(frozen=True)
class Pass:
    """One step of a quantization.

    Attributes:
        name: Unique within its runtime.
        summary: What it does, in one sentence for a user.
        without: Where one of these holds, the pass is left out.
    """

    name: str
    summary: str
    without: frozenset[Condition] = field(default=frozenset())


def selected(passes: Iterable[Pass], conditions: Collection[Condition]) -> tuple[Pass, ...]:
    """Return the passes that are carried out where these conditions hold, in order."""
    return tuple(one for one in passes if one.without.isdisjoint(conditions))


def left_out(passes: Sequence[Pass], scheme: QuantScheme) -> tuple[str, ...]:
    """Return the names of the passes that post-training quantization does not carry out for a scheme."""
    carried_out = selected(passes, conditions_of(scheme, trained=False))
    return tuple(one.name for one in passes if one not in carried_out)


def conditions_of(scheme: QuantScheme, *, trained: bool) -> frozenset[Condition]:
    """Return what holds for a conversion: which of the passes' conditions its settings meet."""
    found = {
        Condition.OWN_RANGES: scheme.ranges is not Ranges.AUTO,
        Condition.KEPT_FLOAT: bool(scheme.keep_float),
        Condition.TRAINED: trained,
        Condition.COMPRESSED: bool(scheme.compression),
    }
    return frozenset(condition for condition, holds in found.items() if holds)
