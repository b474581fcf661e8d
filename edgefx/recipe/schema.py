"""What the user wants, validated. A recipe file and the flags of `compile` both become a `Recipe`.

Unknown keys are refused, and every object is frozen: past this point nothing is guessed or filled in. The
JSON Schema of `Recipe` is committed as ``recipes/schema.json``; `edgefx.recipe.check` finds the errors of a
recipe file by it, so that each of them can be shown where it stands in the file.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import (
    BeforeValidator,
    Field,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
)

from edgefx.recipe.limits import GatesSection
from edgefx.recipe.values import (
    Drop,
    Fraction,
    HardwareName,
    InputPath,
    ModelSource,
    OutputPath,
    Patterns,
    ReportPath,
    Section,
    TargetGlob,
    Weights,
)
from edgefx.vocabulary import NATIVE, Effort, IoDtype, Ranges, Resize

if TYPE_CHECKING:
    from edgefx.quantization import QatSettings


def _keyed(key: str) -> Callable[[object], object]:
    """Let a plain string stand for a section of which only `key` is given."""
    return lambda value: {key: value} if isinstance(value, str) else value


def _with_method(value: object) -> object:
    """`ptq` is meant where no method is named."""
    return {"method": "ptq", **value} if isinstance(value, dict) and "method" not in value else value


class ModelSection(Section):
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


class _Quantization(Section):
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


class NoneSection(Section):
    """No quantization: float targets only."""

    method: Literal["none"] = Field(description="No quantization: float targets only.")


Quantize = Annotated[
    Annotated[PtqSection | QatSection | NoneSection, Field(discriminator="method")],
    BeforeValidator(_with_method),
]


class CalibrationSection(Section):
    """Unlabelled images that set activation ranges."""

    images: InputPath | None = Field(
        default=None, description="Folder of typical images; digits brings its own."
    )
    samples: PositiveInt | None = Field(
        default=None, description="How many of them; by default 100, or half of a small folder."
    )


class EvaluateSection(Section):
    """Images that accuracy is measured on; never the calibration images."""

    images: InputPath | None = Field(
        default=None,
        description="Folder of images; by default what calibration leaves of its folder.",
    )
    limit: PositiveInt | None = Field(default=None, description="Measure on a sample of this many images.")


class DataSection(Section):
    """How image files become tensors."""

    resize: Resize = Field(default=Resize.STRETCH, description="How an image of any shape becomes the input.")
    skip_bad_images: bool = Field(default=False, description="Leave corrupt images out, and say how many.")


class BenchmarkSection(Section):
    """How latency is measured."""

    device: Literal["host"] = Field(default="host", description="Where: this machine.")
    threads: PositiveInt | None = Field(default=None, description="Intra-op threads; by default all cores.")
    rounds: PositiveInt = Field(default=100, description="Timed inferences per artifact.")
    seconds: PositiveFloat = Field(
        default=30.0, allow_inf_nan=False, description="Time limit for all artifacts together."
    )
    max_noise: Annotated[float, Field(gt=0, le=100)] = Field(
        default=0.25,
        description="How much the speed may change while it is measured: above, it is measured again while "
        "there is time, and is neither kept in the cache nor called slower.",
    )


class TargetSection(Section):
    """Targets, with what is different for them."""

    target: TargetGlob = Field(description="Name or glob, such as openvino-*; see `edgefx targets`.")
    io_dtype: IoDtype | None = Field(default=None, description="Input and output type.")
    effort: Effort | None = Field(default=None, description="Instead of quantize.effort.")
    ranges: Ranges | None = Field(default=None, description="Instead of quantize.ranges.")
    budget: Drop | None = Field(default=None, description="Instead of quantize.budget; null: none.")
    keep_float: Patterns | None = Field(default=None, description="Instead of quantize.keep_float.")
    integer_only: bool | None = Field(default=None, description="Instead of quantize.integer_only.")
    gates: GatesSection | None = Field(default=None, description="Limits of their own; null takes one away.")


class ReportSection(Section):
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


class Recipe(Section):
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
