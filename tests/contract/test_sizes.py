"""Images that are not square, for models that leave their size open, through all runtimes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import edgefx
from edgefx import units
from edgefx.errors import UsageError
from edgefx.models.load import load

from .models_zoo import images, nested_functional, randomise, save_case

HEIGHT, WIDTH = 40, 56
TARGETS = ("tflite-int8", "onnx-int8", "openvino-int8", "tflite-float32")


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images of all kinds of pixels: colour, grey, with transparency, with a palette."""
    root = tmp_path_factory.mktemp("photos")
    modes = ("RGB", "L", "RGBA", "P", "LA")
    for number, one in enumerate(images(HEIGHT, WIDTH, count=25)):
        Image.fromarray(one).convert(modes[number % len(modes)]).save(root / f"{number:02}.png")
    return root


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of any size, in mixed precision."""
    import keras

    keras.utils.set_random_seed(0)
    keras.mixed_precision.set_global_policy("mixed_float16")
    try:
        made = randomise(nested_functional(keras, size=None))
    finally:
        keras.mixed_precision.set_global_policy("float32")
    path = tmp_path_factory.mktemp("model") / "any.keras"
    made.save(path)
    return path


def test_a_mixed_precision_model_of_any_size_becomes_an_artifact_of_one(
    model: Path, photos: Path, tmp_path: Path
) -> None:
    found = edgefx.compile(
        model, targets=TARGETS, input_size=f"{HEIGHT}x{WIDTH}", calibration=photos, samples=10,
        effort="fast", benchmark=False, cache=False, output=tmp_path / "out",
    )  # fmt: skip
    assert [result.failure for result in found] == [None] * len(TARGETS)
    assert (found.model.height, found.model.width) == (HEIGHT, WIDTH)
    for result in found:
        assert result.artifact is not None
        assert result.artifact.inputs[0].shape == (1, HEIGHT, WIDTH, 3)
        assert result.accuracy is not None
        # A head of random weights, and ranges of ten images: what counts is that nothing is out of place.
        assert (result.accuracy.agreement or 0) >= 0.5
        if result.target == "tflite-float32":
            assert result.accuracy.max_abs_dp < 1e-4


@pytest.mark.parametrize(("size", "expected"), [(48, (48, 48)), ("48", (48, 48)), ("32x64", (32, 64))])
def test_a_size_is_a_side_or_two(size: Any, expected: tuple[int, int], model: Path) -> None:
    assert units.parse_size_of_input(size) == expected
    spec = load(str(model), input_size=size).spec
    assert (spec.height, spec.width) == expected


def test_models_of_the_zoo_need_not_be_square() -> None:
    spec = load("digits", input_size="40x32").spec
    assert (spec.height, spec.width) == (40, 32)


def test_another_size_than_the_models_is_refused(tmp_path: Path) -> None:
    path = str(save_case("functional", tmp_path))
    assert load(path, input_size="32x32").spec.width == 32
    with pytest.raises(UsageError, match=r"--input-size 32x40: the model .* takes 32 x 32 px"):
        load(path, input_size="32x40")


@pytest.mark.parametrize(
    "text", ["", "0", "7x32", "32x", "x32", "32X40", "3.5", "-32", "32x5000", "1" * 99, "²"]
)
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--input-size"):
        units.parse_size_of_input(text)
    with pytest.raises(UsageError, match="input_size"):
        edgefx.inspect("digits", input_size=text)


def test_pixels_are_the_same_whatever_the_files_mode(photos: Path) -> None:
    from edgefx.data import folders
    from edgefx.data import images as decoding
    from edgefx.protocols import SILENT
    from edgefx.types import Resize

    loading = decoding.load(
        folders.scan(photos), height=HEIGHT, width=WIDTH, resize=Resize.STRETCH, skip_bad=False,
        progress=SILENT, role="evaluation",
    )  # fmt: skip
    with loading as loader:
        found = np.asarray(loader.finish().pixels)
    wanted = images(HEIGHT, WIDTH, count=25)
    for number in (0, 2):  # transparency changes nothing
        np.testing.assert_array_equal(found[number], wanted[number])
    assert (found[1] == found[1][..., :1]).all()  # grey is grey
