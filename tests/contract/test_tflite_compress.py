"""INT8 weights with few distinct values or zeros among them, in the file that is written."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from edgefx.quantization import QuantScheme, WeightCompression
from edgefx.runtimes.protocol import ConversionRequest
from edgefx.runtimes.tflite import compress, flatbuffer, footprint
from edgefx.runtimes.tflite.runtime import RUNTIME
from edgefx.types import Effort, FrozenGraph, ImageSet, IoDtype, Precision

from .conftest import RecordedProgress

LARGE = 100  # weights of what is compressed in these tests: the model is tiny
SCHEME = QuantScheme(precision=Precision.INT8, io_dtype=IoDtype.INT8, effort=Effort.FAST, integer_only=True)


@pytest.fixture(autouse=True)
def _small_layers_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compress, "_SMALL", LARGE)


def converted(graph: FrozenGraph, images: ImageSet, out: Path, compression: WeightCompression) -> Path:
    scheme = replace(SCHEME, compression=compression)
    request = ConversionRequest(graph=graph, scheme=scheme, calibration=images)
    (path,) = RUNTIME.convert(request, out / "model.tflite", RecordedProgress())
    return path


def dense_weights(path: Path) -> list[NDArray[np.int8]]:
    """The weights that are compressed, [rows, K] each."""
    model = flatbuffer.read(path)
    graph, found = model.subgraphs[0], []
    for op in graph.operators:
        if flatbuffer.op_name(model, op) in ("CONV_2D", "FULLY_CONNECTED"):
            tensor = graph.tensors[op.inputs[1]]
            data = np.ascontiguousarray(model.buffers[tensor.buffer].data).view(np.int8)
            found.append(data.reshape(flatbuffer.shape_of(tensor)[0], -1))
    return found


@pytest.mark.parametrize("values", [4, 16])
def test_layers_or_their_channels_have_few_values(
    values: int, tiny_graph: FrozenGraph, tiny_calibration: ImageSet, tmp_path: Path
) -> None:
    path = converted(tiny_graph, tiny_calibration, tmp_path, WeightCompression(values=values))
    layers = dense_weights(path)
    assert sum(codes.size >= LARGE for codes in layers) > 3
    for codes in layers:
        together = len(np.unique(codes))
        few = together <= values or max(len(np.unique(row)) for row in codes) <= values
        assert few or codes.size < LARGE


def test_zeros_are_where_little_is_lost(
    tiny_graph: FrozenGraph, tiny_calibration: ImageSet, tmp_path: Path
) -> None:
    before = RUNTIME.footprint(
        converted(tiny_graph, tiny_calibration, tmp_path, WeightCompression(values=None))
    )
    path = converted(tiny_graph, tiny_calibration, tmp_path, WeightCompression(zeros=0.5))
    after = RUNTIME.footprint(path)
    large = [codes.reshape(-1) for codes in dense_weights(path) if codes.size >= LARGE]
    assert np.mean(np.concatenate(large) == 0) == pytest.approx(0.5, abs=0.05)
    assert after.zeros > before.zeros + 0.2
    assert after.size_bytes == pytest.approx(before.size_bytes, rel=0.01)


def test_a_file_of_few_values_answers_much_as_one_of_all(
    tiny_graph: FrozenGraph, tiny_calibration: ImageSet, tmp_path: Path
) -> None:
    scores = {}
    for values in (None, 2, 64):
        path = converted(tiny_graph, tiny_calibration, tmp_path, WeightCompression(values=values))
        with RUNTIME.open_session(path, threads=1) as session:
            scores[values] = session.infer(tiny_calibration.pixels[:16])
    apart = {values: np.abs(scores[values] - scores[None]).mean() for values in (2, 64)}
    assert apart[64] < apart[2]


def test_lookup_tables_are_counted_where_they_save(
    tiny_graph: FrozenGraph, tiny_calibration: ImageSet, tmp_path: Path
) -> None:
    path = converted(tiny_graph, tiny_calibration, tmp_path, WeightCompression(values=4))
    found = RUNTIME.footprint(path)
    tables = footprint.lookup_tables(flatbuffer.read(path))
    assert found.size_bytes == path.stat().st_size
    assert found.lookup_bytes == found.size_bytes - sum(table.saved for table in tables)
    assert found.lookup_bytes <= found.size_bytes
    assert found.zipped_bytes < found.size_bytes
    assert all(table.saved > 0 and 1 <= table.bits <= 7 for table in tables)
