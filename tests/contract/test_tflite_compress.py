"""INT8 weights with few distinct values or zeros among them, in the file that is written."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from edgefx.quantization import QuantScheme, WeightCompression
from edgefx.runtimes.protocol import ConversionRequest
from edgefx.runtimes.tflite import compress, flatbuffer, lookup
from edgefx.runtimes.tflite.runtime import RUNTIME
from edgefx.types import Effort, FrozenGraph, ImageSet, IoDtype, Precision

from .conftest import RecordedProgress

schema = pytest.importorskip("ai_edge_litert.schema_py_generated")

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


def test_layers_have_as_few_values_as_it_takes_to_save_a_share(
    tiny_graph: FrozenGraph, tiny_calibration: ImageSet, tmp_path: Path
) -> None:
    sizes = {}
    for saved in (0.35, 0.45):
        path = converted(tiny_graph, tiny_calibration, tmp_path, WeightCompression(saved=saved))
        found = RUNTIME.footprint(path)
        sizes[saved] = found.lookup_bytes
        assert 1 - found.lookup_bytes / found.size_bytes == pytest.approx(saved, abs=0.03)
    values = [len(np.unique(codes)) for codes in dense_weights(path) if codes.size >= LARGE]
    assert len(set(values)) > 1, "each layer has its own number"
    assert sizes[0.45] < sizes[0.35]


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


@pytest.mark.parametrize("loud", [0.0, 1.0])
def test_a_packed_file_answers_bit_by_bit_as_the_file_that_it_is_of(
    loud: float,
    tiny_graph: FrozenGraph,
    tiny_calibration: ImageSet,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With tables for channels, and with one for all of them, in TFLM's interpreter and in LiteRT."""
    from edgefx.compilers.tflm import COMPILER

    pytest.importorskip("tflite_micro", reason="tflite-micro is not installed")
    monkeypatch.setattr(compress, "_LOUD", loud)
    path = converted(tiny_graph, tiny_calibration, tmp_path, WeightCompression(values=4))
    found = lookup.tables(flatbuffer.read(path))
    assert {table.axis for table in found} == {None} if loud else {0, None}
    assert all(table.saved > 0 and table.bits == 2 for table in found if table.axis is None)
    packed = tmp_path / "packed.tflite"
    packed.write_bytes(RUNTIME.for_microcontrollers(path, packed=True))
    footprint = RUNTIME.footprint(path)
    assert footprint.lookup_bytes == packed.stat().st_size < 0.95 * path.stat().st_size
    assert footprint.zipped_bytes < footprint.size_bytes == path.stat().st_size
    again = RUNTIME.footprint(packed)
    assert again.zeros == footprint.zeros
    assert again.lookup_bytes == pytest.approx(footprint.lookup_bytes, rel=0.05)
    images, described = tiny_calibration.pixels[:4], RUNTIME.describe(path)
    with RUNTIME.open_session(path, threads=1) as one, RUNTIME.open_session(packed, threads=1) as other:
        scores = one.infer(images)
        assert np.array_equal(other.infer(images), scores)
    with COMPILER.open_session(path, described) as one, COMPILER.open_session(packed, described) as other:
        assert np.array_equal(one.infer(images), other.infer(images))

    sizes = {index: codes.size for index, codes, _ in lookup.weights(flatbuffer.read(path))}
    assert min(sizes[table.tensor] for table in found) > 150, "others would grow"
    assert len(found) < len(sizes)
    file = schema.Model.GetRootAs(packed.read_bytes(), 0)
    buffers = [file.Buffers(number)._tab for number in range(file.BuffersLength())]
    starts = [table.Vector(field) for table in buffers if (field := table.Offset(4))]
    assert len(starts) > len(found)
    assert not any(start % 16 for start in starts), "decoders read several values at a time"
