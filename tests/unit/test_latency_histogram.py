"""Distributions of latencies in at most 64 bins: nothing lost, finely enough, and read again."""

from __future__ import annotations

import json
from statistics import median

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgefx.latency_histogram import MOST_BINS, LatencyHistogram
from edgefx.storage.serde import dumps, from_json

TIMES = st.lists(st.floats(0, 1e7, allow_nan=False), min_size=1, max_size=300)


@given(TIMES)
def test_every_inference_is_counted_in_its_bin(times: list[float]) -> None:
    found = LatencyHistogram.of(times)
    assert len(found.counts) <= MOST_BINS
    assert found.counts[0] > 0 < found.counts[-1]
    assert found.inferences == len(times)
    for begins, ends, count in found:
        inside = [time for time in times if begins * (1 + 1e-9) < max(time, 1e-6) <= ends * (1 - 1e-9)]
        at_edges = [time for time in times if begins * (1 - 1e-9) <= max(time, 1e-6) <= ends * (1 + 1e-9)]
        assert len(inside) <= count <= len(at_edges)


@given(TIMES, st.integers(2, 64))
def test_coarser_loses_no_inference_and_no_place(times: list[float], most: int) -> None:
    found = LatencyHistogram.of(times)
    less = found.coarser(most)
    assert len(less.counts) <= most
    assert less.inferences == found.inferences
    assert less.edge(0) <= found.edge(0) * (1 + 1e-9)
    assert less.edge(len(less.counts)) >= found.edge(len(found.counts)) * (1 - 1e-9)


def test_quantiles_are_within_a_bin() -> None:
    times = [5.0 + 0.01 * number for number in range(200)] + [40.0]
    found = LatencyHistogram.of(times)
    width = found.edge(1) / found.edge(0)
    assert len(found.counts) > MOST_BINS / 2  # the finest that fits
    assert 1 / width < found.quantile(0.5) / median(times) < width
    assert found.quantile(1.0) == pytest.approx(40.0, rel=width - 1)


def test_it_is_read_again_from_json() -> None:
    found = LatencyHistogram.of([1.0, 1.5, 1.5, 9.0])
    assert from_json(LatencyHistogram, json.loads(dumps(found))) == found


@pytest.mark.parametrize(
    "damaged",
    [
        {"counts": []},
        {"counts": [0, 0]},
        {"counts": [1] * 65},
        {"counts": [3, -1]},
        {"offset": 10**9},
        {"scale": 10**6},
    ],
)
def test_what_no_measurement_can_be_is_refused(damaged: dict[str, object]) -> None:
    whole = {"scale": 3, "offset": 4, "counts": [1, 2]}
    assert from_json(LatencyHistogram, whole).inferences == 3
    with pytest.raises(ValueError, match="histogram"):
        from_json(LatencyHistogram, whole | damaged)
