"""A classifier small enough to be made without a framework, for tests that are not about models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


def write(
    path: Path, *, seed: int = 0, hidden: int = 8, external: str = "", free_batch: bool = False
) -> Path:
    """Write an ONNX classifier of 10 classes that takes float32 [1, 8, 8, 3] pixels.

    Args:
        path: Where to.
        seed: Decides the weights.
        hidden: Units of the hidden layer: the file has 4 x 202 bytes for each.
        external: The name of a file beside it that the weights are kept in.
        free_batch: Whether it takes any number of images at once.
    """
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    rng = np.random.default_rng(seed)
    weights: dict[str, NDArray[Any]] = {
        "first": rng.normal(0, 0.01, (192, hidden)).astype(np.float32),
        "second": rng.normal(0, 0.1, (hidden, 10)).astype(np.float32),
        "flat": np.array([-1 if free_batch else 1, 192], np.int64),
    }
    batch = "batch" if free_batch else 1
    graph = helper.make_graph(
        [
            helper.make_node("Reshape", ["image", "flat"], ["row"]),
            helper.make_node("MatMul", ["row", "first"], ["product"]),
            helper.make_node("Relu", ["product"], ["hidden"]),
            helper.make_node("MatMul", ["hidden", "second"], ["logits"]),
            helper.make_node("Softmax", ["logits"], ["probabilities"]),
        ],
        "tiny",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [batch, 8, 8, 3])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, [batch, 10])],
        [numpy_helper.from_array(values, name) for name, values in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(
        model,
        path,
        save_as_external_data=bool(external),
        location=external or None,
        size_threshold=100,
    )
    return path


def pixels(images: int, *, seed: int = 0) -> NDArray[np.uint8]:
    """Return images for it, uint8 [images, 8, 8, 3]."""
    return np.random.default_rng(seed).integers(0, 256, (images, 8, 8, 3), dtype=np.uint8)
