"""What the user wants, validated. A recipe file and the flags of `compile` both become a `Recipe`.

Unknown keys are refused, and every object is frozen: past this point nothing is guessed or filled in. The
JSON Schema of `Recipe` is committed as ``recipes/schema.json``; `edgefx.recipe.check` finds the errors of a
recipe file by it, so that each of them can be shown where it stands in the file.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    NonNegativeFloat,
    PlainSerializer,
    PositiveFloat,
    PositiveInt,
    StringConstraints,
    WithJsonSchema,
    create_model,
)

from edgefx.metrics import METRICS, MetricRow, Unit
from edgefx.results import Gate, MaxDrop
from edgefx.units import parse_drop, parse_ms, parse_share, parse_size
from edgefx.vocabulary import NATIVE, Effort, Hardware, IoDtype, Ranges, Resize

if TYPE_CHECKING:
    from edgefx.quantization import QatSettings

# Where a value is more than its JSON type, the schema says so by its format: see `edgefx.recipe.check`.


class _Section(BaseModel):
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


def size_text(size: int) -> str:
    """Write a size so that it is read as the same number of bytes."""
    for unit, factor in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if size % factor == 0:
            return f"{size // factor}{unit}"
    return f"{size}B"


def _keyed(key: str) -> Callable[[object], object]:
    """Let a plain string stand for a section of which only `key` is given."""
    return lambda value: {key: value} if isinstance(value, str) else value


def _with_method(value: object) -> object:
    """`ptq` is meant where no method is named."""
    return {"method": "ptq", **value} if isinstance(value, dict) and "method" not in value else value


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
Share = Annotated[
    float,
    BeforeValidator(_as_text(parse_share)),
    WithJsonSchema({"type": ["number", "string"], "format": "share", "examples": ["98%", 0.98]}),
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
TargetGlob = Annotated[str, WithJsonSchema({"type": "string", "format": "target", "minLength": 1})]
Fraction = Annotated[float, Field(ge=0, lt=1)]


class ModelSection(_Section):
    """Which classifier: a zoo name, or a path to a Keras file or SavedModel folder."""

    source: ModelSource = Field(
        description="Zoo name (see `edgefx models`), or path of a .keras file, .h5 file or SavedModel folder."
    )
    weights: Weights | None = Field(
        default=None, description="Zoo models: imagenet, random or the path of a weights file."
    )
    classes: Annotated[int, Field(ge=2, le=100_000)] | None = Field(
        default=None, description="Zoo models: number of classes, the length of the output vector."
    )
    input_size: Annotated[int, Field(ge=8, le=4096)] | None = Field(
        default=None, description="Input height and width in pixels."
    )


Model = Annotated[
    ModelSection, BeforeValidator(_keyed("source"), json_schema_input_type=ModelSource | ModelSection)
]


class _Quantization(_Section):
    """What INT8 targets share, however their weights came about; `targets` may override it for some."""

    effort: Effort = Field(
        default=Effort.BALANCED,
        description="Time that INT8 accuracy is worth: 1, 3 or 15 times the runtime's own converter.",
    )
    ranges: Ranges = Field(
        default=Ranges.AUTO,
        description="How activation ranges are chosen from the calibration images; auto is what measured "
        "best for each runtime.",
    )
    budget: Drop | None = Field(
        default=None,
        description="Top-1 that an INT8 artifact may lose against the float Keras model, e.g. 0.5pp or 0.5%: "
        "it is searched for with more effort, then with sensitive layers in float. No gate: see `gates`.",
    )
    keep_float: Patterns = Field(
        default=(),
        description="Layers that INT8 artifacts leave in float: names, globs ('block1*') or kinds "
        "('kind:DepthwiseConv2D').",
    )
    integer_only: bool = Field(
        default=False,
        description="No float operation, for NPUs and MCUs: tflite-int8, and tflite-int16x8 between its float"
        " ends.",
    )


class PtqSection(_Quantization):
    """Post-training quantization: ranges from calibration images, no training."""

    method: Literal["ptq"] = Field(default="ptq", description="Post-training quantization.")


class QatSection(_Quantization):
    """Quantization-aware training, then conversion; needs training images."""

    method: Literal["qat"] = Field(description="Quantization-aware training.")
    mode: Literal["distill", "supervised"] = Field(
        default="distill",
        description="distill: from the float model's scores, labels not needed. supervised: from labels.",
    )
    train: InputPath | None = Field(
        default=None, description="Folder of training images; with labels for mode supervised."
    )
    epochs: PositiveInt = Field(default=10, description="Passes over the training images at most.")
    batch_size: PositiveInt = Field(default=16, description="Images per gradient.")
    accumulate: PositiveInt = Field(default=1, description="Gradients summed up per step.")
    learning_rate: PositiveFloat = Field(
        default=0.002, allow_inf_nan=False, description="Highest step of a weight, in units of its INT8 step."
    )
    optimizer: Literal["adam", "sgd"] = Field(default="adam", description="adam, or sgd with momentum 0.9.")
    warm_up: Fraction = Field(
        default=0.1, description="Share of all steps in which the rate rises from zero."
    )
    label_smoothing: Fraction = Field(
        default=0.0, description="Mode supervised: share of each label spread over all."
    )
    features: NonNegativeFloat = Field(
        default=10.0,
        allow_inf_nan=False,
        description="Mode distill: weight of the error of the blocks' outputs beside that of the scores.",
    )
    augment: bool = Field(default=True, description="Flip and shift images a little.")
    sizes: tuple[Annotated[int, Field(ge=8)], ...] = Field(
        default=(),
        description="Image heights and widths to train on, one after the other; the model's own comes last.",
    )
    tensor_float32: bool = Field(
        default=True, description="Let a GPU that has TensorFloat-32 multiply in it."
    )
    validation_split: Annotated[float, Field(gt=0, lt=1)] = Field(
        default=0.15, description="Share of the training images kept apart to choose the best epoch."
    )
    patience: PositiveInt = Field(
        default=20, description="Epochs without a better one after which training stops."
    )
    keep: Literal["better", "trained"] = Field(
        default="better",
        description="better: where ONNX Runtime or OpenVINO are closer to the float model with the "
        "post-training artifact, that one. trained: one trained model in all runtimes.",
    )

    def settings(self, *, seed: int) -> QatSettings:
        """Return what training is told."""
        from edgefx.quantization import QatSettings
        from edgefx.types import QatMode

        names = {field.name for field in dataclasses.fields(QatSettings)} - {"mode", "seed"}
        values = {name: getattr(self, name) for name in names}
        return QatSettings(mode=QatMode(self.mode), seed=seed, **values)


class NoneSection(_Section):
    """No quantization: float targets only."""

    method: Literal["none"] = Field(description="No quantization: float targets only.")


Quantize = Annotated[
    Annotated[PtqSection | QatSection | NoneSection, Field(discriminator="method")],
    BeforeValidator(_with_method),
]


class CalibrationSection(_Section):
    """Unlabelled images that set activation ranges."""

    images: InputPath | None = Field(
        default=None, description="Folder of typical images; digits brings its own."
    )
    samples: PositiveInt | None = Field(
        default=None, description="How many of them; by default 100, or half of a small folder."
    )


class EvaluateSection(_Section):
    """Images that accuracy is measured on; never the calibration images."""

    images: InputPath | None = Field(
        default=None,
        description="Folder of images; by default what calibration leaves of its folder.",
    )
    limit: PositiveInt | None = Field(default=None, description="Measure on a sample of this many images.")


class DataSection(_Section):
    """How image files become tensors."""

    resize: Resize = Field(default=Resize.STRETCH, description="How an image of any shape becomes the input.")
    skip_bad_images: bool = Field(default=False, description="Leave corrupt images out, and say how many.")


class BenchmarkSection(_Section):
    """How latency is measured."""

    device: Literal["host"] = Field(default="host", description="Where: this machine.")
    threads: PositiveInt | None = Field(default=None, description="Intra-op threads; by default all cores.")
    rounds: PositiveInt = Field(default=100, description="Timed inferences per artifact.")
    seconds: PositiveFloat = Field(
        default=30.0, allow_inf_nan=False, description="Time limit for all artifacts together."
    )


class _Gates(_Section):
    """Limits that make the run fail with exit code 1; units are required where they change the meaning."""

    max_drop: Drop | None = Field(
        default=None,
        description="Top-1 lost against the float Keras model, e.g. 1pp (points) or 0.5%.",
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
    Unit.SHARE: Share,
    Unit.MILLISECONDS: Milliseconds,
    Unit.BYTES: Size,
    Unit.MEGABYTES: Megabytes,
    Unit.RATIO: PositiveFloat,
    Unit.NATS: NonNegativeFloat,
    Unit.PROBABILITY: Annotated[float, Field(ge=0, le=1)],
    Unit.COUNT: NonNegativeFloat,
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


if TYPE_CHECKING:

    class GatesSection(_Gates):
        """Every other key is a metric's, from the table of metrics."""

        def __getattr__(self, name: str) -> Any: ...

else:
    GatesSection = gates_section()


class TargetSection(_Section):
    """Targets, with what is different for them."""

    target: TargetGlob = Field(description="Name or glob, such as openvino-*; see `edgefx targets`.")
    io_dtype: IoDtype | None = Field(default=None, description="Input and output type.")
    effort: Effort | None = Field(default=None, description="Instead of quantize.effort.")
    ranges: Ranges | None = Field(default=None, description="Instead of quantize.ranges.")
    budget: Drop | None = Field(default=None, description="Instead of quantize.budget; null: none.")
    keep_float: Patterns | None = Field(default=None, description="Instead of quantize.keep_float.")
    integer_only: bool | None = Field(default=None, description="Instead of quantize.integer_only.")
    gates: GatesSection | None = Field(default=None, description="Limits of their own; null takes one away.")


class ReportSection(_Section):
    """Further forms of the report; `report.json` is always written."""

    formats: tuple[Literal["json", "markdown", "terminal"], ...] = Field(
        default=(),
        description="Formats to write into the output folder: report.json, report.md, report.txt.",
    )
    files: tuple[ReportPath, ...] = Field(
        default=(), description="Further files, in the format of their suffix (.json, .md, .txt)."
    )


def _targets(value: object) -> object:
    """Names and globs become sections; what is overridden twice is overridden by the later."""
    if isinstance(value, str):
        value = (value,)
    if not isinstance(value, (list, tuple)):
        return value
    return tuple({"target": item} if isinstance(item, str) else item for item in value)


Targets = Annotated[
    tuple[TargetSection, ...],
    BeforeValidator(
        _targets,
        json_schema_input_type=TargetGlob
        | Annotated[tuple[TargetGlob | TargetSection, ...], Field(min_length=1)],
    ),
]


class Recipe(_Section):
    """One compilation: a model, what it is compiled for, and what must be true of the result."""

    version: Literal[1] = Field(description="Of this format.")
    model: Model = Field(
        description="Which classifier; a zoo name or a path may stand for the whole section."
    )
    quantize: Quantize = Field(
        default_factory=PtqSection,
        description="How INT8 artifacts are made.",
    )
    targets: Targets = Field(
        min_length=1,
        description="What to make: names, globs, or sections with what is different for them.",
    )
    io_dtype: IoDtype | None = Field(
        default=None, description="Input and output type; by default uint8 for INT8 TFLite, else float32."
    )
    hardware: HardwareName = Field(
        default=NATIVE,
        description="The class of CPU that onnx-int8, onnx-dynamic and openvino-int8 are laid out for: that "
        "of the machine that compiles (native), another by name, or the path of a profile (a .yaml file with "
        "architecture and features).",
    )
    calibration: CalibrationSection | None = Field(
        default=None, description="Images that set the activation ranges of INT8; labels are not needed."
    )
    evaluate: EvaluateSection | None = Field(
        default_factory=EvaluateSection, description="What accuracy is measured on; null: not at all."
    )
    data: DataSection = Field(
        default_factory=DataSection, description="How image files are made into the model's input."
    )
    benchmark: BenchmarkSection | None = Field(
        default_factory=BenchmarkSection,
        description="How latency is measured; null: not at all.",
    )
    gates: GatesSection = Field(
        default_factory=GatesSection,
        description="Limits that fail the run with exit code 1.",
    )
    report: ReportSection = Field(default_factory=ReportSection, description="Further forms of the report.")
    seed: Annotated[int, Field(ge=0, lt=2**32)] = Field(
        default=0, description="Of all that is sampled or trained."
    )
    output: OutputPath = Field(
        default=Path("edgefx-out"),
        description="For artifacts and report; relative to the working folder.",
    )

    @property
    def effort(self) -> Effort:
        """What is asked for where a target does not say otherwise."""
        return Effort.BALANCED if isinstance(self.quantize, NoneSection) else self.quantize.effort


class RecipeFile(Recipe):
    """A recipe for edgefx: what to compile, for which targets, and what must be true of the result.

    The form of the file. What `extends` and `matrix` say is worked out before a `Recipe` is made of it.
    """

    extends: Annotated[str, Field(min_length=1)] | None = Field(
        default=None,
        description="Another recipe that this one changes: a path relative to this file, or the name of one "
        "that comes with edgefx. Sections are merged, everything else is replaced.",
    )
    matrix: dict[str, Annotated[list[Any], Field(min_length=1)]] | None = Field(
        default=None,
        description="Keys of the recipe, such as model, model.input_size, targets or quantize, with the "
        "values to take; each combination is a run. exclude: combinations to leave out.",
    )


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema of a recipe file; `recipes/schema.json` is this."""
    schema: dict[str, Any] = _untitled(RecipeFile.model_json_schema())
    schema["required"] = ["version"]  # another file, or the matrix, may say the rest
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "edgefx recipe",
        **schema,
    }


def _untitled(schema: Any) -> Any:
    """Leave out the titles: they repeat the names."""
    if isinstance(schema, dict):
        return {
            key: _untitled(value)
            for key, value in schema.items()
            if key != "title" or not isinstance(value, str)
        }
    return [_untitled(item) for item in schema] if isinstance(schema, list) else schema
