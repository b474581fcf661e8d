"""Weights that make a random model answer differently to different images, as a trained one does.

A fresh model gives about the same scores for all images, which would hide any mistake, and make every figure
of INT8 meaningless. So batch normalization is fitted to real images and its scales and offsets are spread,
and the last layer is fitted to the labels in closed form.
"""

from __future__ import annotations

from typing import Any

import numpy as np

_PENALTY = 0.1  # of the features' mean power
CLASSES = 5  # of all forms that choose one; of images of more classes some count as one
_BRANCH = 0.3  # of what goes past it; branches as large make a deep random network chaotic
_SURE = 3.0  # the logit of the right class above the others, before the penalty takes its part


def settle(model: Any, pixels: Any) -> Any:
    """Fit normalizations to images, float32 as the model takes them; returns the model."""
    rng = np.random.default_rng(0)
    rates = []
    for layer in _layers(model):
        kind = type(layer).__name__
        if kind == "Normalization" and layer.weights:
            layer.set_weights(
                [np.array(w) for w in ([0.485, 0.456, 0.406], [0.229**2, 0.224**2, 0.225**2], 0)]
            )
            layer.finalize_state()
        if kind in ("BatchNormalization", "LayerNormalization", "GroupNormalization"):
            for name, draw in (("gamma", rng.uniform(0.6, 1.4, 4096)), ("beta", rng.normal(0, 0.3, 4096))):
                value = getattr(layer, name)
                if value is not None:
                    value.assign(draw[: value.shape[0]] * (_BRANCH if _feeds_sum(layer) else 1.0))
            layer.momentum = 0.0  # so that one call sets the moving statistics to the batch's
        if kind == "PReLU":  # a ReLU at first
            layer.alpha.assign(rng.uniform(0.05, 0.4, layer.alpha.shape))
        if kind == "LayerScale":  # of ConvNeXt: 1e-6 at first, which leaves nothing of its blocks
            layer.gamma.assign(rng.uniform(0.1, 0.3, layer.gamma.shape))
        for name in ("rate", "drop_path_rate"):
            if isinstance(getattr(layer, name, None), float):
                rates.append((layer, name, getattr(layer, name)))
                setattr(layer, name, 0.0)
    model(pixels, training=True)
    for layer, name, rate in rates:
        setattr(layer, name, rate)
    return model


def fit(keras: Any, model: Any, last: str, pixels: Any, targets: Any) -> Any:
    """Fit the layer `last`, dense or a 1 x 1 convolution, to targets [N, values] by ridge regression."""
    layer = model.get_layer(last)
    seen = keras.Model(model.inputs, layer.input).predict(pixels, batch_size=16, verbose=0)
    features = seen.reshape(len(seen), -1).astype(np.float64)
    mean = features.mean(0)
    centred = features - mean
    penalty = _PENALTY * np.square(centred).sum() / max(centred.shape[1], len(centred))
    # The dual form: there are fewer images than features.
    gram = centred @ centred.T + penalty * np.eye(len(centred))
    weights = centred.T @ np.linalg.solve(gram, targets - targets.mean(0))
    values = [weights, targets.mean(0) - mean @ weights]
    layer.set_weights([value.reshape(w.shape) for value, w in zip(values, layer.get_weights(), strict=True)])
    return model


def targets_of(task: str, labels: Any, pixels: Any) -> Any:
    """Return what the last layer is fitted to, [N, values]: what is right, or logits of it."""
    if task == "regression":
        return np.asarray(pixels).mean((1, 2))[:, :2] / 64
    if task == "binary":
        return _SURE * np.where(labels >= (labels.max() + 1) // 2, 1.0, -1.0)[:, None]
    if task == "multilabel":
        return _SURE * np.stack([np.where(labels >> bit & 1, 1.0, -1.0) for bit in range(3)], 1)
    return _SURE * np.eye(CLASSES)[labels % CLASSES]


def _feeds_sum(layer: Any) -> bool:
    """Whether what a layer puts out is a branch that is added to what goes past it."""
    followers = [
        node.operation if hasattr(node, "operation") else node.layer for node in layer._outbound_nodes
    ]
    kinds = {type(one).__name__ for one in followers}
    return "Add" in kinds or (kinds == {"Dropout"} and any(_feeds_sum(one) for one in followers))


def _layers(model: Any) -> list[Any]:
    """All layers, of models within it too."""
    found = []
    for layer in getattr(model, "layers", []):
        found += [layer, *_layers(layer)]
        wrapped = getattr(layer, "layer", None)
        found += [wrapped, *_layers(wrapped)] if wrapped is not None else []
    return found
