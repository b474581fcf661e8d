"""`edgefx debug` on real artifacts, good ones and ones that were spoilt in one known layer."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from edgefx.analysis.diagnosis import Broken, DebugReport, Step
from edgefx.data.digits import calibration_folder, evaluation_folder
from edgefx.errors import UsageError
from edgefx.pipeline import debug
from edgefx.runtimes.openvino.core import core
from edgefx.runtimes.tflite import flatbuffer
from edgefx.targets import TARGETS, TargetRow

from .conftest import RecordedProgress, TinyArtifacts
from .models_zoo import save_case

pytestmark = pytest.mark.usefixtures("own_cache", "digits_once")

VICTIM = "block3a_project_conv"


def spoil_tflite(path: Path) -> None:
    """Give the layer's output a grid that is far too narrow."""
    model = flatbuffer.read(path)
    (tensor,) = (
        tensor
        for tensor in model.subgraphs[0].tensors
        if tensor.name.startswith(f"{VICTIM}/BiasAdd".encode()) and len(tensor.shape) == 4
    )
    tensor.quantization.scale = [tensor.quantization.scale[0] / 40]
    path.write_bytes(flatbuffer.write(model))


def spoil_onnx(path: Path) -> None:
    """Give each output channel the weights of its neighbour."""
    import onnx
    from onnx import numpy_helper

    model = onnx.load(path)
    (codes,) = (
        tensor
        for tensor in model.graph.initializer
        if tensor.name.startswith(f"{VICTIM}/weight") and tensor.name.endswith(("/int8", "/uint8"))
    )
    codes.CopyFrom(numpy_helper.from_array(np.roll(numpy_helper.to_array(codes), 1, axis=0), codes.name))
    onnx.save(model, path)


def spoil_openvino(path: Path) -> None:
    """Round the layer's output to a grid that is far too narrow."""
    import openvino as ov
    from openvino import opset13 as ops

    model = core().read_model(path)
    (quantizer,) = (
        operation
        for operation in model.get_ordered_ops()
        if operation.get_type_name() == "FakeQuantize"
        and operation.input_value(0).get_node().get_friendly_name() == f"{VICTIM}/BiasAdd"
    )
    for side in (1, 2, 3, 4):
        value = quantizer.input_value(side).get_node().data / np.float32(40)
        quantizer.input(side).replace_source_output(ops.constant(value.astype(np.float32)).output(0))
    spoilt = path.with_name("spoilt.xml")
    ov.save_model(model, spoilt, compress_to_fp16=False)
    del model, quantizer  # they hold the weights' file
    for suffix in (".xml", ".bin"):
        spoilt.with_suffix(suffix).replace(path.with_suffix(suffix))


SPOIL: dict[str, Callable[[Path], None]] = {
    "tflite-int8": spoil_tflite,
    "onnx-int8": spoil_onnx,
    "openvino-int8": spoil_openvino,
}


@dataclass(frozen=True)
class Made:
    row: TargetRow
    path: Path


@pytest.fixture(scope="module", params=SPOIL)
def made(
    request: pytest.FixtureRequest, tiny_artifact: TinyArtifacts, tmp_path_factory: pytest.TempPathFactory
) -> Made:
    """A copy, as one of the tests spoils it."""
    row = TARGETS[request.param]
    path = tiny_artifact(row.name)[0]
    folder = shutil.copytree(path.parent, tmp_path_factory.mktemp(row.name) / "copy")
    return Made(row, folder / path.name)


def examine(
    row: TargetRow, *, artifact: Path | None = None, images: int = 12, evaluation: Path | None = None
) -> DebugReport:
    settings = debug.Settings(
        model="digits",
        rows=(row,),
        calib=None,
        evaluation=evaluation,
        threads=2,
        images=images,
        samples=50,
        artifact=artifact,
    )
    return debug.run(settings, RecordedProgress(), command="edgefx debug digits")


def test_other_images_than_those_that_set_the_ranges(made: Made) -> None:
    report = examine(made.row, artifact=made.path, images=15, evaluation=evaluation_folder())
    assert (report.images, report.measured_on) == (15, "evaluation")
    assert [data.role for data in report.data] == ["calibration", "evaluation"]
    assert report.data[1].images == 15
    (found,) = report.targets
    assert "of the evaluation images keep their class" in found.verdict
    # The sentence names the layers in the order of the table, with its figure.
    worst = found.layers[0]
    assert f"Most is lost in {worst.layer} (KL alone {worst.alone_mean_kl:.1e})" in found.verdict
    assert any(note.startswith("top-1 on these 15 images: ") for note in found.notes)
    assert not found.advice


def test_nothing_is_broken_until_one_layer_is_spoilt(made: Made) -> None:
    good = examine(made.row, artifact=made.path).targets[0]
    assert good.broken is Broken.NOTHING
    assert [figures.step for figures in good.steps] == [
        Step.CANONICAL, Step.CONVERTED, Step.SIMULATED, Step.ARTIFACT,
    ]  # fmt: skip
    assert good.steps[1].total.max_abs_dp < 1e-4

    SPOIL[made.row.name](made.path)
    bad = examine(made.row, artifact=made.path).targets[0]
    assert bad.broken is Broken.QUANTIZATION
    assert bad.cure is not None
    assert VICTIM in bad.cure.layers
    assert bad.cure.after.mean_kl < bad.cure.before.mean_kl / 4
    assert f"here: {bad.layers[0].layer}" in bad.verdict
    by_name = {row.layer: row for row in bad.layers}
    worst = by_name[VICTIM]
    # Where the next layer reads the same grid, it may come first by a hair.
    assert worst.alone_mean_kl == pytest.approx(bad.layers[0].alone_mean_kl, rel=0.5)
    healthy = {row.layer: row for row in good.layers}[VICTIM]
    assert worst.alone_mean_kl is not None
    assert healthy.alone_mean_kl is not None
    assert worst.sqnr_db is not None
    assert healthy.sqnr_db is not None
    assert worst.alone_mean_kl > 20 * healthy.alone_mean_kl
    assert worst.sqnr_db < healthy.sqnr_db - 5


def test_every_layer_has_its_figures(tiny_artifact: TinyArtifacts) -> None:
    report = examine(TARGETS["tflite-int8"], artifact=tiny_artifact("tflite-int8")[0])
    (found,) = report.targets
    assert report.images == report.tapped_images == 12
    assert {row.layer for row in found.layers} == set(found.graph)
    effects = [row.alone_mean_kl for row in found.layers if row.alone_mean_kl is not None]
    assert effects == sorted(effects, reverse=True)
    for row in found.layers:
        if row.quantized:
            assert row.low is not None
            assert row.high is not None
            assert row.low <= 0 <= row.high
            assert row.low < row.high
            assert row.seen_low is not None
            assert row.saturated is not None
            assert row.levels_used is not None
            assert 0 <= row.saturated <= 1
            assert 0 < row.levels_used <= 1
        if "weights" in row.quantized:
            assert 30 < (row.weights_sqnr_db or 0) < 60


def test_a_float_target_has_stages_but_nothing_to_quantize() -> None:
    (found,) = examine(TARGETS["onnx-float32"]).targets
    assert found.broken is Broken.NOTHING
    assert Step.SIMULATED not in {figures.step for figures in found.steps}
    assert all(row.alone_mean_kl is None and not row.quantized for row in found.layers)
    assert min(row.sqnr_db for row in found.layers if row.sqnr_db is not None) > 60


def test_weights_alone_are_simulated_where_activations_are_rounded_at_run_time() -> None:
    (found,) = examine(TARGETS["tflite-dynamic"]).targets
    assert {row.quantized for row in found.layers} == {"", "weights"}
    assert any("while the artifact runs" in note for note in found.notes)


def test_a_model_without_layers_is_an_error(tmp_path: Path) -> None:
    exported = save_case("exported SavedModel", tmp_path)
    settings = debug.Settings(
        model=str(exported), rows=(TARGETS["tflite-int8"],), calib=calibration_folder(), threads=2, images=4
    )
    with pytest.raises(UsageError, match="no layers") as caught:
        debug.run(settings, RecordedProgress(), command="edgefx debug")
    assert ".keras" in caught.value.hint
