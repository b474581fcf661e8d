"""Training for quantization takes models saved in other ways, and both families of EfficientNet."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edgefx.models.graph.canonical import canonicalize
from edgefx.models.load import load
from edgefx.qat import train
from edgefx.quantization import QatSettings, QuantScheme
from edgefx.runtimes.tflite import quantize, training
from edgefx.runtimes.tflite.runtime import RUNTIME
from edgefx.types import Effort, FrozenGraph, ImageSet, IoDtype, Precision, QatMode, Resize

from .conftest import RecordedProgress
from .models_zoo import images, save_case

SCHEME = QuantScheme(precision=Precision.INT8, io_dtype=IoDtype.UINT8, effort=Effort.FAST)
IMAGES = 16


def saved(name: str) -> Callable[[Path], FrozenGraph]:
    return lambda folder: canonicalize(load(str(save_case(name, folder))), folder / "work")


@pytest.mark.parametrize(
    ("graph_of", "mode"),
    [
        pytest.param(saved("nested functional"), QatMode.SUPERVISED, id="nested fine-tuned"),
        pytest.param(saved("tf_keras functional h5"), QatMode.DISTILL, id=".h5 of Keras 2"),
        pytest.param(saved("v2"), QatMode.DISTILL, id="V2"),
    ],
)
def test_it_trains_and_becomes_fully_integer(
    graph_of: Callable[[Path], FrozenGraph], mode: QatMode, tmp_path: Path
) -> None:
    graph = graph_of(tmp_path)
    pixels = images(graph.spec.height, graph.spec.width, count=IMAGES)
    given = ImageSet(
        pixels=pixels,
        labels=np.arange(IMAGES) % 5 if mode is QatMode.SUPERVISED else None,
        paths=tuple(Path(f"{number}.png") for number in range(IMAGES)),
        sha256="",
        resize=Resize.STRETCH,
    )
    progress = RecordedProgress()
    template = quantize.template(graph, SCHEME, given, progress)
    start = training.read(template, graph)
    settings = QatSettings(mode=mode, epochs=1, batch_size=4)
    trained = train.train(graph, given, settings, start=start, workdir=tmp_path, progress=progress)
    assert [epoch.number for epoch in trained.epochs] == [0, 1]
    assert trained.epochs[1].loss is not None
    if trained.helped:
        before, after = start.arrays(), trained.quantization.arrays()
        assert any(not np.array_equal(before[name], after[name]) for name in before)
    path = tmp_path / "trained.tflite"
    path.write_bytes(training.written(template, trained.quantization, graph, SCHEME))
    assert RUNTIME.describe(path).compute_float == 0
