"""The simulation of an artifact's quantization on the canonical graph, and what is read back for it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from edgefx import runtimes
from edgefx.analysis import sensitivity
from edgefx.analysis.simulate import Simulation
from edgefx.errors import UsageError
from edgefx.models.graph.cut import before_scores
from edgefx.quantization import Quantization, QuantScheme
from edgefx.runtimes.protocol import ConversionRequest
from edgefx.runtimes.tflite import flatbuffer
from edgefx.targets import TARGETS, TargetRow
from edgefx.types import Effort, FrozenGraph, ImageSet, IoDtype, Precision, Runtime

from .conftest import NATIVE, RecordedProgress, TinyArtifacts

if TYPE_CHECKING:
    from edgefx.types import Scores

ROWS = [row for row in TARGETS.values() if row.precision is Precision.INT8]


@pytest.fixture(scope="module", params=ROWS, ids=lambda row: row.name)
def row(request: pytest.FixtureRequest) -> TargetRow:
    found: TargetRow = request.param
    return found


@pytest.fixture(scope="module")
def artifact(row: TargetRow, tiny_artifact: TinyArtifacts) -> Path:
    return tiny_artifact(row.name)[0]


@pytest.fixture(scope="module")
def simulation(row: TargetRow, artifact: Path, tiny_graph: FrozenGraph) -> Simulation:
    return Simulation(tiny_graph, runtimes.introspectable(row).read_quantization(artifact, tiny_graph))


def snr_db(reference: Scores, observed: Scores) -> float:
    noise = max(float(np.square(reference - observed).sum()), 1e-12)
    return float(10 * np.log10(np.square(reference).sum() / noise))


def _stored_in_int8(graph: FrozenGraph, row: TargetRow) -> set[str]:
    """Layers that hold INT8 weights in every artifact of this size."""
    return {
        layer.name
        for layer in graph.layers
        # ONNX files keep kernels of less than 1024 weights in float, OpenVINO's all depthwise ones.
        if layer.macs and layer.parameters > 1200
        if not (row.runtime is Runtime.OPENVINO and layer.kind == "DepthwiseConv2D")
    }


def test_everything_quantized_has_its_place_in_the_graph(
    simulation: Simulation, row: TargetRow, tiny_graph: FrozenGraph
) -> None:
    assert simulation.quantization.unmatched == ()
    weighted = _stored_in_int8(tiny_graph, row)
    assert weighted
    assert weighted <= set(simulation.weighted_layers)
    for layer in simulation.weighted_layers:
        stored = simulation.stored(layer)
        assert stored is not None
        kernel = simulation.kernel(layer)
        assert stored.kernel.shape == kernel.shape
        # INT8 per channel, though not always rounded to the nearest level.
        assert np.abs(stored.kernel - kernel).max() <= 4 * np.abs(kernel).max() / 127
        assert snr_db(kernel, stored.kernel) > 30


def test_all_off_is_the_float_graph(
    simulation: Simulation, tiny_images: ImageSet, tiny_scores: Scores
) -> None:
    np.testing.assert_allclose(simulation.scores(tiny_images.pixels, quantized=False), tiny_scores, atol=1e-5)


def test_all_on_is_the_artifact(
    simulation: Simulation, row: TargetRow, artifact: Path, tiny_images: ImageSet, tiny_scores: Scores
) -> None:
    simulated = simulation.scores(tiny_images.pixels, quantized=True)
    with runtimes.load(row).open_session(artifact, threads=2, precision=row.precision) as session:
        measured = session.infer(tiny_images.pixels)
    assert (simulated.argmax(1) == measured.argmax(1)).mean() >= 0.97
    assert snr_db(measured, simulated) > max(25.0, snr_db(tiny_scores, measured))


def test_taps_deliver_what_the_layers_put_out(
    *,
    simulation: Simulation,
    row: TargetRow,
    artifact: Path,
    tiny_artifact: TinyArtifacts,
    tiny_graph: FrozenGraph,
    tiny_images: ImageSet,
) -> None:
    pixels = tiny_images.pixels[:2]
    path = tiny_artifact(f"{row.runtime}-float32")[0]
    layers = {layer.name for layer in tiny_graph.layers}
    with (
        runtimes.introspectable(row).probes(artifact, tiny_graph, threads=2) as integer,
        runtimes.introspectable(row).probes(path, tiny_graph, threads=2) as unquantized,
    ):
        for (number, true), (_, simulated) in zip(
            simulation.values(pixels), simulation.values(pixels, quantized=True), strict=True
        ):
            exact, found = unquantized.infer(pixels[number]), integer.infer(pixels[number])
            # A runtime drops what does nothing, such as the mean of a map of one pixel.
            assert layers - set(found) <= {"block6a_se_squeeze", "block7a_se_squeeze"}
            layers &= set(found)
            for layer in layers:
                assert found[layer].size == true[layer].size
                np.testing.assert_allclose(exact[layer].ravel(), true[layer].ravel(), rtol=1e-2, atol=1e-3)
            noise = [snr_db(true[layer].ravel(), found[layer].ravel()) for layer in layers]
            expected = [snr_db(true[layer].ravel(), simulated[layer].ravel()) for layer in layers]
            assert np.median(noise) > 15
            # OpenVINO computes the rest in bf16 where the CPU has it, which adds noise of its own.
            allowed_db = 3 if row.runtime is Runtime.OPENVINO else 2
            assert np.median(np.abs(np.clip(noise, 0, 60) - np.clip(expected, 0, 60))) < allowed_db


def test_a_layer_alone_differs_less_than_all_together(
    simulation: Simulation, tiny_images: ImageSet, tiny_scores: Scores
) -> None:
    pixels = tiny_images.pixels[:13]  # no multiple of the batch
    groups = {layer: (layer,) for layer in simulation.layers}
    base, alone = simulation.alone(pixels, {**groups, "all": simulation.layers})
    np.testing.assert_allclose(base, tiny_scores[:13], atol=1e-5)
    # Rounding twice differs in the last bit, which may move a value to the next level further on.
    np.testing.assert_allclose(alone["all"], simulation.scores(pixels, quantized=True), atol=0.01)
    together = np.square(alone.pop("all") - base).sum()
    errors = [float(np.square(scores - base).sum()) for scores in alone.values()]
    assert 0 < max(errors) < 2 * together
    assert np.median(errors) < together / 4


def test_a_layer_counts_with_what_is_rounded_for_its_sake(simulation: Simulation, row: TargetRow) -> None:
    units = sensitivity.units(simulation)
    assert set(units) == set(simulation.weighted_layers)
    assert "block5a_se_excite" in units["block5a_project_conv"]  # read by nothing else
    assert all(not simulation.output_layers & set(unit) for unit in units.values())
    members = [layer for unit in units.values() for layer in unit]
    assert len(members) == len(set(members))
    if row.runtime is Runtime.TFLITE:
        assert units["stem_conv"] == ("stem_conv", "stem_activation")
        assert units["predictions"] == ("predictions", "avg_pool")


def test_ranks_the_layers_with_weights_the_worst_first(
    row: TargetRow, artifact: Path, tiny_graph: FrozenGraph, tiny_calibration: ImageSet
) -> None:
    progress = RecordedProgress()
    ranked = sensitivity.rank(tiny_graph, row, artifact, tiny_calibration, progress)
    assert _stored_in_int8(tiny_graph, row) <= {one.layer for one in ranked}
    assert [one.mean_kl for one in ranked] == sorted((one.mean_kl for one in ranked), reverse=True)
    assert all(0 <= one.top1_changed <= 1 for one in ranked)
    assert ranked[0].mean_kl > 0
    assert sum(progress.steps.values()) == len(ranked) * len(tiny_calibration)


def test_a_layer_with_a_grid_too_narrow_ranks_first(
    tiny_graph: FrozenGraph, tiny_calibration: ImageSet, tmp_path: Path
) -> None:
    row = TARGETS["tflite-int8"]
    path = tmp_path / "digits.tflite"
    scheme = QuantScheme(hardware=NATIVE, precision=row.precision, io_dtype=row.io_dtypes[0])
    runtimes.load(row).convert(
        ConversionRequest(graph=tiny_graph, scheme=scheme, calibration=tiny_calibration),
        path,
        RecordedProgress(),
    )
    model = flatbuffer.read(path)
    victim = next(
        t
        for t in model.subgraphs[0].tensors
        if t.name.startswith(b"block2a_project_conv/BiasAdd") and len(t.shape) == 4
    )
    victim.quantization.scale = [victim.quantization.scale[0] / 30]
    path.write_bytes(flatbuffer.write(model))

    ranked = sensitivity.rank(tiny_graph, row, path, tiny_calibration, RecordedProgress())
    assert ranked[0].layer == "block2a_project_conv"
    assert ranked[0].mean_kl > 5 * ranked[1].mean_kl


def test_a_model_without_layers_is_an_error(tiny_graph: FrozenGraph) -> None:
    bare = FrozenGraph(path=tiny_graph.path, spec=tiny_graph.spec, layers=(), workdir=tiny_graph.workdir)
    with pytest.raises(UsageError, match="no layers") as caught:
        Simulation(bare, Quantization(grids=(), weights=()))
    assert caught.value.hint


@pytest.mark.parametrize("name", ["tflite-int8", "onnx-int8", "openvino-int8"])
def test_an_artifact_that_ends_in_logits_is_read_by_the_whole_graph(
    name: str, tiny_graph: FrozenGraph, tiny_calibration: ImageSet, tiny_images: ImageSet, tmp_path: Path
) -> None:
    row = TARGETS[name]
    scheme = QuantScheme(hardware=NATIVE, precision=row.precision, io_dtype=IoDtype.UINT8, effort=Effort.FAST)
    path = runtimes.load(row).convert(
        ConversionRequest(graph=before_scores(tiny_graph), scheme=scheme, calibration=tiny_calibration),
        tmp_path / f"digits{row.suffix}",
        RecordedProgress(),
    )[0]
    found = runtimes.introspectable(row).read_quantization(path, tiny_graph)
    assert not [grid.tensor for grid in found.grids if "Softmax" in grid.tensor]
    simulated = Simulation(tiny_graph, found).scores(tiny_images.pixels[:8], quantized=True)
    with runtimes.load(row).open_session(path, threads=1, precision=row.precision) as session:
        observed = session.infer(tiny_images.pixels[:8])
    np.testing.assert_allclose(simulated, observed, atol=0.1)
