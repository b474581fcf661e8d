"""From a target to its artifact: one conversion or, for INT8 with an accuracy budget, the best of several.

Only the chosen candidate is published. A search that ends early, by an error or by Ctrl-C, publishes the best
one so far.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

from edgefx import runtimes
from edgefx.errors import ConversionError, DiskFullError, EdgefxError
from edgefx.pipeline import budget
from edgefx.pipeline.artifacts import ArtifactBuilder, Candidate
from edgefx.pipeline.memo import NotKeptError
from edgefx.pipeline.plan import PlannedTarget
from edgefx.pipeline.records import Measured
from edgefx.protocols import Progress
from edgefx.quantization import QuantScheme
from edgefx.results import Accuracy, LayerSensitivity, MaxDrop, SearchResult, Trial
from edgefx.runtimes.passes import left_out
from edgefx.storage.disk import is_disk_full
from edgefx.training import TrainingEffect
from edgefx.types import Artifact, Effort, Precision, Runtime

# Puts a candidate's files where the user wants them; see `ArtifactBuilder.publish`.
Publish = Callable[[Candidate], Candidate]


@dataclass(frozen=True, kw_only=True)
class BuiltTarget:
    """What was made for a target.

    Attributes:
        candidate: The artifact, published.
        convert_s: Wall time of its conversion.
        effort: The effort of an INT8 conversion.
        measured: Its accuracy, where that was measured to choose it.
        search: What was tried, where there was a budget.
        training: What training brought, where it was measured on this artifact.
    """

    candidate: Candidate
    convert_s: float
    effort: Effort | None = None
    measured: Measured | None = None
    search: SearchResult | None = None
    training: TrainingEffect | None = None

    @property
    def artifact(self) -> Artifact:
        """The artifact with its final paths."""
        return self.candidate.artifact


def make(
    target: PlannedTarget, builder: ArtifactBuilder, progress: Progress, *, publish: Publish
) -> BuiltTarget:
    """Make and publish the artifact of a target.

    Args:
        target: What to make and how; an INT8 artifact with a budget is searched for one that meets it.
        builder: Makes and measures the candidates.
        progress: Where each candidate is reported.
        publish: Called with the one that is chosen.

    Raises:
        EdgefxError: There is no artifact. Other exceptions leave the best candidate published.
    """
    scheme = builder.scheme(target)
    has_choice = target.row.precision is Precision.INT8
    if has_choice and target.budget is not None and builder.evaluates:
        return _Search(
            target, scheme, target.budget, builder=builder, progress=progress, publish=publish
        ).run()
    candidate, effect = _converted(target, scheme, builder)
    published = publish(candidate)
    return BuiltTarget(
        candidate=published,
        convert_s=published.record.convert_s,
        effort=target.effort if has_choice else None,
        training=effect,
    )


def _converted(
    target: PlannedTarget, scheme: QuantScheme, builder: ArtifactBuilder
) -> tuple[Candidate, TrainingEffect | None]:
    """Make the post-training artifact or, where the run trains, the trained one if better or insisted on.

    Training itself compares TFLite's two, before softmax; the other runtimes round elsewhere, so that what
    helped there need not help them.
    """
    label = f"convert {target.name}"
    if not builder.trains(target.row) or not builder.training_helped():
        return builder.convert(target, scheme, label=label), None
    trained = builder.convert(target, scheme, label=f"{label}, trained", trained=True)
    if target.row.runtime is Runtime.TFLITE:
        return trained, None
    untrained = builder.convert(target, scheme, label=label)
    effect = builder.training_effect(untrained, trained)
    return (trained if effect.kept else untrained), effect


class _Search:
    """The search for an INT8 artifact within a budget."""

    def __init__(
        self,
        target: PlannedTarget,
        scheme: QuantScheme,
        limit: MaxDrop,
        *,
        builder: ArtifactBuilder,
        progress: Progress,
        publish: Publish,
    ) -> None:
        self._target = target
        self._scheme = scheme
        self._limit = limit
        self._builder = builder
        self._publish = publish
        self._progress = progress
        self._made: dict[int, Candidate] = {}
        self._measured: dict[tuple[str, ...], Measured] = {}  # more effort may change nothing
        self._search = budget.Search(
            limit=limit,
            effort=scheme.effort,
            attempt=self._attempt,
            tell=self._tell,
            rank=None if target.integer_only else self._rank,
        )

    def run(self) -> BuiltTarget:
        search = self._search
        try:
            search.run()
        except BaseException:
            if search.best is not None:
                path = self._publish(self._made[search.best]).artifact.path
                self._progress.warn(
                    f"{self._target.name}: the search was cut short; {path} is the best so far"
                )
            raise
        result = search.result
        chosen = self._made[result.chosen]
        trial = result.trials[result.chosen]
        return BuiltTarget(
            candidate=self._publish(chosen),
            convert_s=trial.convert_s,
            effort=trial.effort,
            measured=self._measured[chosen.content],
            search=result,
        )

    def _attempt(self, number: int, effort: Effort, layers: tuple[str, ...]) -> Trial:
        for other in [other for other in self._made if other != self._search.best]:  # only the best is of use
            self._builder.discard(self._made.pop(other))
        wanted = replace(self._scheme, effort=effort, keep_float=self._scheme.keep_float | set(layers))
        row = self._target.row
        missing = left_out(runtimes.load(row).passes(row.precision)[effort], wanted)
        what = f"{self._target.name}, {_described(effort, len(layers), missing)}"
        with as_edgefx_errors(what):
            candidate = self._builder.convert(self._target, wanted, label=f"convert {what}")
            if layers and candidate.content in self._measured:
                raise ConversionError("left in float, these layers change nothing in the artifact")
            if candidate.content not in self._measured:
                self._measured[candidate.content] = self._builder.measure(candidate, what)
            accuracy = self._measured[candidate.content].accuracy
        self._made[number] = candidate
        return Trial(
            effort=effort,
            keep_float=layers,
            accuracy=accuracy,
            integer_share=budget.integer_share(candidate.artifact),
            size_bytes=candidate.artifact.size_bytes,
            convert_s=candidate.record.convert_s,
            meets=budget.meets(self._limit, accuracy),
            left_out=missing,
        )

    def _tell(self, trial: Trial) -> None:
        what = f"{self._target.name}, {_described(trial.effort, len(trial.keep_float), trial.left_out)}"
        if trial.accuracy is None:
            self._progress.warn(f"{what}: {trial.error}")
            return
        self._progress.note(
            f"{what}: drop {_drop(self._limit, trial.accuracy)}, agreement {trial.accuracy.agreement:.1%}:"
            f" {'within' if trial.meets else 'over'} the budget of {self._limit}"
        )

    def _rank(self, number: int) -> tuple[LayerSensitivity, ...]:
        with as_edgefx_errors(f"{self._target.name}: sensitivity of the layers"):
            ranked = self._builder.rank(self._made[number])
            return tuple(one for one in ranked if one.layer not in self._scheme.keep_float)


@contextmanager
def as_edgefx_errors(what: str) -> Iterator[None]:
    """Turn what one target or candidate dies of into an `EdgefxError`, so that the others live.

    A full disk is not turned: everything shares it. Neither is `NotKeptError`, which is no failure.
    """
    try:
        yield
    except (EdgefxError, NotKeptError):
        raise
    except MemoryError as error:
        raise EdgefxError("out of memory", hint="compile fewer targets in one run") from error
    except Exception as error:
        if is_disk_full(error):
            raise
        logging.getLogger("edgefx").exception("%s failed", what)
        raise EdgefxError(f"{type(error).__name__}: {error}", hint="the log has the traceback") from error


@contextmanager
def failing_alone(what: str, on_failure: Callable[[EdgefxError], None]) -> Iterator[None]:
    """Let one target fail without taking the others down.

    Args:
        what: The target, for the log.
        on_failure: Told why it failed.

    Raises:
        DiskFullError: No space is left, which is no single target's failure.
    """
    try:
        with as_edgefx_errors(what):
            yield
    except DiskFullError:
        raise
    except EdgefxError as error:
        on_failure(error)


def _described(effort: Effort, layers: int, left_out: Sequence[str]) -> str:
    kept = f", {layers} layer{'s' if layers != 1 else ''} in float" if layers else ""
    without = f", without {', '.join(left_out)}" if left_out else ""
    return f"effort {effort}{kept}{without}"


def _drop(limit: MaxDrop, accuracy: Accuracy) -> str:
    drop = limit.measured(accuracy)
    return "unknown" if drop is None else f"{drop:.4g} {limit.unit}"
