"""Keys of stages: what counts, and what must not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from edgefx.cache import keys, tools
from edgefx.cache.code import closure, code
from edgefx.cache.identity import model as known_as
from edgefx.models import zoo
from edgefx.quantization import QuantScheme
from edgefx.recipe.schema import ModelSection
from edgefx.storage.hashes import FileHashes
from edgefx.targets import TARGETS
from edgefx.types import Effort, Ending, IoDtype, Precision
from tests.unit.report_samples import artifact

INT8 = QuantScheme(precision=Precision.INT8, io_dtype=IoDtype.UINT8)
FLOAT = QuantScheme(precision=Precision.FLOAT32, io_dtype=IoDtype.FLOAT32)


def convert(target: str, scheme: QuantScheme, images: str | None = "images") -> str:
    row = TARGETS[target]
    given = images if row.needs_calibration else None
    return keys.conversion(row, scheme, name="b0", graph_sha256="graph", images=given).digest


def test_every_option_of_a_conversion_counts() -> None:
    changes = (
        INT8,
        replace(INT8, seed=1),
        replace(INT8, effort=Effort.HIGH),
        replace(INT8, io_dtype=IoDtype.INT8),
        replace(INT8, ends=Ending.LOGITS),
        replace(INT8, keep_float=frozenset({"a", "b"})),
        replace(INT8, keep_float=frozenset({"a"})),
    )
    found = {convert("tflite-int8", scheme) for scheme in changes}
    found |= {convert("onnx-int8", INT8), convert("tflite-int8", INT8, images="other")}
    assert len(found) == len(changes) + 2


def test_tflite_int8_depends_on_what_makes_a_model_of_the_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    def all_keys() -> list[str]:
        return [convert("tflite-int8", INT8), convert("tflite-float32", FLOAT), convert("onnx-int8", INT8)]

    before = all_keys()
    known = tools._version
    monkeypatch.setattr(tools, "_version", lambda name: "0" if name == "tf-keras" else known(name))
    assert [one == other for one, other in zip(before, all_keys(), strict=True)] == [False, True, True]


def test_the_order_of_float_layers_does_not_count() -> None:
    one = frozenset(f"layer{number}" for number in range(20))
    other = frozenset(f"layer{number}" for number in reversed(range(20)))
    assert convert("tflite-int8", replace(INT8, keep_float=one)) == convert(
        "tflite-int8", replace(INT8, keep_float=other)
    )


def test_seed_and_machine_do_not_count_where_nothing_is_sampled(monkeypatch: pytest.MonkeyPatch) -> None:
    before = convert("tflite-float32", FLOAT), convert("tflite-int8", INT8)
    assert convert("tflite-float32", replace(FLOAT, seed=1)) == before[0]
    monkeypatch.setattr(tools, "_cpu", lambda: ("another CPU", ("ANOTHER",)))
    assert convert("tflite-float32", FLOAT) == before[0]
    assert convert("tflite-int8", INT8) != before[1]


def test_versions_of_the_tools_count(monkeypatch: pytest.MonkeyPatch) -> None:
    def all_keys() -> list[str]:
        return [convert("tflite-int8", INT8), convert("onnx-int8", INT8)]

    before = all_keys()
    original = tools._version
    monkeypatch.setattr(tools, "_version", lambda name: "99" if name == "onnxruntime" else original(name))
    after = all_keys()
    assert after[0] == before[0]
    assert after[1] != before[1]


def test_latency_belongs_to_a_machine_and_to_all_that_was_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    def key(*names: str, rounds: int = 100) -> str:
        subjects = [(TARGETS[name], artifact(name, size_bytes=1, compute_int8=1), None) for name in names]
        return keys.benchmark(subjects, threads=1, settings={"rounds": rounds}).digest

    found = {key("tflite-int8"), key("tflite-int8", "onnx-int8"), key("tflite-int8", rounds=7)}
    monkeypatch.setattr(tools, "_cpu", lambda: ("another CPU", ()))
    assert len(found | {key("tflite-int8")}) == 4


def test_code_of_one_runtime_is_not_that_of_another() -> None:
    onnx = closure("edgefx.runtimes.onnx.runtime")
    assert {"edgefx.runtimes.onnx.graph", "edgefx.quantize.gptq", "edgefx.types"} <= onnx
    assert not {
        name for name in onnx if name.startswith(("edgefx.runtimes.tflite", "edgefx.runtimes.openvino"))
    }
    assert code("edgefx.runtimes.onnx.runtime") != code("edgefx.runtimes.tflite.runtime")


@pytest.fixture
def hashes() -> FileHashes:
    return FileHashes(None)


def test_models_are_known_by_content(tmp_path: Path, hashes: FileHashes) -> None:
    one, other = tmp_path / "one.keras", tmp_path / "other.keras"
    one.write_bytes(b"weights")
    other.write_bytes(b"weights")
    assert known_as(ModelSection(source=str(one)), seed=0, hashes=hashes) == known_as(
        ModelSection(source=str(other)), seed=1, hashes=hashes
    )
    other.write_bytes(b"other weights")
    assert known_as(ModelSection(source=str(one)), seed=0, hashes=hashes) != known_as(
        ModelSection(source=str(other)), seed=0, hashes=FileHashes(None)
    )
    with pytest.raises(FileNotFoundError):
        known_as(ModelSection(source=str(tmp_path / "none.keras")), seed=0, hashes=hashes)


def test_zoo_models_are_known_by_their_weights(tmp_path: Path, hashes: FileHashes) -> None:
    weights = tmp_path / "b0.weights.h5"
    weights.write_bytes(b"weights")

    def identity(seed: int = 0, **section: object) -> str:
        return repr(known_as(ModelSection.model_validate(section), seed=seed, hashes=hashes))

    assert identity(source="b0") == identity(source="B0", weights="imagenet", seed=3)
    assert identity(source="b0", weights="random") != identity(source="b0", weights="random", seed=1)
    assert identity(source="b0", weights=str(weights)) == identity(source="b0", weights=str(weights), seed=1)
    different = {
        identity(source="b0"),
        identity(source="b1"),
        identity(source="b0", weights="random"),
        identity(source="b0", weights=str(weights)),
        identity(source="b0", input_size=64),
        identity(source="digits"),
    }
    assert len(different) == 6
    assert hashes.sha256(zoo.DIGITS_WEIGHTS) in identity(source="digits")
