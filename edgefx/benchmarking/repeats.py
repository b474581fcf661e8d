"""What another measurement would find: intervals of medians and ratios, from processes started anew.

Inferences of one process hang together, and so do its passes: where its memory came to lie, and on which core
it runs, stays with it. What differs between two measurements therefore shows between processes only, and a
bootstrap over the passes of one of them is far too sure of itself. Each artifact is launched several times,
and the launches are the sample (T. Kalibera and R. Jones, "Rigorous benchmarking in reasonable time", ISMM
2013). Ratios are formed within each pass, where both artifacts met the same moment, and as logarithms.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import median, stdev

# Student's t at 97.5 %, by degrees of freedom.
_T = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)


def percentile(values: Sequence[float], share: float) -> float:
    """Return the `share` quantile by linear interpolation between order statistics (NumPy's default)."""
    ordered = sorted(values)
    position = share * (len(ordered) - 1)
    low, high = math.floor(position), math.ceil(position)
    return ordered[low] + (ordered[high] - ordered[low]) * (position - low)


def ratio(ours: Sequence[Sequence[float]], other: Sequence[Sequence[float]]) -> float:
    """Return how many times the other artifact's time one takes.

    Args:
        ours: The medians of one artifact's passes, launch by launch.
        other: The other's, each measured beside one of `ours`.

    Returns:
        The median over all passes of the ratio within each: a moment in which the machine was slower hits
        both, and hardly moves it, while it can move one of the two medians only.
    """
    return math.exp(median(one for launch in _logarithms(ours, other) for one in launch))


def ratio_interval(
    ours: Sequence[Sequence[float]], other: Sequence[Sequence[float]]
) -> tuple[float, float] | None:
    """Return where `ratio` would lie in another measurement like this, with 95 %; see `interval`."""
    return interval(_logarithms(ours, other))


def median_interval(passes: Sequence[Sequence[float]]) -> tuple[float, float] | None:
    """Return where the median would lie in another measurement like this, with 95 %; see `interval`."""
    return interval([[math.log(one) for one in launch] for launch in passes])


def interval(logarithms: Sequence[Sequence[float]]) -> tuple[float, float] | None:
    """Return where a figure would lie in another measurement with as many launches, with 95 %.

    It is a prediction interval for the mean of another sample (G. Hahn and W. Meeker, "Statistical
    intervals", 1991), of Student's distribution, as launches are few: wider by the root of two than the
    confidence interval of the figure itself, since the other measurement has its own chance.

    Args:
        logarithms: The figure's logarithm in each pass, launch by launch.

    Returns:
        Low and high, not as logarithms; None with a single launch, which tells nothing of the next.
    """
    centres = [median(launch) for launch in logarithms]
    launches = len(centres)
    if launches < 2:
        return None
    middle = median(one for launch in logarithms for one in launch)
    half = _T[launches - 2] * stdev(centres) * math.sqrt(2 / launches)
    return math.exp(middle - half), math.exp(middle + half)


def _logarithms(ours: Sequence[Sequence[float]], other: Sequence[Sequence[float]]) -> list[list[float]]:
    return [
        [math.log(one / beside) for one, beside in zip(launch, others, strict=True)]
        for launch, others in zip(ours, other, strict=True)
    ]
