"""Which layers a user means: names, globs and kinds become canonical layers. Standard library only."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Sequence

from edgefx.errors import UnknownNameError
from edgefx.types import LayerInfo

KIND = "kind:"


def select(patterns: Iterable[str], layers: Sequence[LayerInfo]) -> frozenset[str]:
    """Return the layers that any of the patterns means.

    Args:
        patterns: A layer's name, a glob over names (``block1*``), or ``kind:`` with a Keras class or a glob
            over classes (``kind:DepthwiseConv2D``).
        layers: Those of the canonical graph.

    Raises:
        UnknownNameError: A pattern that means no layer: kept silently, it would have no effect.
    """
    found: set[str] = set()
    for pattern in patterns:
        of_kind = pattern.startswith(KIND)
        wanted = pattern.removeprefix(KIND).strip()
        known = [layer.kind if of_kind else layer.name for layer in layers]
        matching = {
            layer.name
            for layer, value in zip(layers, known, strict=True)
            if fnmatch.fnmatchcase(value, wanted)
        }
        if not matching:
            what = "kind of layer" if of_kind else "layer"
            raise UnknownNameError(
                what,
                wanted,
                sorted(set(known)) if of_kind else known,
                hint="(list them with: edgefx inspect)",
            )
        found |= matching
    return frozenset(found)
