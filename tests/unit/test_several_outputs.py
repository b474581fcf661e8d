"""What is said, known and limited of each of several outputs."""

from __future__ import annotations

import io
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgefx.data import labels
from edgefx.errors import DataError, UnknownNameError, UsageError
from edgefx.evaluation import outputs
from edgefx.evaluation.gates import judge, limit_text
from edgefx.measured import OutputAccuracy
from edgefx.metrics import Figures
from edgefx.models.graph.equality import of_model
from edgefx.models.outputs import unique
from edgefx.provenance import regressions
from edgefx.provenance.comparison import RunDiff, TargetDiff
from edgefx.recipe.conditions import of_run, parse
from edgefx.report import comparison
from edgefx.report.console import PlainConsole
from edgefx.results import Accuracy
from edgefx.scores import of_first
from edgefx.storage.serde import from_json, to_json
from edgefx.types import Dataset, ModelSpec, ModelTask, OutputKind, OutputSpec, TensorInfo
from edgefx.units import parse_tasks
from edgefx.verdicts import Gate, Verdict

QUALITY = OutputSpec(name="quality", shape=(1,), task=ModelTask.REGRESSION, output=OutputKind.VALUES)
CLASS = OutputSpec(name="class", shape=(3,), task=ModelTask.CLASSIFICATION, output=OutputKind.PROBABILITIES)
TAGS = OutputSpec(name="tags", shape=(2,), task=ModelTask.MULTILABEL, output=OutputKind.PROBABILITIES)
SPEC = ModelSpec(
    name="m", source="m.keras", height=8, width=8, classes=3, output=OutputKind.PROBABILITIES, parameters=1,
    macs=1, sha256="0", outputs=(QUALITY, CLASS, TAGS),
)  # fmt: skip
ALONE = replace(SPEC, outputs=())


def folder(root: Path, header: str, *rows: str) -> Path:
    for row in rows:
        Image.new("RGB", (8, 8)).save(root / row.split(",")[0])
    (root / "labels.csv").write_text("\n".join([header, *rows]) + "\n")
    return root


def values(found: Dataset) -> list[list[float | None]]:
    return [[None if math.isnan(one) else one for one in item.values] for item in found.items]


def test_a_model_is_described_by_its_first_output_with_classes() -> None:
    assert SPEC.first is CLASS
    assert SPEC.columns == 6
    assert [(one.name, place.start, place.stop) for one, place in SPEC.parts] == [
        ("quality", 0, 1), ("class", 1, 4), ("tags", 4, 6),
    ]  # fmt: skip
    assert (ALONE.first, ALONE.columns, ALONE.parts) == (None, 3, ())
    scores = np.arange(12, dtype=np.float32).reshape(2, 6)
    assert of_first(scores, SPEC).tolist() == [[1, 2, 3], [7, 8, 9]]
    assert of_first(scores, ALONE) is scores
    # A document of a model with one output is as it was.
    assert "outputs" not in to_json(ALONE)  # type: ignore[operator]
    assert from_json(ModelSpec, to_json(SPEC)) == SPEC


def test_names_of_outputs() -> None:
    assert unique(["class", "a/b c", "class", "_x", "image"]) == [
        "class", "a_b_c", "class_1", "output_x", "image_1",
    ]  # fmt: skip


def test_tasks_by_output() -> None:
    assert parse_tasks("binary") is ModelTask.BINARY
    assert parse_tasks("a=binary, b=embedding") == {"a": ModelTask.BINARY, "b": ModelTask.EMBEDDING}
    for text, message in (
        ("a=binary,binary", "'binary' is no task"),
        ("a=nothing", "'a=nothing' is no task"),
        ("=binary", "'=binary' is no task"),
        ("a=binary,a=binary", "says the task of a twice"),
    ):
        with pytest.raises(UsageError, match=message):
            parse_tasks(text)


def test_a_column_for_each_output(tmp_path: Path) -> None:
    root = folder(tmp_path, "file,class,quality", "a.png,2,0.5", "b.png,0,7")
    listed = labels.scan(root, None)
    assert listed.known
    assert not listed.labelled
    found = labels.fit_outputs(listed, SPEC)
    assert found.labelled
    assert values(found) == [[0.5, 2, None, None], [7, 0, None, None]]
    truths = outputs.truths(SPEC, np.array([item.values for item in found.items], np.float32))
    assert truths.keys() == {"quality", "class"}
    assert truths["class"].labels is not None
    assert truths["class"].labels.tolist() == [2, 0]
    # A part of the images keeps its rows.
    part = replace(listed, items=listed.items[1:])
    assert values(labels.fit_outputs(part, SPEC)) == [[7, 0, None, None]]
    with pytest.raises(DataError, match="the columns file and label are needed"):
        labels.fit(listed, ModelTask.CLASSIFICATION, 3)


def test_names_of_classes_and_several_labels_in_columns(tmp_path: Path) -> None:
    root = folder(tmp_path, "file,tags,class", "a.png,red;round,cat", "b.png,,dog", "c.png,red,ant")
    found = labels.fit_outputs(labels.scan(root, None), SPEC)
    assert found.class_names == ("ant", "cat", "dog")
    assert values(found) == [[None, 1, 1, 1], [None, 2, 0, 0], [None, 0, 1, 0]]


def test_other_columns_beside_that_of_labels(tmp_path: Path) -> None:
    root = folder(tmp_path, "file,label,quality", "a.png,cat,0.5", "b.png,dog,7", "c.png,ant,1")
    found = labels.fit_outputs(labels.scan(root, None), SPEC)
    assert found.class_names == ("ant", "cat", "dog")
    assert values(found) == [[0.5, 1, None, None], [7, 2, None, None], [1, 0, None, None]]
    # An output that is called so has the column, though another is the first with classes.
    tagged = replace(SPEC, outputs=(QUALITY, CLASS, replace(CLASS, name="label")))
    assert [row[1:] for row in values(labels.fit_outputs(labels.scan(root, None), tagged))] == [
        [None, 1], [None, 2], [None, 0],
    ]  # fmt: skip


def test_folders_label_the_output_with_classes(tmp_path: Path) -> None:
    for number, name in enumerate("abc"):
        (tmp_path / name).mkdir()
        Image.new("RGB", (8, 8), (number, 0, 0)).save(tmp_path / name / "x.png")
    found = labels.fit_outputs(labels.scan(tmp_path, None), SPEC)
    assert values(found) == [[None, float(number), None, None] for number in range(3)]
    assert found.class_names == ("a", "b", "c")


@pytest.mark.parametrize(
    ("header", "row", "message"),
    [
        ("file,class,qualty", "a.png,0,1", "no output of the model is called qualty"),
        ("file,class", "a.png,3", "labels up to 3, but the model has 3 classes"),
        ("file,quality", "a.png,old", "row 2: label 'old' is no number"),
        ("file,quality", "a.png,1;2", "2 quantities for each image, the model gives 1"),
        ("file,class", "a.png,", "row 2: no class"),
        ("file,label,qualty", "a.png,0,1", "no output of the model is called qualty"),
        ("file,label", "a.png,3", r"the model has 3 classes .*\(output class, classification\)"),
    ],
)
def test_columns_that_do_not_fit(tmp_path: Path, header: str, row: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        labels.fit_outputs(labels.scan(folder(tmp_path, header, row), None), SPEC)


def test_each_output_is_compared_by_its_own_task() -> None:
    rng = np.random.default_rng(0)
    baseline = rng.uniform(0.05, 0.95, (40, 6)).astype(np.float32)
    baseline[:, 0] *= 100
    baseline[:, 1:4] /= baseline[:, 1:4].sum(1, keepdims=True)
    scores = baseline.copy()
    scores[:, 0] += 1
    scores[0, 1:4] = scores[0, [2, 3, 1]]  # another class
    target = baseline[:, :1] + 3
    known = {
        "quality": outputs.Truth(targets=target),
        "class": outputs.Truth(labels=baseline[:, 1:4].argmax(1)),
    }
    tensors = [TensorInfo(name=one.name, shape=(1, *one.shape), dtype="float32") for one in SPEC.outputs]
    found = outputs.compare(baseline, scores, SPEC, known=known, outputs=tensors, images_per_s=1.0)
    each = {one.name: one.accuracy for one in found.outputs}
    assert each["quality"].task is not None
    assert each["quality"].task.mae == pytest.approx(2)
    assert each["quality"].task.baseline_mae == pytest.approx(3)
    assert found.top1 == each["class"].top1 == pytest.approx(39 / 40)
    assert found.drop_pp == pytest.approx(2.5)
    assert each["tags"].agreement == 1
    assert each["tags"].mean_kl == 0
    assert found.mean_kl == pytest.approx(each["quality"].mean_kl + each["class"].mean_kl)
    alike = outputs.difference(baseline, scores, SPEC)
    assert alike.mean_kl == pytest.approx(found.mean_kl)
    assert outputs.difference(baseline[:, 1:4], scores[:, 1:4], ALONE).outputs == ()
    # Each over its own scale: 1 of 100 counts as much as 0.01 of a probability.
    parity = of_model(baseline, scores, SPEC)
    assert parity.top1_changed == 1
    shifted = baseline + np.array([1, 0, 0, 0, 0, 0], np.float32)
    largest = float(baseline[:, 0].max())
    assert of_model(baseline, shifted, SPEC).max_abs_dp == pytest.approx(1 / largest, rel=1e-4)


def accuracy(mae: float, agreement: float) -> Accuracy:
    kept = Accuracy(
        images=100, top1=None, top5=None, baseline_top1=None, baseline_top5=None, drop_pp=None,
        drop_ci95_pp=None, agreement=agreement, mean_kl=0.0, max_abs_dp=0.0, images_per_s=1.0,
    )  # fmt: skip
    from edgefx.measured import TaskFigures

    own = replace(kept, agreement=None, task=TaskFigures(mae=mae))
    return replace(kept, outputs=(OutputAccuracy(name="quality", task=ModelTask.REGRESSION, accuracy=own),))


def test_what_got_worse_of_an_output() -> None:
    figures = ({"quality.mae": 1.0, "mae": 5.0}, {"quality.mae": 1.2, "mae": 5.0})
    target = TargetDiff(target="t", before=figures[0], after=figures[1], identical=False, flips=None)
    diff = RunDiff(before=Path("a"), after=Path("b"), changes=(), targets=(target,))
    limits = [regressions.parse(text) for text in ("quality.mae=0.1", "quality.mae=30%", "mae=0")]
    assert [one.verdict.value for one in regressions.judge(diff, limits)] == ["FAIL", "PASS", "PASS"]
    rendered = io.StringIO()
    comparison.render_diff(diff, PlainConsole(file=rendered, width=120))
    assert "quality: MAE" in rendered.getvalue()
    assert "1 -> 1.2" in rendered.getvalue()
    for name in ("quality.p50_ms", "quality.mea"):
        with pytest.raises(UnknownNameError):
            regressions.parse(f"{name}=1%")


def test_limits_of_an_output() -> None:
    gate = parse("tflite-*: quality.mae <= 2")
    assert gate == Gate(metric="mae", limit=2.0, targets=("tflite-*",), output="quality")
    assert gate.name == "quality.mae"
    assert limit_text(gate) == "mean absolute error of quality <= 2"
    figures = Figures(size_bytes=1, accuracy=accuracy(1.5, 0.5))
    (passed,) = judge([gate], figures, target="tflite-int8")
    assert (passed.verdict, passed.measured) == (Verdict.PASS, 1.5)
    assert passed.reason == "mean absolute error of quality 1.5, limit 2"
    (failed,) = judge([replace(gate, limit=1.0)], figures, target="tflite-int8")
    assert failed.verdict is Verdict.FAIL
    (unknown,) = judge([replace(gate, output="other")], figures, target="tflite-int8")
    assert unknown.verdict is Verdict.INCONCLUSIVE
    assert parse("a.b-c.top1 >= 90%").output == "a.b-c"
    with pytest.raises(UsageError, match="unknown metric 'mea'"):
        parse("quality.mea <= 2")
    with pytest.raises(UsageError, match="is for a device"):
        of_run("@pi5: quality.mae <= 2")
    with pytest.raises(UsageError, match="baseline_top1 is no limit of a run"):
        of_run("baseline_top1 >= 0.5")
