"""The bridge to tf_keras; which models cross it is in test_models_canonical.py, which has them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgefx.errors import ModelError
from edgefx.models.backend import import_tf_keras
from edgefx.models.graph import tf_keras as keras2
from edgefx.types import FrozenGraph, ImageSet


def test_what_it_cannot_prove_is_refused(tiny_graph: FrozenGraph, tiny_images: ImageSet) -> None:
    model = keras2.to_tf_keras(tiny_graph, tiny_images.pixels)
    stem = model.get_layer("stem_conv")
    stem.set_weights([1.01 * value for value in stem.get_weights()])
    with pytest.raises(ModelError, match=r"differs: max \|Δp\| = .*; allowed is"):
        keras2.prove(model, tiny_graph, tiny_images.pixels)


def test_tensorflow_model_optimization_takes_it(block_graph: FrozenGraph, tiny_images: ImageSet) -> None:
    """With a config for what tfmot lacks; before the bridge it refuses the nested Keras 3 model outright."""
    tfmot = pytest.importorskip("tensorflow_model_optimization")
    tf_keras = import_tf_keras()
    quantization = tfmot.quantization.keras

    class OutputQuantized(quantization.QuantizeConfig):  # type: ignore[misc, name-defined]
        """Rounds what a layer without weights puts out."""

        def get_weights_and_quantizers(self, _layer: Any) -> list[Any]:
            return []

        def get_activations_and_quantizers(self, _layer: Any) -> list[Any]:
            return []

        def set_quantize_weights(self, _layer: Any, quantize_weights: Any) -> None:
            assert not quantize_weights

        def set_quantize_activations(self, _layer: Any, quantize_activations: Any) -> None:
            assert not quantize_activations

        def get_output_quantizers(self, _layer: Any) -> list[Any]:
            return [
                quantization.quantizers.MovingAverageQuantizer(
                    num_bits=8, per_axis=False, symmetric=False, narrow_range=False
                )
            ]

        def get_config(self) -> dict[str, Any]:
            return {}

    model = keras2.to_tf_keras(block_graph, tiny_images.pixels)
    lacking = ("Rescaling", "Multiply", "Activation")

    def annotated(layer: Any) -> Any:
        config = OutputQuantized() if type(layer).__name__ in lacking else None
        return quantization.quantize_annotate_layer(layer, config)

    with quantization.quantize_scope({"OutputQuantized": OutputQuantized}):
        quantized = quantization.quantize_apply(tf_keras.models.clone_model(model, clone_function=annotated))
    names = {layer.name.removeprefix("quant_") for layer in quantized.layers}
    assert {layer.name for layer in block_graph.layers} <= names
    batch = tiny_images.pixels[:4].astype(np.float32)
    quantized(batch, training=True)  # ranges are seen
    assert np.isfinite(quantized(batch, training=False).numpy()).all()
