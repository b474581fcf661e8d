"""Few distinct weights through a whole run: in every artifact, and in the report beside one without."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from edgefx.runtimes.tflite.runtime import RUNTIME
from tests.e2e.conftest import Finished, in_process

pytest.importorskip("ethosu", reason="ethos-u-vela is not installed")
pytest.importorskip("tflite_micro", reason="tflite-micro is not installed")
pytestmark = pytest.mark.usefixtures("digits_once")

OPTIONS = (
    *("-t", "tflite-int8,tflm-int8,ethos-u55-128", "--effort", "fast", "--cluster", "16", "--prune", "20%"),
    *("--optimise", "Size", "--no-benchmark", "--json"),
)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return {"EDGEFX_CACHE_DIR": str(tmp_path_factory.mktemp("cache")), "EDGEFX_CACHE_SIZE": "1GB"}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, cache: dict[str, str]) -> tuple[Finished, Path]:
    out = tmp_path_factory.mktemp("compression") / "out"
    return in_process("compile", "digits", *OPTIONS, "-o", out, env=cache), out


@pytest.fixture(scope="module")
def effects(run: tuple[Finished, Path]) -> dict[str, Any]:
    done, _ = run
    assert done.code == 0, done.stderr
    return {one["target"]: one["compression"] for one in done.json["targets"]}


def test_it_is_smaller_wherever_it_is_packed(effects: dict[str, Any]) -> None:
    for effect in effects.values():
        before, after = effect["before"]["footprint"], effect["after"]["footprint"]
        assert after["zipped_bytes"] < 0.85 * before["zipped_bytes"]
        assert after["lookup_bytes"] < 0.95 * before["lookup_bytes"]
        assert after["zeros"] > before["zeros"] + 0.1
        assert effect["images"] == 360
        assert effect["after"]["drop_pp"] < 2
    npu = effects["ethos-u55-128"]
    assert npu["after"]["flash_bytes"] < 0.85 * npu["before"]["flash_bytes"]
    assert effects["tflite-int8"]["after"]["flash_bytes"] is None


def test_the_file_for_microcontrollers_has_the_tables(
    run: tuple[Finished, Path], effects: dict[str, Any]
) -> None:
    done, out = run
    mcu = next(one for one in done.json["targets"] if one["target"] == "tflm-int8")
    assert mcu["compilation"]["options"] == {"optimise": "Size"}
    after = effects["tflm-int8"]["after"]["footprint"]
    size = sum(file["size_bytes"] for file in mcu["artifact"]["files"])
    assert 0 < size - after["lookup_bytes"] < 8000, "but for metadata"
    assert after["lookup_bytes"] < 0.65 * after["size_bytes"]
    assert mcu["parity"]["identical_to_reference"] == mcu["parity"]["images"] == 100
    assert "CUSTOM:TFLM_DECODE" in {one["name"] for one in mcu["compilation"]["operators"]}
    assert "resolver.AddDecode()" in (out / "digits-tflm-int8" / "model_resolver.h").read_text()


def test_what_is_published_is_what_was_compressed(
    run: tuple[Finished, Path], effects: dict[str, Any]
) -> None:
    """And not the artifact that it was compared with, which is compiled as well."""
    _, out = run
    after = effects["tflm-int8"]["after"]["footprint"]
    assert RUNTIME.footprint(out / "digits-tflm-int8.tflite").zeros == pytest.approx(after["zeros"])


def test_again_all_of_it_comes_from_the_cache(
    run: tuple[Finished, Path], cache: dict[str, str], tmp_path: Path
) -> None:
    again = in_process("compile", "digits", *OPTIONS, "-o", tmp_path / "again", env=cache)
    assert again.code == 0, again.stderr
    first, second = ([one["compression"] for one in done.json["targets"]] for done in (run[0], again))
    assert second == first
    assert not [one for one in again.json["timings"] if one["stage"] == "convert"]
