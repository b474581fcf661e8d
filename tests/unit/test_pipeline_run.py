"""The order of a run's steps, what a dry run finds out, and what a search leaves when it is cut short."""

from __future__ import annotations

import errno
import re
import shutil
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from edgefx.cache.entry import key
from edgefx.cache.settings import OFF, CacheSettings
from edgefx.data import digits
from edgefx.errors import ConversionError, DiskFullError
from edgefx.pipeline import search
from edgefx.pipeline.artifacts import ArtifactBuilder, Candidate
from edgefx.pipeline.execute import Run
from edgefx.pipeline.finish import Files
from edgefx.pipeline.forecast import forecast
from edgefx.pipeline.memo import Memo, Workspace
from edgefx.pipeline.output import OutputFolder
from edgefx.pipeline.plan import Plan, PlannedTarget, plan
from edgefx.pipeline.records import ConversionRecord, Measured
from edgefx.pipeline.stages import Computed, KeptFiles, Stage, steps, view
from edgefx.protocols import SILENT
from edgefx.quantization import QuantScheme
from edgefx.recipe.load import parse
from edgefx.results import DropUnit, LayerSensitivity, MaxDrop
from edgefx.storage.hashes import FileHashes, hash_file
from edgefx.targets import TARGETS, TargetRow
from edgefx.types import Artifact, ArtifactFile, Effort, IoDtype
from edgefx.vocabulary import StageKind
from tests.unit.report_samples import accuracy, artifact, report


def planned(**sections: Any) -> Plan:
    document = {"version": 1, "model": {"source": "digits"}, "targets": ["tflite-int8", "onnx-float32"]}
    return plan(parse({**document, **sections}, where="test"))


# ------------------------------------------------------------------------------------------ steps


def test_steps_are_in_the_order_of_the_run() -> None:
    found = steps(planned(gates={"max_drop": "1pp", "max_size": "1MB"}))
    assert [(step.stage, step.target) for step in found] == [
        (StageKind.LOAD, ""),
        (StageKind.CANONICALIZE, ""),
        (StageKind.QUANTIZE, ""),
        (StageKind.CONVERT, "tflite-int8"),
        (StageKind.CONVERT, "onnx-float32"),
        (StageKind.EVALUATE, "tflite-int8"),
        (StageKind.EVALUATE, "onnx-float32"),
        (StageKind.BENCHMARK, ""),
        (StageKind.GATE, "tflite-int8"),
        (StageKind.GATE, "onnx-float32"),
        (StageKind.REPORT, ""),
    ]
    by_stage = {step.stage: step.what for step in found}
    limits, _, foreseen = by_stage[StageKind.GATE].partition("; ")
    assert limits == "top-1 drop <= 1 pp, size <= 1 MB"
    assert foreseen.startswith("top-1 drop <= 1 pp cannot be shown with 360 evaluation images: even if no")
    assert "100 of" in by_stage[StageKind.QUANTIZE]


@pytest.mark.parametrize(
    ("devices", "measured"),
    [
        ([], {StageKind.BENCHMARK}),
        (["host"], {StageKind.BENCHMARK}),
        (["host", "pi5"], {StageKind.BENCHMARK, StageKind.DEVICE}),
        (["pi5", "pi4"], {StageKind.DEVICE}),
    ],
)
def test_latency_is_measured_on_the_machines_that_are_named(
    devices: list[str], measured: set[StageKind]
) -> None:
    found = {step.stage for step in steps(planned(benchmark={"devices": devices}))}
    assert found & {StageKind.BENCHMARK, StageKind.DEVICE} == measured


def test_float_ends_of_an_integer_artifact_are_told_beforehand() -> None:
    targets = ["tflite-int8", "tflite-int16x8"]
    int8, int16 = (
        step.what
        for step in steps(planned(targets=targets, quantize={"integer_only": True}))
        if step.stage is StageKind.CONVERT
    )
    assert int8.endswith("integer only")
    assert int16.endswith("integer only between its ends")


def test_a_sample_is_told_beforehand() -> None:
    def evaluations(**evaluate: object) -> list[str]:
        found = steps(planned(targets=["tflite-int8", "tflite-int16x8"], evaluate=evaluate))
        return [step.what.partition(" images")[0] for step in found if step.stage is StageKind.EVALUATE]

    assert evaluations() == ["on all 360", "on 100 of all 360"]
    assert evaluations(slow_limit=500) == evaluations(slow_limit="all") == ["on all 360", "on all 360"]
    assert evaluations(limit=30) == ["on 30 sampled of all 360"] * 2


def test_what_is_not_asked_for_is_no_step() -> None:
    found = steps(planned(targets=["onnx-float32"], evaluate=None, benchmark=None))
    kinds = [step.stage for step in found]
    assert kinds == [StageKind.LOAD, StageKind.CANONICALIZE, StageKind.CONVERT, StageKind.REPORT]
    assert found[-1].what == "report.json"
    shown = view(planned(output="there"), found, name="a")
    assert (shown.name, shown.model, shown.output, shown.steps) == ("a", "digits", "there", found)


def test_training_is_told_with_the_checks_before_it(tmp_path: Path) -> None:
    for number, path in enumerate(sorted(digits.evaluation_folder().rglob("*.png"))[::90]):
        shutil.copy(path, tmp_path / f"{number}.png")
    found = steps(planned(quantize={"method": "qat", "train": tmp_path}, evaluate=None))
    (what,) = [step.what for step in found if step.stage is StageKind.QUANTIZE]
    assert "; train: distill, 10 epochs" in what


def test_of_an_empty_cache_a_dry_run_knows_what_is_to_do(tmp_path: Path) -> None:
    found = forecast(planned(), CacheSettings(folder=tmp_path / "cache"))
    states = {step.stage: step.cached for step in found}
    assert states == {
        StageKind.LOAD: False,
        StageKind.CANONICALIZE: False,
        StageKind.QUANTIZE: None,
        StageKind.CONVERT: None,
        StageKind.EVALUATE: None,
        StageKind.BENCHMARK: None,
        StageKind.REPORT: None,
    }
    assert not list((tmp_path / "cache").rglob("manifest.json"))


# ------------------------------------------------------------------------------------------ failures


class Builder:
    """Makes files of a few bytes by the real memo, and fails where it is told to.

    Its accuracy rises with the number of layers in float.
    """

    evaluates = True

    def __init__(self, memo: Memo) -> None:
        self.memo = memo
        inputs = SimpleNamespace(named_spec=report().model, image_sets=())
        self.real = ArtifactBuilder(inputs=cast("Any", inputs), memo=memo, threads=1, seed=0)
        self.errors: dict[int, BaseException] = {}
        self.converted = 0

    def scheme(self, target: PlannedTarget) -> QuantScheme:
        return QuantScheme(precision=target.row.precision, io_dtype=target.io_dtype, effort=target.effort)

    def trains(self, row: TargetRow) -> bool:
        del row
        return False

    def convert(
        self, target: PlannedTarget, scheme: QuantScheme, *, label: str, trained: bool = False
    ) -> Candidate:
        layers = sorted(scheme.keep_float)
        folder = self.memo.workspace.staging / f"{scheme.effort}-{len(layers)}"

        def compute() -> Computed[ConversionRecord, Files]:
            self.converted += 1
            if self.converted in self.errors:
                raise self.errors[self.converted]
            folder.mkdir(parents=True)
            path = folder / "digits-int8.onnx"
            path.write_text(f"{scheme.effort} {layers}")
            record = ConversionRecord(artifact=self._described(target, path), convert_s=1.0)
            return Computed(value=record, opened=(path,), files={path.name: path})

        def restore(record: ConversionRecord, files: KeptFiles) -> Files:
            files.copy(folder, {file.path.name: file.sha256 for file in record.artifact.files})
            return (folder / record.artifact.path.name,)

        stage = Stage(
            kind=StageKind.CONVERT,
            key=key("convert", version=1, effort=scheme.effort, layers=list(layers)),
            result=ConversionRecord,
            compute=compute,
            restore=restore,
            label=label,
        )
        return Candidate(
            target=target, scheme=scheme, stage=stage, record=self.memo.get(stage), trained=trained
        )

    def _described(self, target: PlannedTarget, path: Path) -> Artifact:
        file = ArtifactFile(path=Path(path.name), size_bytes=path.stat().st_size, sha256=hash_file(path))
        return replace(artifact(target.name, size_bytes=1, compute_int8=9), files=(file,))

    def measure(self, candidate: Candidate, label: str) -> Measured:
        del label
        (path,) = self.files(candidate)
        return Measured(accuracy=accuracy(top1=0.90 + path.read_text().count("layer") / 100), top1=())

    def rank(self, candidate: Candidate) -> tuple[LayerSensitivity, ...]:
        del candidate
        return tuple(
            LayerSensitivity(layer=f"layer{number}", mean_kl=1.0, top1_changed=0.1) for number in range(4)
        )

    def files(self, candidate: Candidate) -> Files:
        return self.real.files(candidate)

    def discard(self, candidate: Candidate) -> None:
        self.real.discard(candidate)

    def publish(self, candidate: Candidate, out: OutputFolder) -> Candidate:
        return self.real.publish(candidate, out)


@pytest.fixture
def out(tmp_path: Path) -> OutputFolder:
    folder = OutputFolder(tmp_path / "out", tmp_path / "out" / "staging")
    folder.staging.mkdir(parents=True)
    return folder


def builder_of(out: OutputFolder, settings: CacheSettings) -> Builder:
    workspace = Workspace(scratch=out.staging, staging=out.staging)
    return Builder(Memo(settings.store(SILENT.warn), SILENT, workspace))


def made(builder: Builder, out: OutputFolder) -> search.BuiltTarget:
    target = PlannedTarget(
        row=TARGETS["onnx-int8"],  # its metadata are appended, to whatever is there
        io_dtype=IoDtype.UINT8,
        effort=Effort.HIGH,
        budget=MaxDrop(value=2.0, unit=DropUnit.PP),
    )
    return search.make(
        target,
        cast("ArtifactBuilder", builder),
        SILENT,
        publish=lambda candidate: builder.publish(candidate, out),
    )


def left_in(out: OutputFolder) -> dict[str, str]:
    """Return the files' texts without their metadata."""
    files = [path for path in out.path.iterdir() if path.is_file()]
    return {path.name: re.sub("(?<=])r.*", "", path.read_text("latin-1"), flags=re.DOTALL) for path in files}


@pytest.mark.parametrize("cached", [False, True])
def test_a_search_publishes_what_it_chose(out: OutputFolder, tmp_path: Path, *, cached: bool) -> None:
    settings = CacheSettings(folder=tmp_path / "cache" if cached else None)
    for again in (False, True):
        builder = builder_of(out, settings)
        found = made(builder, out)
        assert found.search is not None
        assert [len(trial.keep_float) for trial in found.search.trials] == [0, 1, 2]
        assert found.search.chosen == 2
        assert found.artifact.path == out.path / "digits-int8.onnx"
        assert builder.files(found.candidate) == (found.artifact.path,)
        assert left_in(out) == {"digits-int8.onnx": "high ['layer0', 'layer1']"}
        assert builder.converted == (0 if again and cached else 3)
        shutil.rmtree(out.path)
        out.staging.mkdir(parents=True)


def test_files_that_are_there_from_an_earlier_run_are_not_fetched(out: OutputFolder, tmp_path: Path) -> None:
    settings = CacheSettings(folder=tmp_path / "cache")
    made(builder_of(out, settings), out)
    (published,) = [path for path in out.path.iterdir() if path.is_file()]
    before = published.stat()
    made(builder_of(out, settings), out)
    after = published.stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_other_class_names_are_written_without_converting_again(out: OutputFolder, tmp_path: Path) -> None:
    settings = CacheSettings(folder=tmp_path / "cache")
    published: dict[str, bytes] = {}
    for name in ("cat", "dog", "cat"):
        builder = builder_of(out, settings)
        spec = replace(report().model, class_names=(name,))
        builder.real._inputs = cast("Any", SimpleNamespace(named_spec=spec, image_sets=()))
        found = made(builder, out)
        content = found.artifact.path.read_bytes()
        assert f'"class_names":["{name}"]'.encode() in content
        assert published.setdefault(name, content) == content
        assert found.artifact.files[0].sha256 == hash_file(found.artifact.path)
        assert found.candidate.content != (found.artifact.files[0].sha256,)
        assert builder.converted == (0 if len(published) > 1 else 3)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), DiskFullError("no space left")])
def test_a_search_that_is_cut_short_publishes_the_best_so_far(
    out: OutputFolder, error: BaseException
) -> None:
    builder = builder_of(out, OFF)
    builder.errors[3] = error
    with pytest.raises(type(error)):
        made(builder, out)
    assert left_in(out) == {"digits-int8.onnx": "high ['layer0']"}


def test_a_candidate_that_fails_is_one_of_the_trials(out: OutputFolder) -> None:
    builder = builder_of(out, OFF)
    builder.errors[2] = ConversionError("refused")
    found = made(builder, out)
    assert found.search is not None
    assert [trial.error for trial in found.search.trials] == ["", "refused", ""]
    assert found.search.chosen == 2


def test_a_full_disk_is_no_single_targets_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = planned(targets=["tflite-float32", "onnx-float32"], evaluate=None, benchmark=None)
    workspace = Workspace(scratch=tmp_path, staging=tmp_path)
    with closing(FileHashes(None)) as hashes:
        run = Run(wanted, Memo(OFF.store(SILENT.warn), SILENT, workspace), hashes)
        errors = [ConversionError("refused"), DiskFullError("no space left"), OSError(errno.ENOSPC, "full")]

        def failing(*_: object, **__: object) -> search.BuiltTarget:
            raise errors.pop(0)

        monkeypatch.setattr(search, "make", failing)
        run.carry_out(StageKind.CONVERT, "tflite-float32")
        assert run.failures["tflite-float32"].message == "refused"
        with pytest.raises(DiskFullError):
            run.carry_out(StageKind.CONVERT, "onnx-float32")
        with pytest.raises(OSError, match="full"):
            run.carry_out(StageKind.CONVERT, "onnx-float32")
    assert list(run.failures) == ["tflite-float32"]
