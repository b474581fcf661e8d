"""Whatever a recipe holds, loading it gives a recipe or an error that says what is wrong."""

from __future__ import annotations

import os
import string
from pathlib import Path
from typing import Any

import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from edgefx.errors import UsageError
from edgefx.pipeline.plan import resolve as resolve_targets
from edgefx.recipe.compose import setting
from edgefx.recipe.dump import to_yaml
from edgefx.recipe.environment import interpolate
from edgefx.recipe.load import load_runs, parse, shipped
from edgefx.recipe.schema import Recipe
from edgefx.recipe.tree import Diagnostic, RecipeError, Scalar, Source, at
from edgefx.recipe.yaml_text import parse as parse_yaml

# More at a time: EDGEFX_EXAMPLES=5000 python -m pytest tests/unit/test_recipe_properties.py
QUICK = settings(
    max_examples=int(os.environ.get("EDGEFX_EXAMPLES", "40")),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    database=None,
)
TEXTS = tuple(path.read_text(encoding="utf-8") for path in shipped().values())
GOOD = """\
version: 1
model: {source: digits, classes: 10}
quantize: {method: ptq, effort: fast, ranges: auto, budget: 0.5pp, keep_float: ['kind:Dense']}
targets:
  - tflite-int8
  - {target: 'onnx-*', io_dtype: float32, gates: {max_drop: null, max_size: 2MB}}
calibration: {samples: 20}
evaluate: {limit: 50}
benchmark: {threads: 1, rounds: 10, seconds: 1e1}
gates: {max_drop: 1pp, max_p95_ms: 20ms, max_size: 6MB}
report: {formats: [markdown], files: [out/a.md]}
matrix: {seed: [0, 1], quantize.effort: [fast, high]}
"""
KEYS = (
    "version", "model", "source", "quantize", "method", "effort", "ranges", "budget", "keep_float", "targets",
    "target", "calibration", "images", "evaluate", "data", "resize", "benchmark", "threads", "gates",
    "max_drop", "max_size", "report", "files", "output", "seed", "extends", "matrix", "exclude", "<<", "x",
)  # fmt: skip
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=8),
    st.sampled_from(
        [
            "b0",
            "digits",
            "tflite-int8",
            "*-int8",
            "ptq",
            "qat",
            "none",
            "fast",
            "1pp",
            "6MB",
            "${X}",
            "${",
            "~x/y",
        ]
    ),
)
TREES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=4),
    max_leaves=12,
)


def refusal(file: Path, *arguments: str) -> UsageError | None:
    """Load a recipe and resolve its targets; return why it was refused. Anything else fails the test."""
    try:
        runs = load_runs(file, [setting(one) for one in arguments])
    except UsageError as error:
        return error
    for one in runs:
        assert isinstance(one.recipe, Recipe)
        assert resolve_targets(one.recipe)
    return None


def loaded(text: str | bytes, folder: Path) -> None:
    """Write a recipe and load it."""
    file = folder / "r.yaml"
    file.write_bytes(text if isinstance(text, bytes) else text.encode("utf-8", errors="surrogatepass"))
    error = refusal(file)
    if error is not None:
        assert error.message.strip()
        # Pydantic has nothing to add to what the check of the tree finds.
        assert isinstance(error, RecipeError) or "not a UTF-8 text" in error.message, error.details


@QUICK
@given(st.binary(max_size=60))
def test_any_bytes(tmp_path: Path, content: bytes) -> None:
    loaded(content, tmp_path)


@QUICK
@given(st.text(alphabet=st.sampled_from(string.printable + "&*!é\u2028\ufeff\x85"), max_size=80))
@example("%TAG ! x")
@example("a: &a [*a]")
@example("\ufeffversion: 1")
@example("? ? ? ?")
@example("!!str")
@example("--- !<!>\n")
@example("a: |9\n  x")
def test_any_text(tmp_path: Path, text: str) -> None:
    loaded(text, tmp_path)


@QUICK
@given(st.sampled_from((*TEXTS, GOOD)), st.data())
def test_a_good_recipe_with_a_piece_replaced(tmp_path: Path, text: str, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, min(len(text), start + 12)))
    loaded(text[:start] + data.draw(st.text(string.printable, max_size=6)) + text[end:], tmp_path)


@QUICK
@given(st.dictionaries(st.sampled_from(KEYS), TREES, max_size=6))
def test_any_keys_and_values(tmp_path: Path, document: dict[str, Any]) -> None:
    text = yaml.safe_dump({"version": 1, "model": "digits", "targets": "tflite-int8", **document})
    loaded(text, tmp_path)


@QUICK
@given(st.text(max_size=30) | st.builds("{}={}".format, st.sampled_from(KEYS), st.text(max_size=12)))
@example("model.source=digits")
@example("targets.0=onnx-int8")
@example("targets.00000000000000000000000=x")
@example("targets.²=x")
@example("=")
@example("a\ud800=\ud800")
@example("gates=#")
def test_any_setting(tmp_path: Path, argument: str) -> None:
    file = tmp_path / "r.yaml"
    file.write_text(GOOD, encoding="utf-8")
    error = refusal(file, argument)
    assert error is None or isinstance(error, RecipeError)


@QUICK
@given(st.text(max_size=30))
@example("no")
@example("1e5")
@example("${HOME}")
@example("$${x")
@example(" a: b #c")
def test_texts_survive_being_written(text: str) -> None:
    recipe = parse({"version": 1, "model": f"m{text}", "targets": ["tflite-int8"]}, where="test")
    tree = parse_yaml(Source("r.yaml", to_yaml(recipe)))
    found: list[Diagnostic] = []
    model = at(interpolate(tree, {"HOME": "/root"}, found), "model")
    assert isinstance(model, Scalar)
    assert model.value == f"m{text}"
    assert not found
