"""The values of a recipe that are more than their JSON type: limits with units, paths, patterns.

Where a value is more than its JSON type, the schema says so by its format: see `edgefx.recipe.check`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Protocol

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    StringConstraints,
    WithJsonSchema,
)

from edgefx.errors import UsageError
from edgefx.quantization import WeightCompression
from edgefx.results import MaxDrop
from edgefx.units import (
    parse_cluster,
    parse_drop,
    parse_io_dtypes,
    parse_ms,
    parse_points,
    parse_prune,
    parse_share,
    parse_size,
    parse_size_of_input,
    parse_tasks,
)
from edgefx.vocabulary import NATIVE, Hardware, IoDtype, ModelTask


class Section(BaseModel):
    """Base of all sections: unknown keys forbidden, frozen."""

    # Building is deferred: what only lists or checks recipes does not wait for it.
    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)


def _as_tuple(value: object) -> object:
    return (value,) if isinstance(value, str) else value


def _as_text(parse: Callable[[str], object]) -> Callable[[object], object]:
    return lambda value: parse(value if isinstance(value, str) else str(value))


def _unless_parsed(value: object) -> object:
    return value if isinstance(value, MaxDrop) else parse_drop(str(value))


def _megabytes(value: object) -> float:
    return value if isinstance(value, float) else parse_size(str(value)) / 1e6


def _tasks(value: object) -> str:
    text = str(value)
    try:
        parse_tasks(text)
    except UsageError as error:  # is said together with what else is wrong
        raise ValueError(f"{error.message.partition(': ')[2]}; {error.hint}") from error
    return ModelTask(text) if text in set(ModelTask) else text


def _input_size(value: object) -> int | str:
    text = str(value)
    parse_size_of_input(text)
    return int(text) if text.isdigit() else text


def _prune(value: object) -> float | str:
    found = parse_prune(str(value))
    return found.zeros or str(value).replace(" ", "")


def _cluster(value: object) -> int | str:
    values, _ = parse_cluster(str(value))
    return str(value).replace(" ", "") if values is None else values


class _Compressing(Protocol):
    """A section with the keys ``cluster`` and ``prune``."""

    cluster: int | str | None
    prune: float | str | None

    @property
    def model_fields_set(self) -> set[str]:
        """The keys that are said."""


def weight_compression(cluster: int | str | None, prune: float | str | None) -> WeightCompression:
    """Return what the keys ``cluster`` and ``prune`` ask for."""
    values, saved = (None, 0.0) if cluster is None else parse_cluster(str(cluster))
    asked = WeightCompression(values=values, saved=saved)
    return asked if prune is None else asked.with_pruning(parse_prune(str(prune)))


def overridden(asked: WeightCompression, item: _Compressing) -> WeightCompression:
    """Return what is asked of some targets' weights, where an item of ``targets`` may say it otherwise."""
    own, said = weight_compression(item.cluster, item.prune), item.model_fields_set
    if "cluster" in said:
        asked = replace(asked, values=own.values, saved=own.saved)
    return asked.with_pruning(own) if "prune" in said else asked


def _io_dtypes(value: object) -> str:
    text = str(value)
    try:
        parse_io_dtypes(text)
    except UsageError as error:  # is said together with what else is wrong
        raise ValueError(f"{error.message.partition(': ')[2]}; {error.hint}") from error
    return IoDtype(text) if text in set(IoDtype) else text


def size_text(size: int) -> str:
    """Write a size so that it is read as the same number of bytes."""
    for unit, factor in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if size % factor == 0:
            return f"{size // factor}{unit}"
    return f"{size}B"


Drop = Annotated[
    MaxDrop,
    BeforeValidator(_unless_parsed),
    PlainSerializer(str, return_type=str),
    WithJsonSchema({"type": "string", "format": "drop", "examples": ["1pp", "0.5%"]}),
]
Milliseconds = Annotated[
    float,
    BeforeValidator(_as_text(parse_ms)),
    WithJsonSchema({"type": ["number", "string"], "format": "milliseconds", "examples": [20, "20ms"]}),
]
Size = Annotated[
    int,
    BeforeValidator(_as_text(parse_size)),
    PlainSerializer(size_text, return_type=str),
    WithJsonSchema({"type": "string", "format": "size", "examples": ["6MB", "600kB"]}),
]
Megabytes = Annotated[
    float,
    BeforeValidator(_megabytes),
    PlainSerializer(lambda value: size_text(round(value * 1e6)), return_type=str),
    WithJsonSchema({"type": "string", "format": "size", "examples": ["200MB"]}),
]
Points = Annotated[
    float,
    BeforeValidator(lambda value: value if isinstance(value, float) else parse_points(str(value))),
    PlainSerializer(lambda value: f"{value:.15g}pp", return_type=str),
    WithJsonSchema({"type": "string", "format": "points", "examples": ["1pp"]}),
]
Share = Annotated[
    float,
    BeforeValidator(_as_text(parse_share)),
    WithJsonSchema({"type": ["number", "string"], "format": "share", "examples": ["98%", 0.98]}),
]
Cluster = Annotated[
    int | str,
    BeforeValidator(_cluster),
    WithJsonSchema({"type": ["integer", "string"], "format": "cluster", "examples": [16, "35%"]}),
]
Prune = Annotated[
    float | str,
    BeforeValidator(_prune),
    WithJsonSchema(
        {"type": ["number", "string"], "format": "prune", "examples": ["30%", 0.3, "2:4", "channels:25%"]}
    ),
]
IoDtypes = Annotated[
    IoDtype | str,
    BeforeValidator(_io_dtypes),
    WithJsonSchema(
        {"type": "string", "format": "io-dtype", "examples": ["uint8", "input=uint8,output=float32"]}
    ),
]
Tasks = Annotated[
    ModelTask | str,
    BeforeValidator(_tasks),
    WithJsonSchema(
        {
            "type": "string",
            "format": "task",
            "examples": ["regression", "class=classification,quality=regression"],
        }
    ),
]
InputSize = Annotated[
    int | str,
    BeforeValidator(_input_size),
    WithJsonSchema({"type": ["integer", "string"], "format": "input-size", "examples": [224, "224x320"]}),
]
ModelSource = Annotated[str, WithJsonSchema({"type": "string", "format": "model", "minLength": 1})]
Weights = Annotated[str, WithJsonSchema({"type": "string", "format": "weights", "minLength": 1})]
InputPath = Annotated[Path, WithJsonSchema({"type": "string", "format": "path", "minLength": 1})]
OutputPath = Annotated[Path, WithJsonSchema({"type": "string", "format": "output-path", "minLength": 1})]
ReportPath = Annotated[Path, WithJsonSchema({"type": "string", "format": "report-path", "minLength": 1})]
Pattern = Annotated[str, StringConstraints(min_length=1)]
Patterns = Annotated[
    tuple[Pattern, ...],
    BeforeValidator(_as_tuple, json_schema_input_type=Pattern | tuple[Pattern, ...]),
]
HardwareName = Annotated[
    str,
    WithJsonSchema(
        {
            "type": "string",
            "format": "hardware",
            "minLength": 1,
            "examples": [NATIVE, *Hardware, "board.yaml"],
        }
    ),
]
Condition = Annotated[
    str, WithJsonSchema({"type": "string", "format": "condition", "examples": ["p95_ms <= 20"]})
]
Conditions = Annotated[
    tuple[Condition, ...],
    BeforeValidator(_as_tuple, json_schema_input_type=Condition | tuple[Condition, ...]),
]
RunConditionText = Annotated[
    str,
    WithJsonSchema({"type": "string", "format": "run-condition", "examples": ["quality.mae <= 2"]}),
]
RunConditionTexts = Annotated[
    tuple[RunConditionText, ...],
    BeforeValidator(_as_tuple, json_schema_input_type=RunConditionText | tuple[RunConditionText, ...]),
]
DeviceName = Annotated[str, StringConstraints(min_length=1, max_length=1000)]
DeviceNames = Annotated[
    tuple[DeviceName, ...],
    BeforeValidator(_as_tuple, json_schema_input_type=DeviceName | tuple[DeviceName, ...]),
]
TargetGlob = Annotated[str, WithJsonSchema({"type": "string", "format": "target", "minLength": 1})]
Fraction = Annotated[float, Field(ge=0, lt=1)]
