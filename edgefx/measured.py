"""What is measured of an artifact, answers and speed; a part of `edgefx.results`. Standard library only."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import StrEnum

from edgefx.latency_histogram import LatencyHistogram
from edgefx.vocabulary import ModelTask

_MOST_PARTS = 32  # along a side of a map of saliency


@dataclass(frozen=True, kw_only=True)
class TaskFigures:
    """What is measured of models that do more than choose a class; None where it was not, or has no meaning.

    Attributes:
        auc: Binary: area under the ROC curve.
        auc_drop_pp: 100 * (the float model's - `auc`).
        f1: Binary, multilabel: harmonic mean of precision and recall at the threshold.
        balanced_accuracy: Binary: mean of the shares right of either class.
        mean_average_precision: Multilabel: mean of the labels' average precisions.
        map_drop_pp: 100 * (the float model's - `mean_average_precision`).
        mae: Regression: mean absolute error against what is right, in its unit.
        baseline_mae: The float model's.
        rmse: Regression: root of the mean squared error against what is right.
        r2: Regression: share of the variance that is explained.
        r2_drop: The float model's less `r2`.
        relative_error: Values: root mean square of the differences from the float model's values, over these
            values' standard deviation.
        max_error: Values: the largest difference from the float model's.
        cosine: Embeddings, features: mean cosine of the angle to the float model's vector.
    """

    auc: float | None = None
    auc_drop_pp: float | None = None
    f1: float | None = None
    balanced_accuracy: float | None = None
    mean_average_precision: float | None = None
    map_drop_pp: float | None = None
    mae: float | None = None
    baseline_mae: float | None = None
    rmse: float | None = None
    r2: float | None = None
    r2_drop: float | None = None
    relative_error: float | None = None
    max_error: float | None = None
    cosine: float | None = None

    def alone(self) -> TaskFigures:
        """Return those that say something without a float model to compare with."""
        return replace(
            self,
            auc_drop_pp=None,
            map_drop_pp=None,
            baseline_mae=None,
            r2_drop=None,
            relative_error=None,
            max_error=None,
            cosine=None,
        )


@dataclass(frozen=True, kw_only=True)
class Accuracy:
    """An artifact's accuracy against the float Keras baseline, image by image.

    Attributes:
        images: Number of evaluation images that it was measured on.
        top1: Fraction right; None when unlabelled. Of embeddings: whose nearest other image has its label.
        top5: Fraction with the label among the five best; None when unlabelled or with five classes or fewer.
        baseline_top1: The float Keras model's top-1 on the same images.
        baseline_top5: The float Keras model's top-5 on the same images.
        drop_pp: 100 * (baseline_top1 - top1); negative when the artifact is better.
        drop_ci95_pp: 95 % confidence interval of `drop_pp` (paired), low then high.
        agreement: Fraction of images with the same top-1 class as the baseline; of embeddings with the same
            nearest other image, of several labels the fraction of labels. None of other values.
        mean_kl: Mean KL(baseline || artifact) in nats, on probabilities, of several labels of each; on values
            half the squared relative error, that of normal distributions as wide as the baseline's values.
        max_abs_dp: Largest absolute difference of a probability; of a value over its standard deviation.
        images_per_s: Evaluation throughput of this artifact, images already decoded.
        score_step: The step of the artifact's 8-bit probabilities, to which the baseline's were rounded for
            `mean_kl` and `max_abs_dp`; None where both were compared as they are.
        sampled_of: Number of evaluation images that `images` is a sample of; None where it is all of them.
        task: What else is measured of models that do more than choose a class.
        lost: Images that the baseline gets right and the artifact gets wrong; None when unlabelled.
        gained: Images that the artifact gets right and the baseline gets wrong; None when unlabelled.
        drop_p_value: Exact McNemar p-value of `lost` and `gained`: how often chance alone makes them as
            unequal; None when unlabelled.
        top1_ci95: 95 % confidence interval of `top1` (Wilson), low then high.
        top5_ci95: 95 % confidence interval of `top5` (Wilson), low then high.
        agreement_ci95: 95 % confidence interval of `agreement` (Wilson), low then high.
        lost_top5: As `lost`, of top-5; None where `top5` is.
        gained_top5: As `gained`, of top-5; None where `top5` is.
        drop_top5_pp: 100 * (baseline_top5 - top5); None where `top5` is.
        drop_top5_ci95_pp: 95 % confidence interval of `drop_top5_pp` (paired), low then high.
        ece: Expected calibration error of the artifact's probabilities, 15 bins; None when unlabelled.
        baseline_ece: That of the float Keras model.
        brier: Brier score of the artifact's probabilities, 0 to 2; None when unlabelled.
        baseline_brier: That of the float Keras model.
        outputs: Of a model with several outputs, what was found of each. The other figures are those of the
            output that the model is described by, but that `mean_kl` is the sum and `max_abs_dp` the largest
            of all outputs.
        failed: Images that the artifact gave no answer to, or one that is not finite. Where a class is
            chosen, each counts as wrong; figures of probabilities and values are of the answers that there
            are. None where an earlier version measured.
    """

    images: int
    top1: float | None
    top5: float | None
    baseline_top1: float | None
    baseline_top5: float | None
    drop_pp: float | None
    drop_ci95_pp: tuple[float, float] | None
    agreement: float | None
    mean_kl: float
    max_abs_dp: float
    images_per_s: float
    score_step: float | None = None
    sampled_of: int | None = None
    task: TaskFigures | None = None
    lost: int | None = None
    gained: int | None = None
    drop_p_value: float | None = None
    top1_ci95: tuple[float, float] | None = None
    top5_ci95: tuple[float, float] | None = None
    agreement_ci95: tuple[float, float] | None = None
    lost_top5: int | None = None
    gained_top5: int | None = None
    drop_top5_pp: float | None = None
    drop_top5_ci95_pp: tuple[float, float] | None = None
    ece: float | None = None
    baseline_ece: float | None = None
    brier: float | None = None
    baseline_brier: float | None = None
    outputs: tuple[OutputAccuracy, ...] = field(default=(), metadata={"sparse": True})
    failed: int | None = None

    @property
    def error_rate(self) -> float | None:
        """The share of the images that got no answer."""
        return None if self.failed is None else self.failed / self.images

    @property
    def drop_percent(self) -> float | None:
        """The drop in percent of the baseline's top-1; None without labels, or where that is never right."""
        if self.drop_pp is None or not self.baseline_top1:
            return None
        return self._relative(self.drop_pp)

    @property
    def drop_percent_ci95(self) -> tuple[float, float] | None:
        """The 95 % interval of `drop_percent`: that of `drop_pp`, the baseline's top-1 taken as it is."""
        if self.drop_ci95_pp is None or not self.baseline_top1:
            return None
        low, high = self.drop_ci95_pp
        return self._relative(low), self._relative(high)

    def _relative(self, points: float) -> float:
        # Rounded to what counts: a drop of exactly a limit must not miss it by the error of a division.
        assert self.baseline_top1, "a share of nothing"
        return round(points / self.baseline_top1, 9)

    def __post_init__(self) -> None:
        """Refuse what no measurement can be: stored ones come from files.

        Raises:
            ValueError: It was measured on no image.
        """
        if self.images < 1:
            raise ValueError(f"an accuracy measured on {self.images} images")


@dataclass(frozen=True, kw_only=True)
class OutputAccuracy:
    """The accuracy of one of several outputs.

    Attributes:
        name: The output's.
        task: What it answers.
        accuracy: Against the float Keras model.
    """

    name: str
    task: ModelTask
    accuracy: Accuracy


@dataclass(frozen=True, kw_only=True)
class OutputEvaluation:
    """One of several outputs of an artifact on one set of images; see `views.Evaluation`.

    Attributes:
        name: The output's.
        top1: Fraction right, None where no class is, or it is not known.
        top5: Fraction with the label among the five best; None likewise.
        comparison: The paired comparison with the float model, or None.
        figures: What else is measured of what it answers.
    """

    name: str
    top1: float | None
    top5: float | None
    comparison: Accuracy | None
    figures: TaskFigures | None


@dataclass(frozen=True, kw_only=True)
class ClassChange:
    """What became of the images of one class.

    Attributes:
        label: The class's index.
        images: Evaluation images of the class.
        lost: Those that the baseline gets right and the artifact gets wrong.
        gained: Those that the artifact gets right and the baseline gets wrong.
        drop_pp: 100 * (lost - gained) / images.
        drop_ci95_pp: 95 % confidence interval of `drop_pp` (paired) of this class by itself, low then high.
        p_value: Exact McNemar p-value, corrected by Holm's method for as many classes as have images.
        significant: Whether that is at most 0.05.
    """

    label: int
    images: int
    lost: int
    gained: int
    drop_pp: float
    drop_ci95_pp: tuple[float, float]
    p_value: float
    significant: bool


@dataclass(frozen=True, kw_only=True)
class ClassShift:
    """Images that the baseline gives one class and the artifact another.

    Attributes:
        before: Index of the baseline's class.
        after: Index of the artifact's class.
        images: How many.
        lost: How many of them are of the class `before`; None when unlabelled.
    """

    before: int
    after: int
    images: int
    lost: int | None


@dataclass(frozen=True, kw_only=True)
class FlippedImage:
    """An image that the baseline and the artifact give different classes.

    Attributes:
        image: The file, relative to the folder of evaluation images.
        sha256: Of the file.
        label: Index of its class; None when unlabelled.
        before: Index of the baseline's class.
        after: Index of the artifact's class.
        before_confidence: The baseline's probability of `before`.
        after_confidence: The artifact's probability of `after`.
    """

    image: str
    sha256: str
    label: int | None
    before: int
    after: int
    before_confidence: float
    after_confidence: float


@dataclass(frozen=True, kw_only=True)
class Changes:
    """Which classes and which images an artifact answers otherwise than the float Keras baseline.

    The lists are bounded; `predictions.json` has every image.

    Attributes:
        images: Evaluation images that both answered.
        flipped: Those whose best class changed.
        classes: Classes that have images; 0 when unlabelled.
        significant: Classes whose images the artifact gets right significantly more or less often.
        by_class: Classes, the significant ones first, then those with the largest drop.
        shifts: From which class to which, the most frequent first.
        surest: Flipped images, those first of whose class the baseline is surest.
    """

    images: int
    flipped: int
    classes: int
    significant: int
    by_class: tuple[ClassChange, ...]
    shifts: tuple[ClassShift, ...]
    surest: tuple[FlippedImage, ...]


@dataclass(frozen=True, kw_only=True)
class Saliency:
    """Which parts of an image an answer rests on, by occlusion.

    Attributes:
        target: The target that answers; "" is the float model.
        label: Index of the class that it gives the image.
        confidence: The probability of that class.
        drops: By how much that falls with a quarter of each side covered, in rows from the top; the covered
            part moves by half its size. Negative where the probability rises.
    """

    target: str
    label: int
    confidence: float
    drops: tuple[tuple[float, ...], ...]

    def __post_init__(self) -> None:
        """Refuse what no measurement can be: stored ones come from files.

        Raises:
            ValueError: It is empty, larger than a page can show, of rows of unequal length, or of no shares.
        """
        widths = {len(row) for row in self.drops}
        if len(widths) != 1 or not all(0 < side <= _MOST_PARTS for side in (*widths, len(self.drops))):
            raise ValueError("a map of saliency that is no table")
        if not all(-1 <= one <= 1 for row in self.drops for one in row):
            raise ValueError("a map of saliency with a change of probability beyond 1")


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """What the float model and those artifacts that answer otherwise look at in an image.

    Attributes:
        image: The file, relative to the folder of evaluation images.
        sha256: Of the file.
        maps: The float model's first.
    """

    image: str
    sha256: str
    maps: tuple[Saliency, ...]


class Match(StrEnum):
    """How the answers of a device compare with those of this machine, image by image."""

    IDENTICAL = "identical"  # every score, bit by bit
    SAME_TOP1 = "same top-1"
    DIFFERS = "differs"


@dataclass(frozen=True, kw_only=True)
class ComparedAnswers:
    """Whether an artifact answers a few images on a device as it does on this machine.

    Attributes:
        images: Number of images that were run here, too.
        match: How the scores compare.
        same_top1: Number of these images with the same best class.
        max_abs_difference: Largest absolute difference of a score.
        outputs: Those of several outputs whose values are not identical, bit by bit.
    """

    images: int
    match: Match
    same_top1: int
    max_abs_difference: float
    outputs: tuple[str, ...] = field(default=(), metadata={"sparse": True})


@dataclass(frozen=True, kw_only=True)
class Throughput:
    """How many images a second an artifact answers when several are run at once.

    Attributes:
        batch: Images of each inference.
        streams: Inferences at the same time, each by a session and a thread of its own, in one process.
        threads: Runtime threads of each stream.
        images_per_s: The middle one of several measurements, one after the other.
        slowest_per_s: The slowest of them.
        fastest_per_s: The fastest.
        seconds: What they took together.
        cpu_utilization: CPU time of the process over that and the cores that it may use.
    """

    batch: int
    streams: int
    threads: int
    images_per_s: float
    slowest_per_s: float
    fastest_per_s: float
    seconds: float
    cpu_utilization: float


@dataclass(frozen=True, kw_only=True)
class Latency:
    """Latency of one artifact on one device.

    Attributes:
        device: Where it ran; "host" is the machine that edgefx ran on, not the edge device.
        threads: Intra-op threads.
        rounds: Timed inferences, batch 1, interleaved with the other artifacts of the run.
        p50_ms: Median.
        p95_ms: 95th percentile.
        min_ms: Fastest.
        cold_start_ms: Opening the file plus the first inference, in a fresh process, imports not counted; the
            middle one of several processes.
        peak_memory_mb: Peak resident set of that process, runtime included.
        precision_ran: What the runtime executed in.
        ratio_to_float: Median over that of the same runtime's float32 artifact, formed in each pass of the
            measurement; the median of the passes.
        ratio_ci95: Where that ratio would lie in another measurement like this, with 95 %, low then high;
            None with one process, which tells nothing of the next.
        noise: By how much the speed changed while it, and what it is compared with, were measured: the range
            of the passes' medians between quartiles over their median, the larger; 0 with too few to tell.
        noisy: Whether that is too much to rely on the figures, after measuring again.
        p99_ms: 99th percentile; of 100 inferences nearly the slowest. None where an earlier version measured.
        p90_ms: 90th percentile, likewise.
        std_ms: Standard deviation, likewise.
        price_per_hour: What an hour of the machine costs, in any currency; None where nobody said.
        load_ms: Opening the file alone; None where an earlier version measured.
        first_ms: The first inference after that, likewise: buffers are touched and code is read.
        warmup_rounds: The inferences before the timed ones, of which there are more where they still got
            faster.
        warmed_up: Whether they had stopped getting faster; None with too few to tell.
        timed_ms: What all timed inferences took together.
        p50_ci95_ms: Where the median would lie in another measurement, like `ratio_ci95`.
        launches: Processes that were started for it one after the other; None where an earlier version
            measured.
        cpu_utilization: The CPU time of its process while it was timed, over the time that passed and the
            cores that it may use, likewise; 1 where all of them are busy all the time.
        energy_mj: Energy of an inference in millijoules, with what the machine takes when it is idle; None
            where nothing measured it.
        energy_watts: The mean power meanwhile.
        energy_source: "RAPL" or "hwmon" are the machine's own counters, "meter" is an external one.
        model_memory_mb: What the peak resident set grew by from opening the file on, likewise: the artifact's
            own share of it.
        float_share: The share of the time of all operations that is computed in floating point, by the
            runtime's profiler; None unless it was asked.
        conversion_share: Likewise, of what only changes the format or the layout of values.
        delegate_coverage: The share of the file's operations that a delegate executed; None where there are
            no delegates, or nobody asked.
        histogram: How the timed inferences are distributed; None where an earlier version measured.
    """

    device: str
    threads: int
    rounds: int
    p50_ms: float
    p95_ms: float
    min_ms: float
    cold_start_ms: float
    peak_memory_mb: float
    precision_ran: str
    ratio_to_float: float | None = None
    ratio_ci95: tuple[float, float] | None = None
    noise: float = 0.0
    noisy: bool = False
    p99_ms: float | None = None
    p90_ms: float | None = None
    std_ms: float | None = None
    price_per_hour: float | None = None
    load_ms: float | None = None
    first_ms: float | None = None
    warmup_rounds: int | None = None
    warmed_up: bool | None = None
    timed_ms: float | None = None
    p50_ci95_ms: tuple[float, float] | None = None
    launches: int | None = None
    cpu_utilization: float | None = None
    model_memory_mb: float | None = None
    energy_mj: float | None = None
    energy_watts: float | None = None
    energy_source: str | None = None
    float_share: float | None = None
    conversion_share: float | None = None
    delegate_coverage: float | None = None
    histogram: LatencyHistogram | None = None
