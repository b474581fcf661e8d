"""What a loaded model takes and gives, and whether that is an image classifier."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from edgefx.errors import ModelError, UsageError
from edgefx.models import zoo
from edgefx.types import OutputKind

_PASS_THROUGH = frozenset({"Identity", "IdentityN", "Cast", "Reshape", "Squeeze", "EnsureShape"})
_CALLS = frozenset({"PartitionedCall", "StatefulPartitionedCall"})
_NORMALISING = frozenset({"Softmax", "Sigmoid"})


@dataclass(frozen=True, kw_only=True)
class Interface:
    """A model's one input and one output.

    Attributes:
        batch: Fixed batch size, or None.
        height: Height of the input in pixels, or None.
        width: Width of the input in pixels, or None.
        channels: Number of channels of the input.
        classes: Length of the output vector.
        dtype: Element type of the input.
        input_name: Name in the signature of a SavedModel, else "".
        output_name: Name of the output in the signature of a SavedModel, else "".
    """

    batch: int | None
    height: int
    width: int
    channels: int
    classes: int
    dtype: str
    input_name: str = ""
    output_name: str = ""


def keras_interface(model: Any, *, source: str, input_size: int | None) -> Interface:
    """Read the interface of a Keras model; builds a Sequential model that has no input shape yet.

    Raises:
        ModelError: Several inputs or outputs, or unknown shapes.
        UsageError: `input_size` is needed, or contradicts the model.
    """
    if not getattr(model, "inputs", None) and not getattr(model, "built", False):
        if input_size is None:
            raise _size_needed(source)
        model.build((None, input_size, input_size, 3))
    inputs, outputs = getattr(model, "inputs", None), getattr(model, "outputs", None)
    if not inputs or not outputs:
        raise ModelError(
            f"{source}: a subclassed Keras model, whose input and output are not declared",
            hint="export it with model.export('folder') and compile that folder",
        )
    _check_single(source, [t.name for t in inputs], [t.name for t in outputs])
    return _interface(
        tuple(inputs[0].shape),
        tuple(outputs[0].shape),
        _dtype_name(inputs[0].dtype),
        source=source,
        input_size=input_size,
        default_size=_family_size(model),
    )


def signature_interface(loaded: Any, *, source: str, input_size: int | None) -> tuple[Any, Interface]:
    """Pick the inference signature of a SavedModel and read its interface.

    Raises:
        ModelError: No signature, several inputs or outputs, or unknown shapes.
        UsageError: `input_size` is needed, or contradicts the model.
    """
    signatures = dict(getattr(loaded, "signatures", {}))
    name = (
        "serving_default" if "serving_default" in signatures else "serve" if "serve" in signatures else None
    )
    if name is None:
        if len(signatures) != 1:
            found = ", ".join(sorted(signatures)) or "none"
            raise ModelError(
                f"{source}: no signature 'serving_default' in this SavedModel (found: {found})",
                hint="save it with model.export('folder'), which writes one",
            )
        name = next(iter(signatures))
    signature = signatures[name]
    inputs = signature.structured_input_signature[1]
    outputs = signature.structured_outputs
    _check_single(source, list(inputs), list(outputs))
    (input_name, given), (output_name, result) = next(iter(inputs.items())), next(iter(outputs.items()))
    interface = _interface(
        _dimensions(given.shape),
        _dimensions(result.shape),
        given.dtype.name,
        source=source,
        input_size=input_size,
        default_size=None,
        names=(input_name, output_name),
    )
    return signature, interface


def _dimensions(shape: Any) -> tuple[int | None, ...]:
    return () if shape.rank is None else tuple(shape.as_list())


def _check_single(source: str, inputs: list[str], outputs: list[str]) -> None:
    for what, names in (("inputs", inputs), ("outputs", outputs)):
        if len(names) != 1:
            raise ModelError(
                f"{source}: the model has {len(names)} {what} ({', '.join(names)}); "
                "edgefx compiles classifiers with one input and one output",
                hint="make a model of the one that matters, with keras.Model(input, output), and save that",
            )


def _interface(
    given: tuple[int | None, ...],
    result: tuple[int | None, ...],
    dtype: str,
    *,
    source: str,
    input_size: int | None,
    default_size: int | None,
    names: tuple[str, str] = ("", ""),
) -> Interface:
    if len(given) != 4:
        raise ModelError(
            f"{source}: not an image classifier: its input has shape {_shape(given)}, "
            "expected [N, height, width, 3]"
        )
    batch, height, width, channels = given
    if channels != 3:
        first = " (channels first?)" if height == 3 else ""
        raise ModelError(
            f"{source}: its input has shape {_shape(given)}{first}, "
            "expected RGB images [N, height, width, 3]",
            hint="put a layer in front that takes three channels, such as a fixed 1x1 convolution to grey",
        )
    if len(result) != 2 or result[1] is None:
        raise ModelError(
            f"{source}: not a classifier: its output has shape {_shape(result)}, expected [N, classes]",
            hint="a backbone without its head cannot be compiled: add pooling and a Dense layer"
            if len(result) == 4
            else "",
        )
    if height is None or width is None:
        size = input_size or default_size
        if size is None:
            raise _size_needed(source)
        height, width = height or size, width or size
    if min(height, width, 1 if batch is None else batch) < 1:
        raise ModelError(f"{source}: its input has shape {_shape(given)}, which holds no image")
    if input_size is not None and (height, width) != (input_size, input_size):
        raise UsageError(
            f"--input-size {input_size}: the model {source} takes {height} x {width} px and no other size",
            hint="leave --input-size out",
        )
    return Interface(
        batch=batch,
        height=height,
        width=width,
        channels=channels,
        classes=result[1],
        dtype=dtype,
        input_name=names[0],
        output_name=names[1],
    )


def _size_needed(source: str) -> UsageError:
    return UsageError(
        f"{source}: the model takes images of any size, so the size to compile for must be given",
        hint="add for example --input-size 224",
    )


def _family_size(model: Any) -> int | None:
    """The default size of the zoo family that `model` is, or holds as a layer; by the name Keras gave it."""
    sizes = {
        f.function.lower().replace("efficientnetv2", "efficientnetv2-"): f.input_size
        for f in zoo.FAMILIES.values()
    }
    candidates = [model, *getattr(model, "layers", ())]
    for layer in candidates:
        if layer.name in sizes:
            return sizes[layer.name]
    for layer in candidates[1:]:
        if hasattr(layer, "layers") and (size := _family_size(layer)):
            return size
    return None


def check_classifier(interface: Interface, *, source: str, classes: int | None) -> None:
    """Check the number of classes.

    Raises:
        ModelError: A single output.
        UsageError: Another number than `classes`.
    """
    if interface.classes < 2:
        raise ModelError(
            f"{source}: the model has a single output; edgefx needs a classifier with one output per class",
            hint="replace the last layer Dense(1, activation='sigmoid') by Dense(2, activation='softmax'), "
            "which is the same function with kernel [0, w] and bias [0, b]",
        )
    if classes is not None and classes != interface.classes:
        raise UsageError(
            f"--classes {classes}: the model {source} has {interface.classes} classes",
            hint="leave --classes out: a model file tells it",
        )


def output_kind(graph_def: Any, output: str) -> OutputKind:
    """Whether a graph ends in softmax (or sigmoid): told from its operations, not from values.

    Args:
        graph_def: A GraphDef, with its functions.
        output: Name of the output operation.
    """
    functions = {function.signature.name: function for function in graph_def.library.function}
    nodes = {node.name: node for node in graph_def.node}
    name = output
    while True:
        node = nodes.get(name)
        if node is None:
            return OutputKind.LOGITS
        if node.op in _NORMALISING:
            return OutputKind.PROBABILITIES
        if node.op in _CALLS:
            function = functions[node.attr["f"].func.name]
            nodes = {inner.name: inner for inner in function.node_def}
            name = function.ret[function.signature.output_arg[0].name].split(":")[0]
        elif node.op in _PASS_THROUGH:
            name = node.input[0].lstrip("^").split(":")[0]
        else:
            return OutputKind.LOGITS


def _dtype_name(dtype: Any) -> str:
    return str(getattr(dtype, "name", dtype))


def _shape(shape: tuple[int | None, ...]) -> str:
    return (
        "["
        + ", ".join(
            "N" if i == 0 and n is None else "any" if n is None else str(n) for i, n in enumerate(shape)
        )
        + "]"
    )
