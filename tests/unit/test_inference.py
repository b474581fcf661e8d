"""Images without an answer: counted, said why, and wrong; they take no other image down."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from edgefx.errors import ArtifactError
from edgefx.evaluation import inference, tasks
from edgefx.evaluation.gates import judge
from edgefx.metrics import METRICS, Figures
from edgefx.pipeline.evaluator import Evaluator
from edgefx.runtimes.onnx.runtime import RUNTIME
from edgefx.types import ModelTask, OutputKind, TensorInfo
from edgefx.verdicts import Gate, Verdict
from tests import tiny_onnx
from tests.unit.report_samples import report

if TYPE_CHECKING:
    from edgefx.protocols import Session
    from edgefx.types import Pixels, Scores

BAD = (3, 17, 40)  # of 60


def fragile(path: Path) -> Path:
    """A classifier that ONNX Runtime cannot run on an image whose first value is 255.

    It looks that value up in a table that is one entry too short.
    """
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    model = onnx.load(tiny_onnx.write(path))
    graph = model.graph
    made = [
        helper.make_node("Slice", ["row", "zero", "one", "axis"], ["value"]),
        helper.make_node("Cast", ["value"], ["place"], to=TensorProto.INT64),
        helper.make_node("Gather", ["table", "place"], ["found"]),
        helper.make_node("Add", ["logits", "found"], ["shifted"]),
    ]
    constants = {"zero": [0], "one": [1], "axis": [1]}
    graph.initializer.extend(numpy_helper.from_array(np.array(v, np.int64), n) for n, v in constants.items())
    graph.initializer.append(numpy_helper.from_array(np.zeros(255, np.float32), "table"))
    softmax = graph.node.pop()
    softmax.input[0] = "shifted"
    graph.node.extend([*made, softmax])
    onnx.save(model, path)
    return path


def images() -> Pixels:
    pixels = tiny_onnx.pixels(60)
    pixels[:, 0, 0, 0] = 7
    pixels[list(BAD), 0, 0, 0] = 255
    return pixels


def test_an_inference_that_fails_is_counted_and_no_other_image_is_lost(tmp_path: Path) -> None:
    pixels = images()
    with RUNTIME.open_session(tiny_onnx.write(tmp_path / "whole.onnx"), threads=1) as session:
        whole = inference.run(session, pixels)
    assert not whole.failed.any()
    assert not whole.reasons
    with RUNTIME.open_session(fragile(tmp_path / "fragile.onnx"), threads=1) as session:
        found = inference.run(session, pixels)
    assert tuple(np.flatnonzero(found.failed)) == tuple(found.reasons) == BAD
    assert all("255" in reason for reason in found.reasons.values())
    np.testing.assert_array_equal(found.scores[~found.failed], whole.scores[~found.failed])
    assert not found.scores[found.failed].any()


def test_it_counts_as_wrong_in_all_that_is_counted_and_in_nothing_that_is_averaged(tmp_path: Path) -> None:
    pixels = images()
    with RUNTIME.open_session(tiny_onnx.write(tmp_path / "whole.onnx"), threads=1) as session:
        baseline = session.infer(pixels)
    judge_ = Evaluator(
        spec=replace(report().model, classes=10), pixels=pixels, labels=baseline.argmax(1), values=None,
        baseline=baseline, places=range(60), sampled_of=None, names=[f"{number}.png" for number in range(60)],
    )  # fmt: skip
    output = TensorInfo(name="probabilities", shape=(1, 10), dtype="float32")
    with RUNTIME.open_session(fragile(tmp_path / "fragile.onnx"), threads=1) as session:
        accuracy, found = judge_.judge(session, [output], Silent())
    assert (accuracy.images, accuracy.failed, accuracy.error_rate) == (60, 3, 0.05)
    assert (accuracy.top1, accuracy.top5, accuracy.agreement) == (0.95, 0.95, 0.95)
    assert (accuracy.lost, accuracy.gained, accuracy.drop_pp) == (3, 0, 5.0)
    assert accuracy.mean_kl == pytest.approx(0, abs=1e-9)
    assert accuracy.max_abs_dp < 1e-6
    top1, sure = judge_.best(found)
    assert {place for place, best in enumerate(top1) if best is None} == set(BAD)
    assert {place for place, share in enumerate(sure) if share is None} == set(BAD)
    (said,) = judge_.told(found)
    assert said.startswith("3 of 60 images got no answer, and count as wrong: 3.png: ")
    assert said.endswith(inference.HINT)

    for limit, verdict in ((0.0, Verdict.FAIL), (0.05, Verdict.PASS)):
        gate = Gate(metric="error_rate", limit=limit)
        (judged,) = judge((gate,), Figures(size_bytes=1, accuracy=accuracy), target="x")
        assert judged.verdict is verdict
    assert METRICS["error_rate"].gate == "max_error_rate"


class Silent:
    def advance(self, steps: int = 1) -> None:
        """Count nothing."""


class NotFinite:
    """Answers with NaN where the first value of an image is in `bad`."""

    def __init__(self, *bad: int) -> None:
        self.bad = bad
        self.asked = 0

    def infer(self, batch: Pixels) -> Scores:
        self.asked += len(batch)
        scores = np.full((len(batch), 4), 0.25, np.float32)
        scores[np.isin(batch[:, 0, 0, 0], self.bad)] = np.nan
        return scores


def numbered(count: int) -> Pixels:
    pixels = np.zeros((count, 2, 2, 3), np.uint8)
    pixels[:, 0, 0, 0] = np.arange(count)
    return pixels


def run(session: object, pixels: Pixels) -> inference.Inferred:
    some: Session = session  # type: ignore[assignment]
    return inference.run(some, pixels)


def test_scores_that_are_not_finite_are_no_answer() -> None:
    found = run(NotFinite(5, 30), numbered(40))
    assert found.reasons == {5: "NaN or infinite scores", 30: "NaN or infinite scores"}
    assert np.isfinite(found.scores).all()


def test_an_artifact_that_fails_too_often_fails_and_is_not_asked_for_ever() -> None:
    with pytest.raises(ArtifactError, match="no answer to 5 of 40 images, first to image 2: NaN"):
        run(NotFinite(2, 4, 6, 8, 10), numbered(40))
    broken = NotFinite(*range(200))
    with pytest.raises(ArtifactError, match="no answer to 16 of 16 images"):
        run(broken, numbered(200))
    assert broken.asked == 16


def test_values_are_compared_where_there_are_some() -> None:
    baseline = np.arange(20, dtype=np.float32)[:, None]
    scores, failed = baseline.copy(), np.zeros(20, np.bool_)
    scores[4], failed[4] = 0, True
    found = tasks.compare(
        baseline, scores, task=ModelTask.REGRESSION, output=OutputKind.VALUES, labels=None, targets=baseline,
        images_per_s=1.0, failed=failed,
    )  # fmt: skip
    assert (found.images, found.failed, found.error_rate) == (20, 1, 0.05)
    assert found.task is not None
    assert found.task.mae == 0
