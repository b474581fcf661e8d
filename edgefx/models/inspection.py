"""What a loaded model takes and gives, and whether that is an image and an answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from edgefx.errors import ModelError, UnknownNameError, UsageError
from edgefx.models import zoo
from edgefx.units import parse_size_of_input

_DEFAULT_SIGNATURES = ("serving_default", "serve")


@dataclass(frozen=True, kw_only=True)
class Interface:
    """A model's one input, and the outputs that are meant.

    Attributes:
        batch: Fixed batch size, or None.
        height: Height of the input in pixels, or None.
        width: Width of the input in pixels, or None.
        channels: Number of channels of the input: 3, or 1 for grey images.
        dtype: Element type of the input.
        input_name: Name in the signature of a SavedModel, else "".
        output_names: What the model calls these outputs.
        output_indices: Which of the model's outputs they are.
        signature: The name of the signature of a SavedModel, else "".
    """

    batch: int | None
    height: int
    width: int
    channels: int
    dtype: str
    input_name: str = ""
    output_names: tuple[str, ...] = ("",)
    output_indices: tuple[int, ...] = (0,)
    signature: str = ""

    @property
    def notes(self) -> tuple[str, ...]:
        """What the user should know of it."""
        if self.signature in ("", *_DEFAULT_SIGNATURES):
            return ()
        return (f"the signature '{self.signature}' of the SavedModel is compiled, the only one of images",)


def keras_interface(
    model: Any,
    *,
    source: str,
    input_size: int | str | None,
    head: str | None = None,
    default_size: tuple[int, int] | None = None,
) -> Interface:
    """Read the interface of a Keras model; builds a Sequential model that has no input shape yet.

    Args:
        model: Of Keras 2 or 3.
        source: The model, for messages.
        input_size: Height and width, where the model leaves them open.
        head: The name of the one of several outputs that is meant.
        default_size: The height and width that is known of a model that leaves them open.

    Raises:
        ModelError: Several inputs, or unknown shapes.
        UsageError: `input_size` or `head` is needed, or contradicts the model.
    """
    if not getattr(model, "inputs", None) and not getattr(model, "built", False):
        if input_size is None:
            raise _size_needed(source)
        model.build((None, *parse_size_of_input(input_size), 3))
    inputs, outputs = getattr(model, "inputs", None), getattr(model, "outputs", None)
    if not inputs or not outputs:
        raise ModelError(
            f"{source}: a subclassed Keras model, whose input and output are not declared",
            hint="export it with model.export('folder') and compile that folder",
        )
    _check_single_input(source, [t.name for t in inputs])
    names = _output_names(model, outputs)
    indices = _chosen(names, head)
    return _interface(
        tuple(inputs[0].shape),
        [tuple(outputs[index].shape) for index in indices],
        _dtype_name(inputs[0].dtype),
        source=source,
        input_size=input_size,
        default_size="{}x{}".format(*default_size) if default_size else _family_size(model),
        outputs=(tuple(names[index] for index in indices), indices),
    )


def signature_interface(
    loaded: Any, *, source: str, input_size: int | str | None, head: str | None = None
) -> tuple[Any, Interface]:
    """Pick the inference signature of a SavedModel and read its interface; arguments as for Keras models.

    Raises:
        ModelError: No signature, several inputs, or unknown shapes.
        UsageError: `input_size` or `head` is needed, or contradicts the model.
    """
    signatures = dict(getattr(loaded, "signatures", {}))
    name = _signature_of_images(signatures, source)
    signature = signatures[name]
    inputs = signature.structured_input_signature[1]
    outputs = signature.structured_outputs
    _check_single_input(source, list(inputs))
    input_name, given = next(iter(inputs.items()))
    names = list(outputs)
    indices = _chosen(names, head)
    interface = _interface(
        _dimensions(given.shape),
        [_dimensions(outputs[names[index]].shape) for index in indices],
        given.dtype.name,
        source=source,
        input_size=input_size,
        default_size=None,
        input_name=input_name,
        outputs=(tuple(names[index] for index in indices), indices),
    )
    return signature, replace(interface, signature=name)


def _signature_of_images(signatures: Mapping[str, Any], source: str) -> str:
    """Return the signature that is meant: the default one, or else the only one, or the only one of images.

    Raises:
        ModelError: That could be several, or none.
    """
    named = [name for name in _DEFAULT_SIGNATURES if name in signatures][:1]
    images = [name for name, one in signatures.items() if _takes_images(one)]
    for candidates in (set(named) & set(images), images, named, list(signatures)):
        if len(candidates) == 1:
            (name,) = candidates
            return name
    found = ", ".join(sorted(signatures)) or "none"
    raise ModelError(
        f"{source}: no signature 'serving_default' in this SavedModel (found: {found})",
        hint="save it with model.export('folder'), which writes one",
    )


def _takes_images(signature: Any) -> bool:
    inputs = list(signature.structured_input_signature[1].values())
    return len(inputs) == 1 and len(_dimensions(inputs[0].shape)) == 4


def _dimensions(shape: Any) -> tuple[int | None, ...]:
    return () if shape.rank is None else tuple(shape.as_list())


def _check_single_input(source: str, names: list[str]) -> None:
    if len(names) != 1:
        raise ModelError(
            f"{source}: the model has {len(names)} inputs ({', '.join(names)}); edgefx compiles models of"
            " one image",
            hint="make a model of one input, with keras.Model(input, output), and save that",
        )


def _output_names(model: Any, outputs: Any) -> list[str]:
    """Return what a Keras model calls its outputs: the keys of a dictionary, else its layers' names."""
    for attribute in ("_outputs_struct", "_nested_outputs"):  # of Keras 3 and 2
        structure = getattr(model, attribute, None)
        if isinstance(structure, dict) and not any(
            isinstance(v, dict | list | tuple) for v in structure.values()
        ):
            return sorted(map(str, structure))  # as both flatten it
    # A Sequential model has one output, and no names for it.
    return [str(name) for name in getattr(model, "output_names", None) or [t.name for t in outputs]]


def _chosen(names: list[str], head: str | None) -> tuple[int, ...]:
    """Return the places of the outputs that are meant: all, or the one that was named.

    Raises:
        UnknownNameError: There is none of that name.
    """
    if head is None:
        return tuple(range(len(names)))
    if head not in names:
        raise UnknownNameError("output", head, names)
    return (names.index(head),)


def _interface(
    given: tuple[int | None, ...],
    results: Sequence[tuple[int | None, ...]],
    dtype: str,
    *,
    source: str,
    input_size: int | str | None,
    default_size: int | str | None,
    outputs: tuple[tuple[str, ...], tuple[int, ...]],
    input_name: str = "",
) -> Interface:
    if len(given) != 4:
        hint = "it takes encoded files: export the model behind the decoding" if dtype == "string" else ""
        raise ModelError(
            f"{source}: not a model of images: its input has shape {_shape(given)}, "
            "expected [N, height, width, 3]",
            hint=hint,
        )
    batch, height, width, channels = given
    if channels not in (1, 3):
        first = " (channels first?)" if height == 3 else ""
        raise ModelError(
            f"{source}: its input has shape {_shape(given)}{first}, "
            "expected RGB images [N, height, width, 3] or grey ones [N, height, width, 1]",
            hint="put a layer in front that takes three channels, such as a 1x1 convolution",
        )
    if height is None or width is None:
        size = input_size or default_size
        if size is None:
            raise _size_needed(source)
        sides = parse_size_of_input(size)
        height, width = height or sides[0], width or sides[1]
    if min(height, width, 1 if batch is None else batch) < 1:
        raise ModelError(f"{source}: its input has shape {_shape(given)}, which holds no image")
    if input_size is not None and (height, width) != parse_size_of_input(input_size):
        raise UsageError(
            f"--input-size {input_size}: the model {source} takes {height} x {width} px and no other size",
            hint="leave --input-size out",
        )
    for result in results:
        _check_output(result, source)
    return Interface(
        batch=batch,
        height=height,
        width=width,
        channels=channels,
        dtype=dtype,
        input_name=input_name,
        output_names=outputs[0],
        output_indices=outputs[1],
    )


def _check_output(result: tuple[int | None, ...], source: str) -> None:
    """Refuse an output that is neither a vector nor a map; of a map, height and width may be open."""
    if len(result) in (2, 4) and result[-1]:
        return
    hint = "make a model that ends in such an output, with keras.Model(input, output), and save that"
    if len(result) == 1:
        hint = f"take the scores in front of an argmax, or keep the dimension of a single one; {hint}"
    raise ModelError(
        f"{source}: its output has shape {_shape(result)}, expected scores or values [N, length], or a map"
        " [N, height, width, channels]",
        hint=hint,
    )


def _size_needed(source: str) -> UsageError:
    return UsageError(
        f"{source}: the model takes images of any size, so the size to compile for must be given",
        hint="add for example --input-size 224, or --input-size 224x320 for 224 pixels high and 320 wide",
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


def check_classes(classes: int, *, source: str, wanted: int | None) -> None:
    """Check the number of classes.

    Raises:
        UsageError: It is not the one wanted.
    """
    if wanted is not None and wanted != classes:
        raise UsageError(
            f"--classes {wanted}: the model {source} has {classes} classes",
            hint="leave --classes out: a model file tells it",
        )


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
