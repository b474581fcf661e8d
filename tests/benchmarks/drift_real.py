"""What `edgefx drift` sees of real changes of real images, test by test.

    python -m tests.benchmarks drift --run OUT --images DIR

OUT is the output folder of a run, whose first artifact answers, DIR a folder of images with a sub-folder per
class. The images are divided at random into a reference and as many new images; the new ones are blurred,
darkened, made noisy, or another mix of classes. Alarms with all tests are counted beside those that
there would be without the features, each corrected for as many tests as there are then.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageFilter

from edgefx import runtimes
from edgefx.analysis.drift import OutputAnswer, Sample, corrected, distances, traits
from edgefx.data import images as decoding
from edgefx.data.folders import scan
from edgefx.evaluation.statistics import wilson_ci
from edgefx.protocols import SILENT
from edgefx.provenance import lock as locks
from edgefx.runtimes.session import ends_of_classifier
from edgefx.scores import kind_of
from edgefx.storage import temporary
from edgefx.system.host import cores
from edgefx.types import Resize

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edgefx.types import Pixels

SIZES = (30, 60, 120)  # images of either side
RATE = 0.05


def blurred(pixels: Pixels, _draw: np.random.Generator, *, radius: float) -> Pixels:
    """Blur every image, by a radius in pixels."""
    kernel = ImageFilter.GaussianBlur(radius)
    return np.stack([np.asarray(Image.fromarray(one).filter(kernel)) for one in pixels])


def darker(pixels: Pixels, _draw: np.random.Generator, *, share: float) -> Pixels:
    """Take a share of the light away."""
    return (pixels * (1 - share)).round().astype(np.uint8)


def noisy(pixels: Pixels, draw: np.random.Generator, *, sigma: float) -> Pixels:
    """Add normal noise, of so many of 255 values."""
    return np.clip(pixels + draw.normal(scale=sigma, size=pixels.shape), 0, 255).round().astype(np.uint8)


CHANGES: dict[str, Callable[[Pixels, np.random.Generator], Pixels]] = {
    "blurred by 0.5 pixels": partial(blurred, radius=0.5),
    "blurred by 1 pixel": partial(blurred, radius=1.0),
    "10 % darker": partial(darker, share=0.1),
    "30 % darker": partial(darker, share=0.3),
    "noise of 8 / 255": partial(noisy, sigma=8),
    "noise of 20 / 255": partial(noisy, sigma=20),
}
MIX = "half of them of one class more"


def rows(run: Path, images: Path, *, samples: int, seed: int) -> dict[str, object]:
    """Return the shares of alarms by size and change."""
    draw = np.random.default_rng(seed)
    pixels, labels = _decoded(run, images)
    answers, answer = _artifact(run)
    sets = {"no change": answer(pixels)}
    for name, change in CHANGES.items():
        sets[name] = answer(change(pixels, draw))
    found: dict[str, object] = {}
    for size in SIZES:
        if 2 * size > len(pixels):
            continue
        for name in (*sets, MIX):
            alarms = {"all": 0, "without features": 0, "features alone": 0}
            for number in range(samples):
                places = draw.permutation(len(pixels))
                before, after = places[:size], places[size : 2 * size]
                if name == MIX:
                    after = _mixed(places[size:], labels, size, draw)
                first = _some(sets["no change"], before)
                second = _some(sets.get(name, sets["no change"]), after)
                tests = distances(first, second, answers=[answers], seed=number)
                rest = [one for one in tests if one.test != "features"]
                p_values = corrected(tests)
                alarms["all"] += min(p_values) <= RATE
                alarms["without features"] += min(corrected(rest)) <= RATE
                alarms["features alone"] += p_values[len(rest)] <= RATE
            for who, count in alarms.items():
                low, high = wilson_ci(count, samples)
                found[f"{size} against {size} images, {name}: {who}"] = (
                    f"{count / samples:.0%} alarms ({low:.0%} to {high:.0%})"
                )
    return found


def _mixed(
    places: NDArray[np.int64], labels: NDArray[np.int64], size: int, draw: np.random.Generator
) -> NDArray[np.int64]:
    """Choose images of which half are of one class, and half of any, as far as there are so many."""
    of_class = places[labels[places] == draw.integers(labels.max() + 1)][: size // 2]
    others = np.setdiff1d(places, of_class)
    return np.concatenate([of_class, draw.permutation(others)[: size - len(of_class)]])


def _some(whole: Sample, places: NDArray[np.int64]) -> Sample:
    assert whole.features is not None
    return Sample(
        traits={name: one[places] for name, one in whole.traits.items()},
        scores=whole.scores[places],
        features=whole.features[places],
    )


def _decoded(run: Path, images: Path) -> tuple[Pixels, NDArray[np.int64]]:
    described = runtimes.for_artifact(_path(run)).describe(_path(run))
    _, _, layout = ends_of_classifier(_path(run), described.inputs, described.outputs)
    found = decoding.decode(
        scan(images),
        height=layout.height,
        width=layout.width,
        resize=Resize.STRETCH,
        skip_bad=False,
        progress=SILENT,
        role="new",
    )
    assert found.labels is not None, "a sub-folder per class is needed"
    return np.asarray(found.pixels), np.asarray(found.labels)


def _path(run: Path) -> Path:
    lock = locks.read(run)
    return run / Path(next(one for one in lock.targets if one.files).files[0].path).name


def _artifact(run: Path) -> tuple[OutputAnswer, Callable[[Pixels], Sample]]:
    path = _path(run)
    runtime = runtimes.for_artifact(path)

    def answer(pixels: Pixels) -> Sample:
        with temporary.workspace() as folder, runtime.open_session(path, threads=cores()) as session:
            assert runtime.write_features(path, folder / path.name)
            with runtime.open_session(folder / path.name, threads=cores()) as features:
                return Sample(
                    traits=traits(pixels), scores=session.infer(pixels), features=features.infer(pixels)
                )

    return OutputAnswer(output=kind_of(runtime.describe(path).outputs[0].name), chooses=True), answer
