"""Checkpoints of training: whole or absent, and refused where they do not belong."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgefx.errors import UsageError
from edgefx.qat import checkpoint
from edgefx.qat.checkpoint import State
from edgefx.qat.parameters import FakeQuantization, QuantGrid, Weights
from edgefx.quantization import QatSettings
from edgefx.training import TrainingEpoch
from edgefx.types import ModelSpec, OutputKind

from .test_qat_plan import image_set

EPOCH = TrainingEpoch(
    number=0,
    loss=None,
    validation_loss=0.5,
    agreement=0.9,
    accuracy=None,
    snr_db=20.0,
    images_per_s=None,
    seconds=1.5,
)


def state(count: int = 12) -> State:
    generator = np.random.default_rng(0)
    return State(
        epochs=(EPOCH, replace(EPOCH, number=1, loss=0.25, images_per_s=17.0)),
        variables=[generator.normal(size=(3, number + 1)).astype(np.float32) for number in range(count)],
        optimizers=[np.array(7, np.int64)],
        best=[np.zeros(2, np.float32), np.ones((), np.float32)],
    )


def spec(sha256: str = "model") -> ModelSpec:
    return ModelSpec(
        name="m",
        source="m.keras",
        height=32,
        width=48,
        classes=3,
        output=OutputKind.PROBABILITIES,
        parameters=1,
        macs=1,
        sha256=sha256,
    )


def test_what_was_saved_comes_back(tmp_path: Path) -> None:
    saved = state()
    checkpoint.save(tmp_path / "new", saved, identity="a")
    found = checkpoint.load(tmp_path / "new", identity="a")
    assert found is not None
    assert found.epochs == saved.epochs
    for kind in ("variables", "optimizers", "best"):
        for got, want in zip(getattr(found, kind), getattr(saved, kind), strict=True):
            np.testing.assert_array_equal(got, want)
            assert got.shape == want.shape
    assert [path.name for path in (tmp_path / "new").iterdir()] == [checkpoint.NAME]


def test_without_a_checkpoint_there_is_none(tmp_path: Path) -> None:
    assert checkpoint.load(tmp_path, identity="a") is None


def test_another_trainings_checkpoint_is_refused(tmp_path: Path) -> None:
    checkpoint.save(tmp_path, state(), identity="a")
    with pytest.raises(UsageError, match="belongs to another model, other images or other settings"):
        checkpoint.load(tmp_path, identity="b")


@pytest.mark.parametrize("content", [b"", b"no archive", None])
def test_a_damaged_checkpoint_is_refused(tmp_path: Path, content: bytes | None) -> None:
    path = checkpoint.save(tmp_path, state(), identity="a")
    path.write_bytes(path.read_bytes()[:-700] if content is None else content)
    with pytest.raises(UsageError, match="damaged checkpoint") as caught:
        checkpoint.load(tmp_path, identity="a")
    assert "without --resume" in caught.value.hint


def test_the_identity_is_that_of_model_images_settings_and_start() -> None:
    images, start, settings = image_set(4), [np.ones(3, np.float32)], QatSettings()
    base = checkpoint.fingerprint(spec(), images, settings, start)
    assert base == checkpoint.fingerprint(spec(), images, replace(settings, patience=9), start)
    others = (
        checkpoint.fingerprint(spec("other"), images, settings, start),
        checkpoint.fingerprint(spec(), replace(images, sha256="x"), settings, start),
        checkpoint.fingerprint(spec(), images, replace(settings, epochs=9), start),
        checkpoint.fingerprint(spec(), images, settings, [np.zeros(3, np.float32)]),
    )
    assert base not in others
    assert len(set(others)) == len(others)


def test_a_grid_spans_its_codes() -> None:
    grid = QuantGrid(scale=0.5, zero_point=-28)
    assert (grid.low, grid.high) == (-50.0, 77.5)


def test_weights_round_to_narrow_codes_and_lose_their_factors() -> None:
    weights = Weights(
        kernel=np.array([[0.24, 1.0, -200.0]], np.float32),
        bias=np.array([1.0, 2.0, 3.0], np.float32),
        steps=np.array([[0.1, 0.1, 1.0]], np.float32),
        factors=np.array([[2.0, 1.0, 4.0]], np.float32),
        bias_factors=np.array([2.0, 1.0, 1.0], np.float32),
    )
    np.testing.assert_allclose(weights.rounded(), [[0.2, 1.0, -127.0]], rtol=1e-6)
    quantization = FakeQuantization(
        grids={"g": QuantGrid(scale=1.0, zero_point=0)}, outputs={"a": "g"}, weights={"a": weights}
    )
    kernel, bias = quantization.canonical_weights()["a"]
    np.testing.assert_allclose(kernel, [[0.1, 1.0, -31.75]], rtol=1e-6)
    np.testing.assert_allclose(bias, [0.5, 2.0, 3.0])
    assert quantization.activation_ranges() == {"a": (-128.0, 127.0)}
