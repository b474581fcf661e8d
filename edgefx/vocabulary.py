"""The words that name formats, runtimes, stages and choices. `edgefx.types` offers them too.

Apart from the dataclasses, which take longer to import: listing targets and checking recipes needs no more.
"""

from __future__ import annotations

from collections.abc import Collection
from enum import StrEnum
from typing import NamedTuple


class Runtime(StrEnum):
    """An inference engine that an artifact is made for."""

    TFLITE = "tflite"
    ONNX = "onnx"
    OPENVINO = "openvino"


class TargetKind(StrEnum):
    """What becomes of a target's artifact, which decides what can be known of it here."""

    RUNTIME = "runtime"  # a runtime opens it, here as on the device
    NPU = "npu"  # an NPU's driver opens it, and nothing does here
    NATIVE = "native"  # machine code for a CPU, which a program calls
    MCU = "mcu"  # an interpreter for microcontrollers opens it, of which a PC has a slow twin


class Precision(StrEnum):
    """The number format asked for; what actually ran is reported beside it."""

    FLOAT32 = "float32"
    FLOAT16 = "float16"  # weights stored as float16
    DYNAMIC = "dynamic"  # INT8 weights, activations quantized per inference
    WEIGHT_INT8 = "weight-int8"  # INT8 weights, restored to float32 when the file is loaded
    INT8 = "int8"  # INT8 weights and activations, ranges from calibration
    INT16X8 = "int16x8"  # INT8 weights, INT16 activations


class Hardware(StrEnum):
    """The class of CPU that an artifact is laid out for: CPUs whose integer dot products differ.

    It is an input, as the recipe says, and not what happens to compile. What is fast and what is accurate on
    each class stands in tables and not on a stopwatch: the same inputs must give the same artifact.
    """

    X86 = "x86-64"
    X86_VNNI = "x86-64+vnni"
    X86_AMX = "x86-64+amx"
    ARM = "aarch64"
    ARM_DOTPROD = "aarch64+dotprod"
    ARM_I8MM = "aarch64+i8mm"
    OTHER = "other"

    @property
    def saturates_pairs(self) -> bool:
        """Whether sums of two uint8 x int8 products saturate.

        Without VNNI an x86-64 CPU multiplies with ``vpmaddubsw``, which adds each two products in 16 bits:
        255 x 127 twice is too much.
        """
        return self is Hardware.X86


HOST = "host"  # of devices: the machine that edgefx runs on


def is_on_host(devices: Collection[str]) -> bool:
    """Whether latency is measured on this machine where these devices are asked for."""
    return HOST in devices or not devices


LAUNCHES = 5  # processes that latency is measured in, of each artifact
MOST_LAUNCHES = 10
MIN_SECONDS = 1.0  # that the timed inferences of each artifact take together
NATIVE = "native"  # of a recipe: the class of the CPU that compiles


class Effort(StrEnum):
    """How much time a conversion may spend on accuracy, as a multiple of the runtime's own converter's.

    ``FAST``, 1 x: ranges only. ``BALANCED``, 3 x: what measures better on the calibration images. ``HIGH``,
    15 x: the weights are optimized too.
    """

    FAST = "fast"
    BALANCED = "balanced"
    HIGH = "high"


class Ranges(StrEnum):
    """How activation ranges are chosen from what the calibration images produce.

    ``AUTO`` is what measured best for each runtime and kind of tensor. The others treat every tensor alike
    and are those of `quantize.ranges.RangeMethod`; not every runtime's quantization can be given them.
    """

    AUTO = "auto"
    MIN_MAX = "min-max"  # exact extremes over all images
    PERCENTILE = "percentile"  # 99.99 % of the values, both tails cut
    ENTROPY = "entropy"  # least information lost by cutting a tail
    MSE = "mse"  # least squared error of the tensor
    ACTIVATION_MSE = "activation-mse"  # least squared error behind the function and weights that read it


class QatMode(StrEnum):
    """What quantization-aware training learns from.

    ``DISTILL``: from the scores of the float model, so that labels are not needed. ``SUPERVISED``: from
    labels.
    """

    DISTILL = "distill"
    SUPERVISED = "supervised"


class IoDtype(StrEnum):
    """Element type of the artifact's input and output tensors."""

    FLOAT32 = "float32"
    UINT8 = "uint8"
    INT8 = "int8"


class Ending(StrEnum):
    """What an artifact ends in.

    In 8 bits, what a sigmoid or a softmax makes of logits has steps of 1/256, in which scores near 0 and 1
    are all alike. Logits have a range of their own; whoever reads them computes the function.
    """

    SCORES = "scores"  # as the model
    LOGITS = "logits"  # before the sigmoid or softmax that the model ends in


class ScoreFunction(StrEnum):
    """What makes scores of the logits that an artifact ends in; such an output is known by its name."""

    SIGMOID = "sigmoid"
    SOFTMAX = "softmax"

    @property
    def output_name(self) -> str:
        """Name of the output of an artifact that leaves this function to its reader."""
        return f"{self}_logits"

    @classmethod
    def of(cls, output_name: str) -> ScoreFunction | None:
        """Return the function that an artifact leaves to its reader; None where it leaves none."""
        return next((one for one in cls if one.output_name == output_name), None)


class Resize(StrEnum):
    """How an image of any shape becomes the model's H x W.

    ``STRETCH`` ignores the aspect ratio, as ``keras.utils.image_dataset_from_directory`` does by default.
    ``CROP`` scales the shorter side and cuts the centre. ``PAD`` scales the longer side and fills with black.
    """

    STRETCH = "stretch"
    CROP = "crop"
    PAD = "pad"


class OutputKind(StrEnum):
    """What the model's output means; also the name of an artifact's output tensor."""

    PROBABILITIES = "probabilities"
    LOGITS = "logits"
    VALUES = "values"  # of a regression, an embedding or a feature map


class ModelTask(StrEnum):
    """What a model answers; decides what its scores are compared by.

    ``BINARY`` models have one score: how sure they are of the second of two classes. To all that compares
    scores they are classifiers of two classes (`edgefx.scores`).
    """

    CLASSIFICATION = "classification"  # one of several classes
    BINARY = "binary"  # yes or no, by one score
    MULTILABEL = "multilabel"  # any of several classes, each by a score of its own
    REGRESSION = "regression"  # quantities
    EMBEDDING = "embedding"  # a vector that is compared with others
    FEATURES = "features"  # the map of a backbone without its head

    @property
    def classifies(self) -> bool:
        """Whether an image has one right class of several."""
        return self in (ModelTask.CLASSIFICATION, ModelTask.BINARY)

    @property
    def gives_values(self) -> bool:
        """Whether what is answered are quantities, and no scores of classes."""
        return self in (ModelTask.REGRESSION, ModelTask.EMBEDDING, ModelTask.FEATURES)

    @property
    def is_embedding(self) -> bool:
        """Whether vectors are compared with each other."""
        return self is ModelTask.EMBEDDING


class StageKind(StrEnum):
    """The steps of a compilation, in order."""

    LOAD = "load"
    CANONICALIZE = "canonicalize"
    QUANTIZE = "quantize"
    CONVERT = "convert"
    EVALUATE = "evaluate"
    BENCHMARK = "benchmark"
    DEVICE = "device"  # the measurement on devices
    GATE = "gate"
    REPORT = "report"


class ReportFormat(NamedTuple):
    """A format that a report can be written in.

    Attributes:
        module: The module whose `dumps` writes it.
        suffix: How the name of such a file ends; "" where it must be named, as FORMAT=PATH.
        of_rows: Whether `dumps` takes the rows of `edgefx.report.judged`, and not the report itself.
    """

    module: str
    suffix: str = ""
    of_rows: bool = False


REPORT_FORMATS = {
    "terminal": ReportFormat("edgefx.report.terminal", ".txt"),
    "json": ReportFormat("edgefx.storage.serde", ".json"),
    "markdown": ReportFormat("edgefx.report.markdown", ".md"),
    "html": ReportFormat("edgefx.report.html", ".html"),
    "junit": ReportFormat("edgefx.report.junit", ".xml", of_rows=True),
    "openmetrics": ReportFormat("edgefx.report.openmetrics", ".prom", of_rows=True),
    "github": ReportFormat("edgefx.report.github"),
    "gitlab": ReportFormat("edgefx.report.gitlab", of_rows=True),
    "benchmark-json": ReportFormat("edgefx.report.benchmark_json", of_rows=True),
}

# Evaluation images that a gate on accuracy needs: one of 100 is a percentage point, the usual limit, and
# where no answer changes the drop's 95 % interval still reaches 3.7 points; with 30 images it reaches 11.
# As many are taken of a large set where a target's kernels are slow and no limit is judged.
MIN_IMAGES = 100
# Of a field: left out of a document where it is empty. Few models or runs have it.
SPARSE = {"sparse": True}
# Changed images whose explanation a report shows at most: each takes 50 inferences of every artifact.
MOST_EXPLAINED = 12


class OnInconclusive(StrEnum):
    """Which gates that are INCONCLUSIVE fail the run with exit code 1."""

    FAIL = "fail"  # all of them
    FAIL_IF_DOUBTFUL = "fail-if-doubtful"  # unless only a 95 % interval reaches beyond the limit
    WARN = "warn"  # none


class Optimise(StrEnum):
    """What a compiler makes small where it can have one or the other; the words are Vela's."""

    PERFORMANCE = "Performance"
    SIZE = "Size"
