"""Every kind of saved classifier becomes a canonical graph that equals it, and can be trained."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from edgefx.errors import ModelError
from edgefx.models.graph import tf_keras as keras2
from edgefx.models.graph.from_tensorflow import from_tensorflow
from edgefx.types import FrozenGraph, OutputKind

from .models_zoo import CASES, CLASSES, images, save_case

# Shapes computed at run time, randomness, control flow, variables and function calls: nothing an NPU takes.
FORBIDDEN = re.compile(
    r"^(Shape|ShapeN|StridedSlice|Pack|Unpack|.*Random.*|Multinomial|If|StatelessIf|While|StatelessWhile"
    r"|(Stateful)?PartitionedCall|VarHandleOp|ReadVariableOp|.*Dataset.*|SelectV2|Merge|Switch)$"
)

# Those that are made tf_keras models, to be trained.
LAYERED = (
    "v2",
    "nested sequential",
    "logits",
    "shared trunk",
    "unusual layers",
    "unfoldable batchnorm",
    "tf_keras functional h5",
)

SHARED = Path(__file__).parents[2].parent / "shared"


def graph_def(graph: FrozenGraph) -> Any:
    import tensorflow as tf

    definition = tf.compat.v1.GraphDef()
    definition.ParseFromString(graph.path.read_bytes())
    return definition


def op_counts(graph: FrozenGraph) -> Counter[str]:
    return Counter(node.op for node in graph_def(graph).node)


def compiled(name: str, folder: Path) -> tuple[Any, FrozenGraph]:
    from edgefx.models.graph.canonical import canonicalize
    from edgefx.models.load import load

    path = save_case(name, folder)
    loaded = load(str(path), input_size=32 if name == "any size" else None)
    return loaded, canonicalize(loaded, folder / "work")


Compiled = Callable[[str], tuple[Any, FrozenGraph]]


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Compiled:
    """Return a model of the zoo and its graph, compiled once for all tests."""
    return cache(lambda name: compiled(name, tmp_path_factory.mktemp("case")))


@pytest.mark.parametrize("name", CASES)
def test_equals_the_model_as_loaded(name: str, case: Compiled) -> None:
    from edgefx.models.graph.canonical import compare

    loaded, graph = case(name)
    pixels = images(loaded.spec.height, loaded.spec.width)

    scores = loaded.predict(pixels)
    assert scores.shape == (6, CLASSES)
    assert scores.std(axis=0).max() > 1e-3, (
        "the model must tell images apart, or the comparison shows nothing"
    )
    assert compare(scores, graph, pixels).max_abs_dp <= 1e-5

    definition = graph_def(graph)
    assert [node.op for node in definition.node if node.name == "image"] == ["Placeholder"]
    assert [node.name for node in definition.node if node.op == "Placeholder"] == ["image"]
    assert definition.node[-1].name == graph.first_output_name
    assert not definition.library.function
    assert not [node.op for node in definition.node if FORBIDDEN.match(node.op)]
    expected = OutputKind.LOGITS if "logits" in name else OutputKind.PROBABILITIES
    assert graph.spec.output is expected
    assert graph.spec.macs > 10_000
    if "exported" in name:
        assert graph.layers == ()
        return
    assert graph.spec.macs == sum(layer.macs for layer in graph.layers)
    scopes = {node.name.split("/")[0] for node in definition.node} - {"image", *graph.output_names}
    assert scopes <= {layer.name for layer in graph.layers}
    assert not [layer for layer in graph.layers if layer.kind.startswith(("Random", "Dropout", "Gaussian"))]


@pytest.mark.parametrize("name", LAYERED)
def test_equals_its_tf_keras_model_layer_by_layer(name: str, case: Compiled) -> None:
    _, graph = case(name)
    model = keras2.to_tf_keras(graph, images(graph.spec.height, graph.spec.width))
    assert {layer.name for layer in model.layers[1:]} == {layer.name for layer in graph.layers}
    for layer in graph.layers:
        # Rescaling's constants are no weights, and unknown layers keep theirs as constants.
        weights = model.get_layer(layer.name).weights
        if type(model.get_layer(layer.name)).__name__ in ("Conv2D", "DepthwiseConv2D", "Dense"):
            kernel, outputs = int(np.prod(weights[0].shape)), layer.output_shape[-1]
            assert layer.parameters in (kernel, kernel + outputs), layer.name


def test_a_saved_model_without_layers_cannot_be_trained(case: Compiled) -> None:
    _, graph = case("exported SavedModel")
    with pytest.raises(ModelError, match="has no layers that could be trained") as caught:
        from_tensorflow(graph)
    assert "give the .keras or .h5 file" in caught.value.hint


def test_an_exported_model_that_still_augments_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="random at inference") as caught:
        compiled("exported with augmentation", tmp_path)
    assert "augmentation" in caught.value.hint


@pytest.mark.shared
@pytest.mark.parametrize(
    ("model", "folder"),
    [("efficientnet_b0_flowers5", "flowers/val"), ("efficientnetv2_b0_imagenet", "imagenet/val")],
)
def test_real_models_on_real_images(model: str, folder: str, tmp_path: Path) -> None:
    from edgefx.models.graph.canonical import canonicalize, compare
    from edgefx.models.load import load

    path = SHARED / "models" / f"{model}.keras"
    if not path.exists():
        pytest.skip("the shared models are not beside this checkout")
    files = [f for f in sorted((SHARED / "images" / folder).rglob("*")) if f.suffix in (".jpg", ".png")][::12]
    bilinear = Image.Resampling.BILINEAR
    pixels = [np.asarray(Image.open(f).convert("RGB").resize((224, 224), bilinear)) for f in files]
    loaded = load(str(path))
    graph = canonicalize(loaded, tmp_path)
    assert compare(loaded.predict(np.stack(pixels)), graph, np.stack(pixels)).max_abs_dp <= 1e-5
    counts = op_counts(graph)
    assert counts["Pad"] == 0
    assert counts["Reshape"] == 0
    assert set(counts) == {
        *(
            "Placeholder",
            "Const",
            "AddV2",
            "Conv2D",
            "DepthwiseConv2dNative",
            "BiasAdd",
            "Sigmoid",
            "Mul",
            "Mean",
        ),
        *("MatMul", "Softmax", "Identity"),
    }
