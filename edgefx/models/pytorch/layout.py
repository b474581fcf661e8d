"""How timm and torchvision lay an EfficientNet out, and what their training did otherwise than Keras'.

Names follow from the architecture, so that one rule fits every size: Keras' ``block4b_`` is ``blocks.3.1`` in
timm and ``features.4.1.block`` in torchvision, and convolutions and normalizations are numbered in the order
that data takes. What no state dict says is taken from the published name: models ported from TensorFlow
(``tf_``) pad as Keras does and normalize with an epsilon of 1e-3; those trained in PyTorch pad alike on all
sides, which at a stride of 2 sees other pixels, and normalize with 1e-5.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from edgefx.errors import ModelError

_BLOCK = re.compile(r"block(\d+)([a-z])_(\w+)")
_IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_HALF = (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)
_MAX_CONFIG = 1 << 20  # bytes of the config.json beside weights
_VARIANT = re.compile(r"(?:tf_)?efficientnet(?:v2)?_[a-z0-9]+")


@dataclass(frozen=True)
class Source:
    """Where weights come from, as far as it matters.

    Attributes:
        variant: The published name, such as ``tf_efficientnet_b0``.
        library: "timm" or "torchvision".
        symmetric: Whether convolutions pad alike on all sides.
        epsilon: Of batch normalization.
        mean: Of pixels in [0, 1], which is subtracted.
        deviation: What they are divided by then.
    """

    variant: str
    library: str
    symmetric: bool
    epsilon: float
    mean: tuple[float, ...]
    deviation: tuple[float, ...]


class Named(NamedTuple):
    """A Keras layer with weights, and the name that PyTorch's begin with."""

    layer: str
    prefix: str
    normalization: bool


def source_of(path: Path, names: Mapping[str, Any], *, family: str) -> Source:
    """Tell where a state dict comes from, by its names, the file's name and the ``config.json`` beside it.

    Args:
        path: The weights file as the user names it.
        names: Of the state dict's tensors.
        family: The zoo name that the weights are for.

    Raises:
        ModelError: Neither timm's nor torchvision's, or nothing says of which training.
    """
    if "features.0.0.weight" in names:
        # torchvision normalizes B5 to B7 with the epsilon that their TensorFlow weights were trained with.
        epsilon = 1e-3 if family in ("b5", "b6", "b7") or family.startswith("v2-") else 1e-5
        normalized = _HALF if family == "v2-l" else _IMAGENET
        return Source(f"efficientnet_{family.replace('-', '_')}", "torchvision", True, epsilon, *normalized)
    if "conv_stem.weight" not in names:
        raise ModelError(
            f"{path}: neither timm's nor torchvision's EfficientNet: no 'conv_stem.weight' and no"
            " 'features.0.0.weight' in it",
            hint="save the state dict of the whole model under its own names",
        )
    config = _config(path)
    variant = _variant(path, config)
    if variant is None:
        raise ModelError(
            f"{path}: timm's weights, but nothing says whether of a tf_ model or of one trained in PyTorch,"
            " which pad differently",
            hint="let the file's name begin with the model's, such as tf_efficientnet_b0, or put timm's"
            " config.json beside it",
        )
    ported = variant.startswith("tf_")
    given = config.get("pretrained_cfg", {}) if isinstance(config.get("pretrained_cfg"), dict) else {}
    mean, deviation = _statistics(given) or _usual(variant)
    return Source(variant, "timm", not ported, 1e-3 if ported else 1e-5, mean, deviation)


def _config(path: Path) -> dict[str, Any]:
    beside = path.with_name("config.json")
    try:
        if not beside.is_file() or beside.stat().st_size > _MAX_CONFIG:
            return {}
        config = json.loads(beside.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return config if isinstance(config, dict) else {}


def _variant(path: Path, config: Mapping[str, Any]) -> str | None:
    for said in (path.name, config.get("architecture")):
        if isinstance(said, str) and (match := _VARIANT.search(said.lower())):
            return match[0]
    return None


def _statistics(given: Mapping[str, Any]) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
    """Read mean and deviation of a config.json."""
    values = [given.get(key) for key in ("mean", "std")]
    if not all(isinstance(one, list) and len(one) == 3 for one in values):
        return None
    mean, deviation = (tuple(float(number) for number in one) for one in values if one is not None)
    return (mean, deviation) if min(deviation) > 0 else None


def _usual(variant: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return what timm feeds most weights of a name with; its config.json knows those of each."""
    half = ("tf_efficientnet_lite", "tf_efficientnet_e", "tf_efficientnetv2_s", "tf_efficientnetv2_m")
    return _HALF if variant.startswith((*half, "tf_efficientnetv2_l", "tf_efficientnetv2_xl")) else _IMAGENET


def named(model: Any, library: str) -> Iterator[Named]:
    """Yield the layers of a Keras EfficientNet that have weights, each with its name in a library."""
    blocks: dict[tuple[int, int], set[str]] = {}
    for layer in model.layers:
        if match := _BLOCK.fullmatch(layer.name):
            place = int(match[1]), ord(match[2]) - ord("a")
            blocks.setdefault(place, set()).add(match[3])
    stages = max(number for number, _ in blocks)
    ends = {
        "timm": ("conv_stem", "bn1", "conv_head", "bn2", "classifier"),
        "torchvision": (
            *("features.0.0", "features.0.1"),
            *(f"features.{stages + 1}.{part}" for part in (0, 1)),
            "classifier.1",
        ),
    }[library]
    yield Named("stem_conv", ends[0], False)
    yield Named("stem_bn", ends[1], True)
    for (number, index), parts in sorted(blocks.items()):
        of_block = _timm_block if library == "timm" else _torchvision_block
        start = f"blocks.{number - 1}.{index}." if library == "timm" else f"features.{number}.{index}.block."
        for name, prefix in of_block(parts):
            layer = f"block{number}{chr(ord('a') + index)}_{name}"
            yield Named(layer, start + prefix, name.endswith("bn"))
    yield Named("top_conv", ends[2], False)
    yield Named("top_bn", ends[3], True)
    yield Named("predictions", ends[4], False)


def _depthwise(parts: set[str]) -> str | None:
    return next((name for name in ("dwconv", "dwconv2") if name in parts), None)


def _timm_block(parts: set[str]) -> Iterator[tuple[str, str]]:
    depthwise, expands = _depthwise(parts), "expand_conv" in parts
    number = 0

    def pair(convolution: str, normalization: str, name: str) -> Iterator[tuple[str, str]]:
        nonlocal number
        number += 1
        yield convolution, name
        yield normalization, f"bn{number}"

    if expands:
        yield from pair("expand_conv", "expand_bn", "conv_pw" if depthwise else "conv_exp")
    if depthwise:
        yield from pair(depthwise, "bn", "conv_dw")
    if "se_reduce" in parts:
        yield "se_reduce", "se.conv_reduce"
        yield "se_expand", "se.conv_expand"
    last = "conv_pwl" if expands else "conv_pw" if depthwise else "conv"
    yield from pair("project_conv", "project_bn", last)


def _torchvision_block(parts: set[str]) -> Iterator[tuple[str, str]]:
    depthwise = _depthwise(parts)
    steps = [("expand_conv", "expand_bn")] if "expand_conv" in parts else []
    steps += [(depthwise, "bn")] if depthwise else []
    number = 0
    for number, (convolution, normalization) in enumerate(steps, start=1):
        yield convolution, f"{number - 1}.0"
        yield normalization, f"{number - 1}.1"
    if "se_reduce" in parts:
        yield "se_reduce", f"{number}.fc1"
        yield "se_expand", f"{number}.fc2"
        number += 1
    yield "project_conv", f"{number}.0"
    yield "project_bn", f"{number}.1"
