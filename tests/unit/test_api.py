"""The Python API without work: its names, what importing it costs, its documentation, and what it refuses."""

from __future__ import annotations

import inspect
import json
import pkgutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

import edgefx
from edgefx import api, views
from edgefx.api import runs
from edgefx.cli.compile import _options, command
from edgefx.errors import UnknownNameError, UsageError
from edgefx.notebook import Shown
from edgefx.protocols import SILENT
from edgefx.recipe.options import FLAGS
from edgefx.report import html
from edgefx.types import StageKind
from edgefx.vocabulary import Effort
from tests.unit.report_samples import report

TAKEN = {row.option for row in FLAGS} | {"calib", "no_eval", "no_benchmark"}  # what the recipe is made of
FUNCTIONS = {
    name: getattr(edgefx, name) for name in edgefx.__all__ if name not in ("EdgefxError", "__version__")
}


def test_the_public_names() -> None:
    assert edgefx.__all__ == [
        "EdgefxError",
        "__version__",
        "benchmark",
        "bundle",
        "check",
        "check_rollout",
        "compile",
        "debug",
        "diff",
        "drift",
        "evaluate",
        "gate",
        "inspect",
        "npu",
        "plan",
        "plan_recipe",
        "run",
        "verify",
    ]
    assert set(edgefx.__all__) <= set(dir(edgefx))
    assert set(FUNCTIONS) == set(api.__all__) - {"CompileOptions"}
    with pytest.raises(AttributeError, match="no attribute 'complie'"):
        _ = edgefx.complie


def test_no_subpackage_has_the_name_of_a_function() -> None:
    """Importing such a subpackage would put the module where the function was."""
    assert not {module.name for module in pkgutil.iter_modules(edgefx.__path__)} & set(edgefx.__all__)


def test_importing_costs_nothing() -> None:
    probe = (
        "import json, sys; import edgefx; first = sorted(sys.modules);"
        "[getattr(edgefx, name) for name in edgefx.__all__]; print(json.dumps([first, sorted(sys.modules)]))"
    )
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    first, later = json.loads(done.stdout)
    assert [name for name in first if name.startswith("edgefx")] == ["edgefx", "edgefx.version"]
    heavy = {"numpy", "tensorflow", "keras", "onnxruntime", "openvino", "PIL", "rich", "pydantic", "click"}
    assert not heavy & set(later)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_option_is_typed_keyword_only_and_explained(name: str) -> None:
    function = FUNCTIONS[name]
    documentation = inspect.getdoc(function) or ""
    assert "Example:\n" in documentation
    assert "Raises:\n" in documentation
    parameters = inspect.signature(function).parameters.values()
    for parameter in parameters:
        assert parameter.annotation is not inspect.Parameter.empty
        assert f"    {parameter.name}: " in documentation, parameter.name
        given_by_place = parameter.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD
        assert given_by_place == (
            parameter.default is inspect.Parameter.empty and parameter.name != "targets"
        ) or (parameter.kind is inspect.Parameter.VAR_KEYWORD)


def test_plan_takes_the_options_of_compile() -> None:
    about_the_run = {"model", "resume", "cache", "allow_unsafe", "progress", "command"}
    taken = inspect.signature(edgefx.compile).parameters
    hints = inspect.get_annotations(runs.CompileOptions)
    options = {name: parameter for name, parameter in taken.items() if name not in about_the_run}
    assert list(hints) == list(options)
    for name, parameter in options.items():
        assert parameter.annotation == hints[name].__forward_arg__, name


def test_the_options_are_those_of_the_command_with_the_same_defaults() -> None:
    with command.make_context("compile", ["digits", "-t", "tflite-int8"]) as context:
        flags = {"model": "digits", **_options(**{k: v for k, v in context.params.items() if k in TAKEN})}
    taken = inspect.signature(edgefx.compile).parameters
    assert set(flags) == {row.option for row in FLAGS} <= set(taken)
    for name, value in flags.items():
        if name not in ("model", "targets"):
            default = taken[name].default
            assert (str(value), value is None) == (str(default), default is None), name


def test_compile_and_plan_make_the_same_recipe() -> None:
    shortest = runs._recipe("digits", {"targets": "tflite-int8"})
    assert [section.target for section in shortest.targets] == ["tflite-int8"]
    assert (shortest.seed, str(shortest.output), shortest.effort) == (0, "edgefx-out", Effort.BALANCED)
    longest = runs._recipe(
        Path("model.keras"),
        {
            "targets": ["tflite-*", "onnx-int8"], "calibration": Path("photos"), "samples": 20,
            "evaluate": False, "benchmark": False, "output": "build", "io_dtype": "int8",
            "effort": Effort.HIGH, "max_size": "6MB", "integer_only": True, "resize": "crop", "seed": 3,
        },
    )  # fmt: skip
    assert longest.model.source == "model.keras"
    assert longest.calibration is not None
    assert (longest.calibration.images, longest.calibration.samples) == (Path("photos"), 20)
    assert (longest.evaluate, longest.benchmark) == (None, None)
    assert (longest.output, longest.io_dtype, longest.effort) == (Path("build"), "int8", Effort.HIGH)
    assert (longest.gates.max_size, longest.data.resize, longest.seed) == (6_000_000, "crop", 3)


def test_plans() -> None:
    plan = edgefx.plan("digits", targets="tflite-int8", benchmark=False, cache=False)
    assert [step.stage for step in plan.steps][:2] == [StageKind.LOAD, StageKind.CANONICALIZE]
    assert all(step.cached is None for step in plan.steps)
    (shipped,) = edgefx.plan_recipe(
        "digits-demo", targets=["onnx-int8"], settings={"benchmark": None, "seed": 5}, output="there"
    )
    assert shipped.output == "there"
    assert {step.target for step in shipped.steps} == {"", "onnx-int8"}
    assert StageKind.BENCHMARK not in {step.stage for step in shipped.steps}


def test_mistakes_are_edgefx_errors(tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("version: 1\nmodel: digits\ntargets: tflite-int8\n")
    with pytest.raises(UnknownNameError, match="unknown target"):
        edgefx.plan("digits", targets="tflite-int9")
    with pytest.raises(UsageError, match="not a valid recipe"):
        edgefx.plan("digits")
    with pytest.raises(UsageError, match="not a valid recipe"):
        edgefx.plan("digits", targets="tflite-int8", effort="extreme")  # type: ignore[arg-type]
    with pytest.raises(UnknownNameError, match="unknown option 'quality'"):
        edgefx.plan("digits", targets="tflite-int8", quality=3)  # type: ignore[call-arg]
    with pytest.raises(UsageError, match=r"max_drop 1: the unit is missing"):
        edgefx.plan("digits", targets="tflite-int8", max_drop="1")
    with pytest.raises(UsageError, match="evaluate=False contradicts evaluation"):
        edgefx.plan("digits", targets="tflite-int8", evaluate=False, evaluation=tmp_path)
    with pytest.raises(UsageError, match=r"^tflite-int8 needs calibration images") as caught:
        edgefx.plan("b0", targets="tflite-int8")
    assert "calibration='photos/'" in caught.value.hint
    with pytest.raises(UnknownNameError, match="unknown resize 'squash'"):
        edgefx.evaluate("a.tflite", tmp_path, resize="squash")  # type: ignore[arg-type]
    with pytest.raises(edgefx.EdgefxError, match="no such file"):
        edgefx.evaluate(tmp_path / "absent.onnx", tmp_path)
    for options in (
        {"rounds": 0},
        {"seconds": float("nan")},
        {"seconds": -1},
        {"threads": 0},
        {"warmup": -1},
    ):
        with pytest.raises(UsageError, match=f"{next(iter(options))}=.*: not a number"):
            edgefx.benchmark(recipe, **options)
    with pytest.raises(UsageError, match="classes=1: not a number of 2 or more"):
        edgefx.inspect("b0", classes=1)
    with pytest.raises(UsageError, match="no artifact given"):
        edgefx.benchmark([])
    with pytest.raises(UsageError, match="not an artifact"):
        edgefx.benchmark(recipe)
    with pytest.raises(UsageError, match="is an artifact"):
        edgefx.inspect("a.tflite", classes=3)
    with pytest.raises(UsageError, match=r"extreme"):
        edgefx.plan_recipe(recipe, settings={"quantize.effort": "extreme"})
    with pytest.raises(UsageError, match="as it is"):
        edgefx.run(runs._recipe("digits", {"targets": "tflite-int8"}), settings={"seed": 1})
    with pytest.raises(UsageError):
        edgefx.diff(tmp_path, tmp_path)


# ------------------------------------------------------------------------------------------------- notebooks


def test_a_report_shows_as_its_table() -> None:
    result = report()
    shown = result._repr_html_()
    assert shown is not None
    assert shown.startswith("<pre")
    for target in result:
        assert target.target in shown


def test_every_result_of_a_function_can_be_shown() -> None:
    namespace = {**vars(views), **{kind.__name__: kind for kind in html._PRINTED}}
    for function in FUNCTIONS.values():
        returned = str(inspect.signature(function).return_annotation)
        kinds = returned.removeprefix("tuple[").removesuffix(", ...]").split(" | ")
        for kind in kinds:
            assert issubclass(namespace[kind], Shown), kind
            assert namespace[kind] in html._PRINTED, kind


def test_what_comes_from_files_is_text() -> None:
    hostile = "<script>alert(1)</script>[link=javascript:alert(1)]x[/link]:smile:"
    plan = views.PlanView(
        name="",
        model=hostile,
        output="out",
        steps=(views.PlanStep(stage=StageKind.LOAD, target="", what=hostile),),
    )
    benchmark = replace(
        views.Benchmark(environment=report().environment, latencies={}, failures={}),
        latencies={hostile: next(one.latency for one in report() if one.latency)},
    )
    for result in (plan, benchmark):
        shown = result._repr_html_()
        assert shown is not None
        assert "<script" not in shown
        assert "href" not in shown
        assert ":smile:" in shown.replace("\n", "")


def test_silence_says_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    with SILENT.task("work", 3) as task:
        task.advance()
        SILENT.note("a note")
        SILENT.warn("a warning")
    assert capfd.readouterr() == ("", "")
