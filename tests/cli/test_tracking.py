"""`edgefx report --log-to mlflow`, against a real MLflow with an SQLite store, where it is installed."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pytest

from edgefx.metrics import METRICS, Figures
from edgefx.provenance import lock, reports
from tests.cli.conftest import Edgefx
from tests.cli.test_bundle import build
from tests.unit.test_comparison import a_lock

__all__ = ["build"]  # a fixture

needs_mlflow = pytest.mark.skipif(find_spec("mlflow") is None, reason="mlflow is not installed")


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with nothing in it, which MLflow takes seconds to make."""
    from mlflow.tracking import MlflowClient

    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(path.parent)
        MlflowClient(f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def place(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A place for MLflow, if it is installed, to keep what is logged."""
    monkeypatch.chdir(tmp_path)  # MLflow keeps artifacts below the working folder
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    monkeypatch.delenv("MLFLOW_EXPERIMENT_NAME", raising=False)
    if find_spec("mlflow") is not None:
        shutil.copy(request.getfixturevalue("empty"), tmp_path)


@pytest.fixture
def run(build: Path, place: None) -> Path:
    """A run's output folder."""
    del place  # it only has to be there
    lock.write(
        replace(a_lock(data=()), recipe={"quantize": {"effort": "high"}, "model": "b\x1b[31m0"}), build
    )
    return build


@needs_mlflow
def test_recipe_figures_artifacts_and_lineage_are_there_again(edgefx: Edgefx, run: Path) -> None:
    from mlflow.tracking import MlflowClient

    done = edgefx("report", str(run), "--report", str(run / "again.md"), "--log-to", "mlflow", "--json")
    assert done.code == 0, done.err
    logged = json.loads(done.out)["logged"]
    client = MlflowClient(logged["uri"])
    made, _ = reports.read(run)
    parent = client.get_run(logged["run_id"])
    assert client.get_experiment(parent.info.experiment_id).name == logged["experiment"] == "edgefx"
    assert parent.info.status == "FINISHED"
    assert parent.data.params == {"quantize.effort": "high", "model": "b\u241b[31m0"}
    assert parent.data.tags["edgefx.model_sha256"] == made.model.sha256
    assert parent.data.tags["edgefx.seed"] == str(a_lock(data=()).seed)
    assert {one.path for one in client.list_artifacts(logged["run_id"])} == {reports.NAME, lock.NAME}

    query = f"tags.mlflow.parentRunId = '{logged['run_id']}'"
    found = client.search_runs([parent.info.experiment_id], query)
    children = {one.data.tags["edgefx.target"]: one for one in found}
    assert set(children) == {one.target for one in made}
    for result in made:
        child, figures = children[result.target], Figures.of(result)
        known = {row.id: row.value(figures) for row in METRICS.values()}
        assert child.data.metrics == {name: value for name, value in known.items() if value is not None}
        assert child.data.tags.get("edgefx.verdict") == result.verdict
        assert result.artifact is not None
        kept = {one.path: one.file_size for one in client.list_artifacts(child.info.run_id)}
        assert kept == {file.path.name: file.size_bytes for file in result.artifact.files}


@needs_mlflow
def test_what_cannot_be_logged_is_said(
    edgefx: Edgefx, run: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "nowhere://there")
    refused = edgefx("report", str(run), "--log-to", "mlflow")
    assert (refused.code, "MLFLOW_TRACKING_URI" in refused.err) == (2, True)
    assert "Traceback" not in refused.err

    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'other.db'}")
    (run / "b0-int8.onnx").write_bytes(b"another")
    refused = edgefx("report", str(run), "--log-to", "mlflow")
    assert (refused.code, "is not the file" in refused.err) == (2, True)
    assert not (tmp_path / "other.db").exists()


@pytest.mark.skipif(find_spec("mlflow") is not None, reason="mlflow is installed")
def test_without_mlflow_it_says_what_to_install(edgefx: Edgefx, run: Path) -> None:
    refused = edgefx("report", str(run), "--log-to", "mlflow")
    assert refused.code == 3
    assert "pip install" in refused.err


@needs_mlflow
@pytest.mark.usefixtures("place")
def test_a_run_is_logged_by_the_command_that_made_it(edgefx: Edgefx, tmp_path: Path) -> None:
    from mlflow.tracking import MlflowClient

    done = edgefx(
        *("compile", "digits", "-t", "tflite-float32", "--no-eval", "--no-benchmark", "-o", "out"),
        *("--log-to", "mlflow", "--json"),
    )
    assert done.code == 0, done.err
    client = MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}")
    (experiment,) = client.search_experiments(filter_string="name = 'edgefx'")
    found = {one.data.tags["mlflow.runName"]: one for one in client.search_runs([experiment.experiment_id])}
    assert set(found) == {"digits", "tflite-float32"}
    assert found["digits"].info.run_id in done.err  # stdout is the report and nothing else
    assert json.loads(done.out)["targets"][0]["target"] == "tflite-float32"
    assert found["tflite-float32"].data.metrics["size_bytes"] > 0


@pytest.mark.skipif(find_spec("mlflow") is not None, reason="mlflow is installed")
@pytest.mark.parametrize("command", [("compile", "digits", "-t", "tflite-int8"), ("run", "digits-demo")])
def test_that_mlflow_is_missing_is_said_before_anything_is_done(
    edgefx: Edgefx, tmp_path: Path, command: tuple[str, ...]
) -> None:
    done = edgefx(*command, "-o", str(tmp_path / "out"), "--log-to", "mlflow")
    assert done.code == 3
    assert "mlflow" in done.err
    assert not (tmp_path / "out").exists()
