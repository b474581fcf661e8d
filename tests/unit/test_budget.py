"""The search for an accuracy budget, on candidates whose accuracy is given."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from edgefx.errors import ConversionError
from edgefx.pipeline.budget import Search, integer_share, meets
from edgefx.results import Accuracy, LayerSensitivity, Trial
from edgefx.types import Effort
from edgefx.units import parse_drop
from tests.unit.report_samples import artifact

LAYERS = tuple(f"layer{number:02}" for number in range(20))
EFFORTS = {Effort.FAST: 3.0, Effort.BALANCED: 2.0, Effort.HIGH: 1.5}
Drop = Callable[[Effort, tuple[str, ...]], float]


def accuracy(drop: float | None, *, agreement: float = 0.98, kl: float = 0.01) -> Accuracy:
    return Accuracy(
        images=1000,
        top1=None if drop is None else 0.8 - drop / 100,
        top5=None,
        baseline_top1=0.8,
        baseline_top5=None,
        drop_pp=drop,
        drop_ci95_pp=None,
        agreement=agreement,
        mean_kl=kl,
        max_abs_dp=0.0,
        images_per_s=1.0,
    )


def sensitivities(layers: Sequence[str]) -> tuple[LayerSensitivity, ...]:
    return tuple(
        LayerSensitivity(layer=layer, mean_kl=1 / (place + 1), top1_changed=0.0)
        for place, layer in enumerate(layers)
    )


class Bench:
    """Converts by table: the drop of a candidate is a function of its effort and its float layers."""

    def __init__(self, drop: Drop, *, failing: Sequence[int] = ()) -> None:
        self.drop = drop
        self.failing = failing
        self.asked: list[tuple[Effort, int]] = []
        self.ranked: list[int] = []
        self.told: list[Trial] = []

    def search(
        self, limit: str = "1pp", *, effort: Effort = Effort.FAST, layers: tuple[str, ...] | None = LAYERS
    ) -> Search:
        budget = parse_drop(limit)

        def attempt(number: int, effort: Effort, kept: tuple[str, ...]) -> Trial:
            assert number == len(self.asked)
            self.asked.append((effort, len(kept)))
            if number in self.failing:
                raise ConversionError(f"candidate {number} refused")
            measured = accuracy(self.drop(effort, kept))
            return Trial(
                effort=effort,
                keep_float=kept,
                accuracy=measured,
                integer_share=1 - len(kept) / 100,
                meets=meets(budget, measured),
            )

        def rank(number: int) -> tuple[LayerSensitivity, ...]:
            self.ranked.append(number)
            harmless = LayerSensitivity(layer="harmless", mean_kl=0.0, top1_changed=0.0)
            return *sensitivities(layers or ()), harmless

        return Search(
            limit=budget,
            effort=effort,
            attempt=attempt,
            rank=rank if layers is not None else None,
            tell=self.told.append,
        )


def unheard(_trial: Trial) -> None:
    """Nobody listens to this search."""


def needing(count: int) -> Drop:
    """A drop that falls to the limit of 1 pp when `count` layers are in float."""
    return lambda effort, kept: max(EFFORTS[effort] - len(kept) * (EFFORTS[effort] - 1.0) / count, 0.2)


def test_the_first_candidate_within_the_limit_ends_the_search() -> None:
    bench = Bench(lambda effort, _: EFFORTS[effort])
    search = bench.search("2pp")
    search.run()
    result = search.result
    assert bench.asked == [(Effort.FAST, 0), (Effort.BALANCED, 0)]
    assert (result.chosen, result.gap, result.chosen_on_evaluation) == (1, 0.0, True)
    assert bench.ranked == []


def test_one_candidate_is_no_choice() -> None:
    search = Bench(lambda *_: 0.0).search()
    search.run()
    assert not search.result.chosen_on_evaluation


def test_the_search_begins_at_the_effort_asked_for() -> None:
    bench = Bench(needing(1))
    bench.search(effort=Effort.HIGH).run()
    assert bench.asked == [(Effort.HIGH, 0), (Effort.HIGH, 1)]


@pytest.mark.parametrize("count", range(1, 21))
def test_as_few_layers_as_needed_stay_in_float(count: int) -> None:
    bench = Bench(needing(count))
    search = bench.search()
    search.run()
    chosen = search.result.trials[search.result.chosen]
    assert chosen.meets
    assert chosen.keep_float == LAYERS[:count]  # the most sensitive ones, and no more
    assert len(bench.asked) <= 3 + 10  # doubling and bisection, not one by one
    assert len(set(bench.asked)) == len(bench.asked)


def test_layers_are_ranked_on_the_best_candidate_and_kept_at_its_effort() -> None:
    # High effort is worse here, as it may be on an odd model.
    odd = {Effort.FAST: 3.0, Effort.BALANCED: 2.0, Effort.HIGH: 2.5}
    bench = Bench(lambda effort, kept: odd[effort] - len(kept))
    search = bench.search()
    search.run()
    assert bench.ranked == [1]
    assert bench.asked[3:] == [(Effort.BALANCED, 1)]
    assert [layer.layer for layer in search.result.ranked] == [*LAYERS, "harmless"]


def test_without_float_layers_the_smallest_drop_is_kept_and_the_gap_stated() -> None:
    bench = Bench(lambda effort, _: EFFORTS[effort])
    search = bench.search("1pp", layers=None)
    search.run()
    assert search.result.gap == pytest.approx(0.5)
    assert search.result.trials[search.result.chosen].effort is Effort.HIGH
    assert "integer-only" in search.result.ended
    assert bench.ranked == []


def test_an_unreachable_limit_ends_with_the_best() -> None:
    bench = Bench(lambda _, kept: 2.0 if len(kept) != 8 else 1.2)
    search = bench.search("1pp")
    search.run()
    assert [count for _, count in bench.asked] == [0, 0, 0, 1, 2, 4, 8, 16, 20]
    assert len(search.result.trials[search.result.chosen].keep_float) == 8
    assert search.result.gap == pytest.approx(0.2)
    assert "all 20 layers" in search.result.ended


def test_no_layer_loses_accuracy() -> None:
    bench = Bench(lambda *_: 2.0)
    search = bench.search(layers=())
    search.run()
    assert len(bench.asked) == 3
    assert "no single layer" in search.result.ended


def test_a_relative_limit_is_relative_to_the_baseline() -> None:
    # 0.8 -> 1 % of it is 0.8 pp
    search = Bench(lambda effort, _: 0.9 if effort is Effort.FAST else 0.8).search("1%")
    search.run()
    assert [trial.meets for trial in search.trials] == [False, True]
    search = Bench(lambda *_: 1.6).search("1%", layers=None)
    search.run()
    assert search.result.gap == pytest.approx(1.0)


def test_ties_are_broken_by_agreement_then_divergence() -> None:
    outcomes = iter([accuracy(2.0, kl=0.1), accuracy(2.0, agreement=0.99, kl=0.3), accuracy(2.0, kl=0.2)])

    def attempt(_number: int, effort: Effort, kept: tuple[str, ...]) -> Trial:
        return Trial(effort=effort, keep_float=kept, accuracy=next(outcomes))

    search = Search(limit=parse_drop("1pp"), effort=Effort.FAST, attempt=attempt, rank=None, tell=unheard)
    search.run()
    assert search.best == 1


def test_the_highest_integer_share_wins_among_those_within_the_limit() -> None:
    # Not monotone: 4 layers meet the limit, 2 do not, 3 do, with a larger drop than 4.
    drops = {0: 2.0, 1: 2.0, 2: 2.0, 3: 1.0, 4: 0.1}
    search = Bench(lambda _, kept: drops[len(kept)]).search()
    search.run()
    assert len(search.result.trials[search.result.chosen].keep_float) == 3


def test_a_first_candidate_that_fails_is_the_targets_failure() -> None:
    search = Bench(needing(1), failing=[0]).search()
    with pytest.raises(ConversionError):
        search.run()
    assert search.best is None


def test_a_later_failure_is_recorded_and_the_best_kept() -> None:
    bench = Bench(lambda effort, kept: EFFORTS[effort] - len(kept) / 10, failing=[2, 3])
    search = bench.search()
    search.run()
    result = search.result
    assert result.trials[2].error == "candidate 2 refused"
    assert result.trials[2].accuracy is None
    assert result.trials[result.chosen].meets
    assert result.trials[result.chosen].effort is Effort.BALANCED
    assert bench.told == list(result.trials)


def test_layers_that_cannot_be_ranked_do_not_lose_the_artifact() -> None:
    def attempt(_number: int, effort: Effort, kept: tuple[str, ...]) -> Trial:
        return Trial(effort=effort, keep_float=kept, accuracy=accuracy(EFFORTS[effort]))

    def rank(_number: int) -> tuple[LayerSensitivity, ...]:
        raise ConversionError("no such layer")

    search = Search(limit=parse_drop("1pp"), effort=Effort.FAST, attempt=attempt, rank=rank, tell=unheard)
    search.run()
    assert search.result.trials[search.result.chosen].effort is Effort.HIGH
    assert "could not be ranked by sensitivity: no such layer" in search.result.ended


def test_an_interruption_leaves_the_best_known() -> None:
    def attempt(number: int, effort: Effort, kept: tuple[str, ...]) -> Trial:
        if number == 2:
            raise KeyboardInterrupt
        return Trial(effort=effort, keep_float=kept, accuracy=accuracy(2.0 - number))

    search = Search(limit=parse_drop("0pp"), effort=Effort.FAST, attempt=attempt, rank=None, tell=unheard)
    with pytest.raises(KeyboardInterrupt):
        search.run()
    assert search.best == 1


def test_a_drop_that_cannot_be_measured_is_not_searched_for() -> None:
    def attempt(_number: int, effort: Effort, kept: tuple[str, ...]) -> Trial:
        return Trial(effort=effort, keep_float=kept, accuracy=accuracy(None))

    search = Search(limit=parse_drop("1pp"), effort=Effort.FAST, attempt=attempt, rank=None, tell=unheard)
    search.run()
    assert len(search.trials) == 1


def test_integer_share_counts_operations_where_macs_are_unknown() -> None:
    assert integer_share(artifact("onnx-int8", size_bytes=1, compute_int8=9)) == 9 / 12
