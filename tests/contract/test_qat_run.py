"""A training from start to end: killed and resumed, gone astray, and what it is told to do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf

from edgefx.errors import EdgefxError
from edgefx.qat import checkpoint
from edgefx.qat import train as qat
from edgefx.qat.parameters import FakeQuantization
from edgefx.qat.train import Trained
from edgefx.quantization import QatSettings, QuantScheme
from edgefx.runtimes.tflite import quantize, training
from edgefx.types import Effort, FrozenGraph, ImageSet, IoDtype, Precision

from .conftest import RecordedProgress

SCHEME = QuantScheme(precision=Precision.INT8, io_dtype=IoDtype.UINT8, effort=Effort.FAST)
SETTINGS = QatSettings(epochs=2, batch_size=8, learning_rate=0.01)


class Killed(RecordedProgress):
    """Raises when the first epoch is reported: its checkpoint is written by then."""

    def note(self, message: str) -> None:
        super().note(message)
        if message.startswith("epoch 1 "):
            raise KeyboardInterrupt


@pytest.fixture(scope="module")
def start(block_graph: FrozenGraph, tiny_calibration: ImageSet) -> FakeQuantization:
    template = quantize.template(block_graph, SCHEME, tiny_calibration, RecordedProgress())
    return training.read(template, block_graph)


Train = Callable[..., Trained]


@pytest.fixture
def train(
    block_graph: FrozenGraph, tiny_calibration: ImageSet, start: FakeQuantization, tmp_path: Path
) -> Train:
    def train(
        folder: str,
        progress: RecordedProgress,
        *,
        settings: QatSettings = SETTINGS,
        resume: bool = False,
    ) -> Trained:
        return qat.train(
            block_graph,
            tiny_calibration,
            settings,
            start=start,
            workdir=tmp_path / folder,
            progress=progress,
            resume=resume,
        )

    return train


def test_a_killed_training_resumes_to_the_same_end(train: Train, tmp_path: Path) -> None:
    whole = train("whole", RecordedProgress())
    assert whole.helped, "else what is compared is where it started"
    with pytest.raises(KeyboardInterrupt):
        train("killed", Killed())
    assert (tmp_path / "killed" / checkpoint.NAME).is_file()
    progress = RecordedProgress()
    resumed = train("killed", progress, resume=True)
    assert any("resuming after epoch 1 of 2" in note for note in progress.messages)
    assert [epoch.number for epoch in resumed.epochs] == [0, 1, 2]
    for one, other in zip(whole.epochs, resumed.epochs, strict=True):
        assert one.validation_loss == pytest.approx(other.validation_loss, rel=0.05)
    assert whole.best == resumed.best
    before, after = whole.quantization.arrays(), resumed.quantization.arrays()
    for name, value in before.items():
        np.testing.assert_allclose(
            after[name], value, rtol=0.02, atol=0.02 * np.abs(value).max(), err_msg=name
        )


@pytest.mark.parametrize("error", [MemoryError(), tf.errors.ResourceExhaustedError(None, None, "OOM")])
def test_out_of_memory_names_the_batch_size_to_try(
    error: Exception, train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    def epoch(*_: object) -> float:
        raise error

    monkeypatch.setattr("edgefx.qat.trainer.Trainer.epoch", epoch)
    with pytest.raises(EdgefxError, match="out of memory training on 8 images at once") as caught:
        train("large", RecordedProgress())
    assert "batch size 4; 2 gradients a step" in caught.value.hint


def test_a_batch_that_cannot_fit_is_refused_before_training(
    train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    from edgefx.qat.trainer import Trainer

    monkeypatch.setattr(Trainer, "most_images", lambda _: 3)
    progress = RecordedProgress()
    with pytest.raises(EdgefxError, match="out of memory training on 8 images at once") as caught:
        train("large", progress)
    assert "batch size 2; 4 gradients a step" in caught.value.hint
    assert not any(message.startswith("epoch") for message in progress.messages)


def test_memory_bounds_the_images_of_a_gradient(
    block_graph: FrozenGraph,
    tiny_calibration: ImageSet,
    start: FakeQuantization,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from edgefx.qat.trainer import Trainer

    trainer = Trainer(block_graph, tiny_calibration, SETTINGS, start=start, teacher=block_graph)
    values = sum(int(np.prod(layer.output_shape[1:])) for layer in block_graph.layers)
    monkeypatch.setattr("psutil.virtual_memory", lambda: SimpleNamespace(available=100 * 8 * values))
    if tf.config.list_physical_devices("GPU"):
        assert trainer.most_images() is None
    else:
        assert trainer.most_images() == pytest.approx(100, rel=0.3)


def test_a_loss_that_overflows_ends_training_and_loses_nothing(train: Train, start: FakeQuantization) -> None:
    progress = RecordedProgress()
    trained = train("astray", progress, settings=replace(SETTINGS, learning_rate=1e30))
    assert "the loss overflowed in epoch 1" in trained.stopped
    assert "for example 1e+29" in trained.stopped
    assert any("the loss overflowed" in message for message in progress.messages)
    assert (trained.best, trained.helped) == (0, False)
    assert "did not help" in trained.summary()
    for name, value in start.arrays().items():
        np.testing.assert_allclose(trained.quantization.arrays()[name], value, rtol=1e-5, err_msg=name)
