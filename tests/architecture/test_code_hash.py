"""What a stage's key hashes is what computes the stage: all of it, and for what is only run no more.

What is hashed is asked of the key functions themselves. What computes is found here by reading the sources
with `ast`: from the functions that do a stage's work, through every function of the same file that they call,
to all modules that these import.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from edgefx.cache import code as hashing
from edgefx.cache import keys
from edgefx.cache.entry import Key, key
from edgefx.quantization import UNCOMPRESSED, QatSettings, QuantScheme
from edgefx.targets import TARGETS
from edgefx.types import IoDtype, Precision
from tests.architecture.package import modules
from tests.unit.report_samples import artifact
from tests.unit.test_artifact_metadata import METADATA

RUNTIMES = ("tflite", "onnx", "openvino")
MAKERS = ("runtime", "convert", "calibrate", "placement", "equalize", "rounding", "quantize", "readback")
KEY = key("other", version=1)
INT8 = QuantScheme(precision=Precision.INT8, io_dtype=IoDtype.FLOAT32)
# Who calls is hashed by itself, without what it imports; the cache decides where results are, not which.
CALLERS = ("edgefx.pipeline", "edgefx.cache")

# By stage: the functions that do its work. "{runtime}" is the package of the target's runtime.
WORK = {
    "canonicalize": (
        "edgefx.pipeline.model:Source._canonicalized",
        "edgefx.pipeline.model:Source._load",
        "edgefx.pipeline.records:GraphRecord",
    ),
    "equality": (
        "edgefx.pipeline.inputs:Inputs._compared",
        "edgefx.pipeline.model:Source._load",
        "edgefx.pipeline.images:Images._decoded",
        "edgefx.pipeline.records:Equality",
    ),
    "images": ("edgefx.pipeline.images:Images._decoded", "edgefx.pipeline.records:ImagesRecord"),
    "checks": (
        "edgefx.pipeline.inputs:Inputs._checked",
        "edgefx.pipeline.images:Images._decoded",
        "edgefx.pipeline.records:CalibrationChecks",
    ),
    "baseline": (
        "edgefx.pipeline.inputs:Inputs._scored",
        "edgefx.pipeline.model:Source._load",
        "edgefx.pipeline.images:Images._decoded",
        "edgefx.pipeline.records:BaselineRecord",
    ),
    "convert": (
        "edgefx.pipeline.artifacts:ArtifactBuilder._converted",
        "edgefx.pipeline.training:Training._transfer",
        "edgefx.pipeline.images:Images._decoded",
        "edgefx.pipeline.records:ConversionRecord",
        "{runtime}.runtime:convert",
        "{runtime}.runtime:describe",
    ),
    "prune": (
        "edgefx.pipeline.pruning:Graphs._computed",
        "edgefx.pipeline.images:Images._decoded",
        "edgefx.pipeline.records:PrunedRecord",
    ),
    "footprint": (
        "edgefx.pipeline.compression:Compressions._footprint",
        "edgefx.compression:Footprint",
        "edgefx.runtimes.tflite.runtime:footprint",
    ),
    "finish": (
        "edgefx.pipeline.finish:stage",
        "edgefx.pipeline.records:FinishedFiles",
        "{runtime}.runtime:embed",
    ),
    "training": (
        "edgefx.pipeline.training:Training._trained",
        "edgefx.pipeline.images:Images._decoded",
        "edgefx.runtimes.tflite.runtime:template",
        "edgefx.runtimes.tflite.runtime:read_template",
        "edgefx.training:TrainingResult",
    ),
    "training-effect": (
        "edgefx.pipeline.training:Training.effect",
        "edgefx.pipeline.images:Images._decoded",
        "edgefx.training:TrainingEffect",
        "{runtime}.runtime:open_session",
    ),
    "sensitivity": (
        "edgefx.pipeline.artifacts:ArtifactBuilder._ranked",
        "edgefx.pipeline.images:Images._decoded",
        "edgefx.pipeline.records:Ranking",
        "{runtime}.runtime:read_quantization",
    ),
    "evaluate": (
        "edgefx.pipeline.artifacts:ArtifactBuilder._measured",
        "edgefx.pipeline.images:Images._decoded",
        "edgefx.pipeline.records:Measured",
        "{runtime}.runtime:open_session",
    ),
    "explain": (
        "edgefx.pipeline.changed:Explainer._asked",
        "edgefx.pipeline.records:Saliencies",
        "edgefx.analysis.occlusion:explain",
    ),
    "benchmark": (
        "edgefx.pipeline.latency:latency_stage",
        "edgefx.benchmarking.worker:main",
        "edgefx.pipeline.records:Latencies",
        "{runtime}.runtime:open_session",
    ),
}


def key_of(stage: str, runtime: str) -> Key:
    row = TARGETS[f"{runtime}-int8"]
    made = artifact(row.name, size_bytes=1, compute_int8=1)
    makers = {
        "canonicalize": lambda: keys.graph("model"),
        "equality": lambda: keys.equality("model", "graph", "images"),
        "prune": lambda: keys.pruning(UNCOMPRESSED, graph_sha256="graph", images="images", seed=0),
        "images": lambda: keys.images("images", [], skip_bad=False, pixel_range=(0.0, 255.0)),
        "checks": lambda: keys.checks(KEY, KEY, "graph"),
        "baseline": lambda: keys.baseline("model", "images", skip_bad=False),
        "convert": lambda: keys.conversion(
            row, INT8, name="b0", graph_sha256="graph", images="images", training=KEY
        ),
        "footprint": lambda: keys.footprint(TARGETS["tflite-int8"], made),
        "finish": lambda: keys.finished(row, ["content"], METADATA),
        "training": lambda: keys.training(
            QatSettings(),
            INT8,
            graph_sha256="graph",
            teacher_sha256="teacher",
            calibration="calibration",
            images="images",
        ),
        "training-effect": lambda: keys.training_effect(row, made, made, training=KEY),
        "sensitivity": lambda: keys.sensitivity(row, made, graph_sha256="graph", images="images"),
        "evaluate": lambda: keys.evaluation(
            row, made, images_sha256="images", skip_bad=False, sample=None, baseline=KEY, threads=1
        ),
        "explain": lambda: keys.explanation(KEY, [["sha256", 0]]),
        "benchmark": lambda: keys.benchmark([(row, made, None)], threads=1, settings={}),
    }
    return makers[stage]()


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The modules that the keys made in the test have hashed."""
    found: list[str] = []

    def recorded(*modules: str, alone: tuple[str, ...] = ()) -> str:
        found.extend([*hashing.closure(*modules), *alone])
        return ""

    monkeypatch.setattr(keys, "code", recorded)
    return found


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("stage", WORK)
def test_all_that_computes_a_stage_is_in_its_key(stage: str, runtime: str, hashed: list[str]) -> None:
    assert key_of(stage, runtime).stage == stage
    found: set[str] = set()
    for work in WORK[stage]:
        module, _, function = work.format(runtime=f"edgefx.runtimes.{runtime}").partition(":")
        needed = reached(module, function)
        assert sorted(needed - set(hashed)) == [], f"{work} of {stage}"
        if module.startswith(CALLERS):
            assert module in hashed, f"{work} of {stage}"
        found |= needed
    assert len(found) > 3, f"too little was found of {stage} to compare"


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("stage", ["evaluate", "benchmark", "training-effect"])
def test_what_runs_an_artifact_does_not_depend_on_what_makes_one(
    stage: str, runtime: str, hashed: list[str]
) -> None:
    key_of(stage, runtime)
    makers = {f"edgefx.runtimes.{runtime}.{name}" for name in MAKERS}
    assert not makers & set(hashed)
    assert not {name for name in hashed if name.startswith("edgefx.quantize")}


def test_a_comment_in_the_quantizer_leaves_what_is_known_of_an_artifact(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stages = ("convert", "evaluate", "benchmark", "sensitivity", "training-effect", "baseline")
    before = {stage: key_of(stage, "tflite").digest for stage in stages}
    source = hashing._source
    edited = tmp_path / "equalize.py"
    edited.write_text(source("edgefx.runtimes.tflite.equalize").read_text() + "# a comment\n")
    monkeypatch.setattr(
        hashing, "_source", lambda name: edited if name.endswith("tflite.equalize") else source(name)
    )
    hashing.code.cache_clear()
    try:
        after = {stage: key_of(stage, "tflite").digest for stage in stages}
    finally:
        hashing.code.cache_clear()
    assert {stage for stage in stages if after[stage] != before[stage]} == {"convert"}


def test_what_results_are_made_of_is_in_every_key(hashed: list[str]) -> None:
    for stage in WORK:
        hashed.clear()
        key_of(stage, "onnx")
        assert {"edgefx.results", "edgefx.types", "edgefx.pipeline.records"} <= set(hashed), stage


# ------------------------------------------------------------------------------------- reading the sources


def reached(module: str, function: str) -> set[str]:
    """Return the modules that a function, and what it calls in its own module, need."""
    tree = parsed(module)
    definitions = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    methods = {
        f"self.{node.name}": node
        for owner in tree.body
        if isinstance(owner, ast.ClassDef)
        for node in owner.body
        if isinstance(node, ast.FunctionDef)
    }
    definitions |= methods
    at_the_top = dict(imported([node for node in tree.body if not hasattr(node, "body")]))
    # The pipeline's file and the runtime's list of methods have more functions than those looked at.
    direct: set[str] = set() if module.startswith(CALLERS) or module.endswith(".runtime") else {module}
    name = function.rpartition(".")[2]
    waiting, seen = [name if name in definitions else f"self.{name}"], set[str]()
    while waiting:
        name = waiting.pop()
        if name in seen or name not in definitions:
            continue
        seen.add(name)
        direct |= {found for _, found in imported(definitions[name].body)}
        for part in ast.walk(definitions[name]):
            if isinstance(part, ast.Name):
                direct |= {at_the_top[part.id]} if part.id in at_the_top else set()
                waiting.append(part.id)
            elif isinstance(part, ast.Attribute) and isinstance(part.value, ast.Name):
                waiting.append(f"{part.value.id}.{part.attr}")
    assert seen, f"{module} has no {function}"
    return closure({name for name in direct if not name.startswith(CALLERS)})


def closure(needed: set[str]) -> set[str]:
    found: set[str] = set()
    waiting = list(needed)
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += imports(name)
    return found


@cache
def imports(module: str) -> tuple[str, ...]:
    return tuple(other for _, other in imported(parsed(module).body))


def parsed(module: str) -> ast.Module:
    return modules()[module].tree


def imported(body: list[ast.stmt]) -> Iterator[tuple[str, str]]:
    """Yield the names that statements import from edgefx, with their modules; type checkers' do not count."""
    for node in body:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            continue
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "edgefx":
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                found = inner if inner in modules() else str(node.module)
                if found != "edgefx":
                    yield alias.asname or alias.name, found
        else:
            for name in ("body", "orelse", "finalbody", "handlers"):
                yield from imported(getattr(node, name, []))
