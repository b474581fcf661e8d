"""The bridge to tf_keras: every layered model that loads becomes an equal model that can be trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgefx.errors import ModelError
from edgefx.models.backend import import_tf_keras
from edgefx.models.graph import tf_keras as keras2
from edgefx.models.graph.from_tensorflow import from_tensorflow
from edgefx.types import FrozenGraph, ImageSet

from .models_zoo import images, save_case

LAYERED = (
    "v2",
    "nested sequential",
    "logits",
    "shared trunk",
    "unusual layers",
    "unfoldable batchnorm",
    "tf_keras functional h5",
)


def frozen(name: str, folder: Path) -> FrozenGraph:
    from edgefx.models.graph.canonical import canonicalize
    from edgefx.models.load import load

    return canonicalize(load(str(save_case(name, folder))), folder / "work")


@pytest.mark.parametrize("name", LAYERED)
def test_equals_the_canonical_graph_layer_by_layer(name: str, tmp_path: Path) -> None:
    graph = frozen(name, tmp_path)
    model = keras2.to_tf_keras(graph, images(graph.spec.height, graph.spec.width))
    assert {layer.name for layer in model.layers[1:]} == {layer.name for layer in graph.layers}
    for layer in graph.layers:
        # Rescaling's constants are no weights, and unknown layers keep theirs as constants.
        weights = model.get_layer(layer.name).weights
        if type(model.get_layer(layer.name)).__name__ in ("Conv2D", "DepthwiseConv2D", "Dense"):
            kernel, outputs = int(np.prod(weights[0].shape)), layer.output_shape[-1]
            assert layer.parameters in (kernel, kernel + outputs), layer.name


def test_what_it_cannot_prove_is_refused(tiny_graph: FrozenGraph, tiny_images: ImageSet) -> None:
    model = keras2.to_tf_keras(tiny_graph, tiny_images.pixels)
    stem = model.get_layer("stem_conv")
    stem.set_weights([1.01 * value for value in stem.get_weights()])
    with pytest.raises(ModelError, match=r"differs: max \|Δp\| = .*; allowed is"):
        keras2.prove(model, tiny_graph, tiny_images.pixels)


def test_a_saved_model_without_layers_is_refused(tmp_path: Path) -> None:
    graph = frozen("exported SavedModel", tmp_path)
    with pytest.raises(ModelError, match="has no layers that could be trained") as caught:
        from_tensorflow(graph)
    assert "give the .keras or .h5 file" in caught.value.hint


def test_tensorflow_model_optimization_takes_it(tiny_graph: FrozenGraph, tiny_images: ImageSet) -> None:
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

    model = keras2.to_tf_keras(tiny_graph, tiny_images.pixels)
    lacking = ("Rescaling", "Multiply", "Activation")

    def annotated(layer: Any) -> Any:
        config = OutputQuantized() if type(layer).__name__ in lacking else None
        return quantization.quantize_annotate_layer(layer, config)

    with quantization.quantize_scope({"OutputQuantized": OutputQuantized}):
        quantized = quantization.quantize_apply(tf_keras.models.clone_model(model, clone_function=annotated))
    names = {layer.name.removeprefix("quant_") for layer in quantized.layers}
    assert {layer.name for layer in tiny_graph.layers} <= names
    batch = tiny_images.pixels[:4].astype(np.float32)
    quantized(batch, training=True)  # ranges are seen
    assert np.isfinite(quantized(batch, training=False).numpy()).all()
