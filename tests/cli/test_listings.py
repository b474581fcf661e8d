"""The commands that look without working: targets, models, doctor; and how streams are used."""

from __future__ import annotations

import io
import json
import sys
from importlib import metadata
from pathlib import Path

import pytest

from edgefx import views
from edgefx.cli import run
from edgefx.compilers import iree
from edgefx.protocols import SILENT
from edgefx.system import cpu, doctor, packages
from edgefx.targets import ALL, TARGETS
from tests.cli.conftest import Edgefx

ESCAPE = "\x1b["
# The interpreter for microcontrollers has no wheels for some systems.


def installed() -> set[str]:
    """Return the targets whose packages, and whose compiler's own environment, are there."""
    return {
        name
        for name, row in ALL.items()
        if all(map(packages.is_installed, row.packages))
        and (not row.environment or iree.ENVIRONMENT.is_ready)
    }


class _Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def test_targets_table(edgefx: Edgefx) -> None:
    outcome = edgefx("targets")
    assert outcome.code == 0
    table, _, told = outcome.out.partition("\n\n")
    assert [line.split()[0] for line in table.splitlines()[2:] if line[:1].strip()] == list(ALL)
    assert f"onnx-int8      laid out for {cpu.detect()} by the" in told
    assert ESCAPE not in outcome.out


def test_targets_json(edgefx: Edgefx) -> None:
    outcome = edgefx("targets", "--json")
    rows = {row["target"]: row for row in json.loads(outcome.out)}
    assert list(rows) == list(ALL)
    assert rows["ethos-u55-256"]["io_dtypes"] == ["int8", "uint8"]
    assert rows["tflite-int8"]["needs_calibration"] is True
    assert rows["tflite-int8"]["io_dtypes"] == ["uint8", "int8", "float32"]
    assert rows["openvino-int8"]["file"] == ".xml + .bin"
    assert rows["onnx-float32"]["needs_calibration"] is False
    assert {name for name, row in rows.items() if row["laid_out_by"]} == {"onnx-int8", "openvino-int8"}


def test_targets_show_what_each_effort_does(edgefx: Edgefx) -> None:
    rows = json.loads(edgefx("targets", "--passes", "--json").out)
    assert {row["target"] for row in rows} == {name for name, row in TARGETS.items() if row.needs_calibration}
    of_tflite = {row["name"]: row["efforts"] for row in rows if row["target"] == "tflite-int8"}
    assert of_tflite["ranges"] == ["fast", "balanced", "high"]
    assert of_tflite["gptq"] == ["balanced", "high"]
    assert of_tflite["reconstruct"] == ["high"]
    table = edgefx("targets", "--passes").out
    assert all(row["name"] in table for row in rows)


def test_targets_say_what_is_missing(edgefx: Edgefx, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)  # what Python itself does to forbid an import
    rows = {row["target"]: row for row in json.loads(edgefx("targets", "--json").out)}
    assert rows["openvino-int8"]["available"] is False
    assert rows["openvino-int8"]["missing"] == ["openvino"]
    assert rows["tflite-int8"]["available"] is True


def test_models(edgefx: Edgefx) -> None:
    rows = {row["name"]: row for row in json.loads(edgefx("models", "--json").out)}
    assert {"digits", "b0", "b7", "v2-b0", "v2-s", "v2-m", "v2-l"} <= set(rows)
    assert rows["b3"]["input_size"] == 300
    table = edgefx("models").out
    assert "300x300" in table
    assert "packaged" in table


def test_doctor_on_a_complete_installation(edgefx: Edgefx) -> None:
    outcome = edgefx("doctor", "--json")
    found = json.loads(outcome.out)
    assert outcome.code == 0, found["problems"]
    assert found["problems"] == []
    assert found["fix"] == ""
    assert {state["target"] for state in found["targets"] if state["ready"]} == installed()
    versions = {package["distribution"]: package["version"] for package in found["packages"]}
    assert versions["click"] == metadata.version("click")
    assert found["environment"]["cores"] >= 1


def test_doctor_names_the_cure(edgefx: Edgefx, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    outcome = edgefx("doctor")
    assert outcome.code == 3
    assert "openvino-int8: needs openvino" in outcome.out
    assert "openvino: not installed" in outcome.out
    assert f"pip install '{packages.requirements()['openvino']}'" in outcome.out


def test_an_extra_that_was_never_installed_is_no_fault(
    edgefx: Edgefx, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = metadata.version

    def without(name: str) -> str:
        if name == "openvino":
            raise metadata.PackageNotFoundError(name)
        return version(name)

    monkeypatch.setitem(sys.modules, "openvino", None)
    monkeypatch.setattr(metadata, "version", without)
    outcome = edgefx("doctor", "--json")
    found = json.loads(outcome.out)
    assert (outcome.code, found["problems"], found["fix"]) == (0, [], "")
    extras = {state["extra"]: state for state in found["extras"]}
    assert extras["tflite"] == {"extra": "tflite", "ready": True, "missing": []}
    assert extras["openvino"] == {"extra": "openvino", "ready": False, "missing": ["openvino"]}
    assert extras["all"]["missing"] == ["openvino"]
    shown = " ".join(edgefx("doctor").out.split())
    assert "not installed pip install 'edgefx[openvino]' for: openvino" in shown
    assert "openvino-int8: needs openvino" in shown


def test_deep_finds_a_package_that_is_there_but_broken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken_native_package.py").write_text("raise OSError('libfoo.so.1: cannot open')")
    monkeypatch.syspath_prepend(tmp_path)
    whole, broken = (
        views.PackageState(
            distribution=name, module=name, requirement=name, version="1.0", needed_for=("onnx",)
        )
        for name in ("colorsys", "broken_native_package")
    )
    assert doctor.imported(broken, SILENT).problem == "cannot be imported: OSError: libfoo.so.1: cannot open"
    found = doctor.imported(whole, SILENT)
    assert found.problem == ""
    assert found.import_s is not None


def test_doctor_table(edgefx: Edgefx) -> None:
    outcome = edgefx("doctor")
    assert f"{len(installed())} of {len(ALL)}" in outcome.out
    assert "cpu features" in outcome.out
    assert "disk free" in outcome.out
    assert "openvino-int8  laid out for it by the" in outcome.out


@pytest.mark.parametrize(
    ("version", "requirement", "expected"),
    [
        ("3.15.1", "keras>=3.12,<4", True),
        ("4.0", "keras>=3.12,<4", False),
        ("3.11.9", "keras<4,>=3.12", False),
        ("2.21.0rc1", "tensorflow<2.22,>=2.20", True),
        ("2.22", "tensorflow<2.22,>=2.20", False),
        ("11", "pillow>=11", True),
        ("1.16.1", "tf2onnx>=1.16.1", True),
        ("1.16", "tf2onnx>=1.16.1", False),
        ("1.0", "anything", True),
    ],
)
def test_versions_are_compared_by_number(version: str, requirement: str, expected: bool) -> None:
    assert packages.satisfies(version, requirement) is expected


def test_every_requirement_of_edgefx_can_be_compared() -> None:
    stated = packages.requirements()
    assert {"tensorflow", "onnxruntime", "openvino", "tf2onnx", "click"} <= set(stated)
    for requirement in stated.values():
        packages.satisfies("1.0", requirement)


@pytest.mark.parametrize(
    ("modules", "install"),
    [
        (("click",), "click>=8.2"),
        (("yaml",), "pyyaml>=6"),
        (("tensorflow",), "edgefx[keras]"),
        (("onnxruntime", "onnx"), "edgefx[onnx]"),
        (TARGETS["tflite-int8"].packages, "edgefx[tflite]"),
        (TARGETS["onnx-int8"].packages, "edgefx[onnx]"),
        (TARGETS["openvino-int8"].packages, "edgefx[openvino]"),
        (("tensorflow_model_optimization",), "edgefx[train]"),
        (("ai_edge_litert", "openvino"), "edgefx[all]"),
        (("unheard_of",), "unheard_of"),
    ],
)
def test_the_smallest_extra_is_named(modules: tuple[str, ...], install: str) -> None:
    assert packages.install_of(*modules) == install


def test_only_running_an_artifact_takes_less() -> None:
    running = packages.missing("onnxruntime", "onnx", purpose="running .onnx files")
    assert running.hint.startswith(
        "run: pip install 'edgefx[onnx]'; only to run artifacts: pip install 'onnx"
    )
    assert "'onnx>=" in running.hint
    compiling = packages.missing(*TARGETS["onnx-int8"].packages, purpose="the onnx targets")
    assert compiling.hint == "run: pip install 'edgefx[onnx]'"
    broken = packages.missing("onnx", purpose="x", cause=ImportError("libx.so is missing"))
    assert "pip install 'onnx>=" in broken.hint
    assert "--force-reinstall" in broken.hint


def test_every_extra_is_whole() -> None:
    """What a target imports to convert, and to run, is in the extra of its runtime."""
    extras = packages.extras()
    assert set(extras) | {"tflm"} == {
        "keras",
        "tflite",
        "onnx",
        "openvino",
        "train",
        "npu",
        "tflm",
        "sign",
        "mcuboot",
        "mlflow",
        "otel",
        "keras-hub",
        "all",
    }
    for row in TARGETS.values():
        needed = {packages.distribution_of(module) for module in (*row.packages, *row.engine_packages)}
        assert needed | set(extras["keras"]) <= set(extras[row.runtime])
    assert set(extras["tflite"]) < set(extras["train"])
    assert set(extras["all"]) == set().union(
        *(members for extra, members in extras.items() if extra not in ("mlflow", "otel", "keras-hub"))
    )


@pytest.mark.parametrize(
    ("environment", "argv", "terminal", "colored"),
    [
        ({}, [], False, False),
        ({}, [], True, True),
        ({"NO_COLOR": "1"}, [], True, False),
        ({"FORCE_COLOR": "1"}, [], False, True),
        ({"NO_COLOR": "1", "FORCE_COLOR": "1"}, [], True, False),
        ({"NO_COLOR": "1"}, ["--color", "always"], False, True),
        ({"FORCE_COLOR": "1"}, ["--color=never"], True, False),
        ({"TERM": "dumb"}, [], True, False),
    ],
)
def test_colour_follows_flag_then_environment_then_terminal(
    monkeypatch: pytest.MonkeyPatch,
    environment: dict[str, str],
    argv: list[str],
    terminal: bool,
    colored: bool,
) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    out, err = (_Terminal(), _Terminal()) if terminal else (io.StringIO(), io.StringIO())
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)
    assert run(["targets", *argv]) == 0
    assert run(["--color", argv[-1].removeprefix("--color="), "nothing"] if argv else ["nothing"]) == 2
    assert (ESCAPE in out.getvalue()) is colored
    assert (ESCAPE in err.getvalue()) is colored
    assert "tflite-int8" in out.getvalue()


def test_the_table_folds_at_80_columns(edgefx: Edgefx, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    for command in ("targets", "models", "doctor"):
        lines = edgefx(command).out.splitlines()
        assert max(len(line.rstrip()) for line in lines) <= 80, command
        assert not any("…" in line for line in lines), command
