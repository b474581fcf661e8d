"""How many inferences each artifact gets, and how they are spread over launches and passes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

MIN_ROUNDS = 5  # measured of each artifact, whatever the budget
_MOST_PASSES = 20  # of a launch
_IN_LAUNCH = 20  # inferences of each artifact; where there are fewer, there are fewer launches
_IN_PASS = 5


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """What is timed of several artifacts.

    Attributes:
        counts: The least number of inferences of each artifact.
        least_ms: The least time that those of each take together.
        launches: How many processes are started for each artifact, one after the other.
        passes: How often each launch goes around all artifacts.
    """

    counts: tuple[int, ...]
    least_ms: float
    launches: int
    passes: int

    def in_pass(self, artifact: int, launch: int, number: int) -> int:
        """Return the least number of inferences of an artifact in one pass of a launch."""
        return spread(self.counts[artifact], self.launches * self.passes)[launch * self.passes + number]

    @property
    def pass_ms(self) -> float:
        """The least time that the inferences of one pass take, of each artifact."""
        return self.least_ms / (self.launches * self.passes)


def schedule(
    estimates_ms: Sequence[float], *, rounds: int, least_s: float, budget_s: float, launches: int
) -> Schedule:
    """Plan a measurement.

    Args:
        estimates_ms: About what one inference of each artifact takes.
        rounds: Least number of inferences of each, as far as the budget allows.
        least_s: Least time that those of each take together, likewise: of a fast artifact there are more.
        budget_s: Time limit for all of them.
        launches: Processes for each artifact; fewer where inferences are few.
    """
    least_s = min(least_s, budget_s / max(1, len(estimates_ms)))
    counts = allot(estimates_ms, rounds=rounds, budget_s=budget_s, least_s=least_s)
    expected = [
        max(count, int(least_s * 1e3 / max(estimate, 1e-6)))
        for count, estimate in zip(counts, estimates_ms, strict=True)
    ]
    fewest = min(expected, default=1)
    # No pass without an inference of every artifact: their ratios are formed within passes.
    launches = max(1, min(launches, fewest // _IN_LAUNCH, min(counts, default=1)))
    passes = max(1, min(_MOST_PASSES, fewest // (_IN_PASS * launches), min(counts, default=1) // launches))
    return Schedule(counts=tuple(counts), least_ms=least_s * 1e3, launches=launches, passes=passes)


def allot(estimates_ms: Sequence[float], *, rounds: int, budget_s: float, least_s: float = 0.0) -> list[int]:
    """Share the budget: how many inferences each artifact gets.

    Every artifact may use an equal share of the time; what the fast ones leave is shared among the slow
    ones (water-filling). Nobody gets fewer than `MIN_ROUNDS`, nor more than `rounds`; but what takes less
    than `least_s` then is repeated that long.
    """
    shares = [rounds] * len(estimates_ms)
    left_ms, waiting = budget_s * 1e3, len(estimates_ms)
    for index in sorted(range(len(estimates_ms)), key=lambda i: estimates_ms[i]):
        affordable = int(left_ms / waiting / max(estimates_ms[index], 1e-6))
        shares[index] = max(min(rounds, affordable), min(MIN_ROUNDS, rounds))
        left_ms = max(0.0, left_ms - max(shares[index] * estimates_ms[index], least_s * 1e3))
        waiting -= 1
    return shares


def spread(rounds: int, passes: int) -> list[int]:
    """Spread `rounds` over `passes` as evenly as possible."""
    return [(number + 1) * rounds // passes - number * rounds // passes for number in range(passes)]
