"""`--effort high` for TFLite: all that an integer graph rounds, optimized together."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edgefx.models.graph.canonical import canonicalize
from edgefx.models.load import load
from edgefx.qat import train as qat
from edgefx.quantization import QuantScheme
from edgefx.runtimes.protocol import ConversionRequest, QatTemplate
from edgefx.runtimes.tflite import flatbuffer, quantize, reconstruct
from edgefx.runtimes.tflite.runtime import RUNTIME
from edgefx.types import Effort, FrozenGraph, ImageSet, IoDtype, Precision

from .conftest import RecordedProgress
from .models_zoo import images, save_case

FAST = QuantScheme(precision=Precision.INT8, io_dtype=IoDtype.UINT8, effort=Effort.FAST)


def reconstructed(
    template: QatTemplate, graph: FrozenGraph, given: ImageSet, progress: RecordedProgress
) -> bytes:
    model, quantized = flatbuffer.read(template.float_model), flatbuffer.read(template.quantized)
    return flatbuffer.write(
        reconstruct.reconstruct(model, quantized, graph, given, seed=0, progress=progress)
    )


def test_the_high_effort_gives_what_the_training_found_best(
    tiny_graph: FrozenGraph, tiny_calibration: ImageSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[qat.Trained] = []
    train = qat.train

    def remembering(*args: Any, **options: Any) -> qat.Trained:
        found.append(train(*args, **options))
        return found[-1]

    monkeypatch.setattr(qat, "train", remembering)
    monkeypatch.setattr(reconstruct, "_EPOCHS", 3)
    scheme = replace(FAST, effort=Effort.HIGH)
    (path,) = RUNTIME.convert(
        ConversionRequest(graph=tiny_graph, scheme=scheme, calibration=tiny_calibration),
        tmp_path / "high.tflite",
        RecordedProgress(),
    )
    assert RUNTIME.describe(path).compute_float == 0
    (trained,) = found
    assert trained.images + trained.validated == len(tiny_calibration)
    best = trained.epochs[trained.best]
    assert best.validation_loss <= trained.epochs[0].validation_loss
    with RUNTIME.open_session(path, threads=1) as session:
        scores = session.infer(tiny_calibration.pixels)
    assert tiny_calibration.labels is not None
    assert (scores.argmax(axis=1) == tiny_calibration.labels).mean() >= 0.98


def test_what_cannot_be_optimized_stays_as_balanced_leaves_it(
    tiny_graph: FrozenGraph, tiny_calibration: ImageSet, tmp_path: Path
) -> None:
    progress = RecordedProgress()
    few = replace(
        tiny_calibration,
        pixels=tiny_calibration.pixels[:10],
        labels=None,
        paths=tiny_calibration.paths[:10],
    )
    template = quantize.template(tiny_graph, FAST, few, progress)
    assert reconstructed(template, tiny_graph, few, progress) == template.quantized
    assert any("10 images are too few for effort high" in message for message in progress.messages)

    graph = canonicalize(load(str(save_case("exported SavedModel", tmp_path))), tmp_path / "work")
    pixels = images(graph.spec.height, graph.spec.width, count=16)
    given = replace(tiny_calibration, pixels=pixels, labels=None, paths=tiny_calibration.paths[:16])
    template = quantize.template(graph, FAST, given, progress)
    assert reconstructed(template, graph, given, progress) == template.quantized
    assert any("no layers that could be trained" in message for message in progress.messages)
