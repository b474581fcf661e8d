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

from edgefx.models import scaling
from edgefx.recipe.limits import GatesSection, RunGatesSection
from edgefx.recipe.machines import BenchmarkSection, NpuSection
from edgefx.recipe.values import (
    Cluster,
    Drop,
    Fraction,
    HardwareName,
    InputPath,
    InputSize,
    IoDtypes,
    ModelSource,
    OutputPath,
    Patterns,
    Prune,
    ReportPath,
    Section,
    TargetGlob,
    Tasks,
    Weights,
    weight_compression,
)
from edgefx.units import parse_tasks
from edgefx.vocabulary import MIN_IMAGES, MOST_EXPLAINED, NATIVE, Effort, Ending, ModelTask, Ranges, Resize

if TYPE_CHECKING:
    from edgefx.quantization import QatSettings, WeightCompression


def _keyed(key: str) -> Callable[[object], object]:
    """Let a plain string stand for a section of which only `key` is given."""
    return lambda value: {key: value} if isinstance(value, str) else value


def _with_method(value: object) -> object:
    """`ptq` is meant where no method is named."""
    return {"method": "ptq", **value} if isinstance(value, dict) and "method" not in value else value


class ModelSection(Section):
    """Which classifier: a zoo name, or a path to a Keras file or SavedModel folder."""

    source: ModelSource = Field(
        description="A name (see `edgefx models`), or the path of a .keras file, an .h5 file, a SavedModel "
        "folder or a preset of keras-hub; of a preset also its address, such as hf://keras/name."
    )
    weights: Weights | None = Field(
        default=None,
        description="Weights of a model that is given by name: imagenet, random or the path of a weights "
        "file.",
    )
    classes: Annotated[int, Field(ge=2, le=100_000)] | None = Field(
        default=None, description="Number of classes of a model that is given by name."
    )
    input_size: InputSize | None = Field(
        default=None,
        description="Input height and width in pixels, of a model that takes any size: 224, or 224x320 for "
        "224 pixels high and 320 wide.",
    )
    phi: float | None = Field(
        default=None,
        description="Scale a model that is given by name: depth by 1.2^phi, width by 1.1^phi, resolution by "
        "1.15^phi. The same as its name with :phi=1.5, and so on.",
    )
    width: float | None = Field(
        default=None, description="A factor of the width of a model that is given by name; not with phi."
    )
    depth: float | None = Field(
        default=None, description="A factor of the depth of a model that is given by name; not with phi."
    )
    resolution: float | None = Field(
        default=None,
        description="A factor of the input's height and width, of a model that is given by name; not with "
        "phi or input_size.",
    )
    task: Tasks | None = Field(
        default=None,
        description="What the model answers, where its last layer does not tell: binary or regression for a "
        "single output without sigmoid, multilabel for several sigmoids, embedding for a vector. Of "
        "several outputs by their names: quality=regression,face=embedding.",
    )
    head: Annotated[str, Field(min_length=1, max_length=1000)] | None = Field(
        default=None,
        description="The name of the one output to compile, of a model with several; by default all.",
    )
    pixels: Annotated[str, Field(min_length=1, max_length=100)] | None = Field(
        default=None,
        description="The pixels that the model was trained on, where it does not scale them itself: what "
        "black and white were, such as 0..1 or -1..1, imagenet for ImageNet's mean and deviation, or "
        "mean=127.5/std=127.5 for others, of raw pixels; with bgr: in front where blue came first, such as "
        "bgr:0..1, or caffe for the preprocessing of Keras' ResNet50. The artifact takes raw RGB all the "
        "same.",
    )
    custom_objects: InputPath | None = Field(
        default=None,
        description="A Python file that defines the model's custom layers and functions. It is run.",
    )
    labels: InputPath | None = Field(
        default=None, description="A text file with the names of the classes, one a line, by index."
    )
    threshold: Annotated[float, Field(gt=0, lt=1)] | None = Field(
        default=None,
        description="The probability above which a score of its own counts as a yes, of the tasks binary and "
        "multilabel; 0.5 unless given. Of logits it is taken as a probability, too: 0.5 is the sign.",
    )

    @property
    def only_task(self) -> ModelTask | None:
        """The task of a model's only output; what is said of several counts once they are known."""
        said = None if self.task is None else parse_tasks(self.task)
        return said if isinstance(said, ModelTask) else None


Model = Annotated[
    ModelSection,
    BeforeValidator(scaling.folded),
    BeforeValidator(_keyed("source"), json_schema_input_type=ModelSource | ModelSection),
]


class _Quantization(Section):
    """What INT8 targets share, however their weights came about; `targets` may override it for some."""

    effort: Effort = Field(
        default=Effort.BALANCED,
        description="Time to spend on INT8 accuracy: at most 1, 3 or 15 times what the runtime's own "
        "converter takes.",
    )
    ranges: Ranges = Field(
        default=Ranges.AUTO,
        description="How activation ranges are chosen from the calibration images; auto takes what has "
        "measured best for each runtime.",
    )
    budget: Drop | None = Field(
        default=None,
        description="The top-1 accuracy that an INT8 artifact may lose against the float Keras model, such "
        "as 0.5pp or 0.5%. edgefx works for it, with more effort and then with the most sensitive layers "
        "in float; missing it does not fail the run, see `gates`.",
    )
    keep_float: Patterns = Field(
        default=(),
        description="Layers that stay in float in INT8 artifacts: names, globs ('block1*') or kinds "
        "('kind:DepthwiseConv2D').",
    )
    integer_only: bool = Field(
        default=False,
        description="Allow no float operation in the artifact, as NPUs and microcontrollers need it. Only "
        "for tflite-int8, and for tflite-int16x8 between its float ends.",
    )
    cluster: Cluster | None = Field(
        default=None,
        description="How many distinct values a layer's INT8 weights may have, from 2 to 128; or what lookup "
        "tables of TFLM are to save of the file, such as 35%. Only for tflite-int8 and what is made of it.",
    )
    prune: Prune | None = Field(
        default=None,
        description="30% makes that share of INT8 weights zero, 2:4 two of any four: only for tflite-int8 "
        "and what is made of it. channels:25% removes channels of MBConv blocks that hold that share of all "
        "weights, for any target; multiples of 16 stay, or with channels:25%/8 of 8.",
    )

    @property
    def compression(self) -> WeightCompression:
        """What is asked of weights and channels."""
        return weight_compression(self.cluster, self.prune)


class PtqSection(_Quantization):
    """Post-training quantization: ranges from calibration images, no training."""

    method: Literal["ptq"] = Field(default="ptq", description="Post-training quantization.")


class QatSection(_Quantization):
    """Quantization-aware training, then conversion; needs training images."""

    method: Literal["qat"] = Field(description="Quantization-aware training.")
    mode: Literal["distill", "supervised"] = Field(
        default="distill",
        description="What training learns from. distill: the float model's own scores, so that labels are "
        "not needed. supervised: the labels.",
    )
    train: InputPath | None = Field(
        default=None, description="Folder of training images; with labels for mode supervised."
    )
    epochs: PositiveInt = Field(default=10, description="Largest number of passes over the training images.")
    batch_size: PositiveInt = Field(default=16, description="Number of images in each training step.")
    accumulate: PositiveInt = Field(
        default=1, description="Number of batches whose gradients are summed in each step."
    )
    learning_rate: PositiveFloat = Field(
        default=0.002,
        allow_inf_nan=False,
        description="Learning rate: the largest change of a weight in "
        "one step, as a fraction of its INT8 step.",
    )
    optimizer: Literal["adam", "sgd"] = Field(
        default="adam", description="The optimizer: adam, or sgd with momentum 0.9."
    )
    warm_up: Fraction = Field(
        default=0.1, description="Share of all steps during which the learning rate rises from zero."
    )
    label_smoothing: Fraction = Field(
        default=0.0,
        description="In mode supervised, the share of each label that is spread over all classes.",
    )
    features: NonNegativeFloat = Field(
        default=10.0,
        allow_inf_nan=False,
        description="In mode distill, the weight of the error of the blocks' outputs relative to that of the "
        "scores.",
    )
    augment: bool = Field(default=True, description="Flip and shift the training images a little.")
    sizes: tuple[Annotated[int, Field(ge=8)], ...] = Field(
        default=(),
        description="Image heights and widths to train on, one after the other; the model's own comes last.",
    )
    tensor_float32: bool = Field(default=True, description="Let a GPU multiply in TensorFloat-32 if it can.")
    validation_split: Annotated[float, Field(gt=0, lt=1)] = Field(
        default=0.15, description="Share of the training images that is kept apart to choose the best epoch."
    )
    patience: PositiveInt = Field(
        default=20, description="Number of epochs without improvement after which training stops."
    )
    keep: Literal["better", "trained"] = Field(
        default="better",
        description="Which artifact a runtime keeps. better: the trained one, except where ONNX Runtime or "
        "OpenVINO is closer to the float model with the post-training one. trained: always the trained one.",
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
        default=None, description="Folder of typical images; digits has its own."
    )
    samples: PositiveInt | None = Field(
        default=None,
        description="Number of images to calibrate on; by default 100, or half of a small folder.",
    )


class EvaluateSection(Section):
    """Images that accuracy is measured on; never the calibration images."""

    images: InputPath | None = Field(
        default=None,
        description="Folder of images; by default the calibration folder's images that did not calibrate.",
    )
    limit: PositiveInt | None = Field(
        default=None, description="Measure accuracy on a sample of this many images."
    )
    slow_limit: PositiveInt | Literal["all"] | None = Field(
        default=None,
        description="The same for targets that the runtime computes on slow reference kernels "
        "(tflite-int16x8); all measures them on all images. By default all where a gate limits their "
        f"accuracy, else {MIN_IMAGES}.",
    )


class DataSection(Section):
    """How image files become tensors."""

    resize: Resize = Field(
        default=Resize.STRETCH, description="How to fit an image of any shape to the model's input."
    )
    skip_bad_images: bool = Field(
        default=False,
        description="Leave corrupt images out and report how many; otherwise they are an error.",
    )


class TargetSection(Section):
    """One target or several, with the settings that are theirs alone."""

    target: TargetGlob = Field(description="A name or a glob, such as openvino-*; see `edgefx targets`.")
    io_dtype: IoDtypes | None = Field(
        default=None, description="Type of the input and output tensors, instead of io_dtype."
    )
    ends: Ending | None = Field(default=None, description="What these artifacts end in, instead of ends.")
    effort: Effort | None = Field(
        default=None, description="Effort for these targets, instead of quantize.effort."
    )
    ranges: Ranges | None = Field(
        default=None, description="Choice of ranges for these targets, instead of quantize.ranges."
    )
    budget: Drop | None = Field(
        default=None, description="Budget of these targets, instead of quantize.budget; null for none."
    )
    keep_float: Patterns | None = Field(
        default=None,
        description="Layers that stay in float in these targets, instead of quantize.keep_float.",
    )
    integer_only: bool | None = Field(
        default=None,
        description="Whether these targets may have float operations, instead of quantize.integer_only.",
    )
    cluster: Cluster | None = Field(
        default=None, description="For these targets, instead of quantize.cluster; null for none."
    )
    prune: Prune | None = Field(
        default=None, description="For these targets, instead of quantize.prune; null for none."
    )
    npu: NpuSection | None = Field(
        default=None, description="What the compiler of these targets is told instead of npu."
    )
    gates: GatesSection | None = Field(
        default=None, description="Limits of these targets that differ from gates; null takes a limit away."
    )


class ReportSection(Section):
    """Further report files; `report.json` is always written."""

    formats: tuple[Literal["json", "markdown", "terminal", "html", "junit"], ...] = Field(
        default=(),
        description="Formats to write into the output folder, as report.json, report.md, report.txt, "
        "report.html and report.xml.",
    )
    files: tuple[ReportPath, ...] = Field(
        default=(),
        description="Further report files, as --report takes them: report.md, or junit=ci/junit.xml.",
    )
    explain: Annotated[int, Field(ge=0, le=MOST_EXPLAINED)] = Field(
        default=0,
        description="Number of images that change their class of which the page shows which parts the float "
        "model and the artifacts go by; each takes 50 inferences.",
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

    version: Literal[1] = Field(description="Version of the recipe format.")
    model: Model = Field(
        description="Which classifier to compile. A name or a path may stand for the whole section."
    )
    quantize: Quantize = Field(default_factory=PtqSection, description="How INT8 artifacts are made.")
    targets: Targets = Field(
        min_length=1,
        description="What to make: names, globs, or sections with settings of their own.",
    )
    io_dtype: IoDtypes | None = Field(
        default=None,
        description="Type of input and output, or input=uint8,output=float32, where an output may be called "
        "by its name; by default uint8 for INT8 TFLite, else float32.",
    )
    ends: Ending = Field(
        default=Ending.SCORES,
        description="What artifacts end in: scores, or logits, whose reader computes the sigmoid or softmax.",
    )
    hardware: HardwareName = Field(
        default=NATIVE,
        description="The class of CPU that onnx-int8, onnx-dynamic and openvino-int8 are made for: native "
        "(that of the machine that compiles), the name of another class, or the path of a profile (a .json "
        "file that edgefx device profile has written, or a .yaml file with architecture and features).",
    )
    npu: NpuSection = Field(
        default_factory=NpuSection, description="What is assumed of NPUs that are compiled for."
    )
    calibration: CalibrationSection | None = Field(
        default=None, description="Images from which the INT8 ranges are calibrated; labels are not needed."
    )
    evaluate: EvaluateSection | None = Field(
        default_factory=EvaluateSection, description="What accuracy is measured on; null to skip it."
    )
    data: DataSection = Field(
        default_factory=DataSection, description="How image files become the model's input."
    )
    benchmark: BenchmarkSection | None = Field(
        default_factory=BenchmarkSection,
        description="How latency is measured; null to skip it.",
    )
    gates: RunGatesSection = Field(
        default_factory=RunGatesSection,
        description="Limits; the run ends with exit code 1 when one is exceeded.",
    )
    report: ReportSection = Field(
        default_factory=ReportSection, description="Further report files; report.json is always written."
    )
    bundle: bool = Field(
        default=False,
        description="Put what the run made into MODEL.edgefx.zip in the output folder, like edgefx bundle.",
    )
    seed: Annotated[int, Field(ge=0, lt=2**32)] = Field(
        default=0, description="Seed of everything that is sampled or trained."
    )
    output: OutputPath = Field(
        default=Path("edgefx-out"),
        description="Folder for the artifacts and the report, relative to the working folder.",
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
        description="The recipe that this one changes: a path relative to this file, or the name of a recipe "
        "that comes with edgefx. Sections are merged, everything else is replaced.",
    )
    matrix: dict[str, Annotated[list[Any], Field(min_length=1)]] | None = Field(
        default=None,
        description="Keys of the recipe, such as model, model.input_size, targets or quantize, each with the "
        "list of values to take; each combination is a run. The key exclude lists combinations to leave out.",
    )


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema of a recipe file; `recipes/schema.json` is this."""
    schema: dict[str, Any] = _untitled(RecipeFile.model_json_schema())
    schema["required"] = ["version"]  # another file, or the matrix, may say the rest
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "edgefx recipe", **schema}


def _untitled(schema: Any) -> Any:
    """Leave out the titles: they repeat the names."""
    if isinstance(schema, dict):
        return {
            key: _untitled(value)
            for key, value in schema.items()
            if key != "title" or not isinstance(value, str)
        }
    return [_untitled(item) for item in schema] if isinstance(schema, list) else schema
