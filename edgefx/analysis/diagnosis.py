"""What `edgefx debug` finds: figures per stage and per layer, and the verdict drawn from them.

Standard library only. Units are part of the names, as in `edgefx.types`; ``_db`` is 10 log10 of a ratio
of powers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from edgefx.errors import ExitCode
from edgefx.measured import Explanation
from edgefx.notebook import Shown
from edgefx.results import Environment, Failure, LayerSensitivity
from edgefx.types import SPARSE, Artifact, DataInfo, Effort, ModelSpec, Precision

# A float artifact differs from TensorFlow in the order of its sums only: some 1e-6 of a probability.
_CONVERTED_DP = 1e-3
# The same for a float16 artifact, whose weights are rounded to 11 bits, and for kernels in bf16.
_HALF_DP = 0.05
# From here on a user would notice: one image in thirty gets another class, or as much probability moves.
_AGREEMENT = 0.97
_MEAN_KL = 0.05
_LAYERS_NAMED = 4


class Step(StrEnum):
    """The stages between the model and what runs on a device, in order."""

    LOADED = "loaded model"
    CANONICAL = "canonical graph"
    CONVERTED = "converted float"
    SIMULATED = "quantized simulation"
    ARTIFACT = "artifact"


class Broken(StrEnum):
    """What broke the model; in the order in which causes are looked for."""

    CANONICALIZATION = "canonicalization"
    CONVERSION = "conversion"
    QUANTIZATION = "quantization"
    EXECUTION = "execution"
    NOTHING = "nothing"


@dataclass(frozen=True, kw_only=True)
class Difference:
    """Two sets of scores on the same images.

    Attributes:
        max_abs_dp: Largest absolute difference of a probability.
        mean_kl: Mean KL(earlier || later) in nats; probabilities below half a step of an artifact's integer
            output count as that.
        agreement: Fraction of the images with the same best class; None of a model without classes.
    """

    max_abs_dp: float
    mean_kl: float
    agreement: float | None

    @property
    def harmful(self) -> bool:
        """Whether a user would notice."""
        return (self.agreement is not None and self.agreement < _AGREEMENT) or self.mean_kl > _MEAN_KL

    def kept(self, images: str = "images") -> str:
        """Say what is left of the answers.

        Args:
            images: What the images are called.
        """
        if self.agreement is None:
            return f"on the {images} values are off by {math.sqrt(2 * self.mean_kl):.2%} of their spread"
        return f"{self.agreement:.1%} of the {images} keep their class, mean KL {self.mean_kl:.2g}"


@dataclass(frozen=True, kw_only=True)
class StepFigures:
    """One stage.

    Attributes:
        step: Which.
        change: Against the stage before it.
        total: Against the model as loaded.
    """

    step: Step
    change: Difference
    total: Difference


@dataclass(frozen=True, kw_only=True)
class LayerFigures:
    """One canonical layer in one artifact; None where a figure does not exist.

    Attributes:
        layer: Its name, the same for every runtime.
        kind: The Keras layer class.
        quantized: What the artifact quantizes of it: "weights", "output", "input", joined by "+"; or "".
        sqnr_db: Signal to noise ratio of the layer's output in the artifact against the float graph; the
            noise of all layers before it included.
        weights_sqnr_db: Signal to noise ratio of its stored weights.
        low: Lowest value of its grid (of the lowest channel's, with a grid per channel).
        high: Highest value of its grid.
        seen_low: Lowest value that the float graph puts there.
        seen_high: Highest value that the float graph puts there.
        saturated: Share of the float values that lie outside the grid by more than half a step.
        levels_used: Share of the grid's levels that occur.
        alone_mean_kl: Mean KL(float || quantized) in nats with this layer alone quantized.
        alone_top1_changed: Fraction of the images whose best class that changes.
    """

    layer: str
    kind: str
    quantized: str
    sqnr_db: float | None = None
    weights_sqnr_db: float | None = None
    low: float | None = None
    high: float | None = None
    seen_low: float | None = None
    seen_high: float | None = None
    saturated: float | None = None
    levels_used: float | None = None
    alone_mean_kl: float | None = None
    alone_top1_changed: float | None = None


@dataclass(frozen=True, kw_only=True)
class Cure:
    """How much of the damage goes away with some layers in float, in the simulation.

    Attributes:
        layers: The layers, the worst first.
        before: All layers quantized, against float.
        after: All but these.
    """

    layers: tuple[str, ...]
    before: Difference
    after: Difference


@dataclass(frozen=True, kw_only=True)
class Diagnosis:
    """What is wrong with one target's artifact, if anything.

    Attributes:
        target: The target.
        artifact: What was examined, described by reading it back.
        steps: The stages, in order.
        layers: The canonical layers, those first that alone do most damage.
        cure: The layers to blame and what leaving them in float would bring; None without quantized layers.
        broken: What broke it.
        verdict: What broke it, in words.
        seconds: Wall time, conversion included.
        graph: The layers' names in the order they are computed in.
        advice: What to try, each with the flag or the recipe's key.
        notes: What limits the figures.
    """

    target: str
    artifact: Artifact
    steps: tuple[StepFigures, ...]
    layers: tuple[LayerFigures, ...]
    cure: Cure | None
    broken: Broken
    verdict: str
    seconds: float
    graph: tuple[str, ...]
    advice: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class FailedTarget:
    """A target that could not be examined."""

    target: str
    failure: Failure


@dataclass(frozen=True, kw_only=True)
class DebugReport(Shown):
    """The outcome of `edgefx debug`.

    `schema_version` changes when a field changes its meaning or goes away.

    Attributes:
        images: Number of images that stages were compared and layers quantized alone on.
        tapped_images: How many of them the figures of each layer's values come from.
        measured_on: "evaluation", or "calibration" where the images are those that set the ranges.
        explanations: What the model as loaded and the artifacts look at in images that change their class,
            where that was asked for.
    """

    schema_version: int
    created: str  # ISO 8601, UTC
    command: str
    environment: Environment
    model: ModelSpec
    data: tuple[DataInfo, ...]
    seed: int
    effort: Effort
    images: int
    tapped_images: int
    measured_on: str
    targets: tuple[Diagnosis, ...]
    failures: tuple[FailedTarget, ...] = ()
    explanations: tuple[Explanation, ...] = field(default=(), metadata=SPARSE)
    warnings: tuple[str, ...] = ()

    @property
    def exit_code(self) -> ExitCode:
        """Success, whatever was found, unless a target could not be examined."""
        return ExitCode.STAGE_FAILED if self.failures else ExitCode.OK


def judge(
    steps: Sequence[StepFigures],
    *,
    precision: Precision,
    cure: Cure | None,
    worst: Sequence[LayerSensitivity] = (),
    first_bad: str | None = None,
    images: str = "images",
) -> tuple[Broken, str]:
    """Say what broke a model, looking at the stages in order.

    Args:
        steps: The stages that were measured, in order.
        precision: The target's precision.
        cure: The layers to blame, where quantization did harm.
        worst: What each layer does alone, the worst first.
        first_bad: The first layer whose float output the converter changed, where that was looked for.
        images: What was measured on, in words: "calibration images".

    Returns:
        The culprit, and one or two sentences.
    """
    by_step = {figures.step: figures for figures in steps}
    canonical, converted = by_step[Step.CANONICAL], by_step[Step.CONVERTED]
    if canonical.change.max_abs_dp > _CONVERTED_DP:
        return Broken.CANONICALIZATION, (
            f"canonicalization broke it: the deployable graph differs from the model as loaded by up to"
            f" {canonical.change.max_abs_dp:.2g} of a probability. Please report this model."
        )
    if was_changed_by_conversion(steps):
        where = f", first in layer {first_bad}" if first_bad else ""
        return Broken.CONVERSION, (
            f"conversion broke it{where}: before anything is quantized, the converted model differs from the"
            f" graph by up to {converted.change.max_abs_dp:.2g} of a probability."
        )
    last = by_step[Step.ARTIFACT]
    simulated = by_step.get(Step.SIMULATED)
    if simulated is not None and simulated.change.harmful:
        return Broken.QUANTIZATION, f"quantization broke it, {_blame(cure)}"
    if last.total.harmful or (precision is Precision.FLOAT32 and last.change.max_abs_dp > _HALF_DP):
        return Broken.EXECUTION, _execution(precision, last, simulated=simulated is not None)
    named = ", ".join(f"{one.layer} (KL alone {one.mean_kl:.1e})" for one in worst[:_LAYERS_NAMED])
    most = f" Most is lost in {named}; a user would notice {_MEAN_KL:g}." if named else ""
    return Broken.NOTHING, (f"nothing is broken: {last.total.kept(images)}.{most}")


def advise(
    broken: Broken, cure: Cure | None, *, effort: Effort | None, precision: Precision
) -> tuple[str, ...]:
    """Say what to try against what was found; nothing where nothing is broken.

    Args:
        broken: What broke it.
        cure: The layers to blame.
        effort: Of the conversion; None where a file was examined that something else may have made.
        precision: The target's precision.
    """
    if broken is not Broken.QUANTIZATION:
        return ()
    found = []
    if precision is Precision.INT8 and effort is not None and effort is not Effort.HIGH:
        found.append(f"spend more time: --effort {'balanced' if effort is Effort.FAST else 'high'}")
    if cure is not None and cure.after.mean_kl < cure.before.mean_kl:
        listed = ", ".join(cure.layers)
        found.append(
            f"leave {'it' if len(cure.layers) == 1 else 'them'} in float, in a recipe:"
            f" quantize: {{keep_float: [{listed}]}} (simulated: mean KL {cure.before.mean_kl:.2g} ->"
            f" {cure.after.mean_kl:.2g})"
        )
        found.append("or let edgefx choose such layers: --max-drop 1pp, with labelled images in --eval")
    if precision is Precision.INT8:
        found.append("train for it: --qat distill --train DIR")
    return tuple(found)


def was_changed_by_conversion(steps: Sequence[StepFigures]) -> bool:
    """Whether the converted float model is not the graph it was made of."""
    return any(
        figures.step is Step.CONVERTED and figures.change.max_abs_dp > _CONVERTED_DP for figures in steps
    )


def _blame(cure: Cure | None) -> str:
    if cure is None:
        return "in no layer by itself."
    named = ", ".join(cure.layers[:_LAYERS_NAMED])
    more = f" and {len(cure.layers) - _LAYERS_NAMED} more" if len(cure.layers) > _LAYERS_NAMED else ""
    before, after = cure.before.agreement, cure.after.agreement
    kept = (
        ""
        if before is None or after is None
        else f" ({before:.1%} to {after:.1%} of the images keep their class)"
    )
    return (
        f"here: {named}{more}. With {'it' if len(cure.layers) == 1 else 'them'} in float, mean KL falls from"
        f" {cure.before.mean_kl:.2g} to {cure.after.mean_kl:.2g}{kept}."
    )


def _execution(precision: Precision, last: StepFigures, *, simulated: bool) -> str:
    lost = f"{last.total.kept()}, though neither conversion nor the stored values explain it"
    if precision is Precision.DYNAMIC:
        return f"quantization at run time broke it: {lost}. Activations are rounded while it runs."
    if simulated:
        return f"the runtime broke it: {lost}. Its integer kernels compute something else on this machine."
    return f"the runtime broke it: {lost}."
