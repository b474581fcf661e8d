"""The Python API on real artifacts of `digits`: what the functions return, and that they print nothing."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path

import pytest

import edgefx
from edgefx.analysis.diagnosis import Broken
from edgefx.cli import run as command_line
from edgefx.errors import DataError, ExitCode
from edgefx.protocols import Task
from edgefx.results import RunReport
from edgefx.system import resources
from edgefx.types import StageKind
from edgefx.views import ArtifactInspection, MatrixReport, ModelInspection

pytestmark = pytest.mark.usefixtures("own_cache", "digits_once")

TARGETS = ["tflite-float32", "tflite-int8"]


class _Listener:
    """A `Progress` that remembers what it was told."""

    def __init__(self) -> None:
        self.labels: list[str] = []
        self.warnings: list[str] = []

    @contextmanager
    def task(self, label: str, total: int | None = None) -> Iterator[Task]:
        del total
        self.labels.append(label)
        yield self

    def advance(self, steps: int = 1) -> None:
        assert steps > 0

    def note(self, message: str) -> None:
        del message

    def warn(self, message: str) -> None:
        self.warnings.append(message)


@pytest.fixture(scope="module")
def images() -> Path:
    return resources.folder("calibration") / "digits" / "val"


@pytest.fixture(autouse=True)
def _nothing_is_printed() -> Iterator[None]:
    """What Python prints is ours; native libraries write to the descriptors, which the API leaves alone."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        yield
    assert (out.getvalue(), err.getvalue()) == ("", "")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[RunReport, Path, _Listener]:
    out, listener = tmp_path_factory.mktemp("api") / "build", _Listener()
    report = edgefx.compile(
        "digits", targets=TARGETS, effort="fast", benchmark=False, output=out, progress=listener
    )
    return report, out, listener


def test_compile(built: tuple[RunReport, Path, _Listener]) -> None:
    report, out, listener = built
    assert [result.target for result in report] == TARGETS
    assert report.exit_code is ExitCode.OK
    assert report.command == "edgefx.compile"
    for result in report:
        assert result.accuracy is not None
        assert result.accuracy.top1 is not None
        assert result.accuracy.top1 > 0.95
        assert result.latency is None
    assert json.loads((out / "report.json").read_text())["command"] == "edgefx.compile"
    assert "make the graph deployable" in listener.labels
    assert tuple(listener.warnings) == report.warnings


def test_plan_knows_what_compile_has_kept(built: tuple[RunReport, Path, _Listener]) -> None:
    _, out, _ = built
    plan = edgefx.plan("digits", targets=TARGETS, effort="fast", benchmark=False, output=out)
    cached = {(step.stage, step.target): step.cached for step in plan.steps}
    assert cached[StageKind.CONVERT, "tflite-int8"] is True
    assert cached[StageKind.EVALUATE, "tflite-int8"] is True
    again = edgefx.plan("digits", targets="tflite-int8", effort="high", benchmark=False)
    assert {step.stage: step.cached for step in again.steps}[StageKind.CONVERT] is False


def test_evaluate_agrees_with_compile_and_with_the_command(
    built: tuple[RunReport, Path, _Listener], images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = built[0].targets[1]
    assert result.artifact is not None
    assert result.accuracy is not None
    listener = _Listener()
    found = edgefx.evaluate(result.artifact.path, images, baseline="digits", threads=1, progress=listener)
    assert listener.labels[-1] == f"evaluate {result.artifact.path.name}"
    # `compile` has kept the scores of the float model.
    assert not {"load model", "evaluate float baseline"} & set(listener.labels)
    assert found.comparison is not None
    for figure in ("top1", "drop_pp", "agreement", "mean_kl", "max_abs_dp"):
        assert getattr(found.comparison, figure) == getattr(result.accuracy, figure), figure

    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    printed = io.StringIO()
    with redirect_stdout(printed):
        assert (
            command_line(["evaluate", str(result.artifact.path), str(images), "--threads", "1", "--json"])
            == 0
        )
    assert json.loads(printed.getvalue())["top1"] == found.top1


def test_damaged_images_are_an_error(built: tuple[RunReport, Path, _Listener], tmp_path: Path) -> None:
    artifact = built[0].targets[1].artifact
    assert artifact is not None
    (tmp_path / "0").mkdir()
    (tmp_path / "0" / "a.png").write_bytes(b"not a picture")
    with pytest.raises(DataError):
        edgefx.evaluate(artifact.path, tmp_path)


def test_benchmark(built: tuple[RunReport, Path, _Listener]) -> None:
    paths = [result.artifact.path for result in built[0] if result.artifact]
    found = edgefx.benchmark(paths, rounds=5, min_seconds=0, seconds=2, threads=1)
    assert list(found.latencies) == [str(path) for path in paths]
    assert found.failures == {}
    quantized = found.latencies[str(paths[1])]
    assert (quantized.rounds, quantized.threads) == (5, 1)
    assert quantized.ratio_to_float == pytest.approx(quantized.p50_ms / found.latencies[str(paths[0])].p50_ms)


def test_inspect(built: tuple[RunReport, Path, _Listener]) -> None:
    artifact = built[0].targets[1].artifact
    assert artifact is not None
    read_back = edgefx.inspect(artifact.path)
    assert isinstance(read_back, ArtifactInspection)
    assert read_back.artifact.files == artifact.files
    model = edgefx.inspect("digits")
    assert isinstance(model, ModelInspection)
    assert model.model.classes == 10


def test_run_and_diff(built: tuple[RunReport, Path, _Listener], tmp_path: Path) -> None:
    other = edgefx.run(
        "digits-demo",
        targets="tflite-float32",
        settings={"benchmark": None, "gates": {}},
        output=tmp_path / "other",
        report=[tmp_path / "report.md"],
    )
    assert isinstance(other, RunReport)
    assert "tflite-float32" in (tmp_path / "report.md").read_text()
    found = edgefx.diff(built[1], tmp_path / "other")
    same = {target.target: target.identical for target in found.targets}
    assert same["tflite-float32"] is True
    assert "tflite-int8" in same
    shown = found._repr_html_()
    assert shown is not None
    assert "tflite-float32" in shown


def test_run_of_a_matrix(tmp_path: Path) -> None:
    recipe = tmp_path / "both.yaml"
    recipe.write_text(
        "version: 1\nmodel: digits\ntargets: tflite-float32\nevaluate: null\nbenchmark: null\n"
        "matrix:\n  seed: [0, 1]\n"
    )
    assert len(edgefx.plan_recipe(recipe, output=tmp_path / "out")) == 2
    found = edgefx.run(recipe, output=tmp_path / "out")
    assert isinstance(found, MatrixReport)
    assert found.exit_code is ExitCode.OK
    assert found.recipe == "both"
    assert {one.output for one in found.runs} == {path.parent for path in tmp_path.glob("out/*/report.json")}
    assert (tmp_path / "out" / "matrix.json").is_file()


def test_debug() -> None:
    found = edgefx.debug("digits", targets="tflite-int8", images=8, samples=20, effort="fast")
    (diagnosis,) = found.targets
    assert diagnosis.broken is Broken.NOTHING
    assert found.failures == ()
    shown = found._repr_html_()
    assert shown is not None
    assert diagnosis.layers[0].layer in shown
