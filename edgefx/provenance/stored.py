"""Read what `report.json` and `matrix.json` say of each target. Standard library only, so that it is fast."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

from edgefx.compilation import Arena, Compilation, NpuEstimate
from edgefx.errors import UsageError
from edgefx.latency_histogram import LatencyHistogram
from edgefx.measured import Accuracy, Latency, OutputAccuracy, TaskFigures
from edgefx.metrics import METRICS, Figures
from edgefx.provenance import records
from edgefx.verdicts import Doubt, Gate, on_device
from edgefx.vocabulary import HOST, ModelTask

NAMES = ("report.json", "matrix.json")  # of a run, of all runs of a matrix
_HINT = "give the output folder of a run or of a matrix, or the report.json or matrix.json in it"
_PAIR = 2
R = TypeVar("R", Accuracy, Latency, Doubt, TaskFigures, NpuEstimate, Arena)


@dataclass(frozen=True, kw_only=True)
class StoredTarget:
    """What a report says of one target.

    Attributes:
        target: Its name.
        run: The run of a matrix that it belongs to; "" without a matrix.
        figures: What was measured.
        gates: The limits that the run judged.
        doubts: Why its accuracy proves little: the run's own doubts, and the target's.
        failure: Why there is no artifact, or it was not measured; "" where it was.
        device: Where its figures were measured; "" is the machine of the run.
    """

    target: str
    run: str
    figures: Figures
    gates: tuple[Gate, ...]
    doubts: tuple[Doubt, ...]
    failure: str
    device: str = ""

    @property
    def name(self) -> str:
        """What it is called: with its run, and with its device."""
        return "/".join(filter(None, (self.run, on_device(self.target, self.device))))


@dataclass(frozen=True, kw_only=True)
class StoredReport:
    """A report on a run, or on all runs of a matrix.

    Attributes:
        path: As it was given.
        file: The file that was read.
        targets: What it says of each target, run by run.
        failed_runs: Runs of a matrix that have no result, and why.
    """

    path: Path
    file: Path
    targets: tuple[StoredTarget, ...]
    failed_runs: Mapping[str, str]


def read(path: Path) -> StoredReport:
    """Read a report.

    Args:
        path: The file, or the output folder that it lies in; or a result card, or a folder of cards.

    Raises:
        UsageError: There is none, or it is not one that this edgefx reads.
    """
    if _are_cards(path):
        return StoredReport(path=path, file=path, targets=tuple(_of_cards(path)), failed_runs={})
    file = _file(path)
    with records.refused(file, what="report", hint=_HINT):
        document = records.load(file, what="report", version=records.REPORT_VERSION)
        if "runs" not in document:
            return StoredReport(path=path, file=file, targets=tuple(_targets(document, "")), failed_runs={})
        reports = [(str(run["name"]), run["report"], run["error"]) for run in document["runs"]]
        return StoredReport(
            path=path,
            file=file,
            targets=tuple(
                target
                for name, report, _ in reports
                if report is not None
                for target in _targets(report, name)
            ),
            failed_runs={
                name: str(error["message"]) if error else "it has no report"
                for name, report, error in reports
                if report is None
            },
        )


def _are_cards(path: Path) -> bool:
    """Whether a path is a card, or a folder of some; `cards` is imported only where there may be one."""
    is_card = path.name.endswith(records.CARD_SUFFIX)
    if not is_card and not (path.is_dir() and any(path.glob(f"*{records.CARD_SUFFIX}"))):
        return False
    from edgefx.provenance import cards

    return cards.are_named(path)


def _of_cards(path: Path) -> Iterator[StoredTarget]:
    from edgefx.provenance import cards

    found = cards.read(path)
    several = len({card.model for card in found}) > 1
    for card in found:
        yield StoredTarget(
            target=card.target,
            run=card.model if several else "",
            figures=card.figures,
            gates=(),
            doubts=(),
            failure="",
            device="" if card.device == HOST else card.device,
        )


def _file(path: Path) -> Path:
    if path.is_dir():
        for name in NAMES:
            if (path / name).is_file():
                return path / name
        raise UsageError(f"{path}: there is no {NAMES[0]} in this folder", hint=_HINT)
    if not path.exists():
        raise UsageError(f"{path}: no such file or folder", hint=_HINT)
    return path


def _targets(document: Mapping[str, Any], run: str) -> Iterator[StoredTarget]:
    shared = tuple(_record(Doubt, doubt) for doubt in document["doubts"])
    for target in document["targets"]:
        artifact, failure = target["artifact"], target["failure"]
        yield StoredTarget(
            target=str(target["target"]),
            run=run,
            figures=Figures(
                size_bytes=sum(int(_number(file["size_bytes"])) for file in artifact["files"])
                if artifact
                else None,
                size_ratio=_optional(target["size_ratio_to_float"]),
                int8_share=_optional(artifact["int8_macs_share"]) if artifact else None,
                accuracy=_record(Accuracy, target["accuracy"]) if target["accuracy"] else None,
                latency=_record(Latency, target["latency"]) if target["latency"] else None,
                compilation=_compilation(
                    target.get("compilation")
                ),  # reports of an earlier version have none
            ),
            gates=tuple(_gate(result["gate"]) for result in target["gates"]),
            doubts=(*shared, *(_record(Doubt, doubt) for doubt in target["doubts"])),
            failure=f"stage {failure['stage']}: {failure['message']}" if failure else "",
        )
    sizes = {str(target["target"]): target["artifact"] for target in document["targets"]}
    for device in document.get("devices", ()):  # an earlier version knew of none
        for target in device["targets"]:
            failure = target["failure"] or device["failure"]
            artifact = sizes[str(target["target"])]
            yield StoredTarget(
                target=str(target["target"]),
                run=run,
                figures=Figures(
                    size_bytes=sum(int(_number(file["size_bytes"])) for file in artifact["files"]),
                    accuracy=_record(Accuracy, target["accuracy"]) if target["accuracy"] else None,
                    latency=_record(Latency, target["latency"]) if target["latency"] else None,
                ),
                gates=tuple(_gate(result["gate"]) for result in target["gates"]),
                doubts=(*shared, *(_record(Doubt, doubt) for doubt in target["doubts"])),
                failure=f"stage {failure['stage']}: {failure['message']}" if failure else "",
                device=str(device["device"]),
            )


def _compilation(document: Mapping[str, Any] | None) -> Compilation | None:
    """Read what metrics are made of; where each layer is computed is left out."""
    if document is None:
        return None
    return Compilation(
        compiler=str(document["compiler"]),
        source=str(document["source"]),
        source_sha256=str(document["source_sha256"]),
        operations=int(_number(document["operations"])),
        on_cpu=int(_number(document["on_cpu"])),
        estimate=_record(NpuEstimate, document["estimate"]) if document["estimate"] else None,
        arena=_record(Arena, document["arena"]) if document["arena"] else None,
    )


def _gate(document: Mapping[str, Any]) -> Gate:
    metric = document["metric"]
    if metric not in METRICS:
        raise ValueError(f"a gate on '{metric}', which this edgefx does not know")
    return Gate(
        metric=metric,
        limit=_number(document["limit"]),
        targets=tuple(map(str, document["targets"])),
        devices=tuple(map(str, document.get("devices", ()))),
        output=str(document.get("output", "")),
    )


def _record(kind: type[R], document: Mapping[str, Any]) -> R:
    """Make a record of numbers, texts, pairs and figures of a task; keys of a later version are left out."""
    values: dict[str, Any] = {}
    for field in fields(kind):
        if field.name == "outputs" and field.name in document:
            values[field.name] = tuple(map(_output, document[field.name]))
        elif field.name in document:
            values[field.name] = _value(str(field.type), document[field.name], field.name)
        elif field.default is MISSING:
            raise KeyError(field.name)
    return kind(**values)


def _output(document: Mapping[str, Any]) -> OutputAccuracy:
    return OutputAccuracy(
        name=str(document["name"]),
        task=ModelTask(document["task"]),
        accuracy=_record(Accuracy, document["accuracy"]),
    )


def _value(kind: str, value: object, name: str) -> object:
    if (value is None and "None" in kind) or kind.startswith(LatencyHistogram.__name__):
        return None  # no metric is made of how times are distributed
    if kind.startswith(TaskFigures.__name__) and isinstance(value, dict):
        return _record(TaskFigures, value)
    if kind.startswith("tuple") and isinstance(value, list) and len(value) == _PAIR:
        return tuple(map(_number, value))
    if (kind.startswith("str") and isinstance(value, str)) or (
        kind.startswith("bool") and isinstance(value, bool)
    ):
        return value
    if kind.startswith("int"):
        return _whole(value, name)
    if kind.startswith("float"):
        return _number(value)
    raise ValueError(f"{name}: {value!r:.40}")


def _whole(value: object, name: str) -> int:
    number = _number(value)
    if not float(number).is_integer():
        raise ValueError(f"{name}: {value!r:.40}")
    return int(number)


def _optional(value: object) -> float | None:
    return None if value is None else _number(value)


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise ValueError(f"{value!r:.40} is no number")
    return value
