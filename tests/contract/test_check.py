"""`edgefx check`: a model that a chip does not take, and why, by the real compilers."""

from __future__ import annotations

from pathlib import Path

import pytest

import edgefx
from edgefx.errors import ExitCode, UsageError

pytest.importorskip("ethosu", reason="ethos-u-vela is not installed")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose first convolution has a stride that no Ethos-U55 takes, and 17 channels."""
    import keras

    image = keras.Input((32, 32, 3))
    x = keras.layers.Conv2D(17, 5, strides=5, padding="same", name="leaps")(image)
    x = keras.layers.Conv2D(32, 3, activation="relu", name="steps")(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    path = tmp_path_factory.mktemp("check") / "leaping.keras"
    keras.Model(image, keras.layers.Dense(3, activation="softmax", name="scores")(x)).save(path)
    return path


def test_what_an_npu_leaves_is_named_with_reason_and_remedy(model: Path) -> None:
    found = edgefx.check(model, targets="ethos-u55-128,ethos-u85-256")
    broken = [(one.target, one.layer) for one in found.findings if one.breaks]
    assert broken == [("ethos-u55-128", "leaps")], "an Ethos-U85 has no such rule"
    (stride,) = (one for one in found.findings if one.breaks)
    assert "stride: 5, 5" in stride.reason
    assert "strides of at most 3" in stride.remedy
    wasted = {one.layer: one.reason for one in found.findings if not one.breaks}
    assert wasted["leaps"] == "17 channels are computed as 32: an Ethos-U takes 16 at a time"
    assert "steps" not in wasted
    assert found.exit_code is ExitCode.GATE_FAILED


def test_microcontrollers_take_it(model: Path) -> None:
    pytest.importorskip("tflite_micro", reason="tflite-micro is not installed")
    found = edgefx.check(model, targets="tflm-int8")
    assert found.findings == ()
    assert found.exit_code is ExitCode.OK


def test_runtimes_take_everything(model: Path) -> None:
    with pytest.raises(UsageError, match="tflite-int8 takes every model"):
        edgefx.check(model, targets="tflite-int8")
