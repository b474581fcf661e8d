"""Names that others chose, in every text of every report: no renderer lets them act."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass, replace
from enum import Enum
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rich.text import Text

from edgefx import harmless, views
from edgefx.cli.console import make_console
from edgefx.cli.progress import ConsoleProgress
from edgefx.provenance.comparison import Change, Flip, Flips, RunDiff, TargetDiff
from edgefx.report import comparison, debug, evaluation, inspection, markdown, matrix, terminal
from edgefx.report.console import PlainConsole
from edgefx.report.page import debug as debug_page
from edgefx.results import DropUnit, MaxDrop
from edgefx.storage import serde as report_json
from edgefx.types import ArtifactMetadata, LayerInfo
from tests.unit import test_diagnosis, test_report_matrix
from tests.unit.report_samples import artifact, report, with_devices, with_failure, with_search

T = TypeVar("T")

FORGED = "PASSED all gates"
HOSTILE = (
    "\x1b]0;owned\x07\x1b[31m",
    f"a\n{FORGED}\n",
    f"a\r{FORGED}\r\n{FORGED}",
    "\x9b31m",
    "\u202egnp.exe",
    "\udcff",
    "[red]x[/red][link=http://x]y[/link]",
    "a|b\\|c",
    "<script>alert(1)</script>",
    '"><img src=http://x onerror=y>',
    "![x](http://x/y.png)",
    "[a](javascript:b) `c` *d* @everyone &lt;",
    ":smile:\t\v\f\b",
)
names = st.one_of(
    st.sampled_from(HOSTILE),
    st.lists(st.sampled_from(HOSTILE), min_size=2, max_size=3).map("".join),
    st.text(min_size=1, max_size=20),
    st.text(st.sampled_from("\x00\x07\x1b[]|<>!()`\\\n\r\u2028m3;"), min_size=1, max_size=20),
)
bounded = settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
CONTROLS = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


IDS = ("role", "metric")  # which a program looks up


def poisoned(value: Any, name: str) -> Any:
    """Append a name to every text and path of a result."""
    if isinstance(value, str) and not isinstance(value, Enum):
        return value + name
    if isinstance(value, Path):
        return Path(str(value) + name.replace("\0", ""))
    if is_dataclass(value) and not isinstance(value, type):
        chosen = [field.name for field in fields(value) if field.init and field.name not in IDS]
        return replace(value, **{one: poisoned(getattr(value, one), name) for one in chosen})
    if isinstance(value, Mapping):
        return {poisoned(key, name): poisoned(item, name) for key, item in value.items()}
    if isinstance(value, tuple):
        return tuple(poisoned(item, name) for item in value)
    return value


def run_report() -> Any:
    return with_search(with_failure(with_devices(report())), limit=MaxDrop(value=1.0, unit=DropUnit.PP))


def a_diff() -> RunDiff:
    flips = Flips(
        images=4, flipped=(Flip(image="0/b.png", before=0, after=1, label=0),), left_out=1,
        lost=1, gained=0, drop_pp=1.0, drop_ci95_pp=(0.0, 2.0),
    )  # fmt: skip
    return RunDiff(
        before=Path("a"),
        after=Path("b"),
        changes=(Change(kind="recipe", name="quantize.effort", before="fast", after="high"),),
        targets=(TargetDiff(target="tflite-int8", identical=False, before=None, after=None, flips=flips),),
        notes=("a note",),
    )


def printed(render: Callable[[PlainConsole], None]) -> str:
    stream = io.StringIO()
    render(PlainConsole(file=stream, width=200, color_system=None))
    return stream.getvalue()


MODEL = views.ModelInspection(
    model=replace(report().model, class_names=("daisy", "rose")),
    layers=(LayerInfo(name="stem", kind="Conv2D", output_shape=(1, 2, 2, 3), parameters=3, macs=4),),
    notes=("a note",),
)
MADE = artifact("onnx-int8", size_bytes=9, compute_int8=3, notes=("a note",))
METADATA = ArtifactMetadata(
    edgefx="0.1.0",
    target="onnx-int8",
    model="b0",
    model_sha256="ab" * 32,
    input=MADE.inputs[0],
    output=MADE.outputs[0],
    output_kind="probabilities",
    resize="stretch",
    class_names=("daisy", "rose"),
)
TEXTS: dict[str, tuple[Callable[[], Any], Callable[[Any], str]]] = {
    "terminal": (run_report, terminal.dumps),
    "matrix": (test_report_matrix.run, matrix.text),
    "debug": (
        test_diagnosis.debug_report,
        lambda result: printed(
            lambda console: debug.render(result, console, limit=9, order=debug.Order.EFFECT)
        ),
    ),
    "artifact": (
        lambda: views.ArtifactInspection(artifact=MADE, metadata=METADATA),
        lambda result: printed(lambda console: inspection.render_artifact(result, console)),
    ),
    "model": (
        lambda: MODEL,
        lambda result: printed(lambda console: inspection.render_model(result, console, every_layer=True)),
    ),
    "benchmark": (
        lambda: views.Benchmark(
            environment=report().environment,
            latencies={"a.tflite": report().targets[0].latency},  # type: ignore[dict-item]
            failures={},
        ),
        lambda result: printed(lambda console: evaluation.render_benchmark(result, console)),
    ),
    "evaluation": (
        lambda: views.Evaluation(
            artifact=Path("a.tflite"), data=report().data[0], threads=1, precision_ran="int8", images=3,
            top1=0.5, top5=None, images_per_s=3.0, baseline="b0", comparison=report().targets[0].accuracy,
        ),
        lambda result: printed(lambda console: evaluation.render_evaluation(result, console)),
    ),
    "diff": (a_diff, lambda result: printed(lambda console: comparison.render_diff(result, console))),
}  # fmt: skip
MARKDOWNS: dict[str, tuple[Callable[[], Any], Callable[[Any], str]]] = {
    "report": (run_report, markdown.dumps),
    "matrix": (test_report_matrix.run, matrix.markdown),
    "diff": (a_diff, comparison.markdown),
}


@pytest.mark.parametrize("kind", TEXTS)
@given(name=names)
@bounded
def test_text_holds_no_control_and_no_forged_line(kind: str, name: str) -> None:
    make, render = TEXTS[kind]
    text = render(poisoned(make(), name))
    assert CONTROLS.search(text) is None
    assert not any(line.startswith(FORGED) for line in text.splitlines())


@pytest.mark.parametrize("kind", TEXTS)
def test_text_shows_markup_as_it_is(kind: str) -> None:
    make, render = TEXTS[kind]
    assert "[red]" in render(poisoned(make(), "[red]")).replace("\n", "")


@pytest.mark.parametrize("kind", MARKDOWNS)
@given(name=names)
@bounded
def test_markdown_has_the_same_structure_whatever_the_names(kind: str, name: str) -> None:
    make, render = MARKDOWNS[kind]
    plain, text = render(poisoned(make(), "x")), render(poisoned(make(), name))
    assert CONTROLS.search(text) is None
    assert text.count("\n") == plain.count("\n")
    unescaped = re.sub(r"\\.", "", text)
    for sign in ("<", "[", "]", "`", "@", "![", "*d*"):
        assert sign not in unescaped
    for line, before in zip(unescaped.splitlines(), re.sub(r"\\.", "", plain).splitlines(), strict=True):
        assert line.count("|") == before.count("|")


class _Page(HTMLParser):
    """The tags of a page with their attributes' names."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, tuple[str, ...]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, tuple(name for name, _ in attrs)))


def _tags(page: str) -> list[tuple[str, tuple[str, ...]]]:
    parser = _Page()
    parser.feed(page)
    return parser.tags


@given(name=names)
@bounded
def test_html_has_the_same_tags_whatever_the_names(name: str) -> None:
    found = test_diagnosis.debug_report()
    poison = poisoned(found, name)
    page = debug_page.dumps(poison)
    assert CONTROLS.search(page) is None
    assert _tags(page) == _tags(debug_page.dumps(found))


@given(name=names)
@bounded
def test_json_is_escaped_and_loses_nothing(name: str) -> None:
    result = poisoned(run_report(), name)
    document = report_json.dumps(result)
    assert CONTROLS.search(document) is None
    assert json.loads(document) == report_json.to_json(result)


@given(name=names)
@bounded
def test_progress_and_warnings_are_single_lines(name: str) -> None:
    stream = io.StringIO()
    progress = ConsoleProgress(make_console(stream, colored=False), verbosity=1)
    progress.warn(f"skipped {name}")
    progress.note(name)
    with progress.task(f"load {name}"):
        pass
    text = stream.getvalue()
    assert CONTROLS.search(text) is None
    assert not any(line.startswith(FORGED) for line in text.splitlines())


def test_styles_stay_on_their_characters() -> None:
    stream = io.StringIO()
    console = PlainConsole(file=stream, width=80, color_system="standard", force_terminal=True)
    console.print(Text.assemble(("a\x1bb", "bold"), "c"))
    assert stream.getvalue() == "\x1b[1ma␛b\x1b[0mc\n"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain é 漢", "plain é 漢"),
        ("a\x1b[0m", "a␛[0m"),
        ("\x7f\x9b", "␡\ufffd"),
        ("a\nb", "a␊b"),
        ("\udcff", "\ufffd"),
    ],
)
def test_each_character_is_replaced_by_one(text: str, expected: str) -> None:
    assert harmless.visible(text) == expected
    assert len(harmless.visible(text)) == len(text)
