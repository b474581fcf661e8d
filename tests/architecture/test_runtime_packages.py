"""One runtime like another: the same files, and one object that is all that the rest of edgefx uses."""

from __future__ import annotations

import sys
from dataclasses import replace
from importlib import import_module

import pytest

from edgefx.quantization import QuantScheme
from edgefx.runtimes import load
from edgefx.runtimes.passes import conditions_of, selected
from edgefx.runtimes.protocol import Introspectable, Runtime, Trainable
from edgefx.targets import TARGETS, TargetRow
from edgefx.vocabulary import Effort, IoDtype, Precision
from edgefx.vocabulary import Runtime as RuntimeName
from tests.architecture.package import ROOT, imported_names, modules

FILES = (
    "runtime", "convert", "session", "artifact", "calibrate", "placement", "equalize", "rounding", "quantize",
    "readback", "passes",
)  # fmt: skip


@pytest.mark.parametrize("runtime", list(RuntimeName))
@pytest.mark.parametrize("file", FILES)
def test_every_runtime_has_the_same_files(runtime: RuntimeName, file: str) -> None:
    assert (ROOT / "runtimes" / runtime / f"{file}.py").is_file()


@pytest.mark.parametrize("runtime", list(RuntimeName))
def test_the_object_of_a_runtime_is_a_runtime(runtime: RuntimeName) -> None:
    offered = import_module(f"edgefx.runtimes.{runtime}.runtime").RUNTIME
    assert isinstance(offered, Runtime)
    assert isinstance(offered, Introspectable)
    assert isinstance(offered, Trainable) == (runtime is RuntimeName.TFLITE)


@pytest.mark.parametrize("row", TARGETS.values(), ids=str)
def test_every_effort_has_its_passes_and_all_of_them_are_carried_out(row: TargetRow) -> None:
    by_effort = load(row).passes(row.precision)
    assert set(by_effort) == (set(Effort) if row.needs_calibration else set())
    known = import_module(f"{row.module}.quantize")
    for passes in by_effort.values():
        names = [one.name for one in passes]
        assert len(names) == len(set(names))
        assert set(names) <= set(known.CARRIED_OUT)


def test_passes_are_left_out_where_their_conditions_hold() -> None:
    passes = load(TARGETS["tflite-int8"]).passes(Precision.INT8)[Effort.HIGH]
    scheme = QuantScheme(
        precision=Precision.INT8, io_dtype=IoDtype.UINT8, keep_float=frozenset({"stem_conv"})
    )
    assert selected(passes, conditions_of(scheme, trained=False)) == passes[:-1]
    assert selected(passes, conditions_of(replace(scheme, keep_float=frozenset()), trained=False)) == passes


def test_every_target_names_a_package_of_runtimes() -> None:
    packages = {path.parent.name for path in (ROOT / "runtimes").glob("*/__init__.py")}
    assert packages == set(RuntimeName)
    assert {row.module for row in TARGETS.values()} == {f"edgefx.runtimes.{name}" for name in packages}


def test_a_runtime_is_used_through_its_object_only() -> None:
    """Outside a runtime's package nobody imports a module of it: `edgefx.runtimes.load` gives the object."""
    used = [
        f"{name} imports {module}"
        for name, source in modules().items()
        for module, _, _ in imported_names(source)
        for runtime in RuntimeName
        if module.startswith(f"edgefx.runtimes.{runtime}.") and f".runtimes.{runtime}" not in name
        if not module.endswith(".offline")  # a switch of the process, which `doctor` sets too
    ]
    assert used == []


def test_openvino_is_kept_from_reporting_usage() -> None:
    """Whichever module of the package comes first: the import of the reporting package must fail."""
    import_module("edgefx.runtimes.openvino.session")
    assert sys.modules["openvino_telemetry"] is None
