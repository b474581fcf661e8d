"""The table of model families, and how to build one. To add a family: one row here.

Listing the table imports nothing heavy.
"""

from __future__ import annotations

import contextlib
import os
import sys
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from edgefx.errors import ModelError, UnknownNameError, UsageError
from edgefx.models import hub, scaling
from edgefx.models.backend import first_line, import_keras
from edgefx.models.formats import PYTORCH, Container, container, opened_weights
from edgefx.models.scaling import Scaling
from edgefx.units import parse_size_of_input

_V1 = "keras.applications.efficientnet"
_V2 = "keras.applications.efficientnet_v2"
_OURS = "edgefx.models.efficientnet"
_XL = "EfficientNetV2XL"

PACKAGED = "packaged"  # weights that ship with edgefx
IMAGENET = "imagenet"
RANDOM = "random"
DIGITS_WEIGHTS = Path(__file__).with_name("digits.weights.h5")


@dataclass(frozen=True, kw_only=True)
class Family:
    """One row of the table.

    Attributes:
        name: What the user types.
        module: Module of the function that builds it.
        function: That function; of our own module, the row of its table.
        input_size: Default height and width in pixels.
        classes: Default number of classes.
        parameters_m: Parameters in millions at the default number of classes.
        weights: What `--weights` takes by name, the default first.
        summary: One line.
        class_names: Names of the classes of the packaged weights.
        scaled: Coefficients of a variant.
        brings_images: Whether images to calibrate and to measure on ship with it; see `edgefx.data.digits`.
    """

    name: str
    module: str
    function: str
    input_size: int
    parameters_m: float
    summary: str
    classes: int = 1000
    weights: tuple[str, ...] = (IMAGENET, RANDOM)
    class_names: tuple[str, ...] = ()
    brings_images: bool = False
    scaled: Scaling | None = None


def _v1(digit: int, input_size: int, parameters_m: float) -> Family:
    return Family(
        name=f"b{digit}",
        module=_V1,
        function=f"EfficientNetB{digit}",
        input_size=input_size,
        parameters_m=parameters_m,
        summary=f"EfficientNet-B{digit} (Tan & Le 2019)",
    )


def _v2(suffix: str, input_size: int, parameters_m: float) -> Family:
    return Family(
        name=f"v2-{suffix.lower()}",
        module=_V2,
        function=f"EfficientNetV2{suffix}",
        input_size=input_size,
        parameters_m=parameters_m,
        summary=f"EfficientNetV2-{suffix} (Tan & Le 2021)",
    )


def _ours(name: str, input_size: int, parameters_m: float, summary: str) -> Family:
    return Family(
        name=name,
        module=_OURS,
        function=name,
        input_size=input_size,
        parameters_m=parameters_m,
        weights=(RANDOM,),
        summary=summary,
    )


def _lite(digit: int, input_size: int, parameters_m: float) -> Family:
    summary = f"EfficientNet-Lite{digit}: ReLU6, no gates"
    return _ours(f"lite{digit}", input_size, parameters_m, summary)


def _edgetpu(size: str, input_size: int, parameters_m: float) -> Family:
    summary = f"EfficientNet EdgeTPU-{size.upper()}: ReLU, fused blocks, no gates"
    return _ours(f"edgetpu-{size}", input_size, parameters_m, summary)


FAMILIES: dict[str, Family] = {
    family.name: family
    for family in (
        Family(
            name="digits",
            module=_OURS,
            function="digits",
            input_size=32,
            classes=10,
            parameters_m=0.13,
            weights=(PACKAGED, RANDOM),
            summary="a small EfficientNet for handwritten digits; ships with edgefx",
            class_names=tuple("0123456789"),
            brings_images=True,
        ),
        _v1(0, 224, 5.33),
        _v1(1, 240, 7.86),
        _v1(2, 260, 9.18),
        _v1(3, 300, 12.32),
        _v1(4, 380, 19.47),
        _v1(5, 456, 30.56),
        _v1(6, 528, 43.27),
        _v1(7, 600, 66.66),
        _v2("B0", 224, 7.20),
        _v2("B1", 240, 8.21),
        _v2("B2", 260, 10.18),
        _v2("B3", 300, 14.47),
        _v2("S", 384, 21.61),
        _v2("M", 480, 54.43),
        _v2("L", 480, 119.03),
        replace(_v2("XL", 512, 208.12), weights=(RANDOM,)),  # Keras has neither a function nor weights
        _lite(0, 224, 4.69),
        _lite(1, 240, 5.47),
        _lite(2, 260, 6.15),
        _lite(3, 280, 8.27),
        _lite(4, 300, 13.12),
        _edgetpu("s", 224, 5.49),
        _edgetpu("m", 240, 6.97),
        _edgetpu("l", 300, 10.68),
    )
}


def known(name: str) -> Family | None:
    """Return the row of a family, or of a variant of one (``b0:phi=1.5``); None for what is no zoo name.

    Raises:
        UsageError: A family's name with coefficients that make no sense.
    """
    base, colon, _ = name.lower().partition(":")
    family = FAMILIES.get(base)
    if family is None or not colon:
        return family
    _, scaled = scaling.read(name)
    return replace(
        family,
        name=f"{base}{scaled.suffix}",
        module=family.module if family.module == _V2 else _OURS,
        function=family.function if family.module == _V2 else base,
        input_size=scaled.size(family.input_size),
        parameters_m=round(family.parameters_m * scaled.depth * scaled.width**2, 2),  # about
        weights=(RANDOM,),
        summary=f"{family.summary}, scaled",
        scaled=scaled,
    )


def recognized(model: str) -> Container | None:
    """Tell what a user names as the model, before anything is done with it; None for one of the zoo.

    Raises:
        UnknownNameError: Neither a zoo name nor a path.
        NoModelError: The path holds no model.
        ModelError: What is on a hub cannot be downloaded.
    """
    if known(model) is not None:
        return None
    path = hub.located(model)
    if not path.exists() and not path.suffix and "/" not in model:
        raise UnknownNameError("model", model, FAMILIES, hint="(or the path of a Keras model)")
    return container(path)


def brings_images(model: str) -> bool:
    """Whether a model, by name or path, is one of the zoo that brings its own images."""
    family = known(model)
    return family is not None and family.brings_images


def find(name: str) -> Family:
    """Return the row of a family.

    Raises:
        UnknownNameError: There is no such family.
    """
    family = known(name)
    if family is None:
        raise UnknownNameError("model", name, FAMILIES, hint="(list them with: edgefx models)")
    return family


def build(
    name: str,
    *,
    weights: str | None = None,
    classes: int | None = None,
    input_size: int | str | None = None,
    seed: int = 0,
    sha256: str | None = None,
    bounded: bool = True,
) -> Any:
    """Build a Keras model of the zoo.

    Args:
        name: A family of `FAMILIES`.
        weights: ``imagenet`` (Keras' own download and cache), ``packaged`` (digits), ``random``, or the path
            of a weights file (``.weights.h5``, ``.h5``; timm's or torchvision's ``.safetensors`` or ``.pth``)
            or whole model (``.keras``). None: the default.
        classes: Length of the output; None means the family's default.
        input_size: Height and width in pixels, 224 or "224x320"; None means the family's default.
        seed: Seed of random weights.
        sha256: The hash that a weights file must have; None takes any.
        bounded: Refuse a weights file that inflates to far more than its size.

    Returns:
        A ``keras.Model`` with input [N, height, width, 3] in [0, 255] and output [N, classes], softmax.

    Raises:
        UnknownNameError: No such family, or no weights of that name.
        UsageError: The weights do not go with the number of classes or the size.
        ModelError: The weights cannot be downloaded or do not fit.
    """
    family = find(name)
    weights = family.weights[0] if weights is None else weights
    classes = family.classes if classes is None else classes
    height, width = parse_size_of_input(family.input_size if input_size is None else input_size)
    _check(family, weights, classes, min(height, width))
    keras = import_keras()
    keras.utils.clear_session()  # names such as "rescaling" must not depend on what was built before
    keras.utils.set_random_seed(seed)
    constructor = _constructor(family)
    if weights == IMAGENET:
        return _imagenet(family, constructor, keras.Input((height, width, 3)))
    if family.module == _OURS:
        model = constructor(classes=classes, height=height, width=width)
    else:
        model = constructor(weights=None, classes=classes, input_shape=(height, width, 3))
    if weights == PACKAGED:
        model.load_weights(str(DIGITS_WEIGHTS))  # edgefx's own: not to be judged as what users bring
    elif weights != RANDOM:
        _load_weights(model, Path(weights), family, sha256=sha256, bounded=bounded)
    return model


def _check(family: Family, weights: str, classes: int, size: int) -> None:
    if classes < 2:
        raise UsageError(f"--classes {classes}: a classifier has at least 2 classes")
    if size < 32:
        raise UsageError(f"--input-size {size}: {family.name} needs at least 32 px")
    if weights in (IMAGENET, PACKAGED, RANDOM):
        if weights not in family.weights:
            raise UsageError(
                f"'{family.name}' has no {weights} weights",
                hint=f"use --weights {' or '.join(family.weights)}, or the path of a weights file",
            )
        if weights != RANDOM and classes != family.classes:
            raise UsageError(
                f"the {weights} weights of '{family.name}' have {family.classes} classes, not {classes}",
                hint="use --weights PATH with weights for your classes, pass the fine-tuned model file "
                "as the model, or use --weights random",
            )
        return
    path = Path(weights)
    if path.is_file():
        return
    if path.suffix or "/" in weights:
        raise ModelError(f"{weights}: no such weights file")
    raise UnknownNameError("weights", weights, family.weights, hint="(or the path of a weights file)")


def _constructor(family: Family) -> Any:
    if family.module == _OURS:
        from edgefx.models.efficientnet import ARCHITECTURES
        from edgefx.models.efficientnet import build as build_ours

        architecture = ARCHITECTURES[family.function]
        if family.scaled is not None:
            scaled = family.scaled
            architecture = replace(architecture, name=family.name, width=scaled.width, depth=scaled.depth)
        return partial(build_ours, architecture)
    keras = import_keras()
    if family.scaled is not None or family.function == _XL:
        from edgefx.models import efficientnet_v2

        return efficientnet_v2.constructor(family.input_size, family.scaled)
    return getattr(getattr(keras.applications, family.module.rsplit(".", 1)[1]), family.function)


def _imagenet(family: Family, constructor: Any, image: Any) -> Any:
    """Build with ImageNet weights. Passing the input tensor lets the size differ from the default."""
    try:
        with contextlib.redirect_stdout(sys.stderr):  # Keras' download bar; stdout is for results
            return constructor(weights="imagenet", input_tensor=image)
    except Exception as error:  # Keras raises a bare Exception for a failed download
        cached = (
            Path(os.environ.get("KERAS_HOME", Path.home() / ".keras")) / "models" / _imagenet_file(family)
        )
        what = "are incomplete or corrupt" if "hash" in str(error) else "cannot be had"
        raise ModelError(
            f"the ImageNet weights of '{family.name}' {what}: {first_line(error)}",
            hint=f"go on without: --weights random, or --weights PATH; or place the file as {cached}",
        ) from error


def _imagenet_file(family: Family) -> str:
    """Name of the file in the Keras cache."""
    stem = family.function.removeprefix("EfficientNet").lower()
    return (
        f"efficientnet{stem}.h5" if family.module == _V1 else f"efficientnetv2-{stem.removeprefix('v2')}.h5"
    )


def _load_weights(
    model: Any, path: Path, family: Family, *, sha256: str | None = None, bounded: bool = True
) -> None:
    if path.suffix.lower() in PYTORCH:
        from edgefx.models.pytorch import transfer

        transfer.load(model, path, family=family.name, sha256=sha256)
        return
    try:
        with opened_weights(path, sha256=sha256, bounded=bounded) as file:
            model.load_weights(str(file))
    except ModelError:
        raise
    except Exception as error:  # what Keras raises depends on how the file is wrong
        raise ModelError(
            f"{path}: these weights do not fit '{family.name}' with {model.output_shape[-1]} classes: "
            f"{first_line(error)}",
            hint="give the number of classes they were trained on with --classes, or the right family; "
            "a whole model file is passed as the model itself",
        ) from error
    _restore_imagenet_scaling(model)


def _restore_imagenet_scaling(model: Any) -> None:
    """Apply the second division by the standard deviation that Keras adds for its ImageNet weights.

    The published V1 weights hold the *standard deviation* of ImageNet where Normalization expects the
    variance; with ``weights="imagenet"`` Keras makes up for it by another Rescaling layer, but not when the
    same file is given by its path. Squaring the variance gives the same function.
    Source: keras/src/applications/efficientnet.py, "See tensorflow/issues/49930".
    """
    import numpy as np

    for layer in model.layers:
        if type(layer).__name__ == "Normalization" and getattr(layer, "adapt_variance", None) is not None:
            variance = layer.adapt_variance.numpy()
            if variance.shape == (3,) and np.allclose(variance, [0.229, 0.224, 0.225], atol=1e-6):
                layer.adapt_variance.assign(variance**2)
                layer.finalize_state()
