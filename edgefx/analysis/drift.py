"""Whether two sets of images, and an artifact's answers to them, may come from one source.

Every test is a permutation test: if both sets come from one source, it does not matter which image is in
which, so that the observed distance is one of many that all are equally likely. That holds for any number of
images and any distribution, and so do the p-values: ``(1 + number of permutations at least as far) / (1 +
permutations)``, which is valid and never 0 (B. Phipson and G. K. Smyth, "Permutation p-values should never be
zero", Statistical Applications in Genetics and Molecular Biology 9, 2010). A test ends early when so many
permutations have been at least as far that its p-value cannot be small; the p-value that it then has is as
valid (J. Besag and P. Clifford, "Sequential Monte Carlo p-values", Biometrika 78, 1991, 301-304). All tests
together are corrected by Holm's method. That a classifier's own answers show shifts best is what S. Rabanser,
S. Günnemann and Z. C. Lipton found, "Failing loudly: an empirical study of methods for detecting dataset
shift", NeurIPS 2019.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgefx.evaluation.changes import holm
from edgefx.scores import by_class, chosen, confidences
from edgefx.views import DriftTest
from edgefx.vocabulary import OutputKind

if TYPE_CHECKING:
    from edgefx.types import Pixels, Scores

PERMUTATIONS = 999
_BLOCK = 111  # permutations at a time: few enough to end early, enough for one product of matrices
_ENOUGH = 20  # permutations at least as far, after which a test ends
_EQUAL = 1e-12  # sums in another order
_WIDTH_FROM = 500  # images whose distances the width of a kernel is the median of
Values = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Sample:
    """Images of one source, as far as drift is looked for.

    Attributes:
        traits: Per image, float64 [N]: see `traits`.
        scores: What the artifact answers, float32 [N, values].
        features: What its last layer reads, float32 [N, channels]; None where that cannot be had.
    """

    traits: Mapping[str, Values]
    scores: Scores
    features: NDArray[np.float32] | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class OutputAnswer:
    """What some columns of the scores say.

    Attributes:
        output: What they are.
        chooses: Whether the answer is a class.
        name: Of the output, where there are several.
        place: The columns.
    """

    output: OutputKind
    chooses: bool
    name: str = ""
    place: slice = field(default_factory=lambda: slice(None))


def traits(pixels: Pixels) -> dict[str, Values]:
    """Measure what images look like.

    Args:
        pixels: uint8 [N, H, W, 3].

    Returns:
        By name, float64 [N], of pixels from 0 to 1: brightness and contrast (mean and deviation of the grey
        values), saturation (mean distance of the highest from the lowest channel), warmth (mean of red less
        blue) and sharpness (mean absolute Laplacian of the grey values).
    """
    values = pixels.astype(np.float32) / 255
    grey = values.mean(3)
    laplacian = 4 * grey[:, 1:-1, 1:-1]
    for shifted in (grey[:, :-2, 1:-1], grey[:, 2:, 1:-1], grey[:, 1:-1, :-2], grey[:, 1:-1, 2:]):
        laplacian = laplacian - shifted
    found = {
        "brightness": grey.mean((1, 2)),
        "contrast": grey.std((1, 2)),
        "saturation": (values.max(3) - values.min(3)).mean((1, 2)),
        "warmth": (values[..., 0] - values[..., 2]).mean((1, 2)),
        "sharpness": np.abs(laplacian).mean((1, 2)) if laplacian.size else np.zeros(len(pixels)),
    }
    return {name: one.astype(np.float64) for name, one in found.items()}


class Distance(NamedTuple):
    """One test before the number of tests is corrected for; fields as those of `DriftTest`."""

    test: str
    of: str
    reference: float | None
    new: float | None
    distance: float
    p_value: float


def compare(
    reference: Sample, new: Sample, *, answers: Sequence[OutputAnswer], alarm_rate: float, seed: int
) -> tuple[DriftTest, ...]:
    """Hold new images against a reference.

    Args:
        reference: Images that the artifact is known to be good for.
        new: Others.
        answers: What the scores say.
        alarm_rate: The share of samples without drift in which any test may say that there is one.
        seed: The seed of the permutations.
    """
    found = distances(reference, new, answers=answers, seed=seed)
    return tuple(
        DriftTest(
            test=one.test,
            of=one.of,
            reference=one.reference,
            new=one.new,
            distance=round(one.distance, 12),
            p_value=p_value,
            drifted=p_value <= alarm_rate,
        )
        for one, p_value in zip(found, corrected(found), strict=True)
    )


def distances(
    reference: Sample, new: Sample, *, answers: Sequence[OutputAnswer], seed: int
) -> list[Distance]:
    """Test each figure by itself: `compare` without the correction for the number of tests.

    Args:
        reference: As for `compare`.
        new: As for `compare`.
        answers: As for `compare`.
        seed: As for `compare`.
    """
    shuffled = _Shuffled(len(reference.scores), len(new.scores), seed)
    found = [*_looks(reference, new, shuffled)]
    for answer in answers:
        found += _answers(reference.scores[:, answer.place], new.scores[:, answer.place], shuffled, answer)
    if reference.features is not None and new.features is not None:
        both = _standardized(np.concatenate([reference.features, new.features]))
        found.append(Distance("features", "features", None, None, *_mean_discrepancy(both, shuffled)))
    return found


def corrected(found: Sequence[Distance]) -> list[float]:
    """Return the p-values of one family of tests, corrected for their number.

    Args:
        found: All of its tests.
    """
    return holm([one.p_value for one in found])


def _looks(reference: Sample, new: Sample, shuffled: _Shuffled) -> Iterator[Distance]:
    for name, before in reference.traits.items():
        after = new.traits[name]
        distance, p_value = _kolmogorov_smirnov(np.concatenate([before, after]), shuffled)
        yield Distance(name, "images", float(before.mean()), float(after.mean()), distance, p_value)


def _answers(reference: Scores, new: Scores, shuffled: _Shuffled, answer: OutputAnswer) -> Iterator[Distance]:
    output, named = answer.output, f"{answer.name}: " if answer.name else ""
    both = np.concatenate([reference, new])
    if answer.chooses:
        both = by_class(both, output)
        best = chosen(both, output)
        sure: Values = np.array(confidences(both, output, best))
        before, after = sure[: len(reference)], sure[len(reference) :]
        distance, p_value = _kolmogorov_smirnov(sure, shuffled)
        means = float(before.mean()), float(after.mean())
        yield Distance(f"{named}confidence", "answers", *means, distance, p_value)
        answered = np.eye(both.shape[1])[best]
        yield Distance(
            f"{named}classes",
            "answers",
            None,
            None,
            *shuffled.test(lambda weights: np.abs(weights @ answered).sum(1) / 2),  # total variation
        )
    points = np.sqrt(np.maximum(both, 0)) if output is OutputKind.PROBABILITIES else both
    discrepancy = _mean_discrepancy(points.astype(np.float64), shuffled)
    yield Distance(f"{named}scores", "answers", None, None, *discrepancy)


def _standardized(features: NDArray[np.float32]) -> Values:
    """Give every channel the variance 1 over both sets, so that none outweighs the others.

    Which image is in which set does not matter to that, so that the test stays a permutation test.
    """
    points = features.astype(np.float64)
    spread = points.std(0)
    return np.asarray((points - points.mean(0))[:, spread > 0] / spread[spread > 0])


class _Shuffled:
    """Divisions of all images into two sets of the sizes observed, drawn as far as they are needed.

    Weights are 1/before for an image of the first set and -1/after for one of the second.
    """

    def __init__(self, before: int, after: int, seed: int) -> None:
        self._observed = np.concatenate([np.full(before, 1 / before), np.full(after, -1 / after)])
        self._seed = seed
        self._draw = np.random.default_rng(seed)
        self._drawn: list[Values] = []

    def some(self, count: int) -> NDArray[np.intp] | None:
        """Return the places of `count` images drawn from both sets alike; None where that would be all."""
        images = self._observed.size
        if images <= count:
            return None
        return np.random.default_rng((self._seed, count)).permutation(images)[:count]

    def test(self, distances: Callable[[Values], Values]) -> tuple[float, float]:
        """Return how far the observed sets are apart, and the p-value.

        Args:
            distances: From weights, float64 [divisions, N], how far the sets of each division are apart.
        """
        observed = float(distances(self._observed[None])[0])
        tried = far = 0
        for weights in self._blocks():
            at_least = np.flatnonzero(distances(weights) >= observed - _EQUAL)
            if far + len(at_least) >= _ENOUGH:
                return observed, _ENOUGH / float(tried + at_least[_ENOUGH - far - 1] + 1)
            far += len(at_least)
            tried += len(weights)
        return observed, (1 + far) / (1 + tried)

    def _blocks(self) -> Iterator[Values]:
        for number in range(PERMUTATIONS // _BLOCK):
            if number == len(self._drawn):
                self._drawn.append(self._draw.permuted(np.tile(self._observed, (_BLOCK, 1)), axis=1))
            yield self._drawn[number]


def _kolmogorov_smirnov(values: Values, shuffled: _Shuffled) -> tuple[float, float]:
    """Return the largest difference of the distribution functions, and its p-value."""
    order = np.argsort(values, kind="stable")
    rises = np.append(np.diff(values[order]) > 0, True)  # behind equal values only

    def apart(weights: Values) -> Values:
        found: Values = np.abs(weights[:, order].cumsum(1)[:, rises]).max(1)
        return found

    return shuffled.test(apart)


def _mean_discrepancy(points: Values, shuffled: _Shuffled) -> tuple[float, float]:
    """Return the maximum mean discrepancy, and its p-value.

    The kernel is Gaussian, as wide as the median distance of the points (of many, of as many at random as
    `_WIDTH_FROM`), which does not depend on which point is in which set. All that grows with the square of
    their number is one matrix. Source: A. Gretton and others, "A kernel two-sample test", Journal of Machine
    Learning Research 13 (2012) 723-773.
    """
    kernel = _squared_distances(points)
    some = shuffled.some(_WIDTH_FROM)
    width = float(np.median(kernel if some is None else kernel[np.ix_(some, some)])) or 1.0
    kernel /= -width
    np.exp(kernel, out=kernel)

    def discrepancy(weights: Values) -> Values:
        found: Values = np.sqrt(np.maximum(np.einsum("ij,ij->i", weights @ kernel, weights), 0))
        return found

    return shuffled.test(discrepancy)


def _squared_distances(points: Values) -> Values:
    """Return the square of every point's distance from every other, float64 [N, N]."""
    squares = np.einsum("ij,ij->i", points, points)
    found: Values = points @ points.T
    found *= -2
    found += squares[:, None]
    found += squares
    return np.maximum(found, 0, out=found)
