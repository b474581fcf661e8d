"""The page of a run: well-formed, escaped, of the report's figures, small, and to be read by everybody."""

from __future__ import annotations

import json
import random
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import replace
from hashlib import sha256
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from edgefx.evaluation.changes import Answer, changes
from edgefx.measured import Explanation, FlippedImage, Saliency
from edgefx.metrics import METRICS, Figures
from edgefx.provenance import gating
from edgefx.report import formats, write_report
from edgefx.report.page import changed_images, thumbnails
from edgefx.report.page import run as run_page
from edgefx.report.page.svg import Axis
from edgefx.report.page.thumbnails import Thumbnails
from edgefx.report.remedies import remedies
from edgefx.results import DropUnit, MaxDrop, RunReport
from edgefx.types import Resize
from edgefx.verdicts import Verdict
from edgefx.views import MatrixReport
from edgefx.vocabulary import MOST_EXPLAINED
from tests.unit import test_report_matrix
from tests.unit.report_samples import (
    gate,
    random_figures,
    report,
    with_devices,
    with_failure,
    with_figures,
    with_search,
)
from tests.unit.test_changes import some
from tests.unit.test_report_harmless import CONTROLS, HOSTILE, bounded, names, poisoned

_STYLE = Path(run_page.__file__).parent / "assets" / "style.css"
_VOID = {"meta", "link", "br", "img", "input", "hr"}


class Page(HTMLParser):
    """A page's elements; complains of what is not well-formed.

    Attributes:
        elements: Tag, attributes and own text of each, in order.
    """

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str], list[str]]] = []
        self._open: list[int] = []
        self.feed(text)
        self.close()
        assert not self._open, "an element is not closed"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len({name for name, _ in attrs}) == len(attrs), f"an attribute twice: {tag} {attrs}"
        self.elements.append((tag, {name: value or "" for name, value in attrs}, []))
        if tag not in _VOID:
            self._open.append(len(self.elements) - 1)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}, []))

    def handle_endtag(self, tag: str) -> None:
        assert self.elements[self._open.pop()][0] == tag, f"</{tag}> closes another element"

    def handle_data(self, data: str) -> None:
        if self._open:
            self.elements[self._open[-1]][2].append(data)

    def of(self, *tags: str) -> list[tuple[str, dict[str, str], str]]:
        return [(tag, attributes, "".join(text)) for tag, attributes, text in self.elements if tag in tags]


def everything() -> RunReport:
    """A run in which all parts of the page have something to show."""
    made = with_search(
        with_failure(with_devices(report())), limit=MaxDrop(value=1.0, unit=DropUnit.PP), gap=0.1
    )
    first, second, *rest = made.targets
    return replace(
        made,
        model=replace(made.model, class_names=("daisy", "rose", "tulip")),
        targets=(first, replace(second, changes=changes(some())), *rest),
    )


def pages(tmp_path: Path) -> Iterator[str]:
    yield run_page.dumps(everything())
    yield run_page.dumps(report(labelled=False))
    yield formats.dumps(test_report_matrix.run(), "html")
    write_report(report(), tmp_path)
    yield formats.dumps(gating.judge([tmp_path]), "html")


def test_devices_have_a_section_and_what_failed_there_is_a_finding() -> None:
    text = run_page.dumps(everything())
    section = text[text.index('id="devices"') : text.index('id="classes"')]
    assert "on pi5: " in section
    assert "31.4" in section
    verdict = text[text.index('id="verdict"') : text.index('id="targets"')]
    assert "ssh://pi@board" in verdict


def test_latencies_are_drawn_as_distributions_and_said_in_words() -> None:
    made = everything()
    page = Page(run_page.dumps(made))
    ridges = page.of("path")
    drawn = [found for _, found, _ in ridges if found.get("class") == "ridge"]
    measured = [one.latency for one in made if one.latency]
    there = [one.latency for device in made.devices for one in device.targets if one.latency]
    assert len(drawn) == len(measured) + len(there) > len(measured) > 0
    assert all(one["d"].count("V") <= 34 for one in drawn)
    said = [
        found["aria-label"] for _, found, _ in page.of("svg") if ": fastest" in found.get("aria-label", "")
    ]
    assert all(re.search(r"half of \d+ inferences took [\d.]+ to [\d.]+ ms$", one) for one in said)
    assert any(one.startswith("tflite-int8@pi5: fastest") for one in said)
    older = replace(made, targets=tuple(
        replace(one, latency=replace(one.latency, histogram=None)) if one.latency else one for one in made
    ))  # fmt: skip
    assert Page(run_page.dumps(replace(older, devices=()))).of("path") != ridges
    assert "ridge" not in run_page.dumps(replace(older, devices=())).partition("</style>")[2]


def test_pages_are_well_formed_and_load_nothing(tmp_path: Path) -> None:
    for text in pages(tmp_path):
        page = Page(text)
        policy = next(found for tag, found, _ in page.of("meta") if "http-equiv" in found)
        assert policy["content"].startswith("default-src 'none';")
        for _, found, _ in page.elements:
            assert not {name for name in found if name.startswith("on")}
            assert all(value.startswith(("#", "data:")) for name, value in found.items()
                       if name in ("src", "href", "srcset", "action", "data"))  # fmt: skip
        assert not page.of("link", "iframe", "object", "base", "form")
        assert "url(" not in text
        assert "@import" not in text


def test_pages_have_landmarks_headings_and_names(tmp_path: Path) -> None:
    for text in pages(tmp_path):
        page = Page(text)
        assert [tag for tag, _, _ in page.of("header", "main", "h1", "title")].count("main") == 1
        levels = [int(tag[1]) for tag, _, _ in page.of("h1", "h2", "h3", "h4")]
        assert levels[0] == 1
        assert levels.count(1) == 1
        assert all(below <= above + 1 for above, below in pairwise(levels))
        ids = [found["id"] for _, found, _ in page.elements if "id" in found]
        assert len(ids) == len(set(ids))
        referred = [found["href"][1:] for tag, found, _ in page.of("a")]
        referred += [found["aria-labelledby"] for _, found, _ in page.elements if "aria-labelledby" in found]
        assert set(referred) <= set(ids)
        assert all(found.get("scope") for _, found, _ in page.of("th"))
        pictures = [found for _, found, _ in page.of("svg") if found.get("role") == "img"]
        assert all(found["aria-label"] for found in pictures)
        regions = [found for _, found, _ in page.elements if "tabindex" in found]
        assert all(found["tabindex"] == "0" and found["aria-label"] for found in regions)


@given(name=names)
@settings(bounded, max_examples=8)
def test_a_name_changes_no_element(name: str) -> None:
    for made in (everything(), test_report_matrix.run()):
        plain, text = (formats.dumps(poisoned(made, one), "html") for one in ("x", name))
        assert CONTROLS.search(text) is None
        elements = [[(tag, tuple(found)) for tag, found, _ in Page(page).elements] for page in (plain, text)]
        assert elements[0] == elements[1]


@pytest.mark.parametrize("name", [*HOSTILE, "<script>", "[red]", "a|b"])
def test_a_class_is_shown_by_its_name_whatever_it_is(name: str) -> None:
    made = everything()
    text = run_page.dumps(replace(made, model=replace(made.model, class_names=(name, "b", "c"))))
    scripts = Page(text).of("script")
    assert len(scripts) == 1
    assert not CONTROLS.search(text)
    if name.isprintable():
        assert name in [words for _, _, words in Page(text).of("th")]


# ------------------------------------------------------------------------------------------- figures


@given(found=random_figures)
@bounded
def test_figures_are_those_of_the_report(
    found: Sequence[tuple[float, float, int, float]], tmp_path: Path
) -> None:
    made = with_figures(found)
    write_report(made, tmp_path)
    stored = json.loads((tmp_path / "report.json").read_text())
    shown = figures_of(run_page.dumps(made))
    for target in stored["targets"]:
        cells = shown[target["target"]]
        assert cells["top-1"] == target["accuracy"]["top1"]
        assert cells["drop pp"] == target["accuracy"]["drop_pp"]
        assert cells["p50 ms"] == target["latency"]["p50_ms"]
        assert cells["size"] == target["artifact"]["files"][0]["size_bytes"]
    for result in made:
        for row in METRICS.values():
            value = row.value(Figures.of(result))
            if row.heading in shown[result.target] and row.heading and value is not None:
                assert shown[result.target][row.heading] == value


def figures_of(text: str) -> dict[str, dict[str, float]]:
    """Return the figures of the table of all targets, by target and heading."""
    table = next(part for part in re.findall("<table.*?</table>", text, re.DOTALL) if ">#</th>" in part)
    page = Page(table)
    heads = [words for _, found, words in page.of("th") if found["scope"] == "col"]
    cells = [(found, words) for tag, found, words in page.of("th", "td") if found.get("scope") != "col"]
    rows = [cells[start : start + len(heads)] for start in range(0, len(cells), len(heads))]
    return {
        row[1][1]: {
            head: float(found["data-value"])
            for head, (found, _) in zip(heads, row, strict=True)
            if "data-value" in found
        }
        for row in rows
    }


# ------------------------------------------------------------------------------------- size and pictures


@pytest.fixture(scope="module")
def huge(tmp_path_factory: pytest.TempPathFactory) -> RunReport:
    """Twelve targets, 1000 classes, 50,000 images, and pictures that JPEG cannot make small."""
    folder = tmp_path_factory.mktemp("images")
    draw = random.Random(5)
    noise = np.random.default_rng(5)
    hashes = {}
    for number in range(0, 600, 10):
        path = folder / f"{number}.png"
        Image.fromarray(noise.integers(0, 256, (96, 96, 3), np.uint8)).save(path)
        hashes[path.name] = sha256(path.read_bytes()).hexdigest()
    answers = []
    for number in range(50_000):
        label, is_flipped = number % 1000, number % 10 == 0
        answers.append(
            Answer(
                image=f"{number}.png", sha256=hashes.get(f"{number}.png", ""), label=label, before=label,
                after=draw.randrange(1000) if is_flipped else label,
                before_confidence=1.0 - number / 1e5, after_confidence=draw.random(),
            )
        )  # fmt: skip
    base = report()
    found = [changes(answers[20 * number :]) for number in range(3)]
    names = tuple(f"class with a long name, number {number}" for number in range(1000))
    return replace(
        base,
        model=replace(base.model, height=96, width=96, classes=1000, class_names=names),
        data=tuple(replace(data, root=str(folder)) for data in base.data),
        targets=tuple(
            replace(base.targets[0], target=f"tflite-int8-{number}", changes=found[number % 3])
            for number in range(12)
        ),
        explanations=tuple(
            Explanation(
                image=one.image,
                sha256=one.sha256,
                maps=tuple(
                    Saliency(
                        target=f"tflite-int8-{number}" if number else "", label=0, confidence=0.5,
                        drops=tuple(tuple(draw.uniform(-1, 1) for _ in range(7)) for _ in range(7)),
                    )
                    for number in range(13)
                ),
            )
            for one in found[0].surest[:MOST_EXPLAINED]
        ),
    )  # fmt: skip


def test_the_page_of_a_huge_run_is_small(huge: RunReport) -> None:
    text = run_page.dumps(huge)
    assert len(text.encode()) <= 5_000_000
    assert text.count("data:image/jpeg") > 20 + 13 * MOST_EXPLAINED
    assert text.count("<h3>") <= changed_images.MOST_CARDS + 5
    Page(text)
    assert "data:image" not in run_page.dumps(replace(huge, explanations=()), pictures=False)


def test_pictures_are_of_the_images_that_were_evaluated_and_no_others(tmp_path: Path) -> None:
    root = tmp_path / "images"
    root.mkdir()
    for path in (root / "a.png", tmp_path / "secret.png"):
        Image.new("RGB", (300, 200), "red").save(path)
    digest = sha256((root / "a.png").read_bytes()).hexdigest()

    def image(name: str, hashed: str = digest) -> FlippedImage:
        return FlippedImage(
            image=name, sha256=hashed, label=0, before=0, after=1, before_confidence=1, after_confidence=1
        )

    small = Thumbnails(root, report().model, Resize.STRETCH)
    assert small.get(image("a.png")).startswith("data:image/jpeg;base64,")
    other = Thumbnails(root, report().model, Resize.STRETCH)
    assert other.get(image("a.png", "00" * 32)) == ""
    assert other.get(image("missing.png")) == ""
    assert other.get(image("../secret.png")) == ""
    assert other.get(image(str(tmp_path / "secret.png"))) == ""
    assert Thumbnails(None, report().model, Resize.STRETCH).get(image("a.png")) == ""


def test_pictures_end_where_their_bytes_are_used_up(huge: RunReport, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(thumbnails, "MOST_BYTES", 30_000)
    text = run_page.dumps(huge)
    assert 0 < sum(map(len, re.findall('src="data:[^"]*"', text))) <= 30_100
    assert "no picture" in text


# --------------------------------------------------------------------------------------- to be read


def _schemes() -> Iterator[dict[str, str]]:
    light, dark = re.findall(r":root \{(.*?)\}", _STYLE.read_text(), re.DOTALL)[:2]
    for scheme in (light, dark):
        yield dict(re.findall(r"--(\w+): (#[0-9a-f]{6})", scheme))


def _luminance(color: str) -> float:
    """Return the relative luminance (WCAG 2.2)."""
    parts = [int(color[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [one / 12.92 if one <= 0.04045 else ((one + 0.055) / 1.055) ** 2.4 for one in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_text_has_contrast_in_both_schemes() -> None:
    light, dark = _schemes()
    assert light.keys() == dark.keys()
    for scheme in (light, dark):
        for ground in ("page", "card"):
            for ink in scheme.keys() - {"page", "card", "line"}:
                low, high = sorted(map(_luminance, (scheme[ink], scheme[ground])))
                assert (high + 0.05) / (low + 0.05) >= 4.5, (ink, ground)


@given(st.lists(st.floats(1e-3, 1e6), min_size=1, max_size=9), st.booleans())
def test_an_axis_has_room_for_all_and_some_ticks(values: list[float], log: bool) -> None:
    axis = Axis.around(values, log=log)
    assert all(0 <= axis.place(value) <= 100 for value in values)
    assert 1 <= len(axis.ticks()) <= 12
    places = [axis.place(tick) for tick in axis.ticks()]
    assert places == sorted(places)


def test_remedies_name_what_was_measured_here() -> None:
    made = report()
    failed = made.targets[1]
    (said,) = (remedies(made, failed, one) for one in failed.gates)
    assert said.startswith(
        "measured here, within this limit: tflite-int8 (+1.09), openvino-float32 (0.00); --max-drop makes"
    )
    searched = with_search(made, limit=MaxDrop(value=1.0, unit=DropUnit.PP), gap=0.1)
    bad = gate("drop_pp", 1.0, 1.1, Verdict.FAIL, "over")
    said = remedies(searched, searched.targets[0], bad)
    assert "tried here: effort balanced: +2.50 pp; effort high, 8 layers in float: +1.09 pp" in said
    few = replace(bad, verdict=Verdict.INCONCLUSIVE, images_needed=1200)
    assert remedies(made, failed, few) == "evaluate on about 1,200 images"
    assert remedies(made, failed, replace(bad, verdict=Verdict.PASS)) == ""


def test_a_matrix_and_gates_have_pages(tmp_path: Path) -> None:
    made = test_report_matrix.run()
    assert isinstance(made, MatrixReport)
    text = formats.dumps(made, "html")
    assert "no | such &lt;op&gt;" in text
    assert text.count("<section") == 2
    write_report(report(), tmp_path)
    judged = gating.judge([tmp_path])
    text = formats.dumps(judged, "html")
    assert all(one.reason in text for target in judged for one in target.gates)
    assert "<strong>FAIL</strong>" in text


# ------------------------------------------------------------------------------------------- a browser

_CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


@pytest.mark.skipif(_CHROMIUM is None, reason="Chromium is not installed")
def test_a_browser_shows_the_page_of_a_huge_run_without_an_error(huge: RunReport, tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    path.write_text(run_page.dumps(huge))
    shown = subprocess.run(
        [_CHROMIUM or "", "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
         "--disable-background-networking", "--disable-component-update", "--disable-sync",
         "--enable-logging=stderr", f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom", path.as_uri()],
        capture_output=True, text=True, check=True, timeout=300,
    )  # fmt: skip
    assert "CONSOLE" not in shown.stderr
    assert shown.stdout.count('<button type="button">') > 50  # the policy lets the script run
