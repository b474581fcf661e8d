"""What refuses or translates a candidate; the search itself is in test_budget.py and tests/e2e."""

from __future__ import annotations

import errno
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest

from edgefx.cache.entry import key
from edgefx.errors import ConversionError, EdgefxError
from edgefx.pipeline.artifacts import ArtifactBuilder, Candidate
from edgefx.pipeline.demands import require_integer
from edgefx.pipeline.finish import Files
from edgefx.pipeline.memo import NotKeptError
from edgefx.pipeline.plan import PlannedTarget
from edgefx.pipeline.records import ConversionRecord, FinishedFiles
from edgefx.pipeline.search import as_edgefx_errors, make
from edgefx.pipeline.stages import Computed, Stage
from edgefx.protocols import SILENT
from edgefx.quantization import QuantScheme
from edgefx.targets import TARGETS, TargetRow
from edgefx.training import TrainingEffect
from edgefx.types import IoDtype, OpCount, Precision
from edgefx.vocabulary import StageKind
from tests.unit.report_samples import artifact


def test_float_operations_are_named() -> None:
    made = artifact("tflite-int8", size_bytes=1, compute_int8=9)
    ends = OpCount(op="QUANTIZE", dtype="float32", count=2)
    with pytest.raises(ConversionError, match=r"3 operations .*: SOFTMAX x 3$") as caught:
        require_integer(replace(made, ops=(*made.ops, ends)))
    assert "--integer-only" in caught.value.hint
    require_integer(replace(made, compute_float=0))


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (RuntimeError("no such op"), "RuntimeError: no such op"),
        (MemoryError(), "out of memory"),
        (ConversionError("refused"), "refused"),
    ],
)
def test_what_one_target_dies_of_is_an_edgefx_error(error: Exception, says: str) -> None:
    with pytest.raises(EdgefxError, match=says), as_edgefx_errors("tflite-int8"):
        raise error


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "full"), KeyboardInterrupt(), NotKeptError()])
def test_what_all_targets_share_passes_through(error: BaseException) -> None:
    with pytest.raises(type(error)) as caught, as_edgefx_errors("tflite-int8"):
        raise error
    assert caught.value is error


class TrainingBuilder:
    """Makes candidates of nothing but their names, and says what training brought to them."""

    evaluates = False

    def __init__(self, *, helped: bool, effect: TrainingEffect | None = None) -> None:
        self.helped = helped
        self.effect = effect

    def scheme(self, target: PlannedTarget) -> QuantScheme:
        return QuantScheme(precision=target.row.precision, io_dtype=target.io_dtype)

    def trains(self, row: TargetRow) -> bool:
        return row.precision is Precision.INT8

    def training_helped(self) -> bool:
        return self.helped

    def training_effect(self, before: Candidate, after: Candidate) -> TrainingEffect:
        assert (before.trained, after.trained) == (False, True)
        assert self.effect is not None, "TFLite's two are compared by training itself"
        return self.effect

    def convert(
        self, target: PlannedTarget, scheme: QuantScheme, *, label: str, trained: bool = False
    ) -> Candidate:
        assert scheme.precision is target.row.precision
        record = ConversionRecord(artifact=artifact(target.name, size_bytes=1, compute_int8=1), convert_s=1.0)

        def compute() -> Computed[ConversionRecord, Files]:
            raise AssertionError("nothing is to be made")

        stage = Stage(
            kind=StageKind.CONVERT,
            key=key("convert", version=1, label=label),
            result=ConversionRecord,
            compute=compute,
        )
        return Candidate(target=target, scheme=scheme, stage=stage, record=record, trained=trained)


BETTER = TrainingEffect(loss_before=2.0, loss_after=1.0, images=5)
WORSE = TrainingEffect(loss_before=1.0, loss_after=2.0, images=5)


@pytest.mark.parametrize(
    ("name", "helped", "effect", "trained"),
    [
        ("tflite-int8", False, None, False),
        ("tflite-int8", True, None, True),
        ("onnx-int8", False, None, False),
        ("onnx-int8", True, BETTER, True),
        ("openvino-int8", True, WORSE, False),
        ("openvino-int8", True, replace(WORSE, insisted=True), True),
        ("tflite-float32", True, None, False),
    ],
)
def test_a_runtime_keeps_its_post_training_artifact_where_training_made_it_worse(
    *, name: str, helped: bool, effect: TrainingEffect | None, trained: bool
) -> None:
    builder = TrainingBuilder(helped=helped, effect=effect)
    target = PlannedTarget(row=TARGETS[name], io_dtype=IoDtype.FLOAT32)
    published: list[Candidate] = []

    def publish(candidate: Candidate) -> Candidate:
        published.append(candidate)
        finished = FinishedFiles(files=candidate.record.artifact.files)
        return replace(candidate, published=Path("out"), finished=finished)

    made = make(target, cast("ArtifactBuilder", builder), SILENT, publish=publish)
    assert [one.trained for one in published] == [trained]
    assert made.candidate.trained is trained
    assert made.artifact.path.parent == Path("out")
    assert made.training == effect
