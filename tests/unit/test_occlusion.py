"""Which parts of an image an answer rests on: found by covering them, drawn and said in words."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Sequence
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from edgefx.analysis import occlusion
from edgefx.evaluation.changes import changes
from edgefx.measured import Explanation, Saliency
from edgefx.report.page import heat
from edgefx.report.page import run as run_page
from edgefx.report.page.thumbnails import Thumbnails
from edgefx.results import RunReport
from edgefx.storage.serde import from_json, to_json
from edgefx.types import OutputKind, Resize
from tests.unit.report_samples import report
from tests.unit.test_changes import some

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edgefx.types import Pixels, Scores

SIDE = occlusion.CELLS - 1


def upper_right(pixels: Pixels) -> Scores:
    """A model that sees how bright the upper right quarter is, and nothing else."""
    share = pixels[:, : pixels.shape[1] // 2, pixels.shape[2] // 2 :].mean((1, 2, 3)) / 255
    return np.stack([1 - share, share], 1).astype(np.float32)


def corner() -> Pixels:
    image = np.zeros((40, 48, 3), np.uint8)
    image[:20, 24:] = 255
    return image


def test_covering_what_the_answer_rests_on_lowers_it() -> None:
    asked: list[int] = []

    def answer(pixels: Pixels) -> Scores:
        asked.append(len(pixels))
        return upper_right(pixels)

    whole, drops = occlusion.explain(corner(), 1, answer, OutputKind.PROBABILITIES)
    assert sum(asked) == 1 + SIDE**2
    assert max(asked) <= 16  # memory does not grow with the number of parts
    assert whole == 1.0
    found = np.array(drops)
    assert found.shape == (SIDE, SIDE)
    assert (found[:3, 4:] == found.max()).all()
    assert found.max() == pytest.approx(0.25 * (1 - 64 / 255), abs=2e-3)  # a quarter of it turns grey
    assert (found[4:] == 0).all()
    assert (found[:, :3] == 0).all()
    _, other = occlusion.explain(corner(), 0, upper_right, OutputKind.PROBABILITIES)
    assert np.allclose(np.array(other), -found)


def test_every_pixel_is_covered_and_the_mean_stays() -> None:
    image = np.random.default_rng(0).integers(0, 256, (33, 57, 3), np.uint8)
    copies = occlusion.occluded(image)
    assert (copies[0] == image).all()
    assert (copies[1:] != image).any(-1).any(0).mean() > 0.99  # grey may be the colour that was there
    covered = copies[1]
    assert len(np.unique(covered[:4, :7].reshape(-1, 3), axis=0)) == 1
    assert (covered[10:, 20:] == image[10:, 20:]).all()


def saliency(target: str, drops: Sequence[Sequence[float]]) -> Saliency:
    return Saliency(target=target, label=1, confidence=0.9, drops=tuple(map(tuple, drops)))


def maps() -> tuple[Saliency, Saliency]:
    drops = [[0.0, 0.0, 0.01 * column, 0, 0, 0.1873, 0.1 * (row == 0)] for row, column in enumerate([2, 1])]
    drops += [[0.0] * SIDE] * (SIDE - 2)
    return saliency("", drops), saliency("tflite-int8", [row[::-1] for row in drops])


def test_words_and_likeness() -> None:
    before, after = maps()
    assert heat.words(before.drops).startswith("most at the top right, where covering changes it by -18")
    assert heat.words(after.drops).startswith("most at the top left")
    assert heat.words([[0.0] * 3] * 3) == "no part alone changes it"
    assert heat.likeness(before.drops, before.drops) == pytest.approx(1)
    like = heat.likeness(before.drops, after.drops)
    assert like is not None
    assert like < 0
    assert heat.likeness(before.drops, [[0.0] * SIDE] * SIDE) is None


def decoded(url: str) -> NDArray[np.int16]:
    kind, _, content = url.partition(";base64,")
    assert kind == "data:image/jpeg"
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(content))).convert("RGB"), np.int16)


def explained(image: str, digest: str) -> Explanation:
    return Explanation(image=image, sha256=digest, maps=maps())


def test_pictures_are_coloured_where_it_matters_and_only_there(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.new("RGB", (48, 48), (200, 30, 30)).save(path)
    small = Thumbnails(tmp_path, report().model, Resize.STRETCH)
    before, after = map(decoded, small.maps(explained("a.png", sha256(path.read_bytes()).hexdigest())))
    assert max(before.shape) == 96

    def orange(picture: NDArray[np.int16]) -> NDArray[np.int16]:
        return picture[..., 0] - picture[..., 2]

    assert orange(before)[:10, 66:74].min() > 80
    assert abs(orange(before)[60:, :40]).max() < 12  # in grey, whatever the picture's colours
    assert orange(after)[:10, 22:30].min() > 80
    # Without the image, or with another one under its name, the colours stand on plain grey.
    plain = decoded(small.maps(explained("a.png", "00" * 32))[0])
    assert plain[60:, :40].std() < 3


def run_with_maps() -> RunReport:
    found = changes(some())
    first, *rest = report().targets
    made = tuple(explained(one.image, one.sha256) for one in found.surest[:2])
    return replace(report(), targets=(replace(first, changes=found), *rest), explanations=made)


def test_the_page_shows_the_maps_beside_the_images_and_says_how_to_read_them() -> None:
    text = run_page.dumps(run_with_maps())
    alts = re.findall(r'<img src="data:image/jpeg[^"]*" alt="([^"]+)">', text)
    assert len(alts) == 2 * 2
    assert alts[0].startswith("float model: most at the top right")
    assert alts[1].startswith("tflite-int8: most at the top left")
    assert text.count("what answers rest on") == 1
    assert re.search(r"<span>tflite-int8, r\u00a0-0\.\d\d</span>", text)
    assert "what answers rest on" not in run_page.dumps(replace(run_with_maps(), explanations=()))


def test_it_is_read_again_and_what_is_no_map_is_refused() -> None:
    whole = to_json(run_with_maps().explanations[0])
    assert from_json(Explanation, whole) == run_with_maps().explanations[0]
    assert isinstance(whole, dict)
    tables: list[list[list[float]]] = [[], [[]], [[0.1], [0.1, 0.2]], [[1.5]], [[0.0] * 33], [[0.0]] * 33]
    for drops in (*tables, [[float("nan")]]):
        damaged: dict[str, object] = {**whole}
        damaged["maps"] = [{"target": "", "label": 0, "confidence": 0.5, "drops": drops}]
        with pytest.raises(ValueError, match="saliency"):
            from_json(Explanation, damaged)
