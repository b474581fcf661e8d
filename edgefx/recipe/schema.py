"""What the user wants, validated. A recipe file and the flags of `compile` both become a `Recipe`.

Unknown keys are refused, and every object is frozen: past this point nothing is guessed or filled in.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PositiveInt

from edgefx.evaluate.units import parse_drop, parse_ms, parse_size
from edgefx.results import Gate, MaxDrop, Metric
from edgefx.types import Effort, IoDtype, Resize


class _Section(BaseModel):
    """Base of all sections: unknown keys forbidden, frozen."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def _as_tuple(value: object) -> object:
    return (value,) if isinstance(value, str) else value


class ModelSection(_Section):
    """Which classifier: a zoo name, or a path to a Keras file or SavedModel folder."""

    source: str = Field(description="zoo name (see `edgefx models`) or path")
    weights: str | None = Field(None, description="zoo models: imagenet, random or a weights file")
    classes: PositiveInt | None = Field(None, description="zoo models: length of the output vector")
    input_size: PositiveInt | None = Field(None, description="input height and width in pixels")


class CalibrationSection(_Section):
    """Unlabelled images that set activation ranges."""

    images: Path | None = Field(None, description="a folder; `digits` brings its own")
    samples: PositiveInt | None = Field(None, description="how many images; 100, or half of a small folder")


class EvaluateSection(_Section):
    """Images that accuracy is measured on; never the calibration images."""

    images: Path | None = Field(None, description="default: what calibration leaves of its folder")
    limit: PositiveInt | None = Field(None, description="measure on a seeded sample of this many images")


class DataSection(_Section):
    """How image files become tensors."""

    resize: Resize = Resize.STRETCH
    skip_bad_images: bool = False


class BenchmarkSection(_Section):
    """How latency is measured."""

    threads: PositiveInt | None = Field(None, description="intra-op threads; default: all cores")
    rounds: PositiveInt = 100
    seconds: float = Field(30.0, gt=0, description="time limit for all artifacts together")


class GatesSection(_Section):
    """Limits that make the run fail with exit code 1; units are required where they change the meaning."""

    max_drop: Annotated[MaxDrop, BeforeValidator(lambda text: parse_drop(str(text)))] | None = Field(
        None, description="top-1 lost against the float Keras baseline, e.g. 1pp or 0.5%; INT8 works for it"
    )
    max_p95_ms: Annotated[float, BeforeValidator(lambda text: parse_ms(str(text)))] | None = Field(
        None, description="95th percentile of host latency, milliseconds"
    )
    max_size: Annotated[int, BeforeValidator(lambda text: parse_size(str(text)))] | None = Field(
        None, description="all files of the artifact together, e.g. 6MB"
    )

    def gates(self) -> tuple[Gate, ...]:
        """Return the limits that are set."""
        drop = self.max_drop
        limits = (
            (drop.metric if drop else Metric.DROP_PP, drop.value if drop else None),
            (Metric.P95_MS, self.max_p95_ms),
            (Metric.SIZE_BYTES, self.max_size),
        )
        return tuple(Gate(metric=metric, limit=limit) for metric, limit in limits if limit is not None)


class Recipe(_Section):
    """One compilation."""

    version: Literal[1] = 1
    model: ModelSection
    targets: Annotated[tuple[str, ...], BeforeValidator(_as_tuple)] = Field(min_length=1)
    io_dtype: IoDtype | None = Field(None, description="default: uint8 for INT8 TFLite, else float32")
    effort: Effort = Field(Effort.BALANCED, description="time that INT8 accuracy is worth")
    integer_only: bool = Field(default=False, description="no float operation at all, for NPUs and MCUs")
    calibration: CalibrationSection | None = None
    evaluate: EvaluateSection | None = EvaluateSection(images=None, limit=None)
    data: DataSection = DataSection()
    benchmark: BenchmarkSection | None = BenchmarkSection(threads=None, seconds=30.0)
    gates: GatesSection = GatesSection(max_drop=None, max_p95_ms=None, max_size=None)
    seed: int = 0
    output: Path = Path("edgefx-out")
