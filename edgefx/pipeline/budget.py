"""Keep an INT8 artifact within an accuracy budget, at the least cost in time and in float layers.

The search converts and evaluates candidates until one meets the limit: first with more effort, then with the
most sensitive layers left in float, fewest first. A count of layers that meets the limit is found by doubling
and made small by bisection. Whatever happens, the best candidate so far is known at any time (`Search.best`):
a search that fails or is interrupted still has an artifact.

This file knows neither runtimes nor files: it is given the functions that convert and that rank the layers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from edgefx.errors import DiskFullError, EdgefxError
from edgefx.results import Accuracy, LayerSensitivity, MaxDrop, SearchResult, Trial
from edgefx.types import Artifact, Effort

# Converts and evaluates candidate number n with an effort and some layers in float. Raises `EdgefxError`.
Attempt = Callable[[int, Effort, tuple[str, ...]], Trial]
# What quantizing each layer alone does, the worst first, measured on the artifact of trial number n.
Rank = Callable[[int], Sequence[LayerSensitivity]]


class Search:
    """The search for one target.

    Args:
        limit: The budget.
        effort: Where to begin.
        attempt: Makes a trial.
        tell: Called with each trial once it is safely among `trials`.
        rank: Orders the layers; None forbids float layers.

    Attributes:
        trials: What was tried, in order.
    """

    def __init__(
        self,
        *,
        limit: MaxDrop,
        effort: Effort,
        attempt: Attempt,
        rank: Rank | None,
        tell: Callable[[Trial], None],
    ) -> None:
        self.trials: list[Trial] = []
        self._limit = limit
        self._effort = effort
        self._attempt = attempt
        self._rank = rank
        self._tell = tell
        self._ranked: tuple[LayerSensitivity, ...] = ()
        self._ended = "interrupted"

    def run(self) -> None:
        """Try candidates until one meets the limit or nothing is left to try.

        Raises:
            EdgefxError: The first candidate failed, so there is no artifact; later failures are recorded.
        DiskFullError: No space is left, which later candidates would meet too.
        """
        efforts = list(Effort)
        for effort in efforts[efforts.index(self._effort) :]:
            if self._try(effort, ()):
                self._ended = "the limit is met"
                return
            if self._drop(self.trials[0].accuracy) == math.inf:
                self._ended = "the drop cannot be measured on these images"
                return
        if self._rank is None:
            self._ended = "the highest effort was tried, and layers in float are not allowed (integer-only)"
            return
        best = self.best
        assert best is not None, "the first trial raised otherwise"
        try:
            self._ranked = tuple(self._rank(best))
        except DiskFullError:
            raise
        except EdgefxError as error:
            self._ended = f"the layers could not be ranked by sensitivity: {error.message}"
            return
        layers = tuple(layer.layer for layer in self._ranked if layer.mean_kl > 0)
        if layers:
            self._keep_float(self.trials[best].effort, layers)
        else:
            self._ended = "no single layer changes the scores when it is quantized"

    @property
    def best(self) -> int | None:
        """Index of the best trial so far; None while there is none that converted.

        The best meets the limit with the highest integer share; else it drops least. Ties are broken by the
        agreement with the baseline, then by the mean KL.
        """
        made = [number for number, trial in enumerate(self.trials) if trial.accuracy is not None]
        return min(made, key=lambda number: self._order(self.trials[number]), default=None)

    @property
    def result(self) -> SearchResult:
        """What was tried and chosen; there must be a best trial."""
        chosen = self.best
        assert chosen is not None, "no candidate converted"
        drop = self._drop(self.trials[chosen].accuracy)
        measured = sum(trial.accuracy is not None for trial in self.trials)
        return SearchResult(
            limit=self._limit,
            trials=tuple(self.trials),
            chosen=chosen,
            gap=max(0.0, drop - self._limit.value),
            chosen_on_evaluation=measured > 1,
            ended=self._ended,
            ranked=self._ranked,
        )

    def _keep_float(self, effort: Effort, layers: tuple[str, ...]) -> None:
        """Leave the first k layers in float: double k until the limit is met, then look for a smaller one."""
        too_few, enough = 0, 0
        while not enough:
            if too_few == len(layers):
                self._ended = f"all {len(layers)} layers that lose accuracy were left in float"
                return
            count = min(max(1, 2 * too_few), len(layers))
            if self._try(effort, layers[:count]):
                enough = count
            else:
                too_few = count
        while enough - too_few > 1:
            count = (enough + too_few) // 2
            if self._try(effort, layers[:count]):
                enough = count
            else:
                too_few = count
        self._ended = "the limit is met"

    def _try(self, effort: Effort, layers: tuple[str, ...]) -> bool:
        """Make one trial; return whether it meets the limit."""
        try:
            trial = self._attempt(len(self.trials), effort, layers)
        except EdgefxError as error:
            if self.best is None or isinstance(error, DiskFullError):
                raise
            trial = Trial(effort=effort, keep_float=layers, error=error.message)
        self.trials.append(trial)
        self._tell(trial)
        return trial.meets

    def _drop(self, accuracy: Accuracy | None) -> float:
        drop = self._limit.measured(accuracy) if accuracy is not None else None
        return math.inf if drop is None else drop

    def _order(self, trial: Trial) -> tuple[float, ...]:
        assert trial.accuracy is not None
        preference = (self._drop(trial.accuracy), -(trial.accuracy.agreement or 0.0), trial.accuracy.mean_kl)
        return (0.0, -trial.integer_share, *preference) if trial.meets else (1.0, *preference)


def meets(limit: MaxDrop, accuracy: Accuracy) -> bool:
    """Whether the measured drop is within the limit, which is inclusive as a gate's is."""
    drop = limit.measured(accuracy)
    return drop is not None and drop <= limit.value


def integer_share(artifact: Artifact) -> float:
    """Share of the multiply-accumulates in INT8; of the computing operations where those are unknown."""
    if artifact.int8_macs_share is not None:
        return artifact.int8_macs_share
    return artifact.compute_int8 / max(1, artifact.compute_int8 + artifact.compute_float)
