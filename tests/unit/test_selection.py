"""Layers by name, glob and kind."""

from __future__ import annotations

import pytest

from edgefx.errors import UnknownNameError
from edgefx.quantize.selection import select
from edgefx.types import LayerInfo


def layer(name: str, kind: str) -> LayerInfo:
    return LayerInfo(name=name, kind=kind, output_shape=(1,), parameters=0, macs=0)


LAYERS = (
    layer("stem_conv", "Conv2D"),
    layer("block1a_dwconv", "DepthwiseConv2D"),
    layer("block1a_project", "Conv2D"),
    layer("block2a_dwconv", "DepthwiseConv2D"),
    layer("top", "Dense"),
)


@pytest.mark.parametrize(
    ("patterns", "expected"),
    [
        ((), set()),
        (("top",), {"top"}),
        (("block1*",), {"block1a_dwconv", "block1a_project"}),
        (("kind:DepthwiseConv2D", "stem_conv"), {"block1a_dwconv", "block2a_dwconv", "stem_conv"}),
        (("kind:*Conv2D",), {"stem_conv", "block1a_dwconv", "block1a_project", "block2a_dwconv"}),
    ],
)
def test_patterns(patterns: tuple[str, ...], expected: set[str]) -> None:
    assert select(patterns, LAYERS) == expected


@pytest.mark.parametrize(
    ("pattern", "message", "hint"),
    [
        ("stem_con", "unknown layer 'stem_con'", "stem_conv"),
        ("kind:DepthwiseConv", "unknown kind of layer 'DepthwiseConv'", "edgefx inspect"),
        ("block9*", "unknown layer 'block9*'", ""),
    ],
)
def test_what_matches_nothing_is_refused(pattern: str, message: str, hint: str) -> None:
    with pytest.raises(UnknownNameError) as caught:
        select((pattern,), LAYERS)
    assert caught.value.message == message
    assert hint in caught.value.hint
