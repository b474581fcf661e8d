"""Log a finished run to MLflow: its recipe, figures, artifacts, and what they came from.

One MLflow run for the run of edgefx, with a nested one for each target, whose metrics have the same names in
all of them, so that MLflow's tables and charts compare targets and runs. Where it goes is what MLflow itself
goes by: ``MLFLOW_TRACKING_URI`` and ``MLFLOW_EXPERIMENT_NAME``.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgefx import harmless
from edgefx.bundles.make import artifact_files
from edgefx.errors import OutputError
from edgefx.metrics import METRICS, Figures
from edgefx.provenance import lock as locks
from edgefx.provenance import predictions, reports
from edgefx.system.packages import require
from edgefx.views import TrackedRun

if TYPE_CHECKING:
    from edgefx.results import RunReport, TargetResult

EXPERIMENT = "edgefx"
_MOST_SIGNS = 500  # of a parameter or a tag; all servers take that many
_MOST_PARAMETERS = 100  # in one request


def log(folder: Path) -> TrackedRun:
    """Log a run to MLflow.

    Args:
        folder: The run's output folder.

    Raises:
        UsageError: There is no such run, or an artifact is not the one that its report describes.
        MissingDependencyError: `mlflow` is not installed.
        OutputError: MLflow does not take it; what it has got until then it shows as failed.
    """
    report, _ = reports.read(folder)
    files = {
        result.target: artifact_files(result.artifact, folder)
        for result in report
        if result.artifact is not None
    }
    lock = locks.read(folder)
    require("mlflow", purpose="--log-to mlflow")
    from mlflow.exceptions import MlflowException
    from mlflow.tracking import MlflowClient, get_tracking_uri

    where = harmless.line(str(get_tracking_uri()))
    name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or EXPERIMENT
    client: Any = None
    begun: list[str] = []
    try:
        client = MlflowClient()
        experiment = _experiment(client, name)
        tags = _lineage(report) | _of_lock(lock)
        run = _begin(client, experiment, begun, {"mlflow.runName": harmless.line(report.model.name)} | tags)
        for part in _parts(dict(_flat(lock.recipe))):
            client.log_batch(run, params=_params(part))
        for document in (reports.NAME, locks.NAME, predictions.NAME):
            if (folder / document).is_file():
                client.log_artifact(run, str(folder / document))
        for result in report:
            named = {"mlflow.runName": result.target, "mlflow.parentRunId": run}
            child = _begin(client, experiment, begun, named | _of_target(result))
            client.log_batch(child, metrics=_metrics(result))
            for path in files.get(result.target, ()):
                client.log_artifact(child, str(path))
            client.set_terminated(child, "FAILED" if result.failure else "FINISHED")
        client.set_terminated(run)
    except (MlflowException, OSError) as error:
        for one in begun:
            _end(client, one, MlflowException)
        told = harmless.line(str(error).strip().partition("\n")[0])
        raise OutputError(
            f"MLflow at {where} does not take the run: {told}",
            hint="say where it is: MLFLOW_TRACKING_URI=sqlite:///mlflow.db, or the address of a server",
        ) from error
    return TrackedRun(uri=where, experiment=harmless.line(name), run_id=run)


def _experiment(client: Any, name: str) -> str:
    found = client.get_experiment_by_name(name)
    return str(found.experiment_id if found is not None else client.create_experiment(name))


def _begin(client: Any, experiment: str, begun: list[str], tags: Mapping[str, str]) -> str:
    run = str(client.create_run(experiment, tags=dict(tags)).info.run_id)
    begun.append(run)
    return run


def _end(client: Any, run: str, refused: type[Exception]) -> None:
    """Mark a run as failed; a server that has gone away is asked in vain, and the first error is told."""
    try:
        client.set_terminated(run, "FAILED")
    except (refused, OSError):
        return


def _flat(section: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield a recipe's values by dotted key."""
    for key, value in section.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        elif value is not None:
            yield f"{prefix}{key}", _short(str(value))


def _parts(values: Mapping[str, str]) -> Iterator[dict[str, str]]:
    items = list(values.items())
    for start in range(0, len(items), _MOST_PARAMETERS):
        yield dict(items[start : start + _MOST_PARAMETERS])


def _params(values: Mapping[str, str]) -> list[Any]:
    from mlflow.entities import Param

    return [Param(key, value) for key, value in values.items()]


def _metrics(result: TargetResult) -> list[Any]:
    from mlflow.entities import Metric

    figures, now = Figures.of(result), int(time.time() * 1000)
    found = ((row.id, row.value(figures)) for row in METRICS.values())
    return [Metric(name, float(value), now, 0) for name, value in found if value is not None]


def _lineage(report: RunReport) -> dict[str, str]:
    found = {
        "edgefx.version": report.environment.edgefx,
        "edgefx.command": report.command,
        "edgefx.created": report.created,
        "edgefx.model_sha256": report.model.sha256,
        "edgefx.cpu": report.environment.cpu,
    }
    for data in report.data:
        found[f"edgefx.{data.role}_sha256"] = data.sha256
        found[f"edgefx.{data.role}_images"] = str(data.images)
    return {key: _short(value) for key, value in found.items()}


def _of_lock(lock: locks.Lock) -> dict[str, str]:
    return {"edgefx.graph_sha256": lock.model.graph_sha256, "edgefx.seed": str(lock.seed)}


def _of_target(result: TargetResult) -> dict[str, str]:
    found = {"edgefx.target": result.target}
    if result.verdict is not None:
        found["edgefx.verdict"] = result.verdict
    if result.failure is not None:
        found["edgefx.failure"] = result.failure.message
    for file in result.artifact.files if result.artifact is not None else ():
        found[f"edgefx.sha256{file.path.suffix}"] = file.sha256
    return {key: _short(value) for key, value in found.items()}


def _short(text: str) -> str:
    return harmless.line(text, most=_MOST_SIGNS)
