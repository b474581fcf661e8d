"""The section ``gates`` of a recipe: a key for each metric that a limit makes sense for."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any, Self

from pydantic import AfterValidator, Field, NonNegativeFloat, PositiveFloat, PositiveInt, create_model

from edgefx.metrics import METRICS, MetricRow, Unit
from edgefx.recipe.conditions import of_device, of_run
from edgefx.recipe.values import (
    Conditions,
    Drop,
    Megabytes,
    Milliseconds,
    Points,
    RunConditionTexts,
    Section,
    Share,
    Size,
)
from edgefx.verdicts import Gate
from edgefx.vocabulary import MIN_IMAGES, OnInconclusive


class _Gates(Section):
    """Limits that make the run fail with exit code 1; units are required where they change the meaning."""

    max_drop: Drop | None = Field(
        default=None,
        description="Top-1 lost against the float Keras model, e.g. 1pp (points) or 0.5%.",
    )
    min_images: PositiveInt = Field(
        default=MIN_IMAGES,
        description="Evaluation images below which no limit on accuracy can be judged: INCONCLUSIVE.",
    )
    on_inconclusive: OnInconclusive = Field(
        default=OnInconclusive.FAIL_IF_DOUBTFUL,
        description="Which limits that cannot be judged fail the run with exit code 1: all of them (fail), "
        "those whose figure means nothing (fail-if-doubtful), or none (warn). With fail-if-doubtful, a "
        "figure that keeps its limit while its 95 % interval does not is only warned of.",
    )

    def gates(self) -> tuple[Gate, ...]:
        """Return the limits that are set."""
        drop = self.max_drop
        limits = {row.id: getattr(self, row.gate) for row in _single_limits()}
        if drop is not None:
            limits = {drop.metric: drop.value, **limits}
        given = {metric: limit for metric, limit in limits.items() if limit is not None}
        return tuple(Gate(metric=metric, limit=limit) for metric, limit in given.items())

    def overridden_by(self, other: _Gates) -> Self:
        """Return these limits with those that `other` names; null takes a limit away."""
        return self.model_copy(update={name: getattr(other, name) for name in other.model_fields_set})


def _single_limits() -> Iterator[MetricRow]:
    """Yield the metrics whose key in a recipe limits them alone; that of the drop knows two, by unit."""
    return (row for row in METRICS.values() if row.gate and row.gate != "max_drop")


_BOUNDS = {"less": "Upper limit.", "more": "Lower limit."}
_LIMITS: dict[Unit, Any] = {
    Unit.POINTS: Points,
    Unit.SHARE: Share,
    Unit.MILLISECONDS: Milliseconds,
    Unit.BYTES: Size,
    Unit.MEGABYTES: Megabytes,
    Unit.RATIO: PositiveFloat,
    Unit.NATS: NonNegativeFloat,
    Unit.PROBABILITY: Annotated[float, Field(ge=0, le=1)],
    Unit.COUNT: NonNegativeFloat,
    Unit.NUMBER: Annotated[float, Field(allow_inf_nan=False)],
}


def gates_section() -> type[_Gates]:
    """Make the section of limits: a key for each metric that can be limited."""
    fields: dict[str, Any] = {
        row.gate: (
            _LIMITS[row.unit] | None,
            Field(default=None, description=f"{_BOUNDS[row.better]} {row.meaning}"),
        )
        for row in _single_limits()
    }
    return create_model(
        "GatesSection", __base__=_Gates, __doc__=_Gates.__doc__, __module__=__name__, **fields
    )


def _conditions(given: tuple[str, ...]) -> tuple[str, ...]:
    for condition in given:
        of_run(condition)
    return given


RunConditions = Annotated[RunConditionTexts, AfterValidator(_conditions)]


def _readable(devices: dict[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
    for scope, conditions in devices.items():
        for condition in conditions:
            of_device(scope, condition)
    return devices


DeviceGates = Annotated[dict[str, Conditions], AfterValidator(_readable)]


if TYPE_CHECKING:

    class GatesSection(_Gates):
        """Every other key is a metric's, from the table of metrics."""

        def __getattr__(self, name: str) -> Any: ...

else:
    GatesSection = gates_section()


class RunGatesSection(GatesSection):
    """Limits that make the run fail with exit code 1; units are required where they change the meaning."""

    devices: DeviceGates = Field(
        default_factory=dict,
        description="Limits on what devices measure: by device, as 'pi5: p95_ms <= 20', or by targets on it, "
        "as 'tflite-*@pi5: [p95_ms <= 20, drop_pp <= 1]'. Metrics are called as in report.json.",
    )

    conditions: RunConditions = Field(
        default=(),
        description="Further limits on what this machine measures, such as 'tflite-*: mean_kl <= 0.01', and "
        "on one of several outputs, such as 'quality.mae <= 2'. Metrics are called as in report.json.",
    )

    def gates_of(self, target: str) -> tuple[Gate, ...]:
        """Return the `conditions` for a target."""
        found = (of_run(condition) for condition in self.conditions)
        return tuple(gate for gate in found if any(fnmatch.fnmatchcase(target, one) for one in gate.targets))

    def device_gates(self) -> dict[str, tuple[Gate, ...]]:
        """Return the limits on what devices measure, by the device or ``TARGETS@DEVICE``."""
        return {
            scope: tuple(of_device(scope, condition) for condition in conditions)
            for scope, conditions in self.devices.items()
        }
