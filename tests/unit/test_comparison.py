"""Two runs compared by their lock files and predictions, without running anything."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from edgefx.api import diff as api_diff
from edgefx.errors import DataError, ExitCode, UsageError
from edgefx.measured import TaskFigures
from edgefx.pipeline.reproduce import recipe_of
from edgefx.provenance import lock, predictions
from edgefx.provenance.comparison import diff, flips, input_changes
from edgefx.provenance.lock import Lock, LockedFile, LockedImages, LockedModel, LockedTarget
from edgefx.provenance.predictions import Predictions
from edgefx.provenance.reproduction import Outcome, compare
from edgefx.report.comparison import markdown, render_diff, render_reproduction
from edgefx.results import Environment
from edgefx.storage.serde import dumps
from tests.unit.report_samples import accuracy

HERE = Environment(
    edgefx="1.0",
    python="3.11.7",
    os="Linux",
    machine="x86_64",
    cpu="A CPU",
    cpu_features=("AVX2",),
    cores=2,
    memory_mb=1000,
    packages={"onnx": "1.20", "numpy": "2.0"},
)
NAMES = ("0/a.png", "0/b.png", "1/c.png", "1/d.png")
RECIPE: dict[str, Any] = {
    "version": 1,
    "model": {"source": "digits"},
    "targets": [{"target": "tflite-int8", "gates": {"max_size": "1MB"}}],
    "quantize": {"method": "ptq", "effort": "fast"},
    "gates": {"max_p95_ms": 20},
    "output": "out",
}


def images(role: str = "evaluation", **changed: str) -> LockedImages:
    contents = {name: name for name in NAMES} | changed
    files = tuple(LockedFile(path=name, sha256=content) for name, content in contents.items() if content)
    return LockedImages(role=role, root="/photos", sha256=repr(files), files=files)


def a_lock(**changes: Any) -> Lock:
    target = LockedTarget(
        target="tflite-int8",
        files=(LockedFile(path="digits-int8.tflite", sha256="ab"),),
        size_bytes=1000,
        accuracy=accuracy(top1=0.9),
        latency=None,
        content=("before metadata",),
    )
    base = Lock(
        schema_version=1,
        created="2026-01-01T00:00:00+00:00",
        command="edgefx run x",
        recipe=RECIPE,
        threads=2,
        seed=0,
        model=LockedModel(source="digits", content="model", graph_sha256="graph"),
        data=(images("calibration"), images()),
        environment=HERE,
        targets=(target,),
    )
    return replace(base, **changes)


def answers(
    *top1: int, labels: tuple[int, ...] | None = (0, 0, 1, 1), class_names: tuple[str, ...] = ()
) -> Predictions:
    return Predictions(
        images=NAMES,
        labels=labels,
        baseline=(0, 0, 1, 1),
        targets={"tflite-int8": top1},
        class_names=class_names,
    )


def saved(folder: Path, one: Lock, answered: Predictions | None = None) -> Path:
    folder.mkdir()
    lock.write(one, folder)
    if answered is not None:
        (folder / predictions.NAME).write_text(
            json.dumps({"schema_version": 1, **json.loads(dumps(answered))})
        )
    return folder


# ------------------------------------------------------------------------------------------------- inputs


def test_nothing_changed() -> None:
    moved = {**RECIPE, "output": "elsewhere"}
    assert input_changes(a_lock(), a_lock(recipe=moved, created="2027", command="another")) == ()


@pytest.mark.parametrize(
    ("change", "kind", "name", "before", "after"),
    [
        (
            {"recipe": {**RECIPE, "quantize": {"method": "ptq", "effort": "high"}}},
            "recipe",
            "quantize.effort",
            "fast",
            "high",
        ),
        ({"recipe": {**RECIPE, "io_dtype": "int8"}}, "recipe", "io_dtype", "", "int8"),
        ({"threads": 4}, "recipe", "threads", "2", "4"),
        (
            {"model": LockedModel(source="d", content="new", graph_sha256="graph")},
            "model",
            "content",
            "model",
            "new",
        ),
        ({"environment": replace(HERE, cpu="B")}, "machine", "cpu", "A CPU", "B"),
        ({"environment": replace(HERE, cpu_features=())}, "machine", "cpu features", "AVX2", ""),
        (
            {"environment": replace(HERE, packages={"onnx": "1.21", "numpy": "2.0"})},
            "version",
            "onnx",
            "1.20",
            "1.21",
        ),
        ({"environment": replace(HERE, packages={"onnx": "1.20"})}, "version", "numpy", "2.0", ""),
        ({"data": (images("calibration"),)}, "images", "evaluation", "4 images", ""),
        (
            {"data": (images("calibration", **{"0/b.png": "new"}), images())},
            "images",
            "calibration: content",
            "0/b.png",
            "changed",
        ),
        (
            {"data": (images("calibration", **{"0/b.png": ""}), images())},
            "images",
            "calibration: removed",
            "0/b.png",
            "",
        ),
        (
            {"data": (images("calibration", **{"9.png": "x"}), images())},
            "images",
            "calibration: added",
            "",
            "9.png",
        ),
    ],
)
def test_each_input_that_changed_is_named(
    change: dict[str, Any], kind: str, name: str, before: str, after: str
) -> None:
    (found,) = input_changes(a_lock(), a_lock(**change))
    assert (found.kind, found.name, found.before, found.after) == (kind, name, before, after)


def test_a_section_that_is_left_out_is_one_change() -> None:
    with_latency = {**RECIPE, "benchmark": {"rounds": 100, "threads": None}}
    without = {**RECIPE, "benchmark": None}
    (found,) = input_changes(a_lock(recipe=with_latency), a_lock(recipe=without))
    assert (found.name, found.before, found.after) == ("benchmark", "given", "none")
    (found,) = input_changes(a_lock(recipe=without), a_lock(recipe=with_latency))
    assert (found.name, found.before, found.after) == ("benchmark", "none", "given")


def test_the_same_files_with_other_labels() -> None:
    other = replace(images("calibration"), sha256="other")
    (found,) = input_changes(a_lock(), a_lock(data=(other, images())))
    assert "labels" in found.name


def test_many_changed_images_are_counted() -> None:
    many = {f"{number:03}.png": "x" for number in range(20)}
    (found,) = input_changes(a_lock(), a_lock(data=(images("calibration", **many), images())))
    assert found.after.endswith("+ 15 more")


# -------------------------------------------------------------------------------------------------- flips


def test_flips_image_by_image() -> None:
    found = flips(answers(0, 0, 1, 0), answers(0, 1, 1, 1), "tflite-int8", changed=frozenset())
    assert found is not None
    assert (found.images, found.left_out, found.lost, found.gained) == (4, 0, 1, 1)
    assert found.drop_pp == 0
    assert [(flip.image, flip.label, flip.before, flip.after) for flip in found.flipped] == [
        ("0/b.png", 0, 0, 1),
        ("1/d.png", 1, 0, 1),
    ]


def test_a_flip_between_two_wrong_classes_is_neither_lost_nor_gained() -> None:
    found = flips(answers(5, 0, 1, 1), answers(7, 0, 1, 1), "tflite-int8", changed=frozenset())
    assert found is not None
    assert (found.lost, found.gained, len(found.flipped)) == (0, 0, 1)


def test_only_images_that_both_runs_have_are_compared() -> None:
    after = Predictions(
        images=("1/d.png", "0/a.png", "new.png"),
        labels=(1, 0, 0),
        baseline=(1, 0, 0),
        targets={"tflite-int8": (0, 0, 0)},
    )
    found = flips(answers(0, 0, 1, 1), after, "tflite-int8", changed=frozenset({"0/a.png"}))
    assert found is not None
    assert (found.images, found.left_out, found.lost) == (1, 4, 1)
    assert flips(answers(0, 0, 1, 1), after, "tflite-int8", changed=frozenset(NAMES)) is None
    assert flips(answers(0, 0, 1, 1), after, "onnx-int8", changed=frozenset()) is None


def test_samples_are_compared_where_they_overlap() -> None:
    before = replace(answers(0, 0, 1, 1), targets={"tflite-int8": (0, None, 1, None)})
    after = replace(answers(0, 0, 1, 1), targets={"tflite-int8": (1, 0, None, None)})
    found = flips(before, after, "tflite-int8", changed=frozenset())
    assert found is not None
    assert (found.images, found.left_out, found.lost) == (1, 2, 1)


def test_unlabelled_images_flip_too() -> None:
    found = flips(
        answers(0, 0, 1, 1, labels=None), answers(0, 0, 1, 0, labels=None), "tflite-int8", changed=frozenset()
    )
    assert found is not None
    assert (found.lost, found.drop_pp, len(found.flipped)) == (None, None, 1)


# --------------------------------------------------------------------------------------------------- diff


def test_diff_of_two_folders(tmp_path: Path) -> None:
    before = saved(tmp_path / "a", a_lock(), answers(0, 0, 1, 1))
    worse = replace(a_lock().targets[0], size_bytes=2000, files=(LockedFile(path="x", sha256="cd"),))
    changed = {**RECIPE, "quantize": {"method": "ptq", "effort": "high"}}
    worse = replace(worse, content=("other",))
    after = saved(tmp_path / "b", a_lock(targets=(worse,), recipe=changed), answers(0, 1, 1, 1))
    result = diff(before, after / lock.NAME)
    (target,) = result.targets
    assert not target.identical
    assert target.flips is not None
    assert target.flips.drop_pp == 25
    console = Console(width=160, record=True)
    render_diff(result, console)
    text = console.export_text()
    for part in ("quantize.effort", "1.00 kB -> 2.00 kB", "-25.00", "1 of 4", "0/b.png (0 -> 1, label 0)"):
        assert part in text
    assert "est. SRAM" not in text  # neither run has an estimate
    assert "est. SRAM" not in markdown(result)
    page = markdown(result)
    assert "| recipe | quantize.effort | fast | high |" in page
    assert "0/b.png" in page
    assert diff(before, before).targets[0].identical
    assert diff(before, before).changes == ()


def test_flipped_images_are_told_with_class_names_where_both_runs_know_them(tmp_path: Path) -> None:
    names = ("daisy", "rose")
    before = saved(tmp_path / "a", a_lock(), answers(0, 0, 1, 1, class_names=names))
    after = saved(tmp_path / "b", a_lock(), answers(0, 1, 1, 1, class_names=names))
    assert "0/b.png (daisy -> rose, label daisy)" in markdown(diff(before, after))
    older = saved(tmp_path / "c", a_lock(), answers(0, 1, 1, 1))
    assert "0/b.png (0 -> 1, label 0)" in markdown(diff(before, older))


def test_what_got_worse_is_told_in_every_format(tmp_path: Path) -> None:
    before = saved(tmp_path / "a", a_lock(), answers(0, 0, 1, 1))
    larger = replace(a_lock().targets[0], size_bytes=2000)
    after = saved(tmp_path / "b", a_lock(targets=(larger,)), answers(0, 0, 1, 1))
    result = api_diff(before, after, fail_on=["size_bytes=5%", "drop_pp=0.5pp"])
    assert result.exit_code is ExitCode.GATE_FAILED
    console = Console(width=160, record=True)
    render_diff(result, console)
    text = console.export_text()
    assert "FAIL  tflite-int8: size_bytes=5%: 1000 B -> 2000 B" in text
    assert "PASS  tflite-int8: drop_pp=0.5pp: top-1 fell by 0.00 pp on 4 images" in text
    assert "**FAIL**" in markdown(result) or "FAIL" in markdown(result)
    assert json.loads(dumps(result))["regressions"][0]["verdict"] == "FAIL"


def test_diff_without_predictions_says_so(tmp_path: Path) -> None:
    before, after = saved(tmp_path / "a", a_lock()), saved(tmp_path / "b", a_lock(targets=()))
    result = diff(before, after)
    assert len(result.notes) == 2
    assert result.targets[0].after is None
    console = Console(width=160, record=True)
    render_diff(result, console)
    assert "only before" in console.export_text()


def test_values_are_compared_by_the_figures_of_their_task(tmp_path: Path) -> None:
    def of(cosine: float) -> Lock:
        figures = TaskFigures(cosine=cosine, relative_error=0.05, max_error=0.2)
        (target,) = a_lock().targets
        values = replace(accuracy(top1=0, labelled=False), agreement=None, task=figures)
        return a_lock(targets=(replace(target, accuracy=values),))

    before, after = saved(tmp_path / "a", of(0.9991)), saved(tmp_path / "b", of(0.98))
    result = api_diff(before, after, fail_on=["cosine=0.001"])
    assert result.targets[0].before is not None
    assert result.targets[0].before["cosine"] == 0.9991
    assert [one.reason for one in result.regressions if one.failed] == ["0.9991 -> 0.98"]
    assert all("answers with values" in note for note in result.notes)
    console = Console(width=240, record=True)
    render_diff(result, console)
    for text in (console.export_text(), markdown(result)):
        assert "cosine" in text
        assert "0.9991 -> 0.98" in text.replace("→", "->")
        assert "R²" not in text


def matrix(folder: Path, **runs: tuple[Lock, Predictions]) -> Path:
    folder.mkdir()
    for name, (one, answered) in runs.items():
        saved(folder / name, one, answered)
    document = {"runs": [{"name": name, "output": f"/gone/{name}"} for name in (*runs, "failed")]}
    (folder / "matrix.json").write_text(json.dumps(document))
    return folder


def test_the_runs_of_two_matrices_are_compared_name_by_name(tmp_path: Path) -> None:
    same, worse = answers(0, 0, 1, 1), answers(0, 1, 1, 1)
    high = {**RECIPE, "quantize": {"method": "ptq", "effort": "high"}}
    newer = replace(HERE, edgefx="1.1")
    before = matrix(tmp_path / "a", b0=(a_lock(), same), b1=(a_lock(), same), gone=(a_lock(), same))
    after = matrix(
        tmp_path / "b",
        b0=(a_lock(environment=newer), same),
        b1=(a_lock(environment=newer, recipe=high), worse),
        new=(a_lock(), same),
    )
    result = diff(before, after)
    assert [(change.kind, change.name) for change in result.changes] == [
        ("version", "edgefx"),
        ("recipe", "quantize.effort (b1)"),
    ]
    targets = {target.target: target for target in result.targets}
    assert list(targets) == ["b0/tflite-int8", "b1/tflite-int8", "gone/tflite-int8", "new/tflite-int8"]
    assert [targets[f"{name}/tflite-int8"].after is None for name in ("b0", "b1", "gone", "new")] == [
        False, False, True, False,
    ]  # fmt: skip
    assert targets["b1/tflite-int8"].flips is not None
    assert targets["b1/tflite-int8"].flips.lost == 1
    assert "b1/tflite-int8: 0/b.png" in markdown(diff(before / "matrix.json", after))
    judged = api_diff(before, after, fail_on=["size_bytes=5%"]).regressions
    assert [(one.target, str(one.verdict)) for one in judged] == [
        ("b0/tflite-int8", "PASS"),
        ("b1/tflite-int8", "PASS"),
        ("gone/tflite-int8", "INCONCLUSIVE"),
    ]


def test_a_matrix_is_compared_with_a_matrix_that_shares_a_run(tmp_path: Path) -> None:
    one, same = saved(tmp_path / "one", a_lock()), answers(0, 0, 1, 1)
    before = matrix(tmp_path / "a", b0=(a_lock(), same))
    with pytest.raises(UsageError, match=r"one is one run, and .*a the runs of a matrix") as caught:
        diff(one, before)
    assert str(before / "b0") in caught.value.hint
    with pytest.raises(UsageError, match="no run of edgefx"):
        diff(before, tmp_path / "gone")
    with pytest.raises(UsageError, match="share no run: b0; b1"):
        diff(before, matrix(tmp_path / "b", b1=(a_lock(), same)))
    (before / "matrix.json").write_text('{"runs": 1}')
    with pytest.raises(DataError, match="no report on a matrix"):
        diff(before, before)


def test_targets_of_one_run_come_last(tmp_path: Path) -> None:
    both = a_lock().targets[0]
    before = saved(tmp_path / "a", a_lock(targets=(replace(both, target="onnx-int8"), both)))
    after = saved(tmp_path / "b", a_lock(targets=(replace(both, target="openvino-int8"), both)))
    assert [target.target for target in diff(before, after).targets] == [
        "tflite-int8",
        "onnx-int8",
        "openvino-int8",
    ]


def test_diff_reads_a_run_by_its_report(tmp_path: Path) -> None:
    before = saved(tmp_path / "a", a_lock())
    (before / "report.json").write_text("{}")
    assert diff(before / "report.json", before).targets


def test_files_that_are_no_run(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no run of edgefx"):
        diff(tmp_path, tmp_path)
    for content, says in (
        ("", "no lock file"), ("[]", "no lock file"), ("{}", "no lock file"),
        ('{"schema_version": 1}', "no lock file"), ('{"schema_version": 99}', "version 99"),
    ):  # fmt: skip
        (tmp_path / lock.NAME).write_text(content)
        with pytest.raises(UsageError, match=says):
            lock.read(tmp_path)
    for content in ("", "[]", '{"schema_version": 1}', '{"schema_version": 9, "images": 3}'):
        (tmp_path / predictions.NAME).write_text(content)
        with pytest.raises(DataError, match="predictions"):
            predictions.read(tmp_path / predictions.NAME)


def test_a_lock_file_reads_back_as_written(tmp_path: Path) -> None:
    assert lock.read(saved(tmp_path / "a", a_lock())) == a_lock()


# ---------------------------------------------------------------------------------------------- reproduce


def outcome(**changes: Any) -> tuple[Outcome, str]:
    after = replace(a_lock().targets[0], **changes)
    result = compare(a_lock(), a_lock(targets=(after,)), path=Path("l"), output=Path("o"))
    (target,) = result.targets
    console = Console(width=160, record=True)
    render_reproduction(result, console)
    assert target.outcome.value in console.export_text()
    return target.outcome, "; ".join(target.differences)


def test_outcomes() -> None:
    other = (LockedFile(path="digits-int8.tflite", sha256="cd"),)
    assert outcome() == (Outcome.IDENTICAL, "")
    assert outcome(files=other, content=("other",)) == (Outcome.SAME_METRICS, "")
    nearly = replace(accuracy(top1=0.9), mean_kl=accuracy(top1=0.9).mean_kl + 1e-9, images_per_s=1.0)
    assert outcome(files=other, content=(), accuracy=nearly) == (Outcome.SAME_METRICS, "")
    assert outcome(files=other, content=("before metadata",)) == (Outcome.SAME_CONTENT, "")
    what, why = outcome(files=other, content=("other",), accuracy=accuracy(top1=0.8))
    assert what is Outcome.DIFFERENT
    assert "top1: 0.9 -> 0.8" in why
    what, why = outcome(accuracy=accuracy(top1=0.8))
    assert what is Outcome.DIFFERENT
    assert "identical bytes" in why
    assert outcome(files=other, content=("other",), size_bytes=7)[0] is Outcome.DIFFERENT
    assert outcome(files=other, content=("other",), accuracy=None)[0] is Outcome.DIFFERENT
    assert outcome(files=(), content=(), accuracy=None)[0] is Outcome.FAILED


def test_exit_codes() -> None:
    def code(*outcomes: Outcome) -> int:
        result = compare(a_lock(), a_lock(), path=Path("l"), output=Path("o"))
        targets = tuple(replace(result.targets[0], outcome=one) for one in outcomes)
        return int(replace(result, targets=targets).exit_code)

    assert code(Outcome.IDENTICAL, Outcome.SAME_METRICS) == 0
    assert code(Outcome.IDENTICAL, Outcome.DIFFERENT) == 1
    assert code(Outcome.FAILED, Outcome.DIFFERENT) == 4


def test_the_recorded_recipe_runs_again_elsewhere() -> None:
    recipe = recipe_of(a_lock(), Path("l"), output=Path("again"), model="b0", calibration=Path("here"))
    assert recipe.model.source == "b0"
    assert recipe.calibration is not None
    assert recipe.calibration.images == Path("here")
    assert recipe.output == Path("again")
    assert recipe.benchmark is None
    assert recipe.gates.max_p95_ms is None
    assert recipe.targets[0].gates is None
    with_latency = recipe_of(a_lock(), Path("l"), output=Path("again"), benchmark=True)
    assert with_latency.gates.max_p95_ms == 20


def test_a_recipe_of_another_edgefx_is_refused() -> None:
    strange = a_lock(recipe={**RECIPE, "unheard_of": 1})
    with pytest.raises(UsageError, match="not a valid recipe"):
        recipe_of(strange, Path("l"), output=Path("again"))
