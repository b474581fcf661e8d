"""Give a Keras EfficientNet the weights of a PyTorch state dict, and the arithmetic of their training."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgefx.errors import ModelError
from edgefx.models.pytorch import layout, state
from edgefx.models.safety.snapshot import snapshot

if TYPE_CHECKING:
    from collections.abc import Mapping

    from edgefx.models.pytorch.layout import Named, Source

_SHOWN = 3  # names in a message
_COUNTER = "num_batches_tracked"  # of each normalization; only training needs it


def load(model: Any, path: Path, *, family: str, sha256: str | None = None) -> Source:
    """Fill `model` from a PyTorch file, in place.

    Args:
        model: An EfficientNet with Keras' names of layers.
        path: The file.
        family: The zoo name of the model.
        sha256: The hash that the file must have, where the caller has hashed it before.

    Raises:
        ModelError: The file is damaged or of another architecture.
    """
    with snapshot(path, sha256=sha256) as copy:
        found = state.read(copy.path, source=path)
    source = layout.source_of(path, found, family=family)
    _check_padding(model, source, path)
    left = {name for name in found if not name.endswith(_COUNTER)}
    missing = []
    layers = {layer.name: layer for layer in model.layers}
    for entry in layout.named(model, source.library):
        layer = layers[entry.layer]
        values, used = _values(entry, layer, found)
        if values is None:
            missing += [name for name in used if name not in found]
            continue
        left -= used
        _set(layer, values, entry, path)
    if missing or left:
        raise ModelError(
            f"{path}: not the weights of '{family}': {_listed('lacks', missing)}"
            f"{'; ' if missing and left else ''}{_listed('has', sorted(left))}",
            hint="name the family that the weights are of, such as lite0 for efficientnet_lite0",
        )
    _adopt(model, source)
    return source


def _listed(verb: str, names: list[str]) -> str:
    if not names:
        return ""
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"{verb} {', '.join(names[:_SHOWN])}{more}"


def _values(
    entry: Named, layer: Any, found: Mapping[str, NDArray[Any]]
) -> tuple[list[NDArray[Any]] | None, set[str]]:
    """Return a layer's weights in Keras' order and layout, None where some are absent, and their names."""
    parts = (
        ("weight", "bias", "running_mean", "running_var")
        if entry.normalization
        else ("weight", "bias")[: len(layer.weights)]
    )
    names = [f"{entry.prefix}.{part}" for part in parts]
    if any(name not in found for name in names):
        return None, set(names)
    values = [found[name] for name in names]
    if not entry.normalization:
        values[0] = _kernel(values[0], depthwise=type(layer).__name__ == "DepthwiseConv2D")
    return values, set(names)


def _kernel(weight: NDArray[Any], *, depthwise: bool) -> NDArray[Any]:
    """Turn [out, in, h, w] into [h, w, in, out], a depthwise [channels, 1, h, w] into [h, w, channels, 1]."""
    if weight.ndim != 4:
        return weight.T
    return weight.transpose((2, 3, 0, 1) if depthwise else (2, 3, 1, 0))


def _set(layer: Any, values: list[NDArray[Any]], entry: Named, path: Path) -> None:
    wanted = [tuple(variable.shape) for variable in layer.weights]
    given = [value.shape for value in values]
    if given == wanted:
        layer.set_weights(values)
        return
    if entry.layer == "predictions":
        raise ModelError(
            f"{path}: these weights have {given[0][-1]} classes, not {wanted[0][-1]}",
            hint=f"say so: --classes {given[0][-1]}",
        )
    raise ModelError(
        f"{path}: '{entry.prefix}' has the shape {given[0]} where '{entry.layer}' has {wanted[0]}",
        hint="the weights are of another size of the family",
    )


def _adopt(model: Any, source: Source) -> None:
    """Let a model compute as the weights were trained: epsilon, padding, and the scale of pixels."""
    for layer in model.layers:
        kind = type(layer).__name__
        if kind == "BatchNormalization":
            layer.epsilon = source.epsilon
        elif kind == "ZeroPadding2D" and source.symmetric:
            layer.padding = tuple((after, after) for _, after in layer.padding)
    _set_pixels(model, *(np.asarray(values, np.float64) for values in (source.mean, source.deviation)))


def _check_padding(model: Any, source: Source, path: Path) -> None:
    """Refuse what a model cannot be made to compute: Keras' V2 pads inside of its convolutions."""
    strided = [layer for layer in model.layers if layer.name.endswith("conv") and max(layer.strides) > 1]
    if source.symmetric and any(layer.padding == "same" for layer in strided):
        raise ModelError(
            f"{path}: {source.variant} of {source.library} pads alike on all sides, and Keras' EfficientNetV2"
            " does not",
            hint="take the weights that were ported from TensorFlow: tf_efficientnetv2_…",
        )


def _set_pixels(model: Any, mean: NDArray[np.float64], deviation: NDArray[np.float64]) -> None:
    named = {type(layer).__name__: layer for layer in model.layers}
    rescaling, normalization = named["Rescaling"], named.get("Normalization")
    if normalization is None:
        rescaling.scale = (1 / (255 * deviation)).tolist()
        rescaling.offset = (-mean / deviation).tolist()
        return
    rescaling.scale, rescaling.offset = 1 / 255, 0.0
    statistics = {"mean": mean, "variance": np.square(deviation)}
    if normalization.input_mean is None:
        for name, value in statistics.items():
            getattr(normalization, f"adapt_{name}").assign(value)
        normalization.finalize_state()
        return
    import tensorflow as tf

    for name, value in statistics.items():
        shape = np.shape(getattr(normalization, name))
        setattr(normalization, name, tf.constant(value.reshape(shape), tf.float32))
