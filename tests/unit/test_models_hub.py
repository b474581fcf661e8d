"""Presets of keras-hub are read and judged without TensorFlow, and hubs are asked for nothing odd."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from edgefx.errors import EdgefxError, MissingDependencyError, ModelError
from edgefx.models import hub
from edgefx.models.formats import Container, container, name_of, sniff
from edgefx.models.safety.configs import judge_config, needs_hub
from edgefx.vocabulary import Resize

SOURCE = Path("preset")


def of_hub(class_name: str, *, registered: str | None = None, **config: Any) -> dict[str, Any]:
    return {
        "module": f"keras_hub.src.models.{class_name.lower()}",
        "class_name": class_name,
        "config": {"name": "mine", **config},
        "registered_name": registered or f"keras_hub>{class_name}",
    }


def converter(**config: Any) -> dict[str, Any]:
    return of_hub("EfficientNetImageConverter", image_size=[224, 224], crop_to_aspect_ratio=True, **config)


def preset(folder: Path, *, weights: bool = True, **files: Any) -> Path:
    folder.mkdir()
    for name, content in {"config": of_hub("EfficientNetBackbone"), **files}.items():
        (folder / f"{name}.json").write_text(json.dumps(content))
    (folder / "metadata.json").write_text(json.dumps({"keras_version": "3.15.1"}))
    if weights:
        with h5py.File(folder / "model.weights.h5", "w") as file:
            file["layers/dense/vars/0"] = np.zeros(4, np.float32)
    return folder


def classifier(**config: Any) -> dict[str, Any]:
    preprocessor = of_hub("EfficientNetImageClassifierPreprocessor", image_converter=converter(**config))
    return of_hub(
        "EfficientNetImageClassifier", backbone=of_hub("EfficientNetBackbone"), preprocessor=preprocessor
    )


def test_a_preset_is_a_folder_of_its_own_kind(tmp_path: Path) -> None:
    path = preset(tmp_path / "mine", task=classifier(scale=1 / 255))
    assert container(path) is Container.PRESET
    found = sniff(path)
    assert (found.keras_version, found.legacy, set(found.config)) == (
        "3.15.1",
        False,
        {"config.json", "task.json"},
    )
    judge_config(found.config, source=path)
    assert needs_hub(found.config)
    (path / "saved_model.pb").write_bytes(b"")
    assert container(path) is Container.SAVED_MODEL


def test_presets_that_cannot_be_read(tmp_path: Path) -> None:
    bare = preset(tmp_path / "bare", weights=False)
    with pytest.raises(ModelError, match=r"no model\.weights\.h5"):
        sniff(bare)
    (bare / "model.weights.json").write_text("{}")
    with pytest.raises(ModelError, match="in several files") as caught:
        sniff(bare)
    assert "max_shard_size" in caught.value.hint
    with pytest.raises(ModelError, match="another library") as caught:
        sniff(preset(tmp_path / "other", config={"model_type": "vit"}))
    assert "save_to_preset" in caught.value.hint
    broken = preset(tmp_path / "broken")
    (broken / "model.weights.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(64))
    with pytest.raises(ModelError, match=r"corrupt or truncated"):
        sniff(broken)
    (broken / "config.json").write_text("[" * 100_000)
    with pytest.raises(ModelError, match=r"config\.json: corrupt or truncated"):
        sniff(broken)
    with pytest.raises(ModelError, match=r"config\.json is no JSON object"):
        sniff(preset(tmp_path / "list", config=[1]))


HOSTILE: tuple[dict[str, Any], ...] = (
    of_hub("BertTokenizer", vocabulary_size=3),
    of_hub("EfficientNetBackbone", registered="keras_hub>SentencePieceTokenizer"),
    of_hub("EfficientNetBackbone", registered="mine>EfficientNetBackbone"),
    {**of_hub("EfficientNetBackbone", registered="keras_nlp>EfficientNetBackbone"), "module": None},
    {"class_name": "Tokenizer", "module": None, "config": {}, "registered_name": "keras_hub>Tokenizer"},
    {"class_name": "function", "module": "keras_hub", "config": "upload_preset", "registered_name": None},
    {"class_name": "Dense", "module": "keras.layers", "config": {"activation": "keras_hub>upload_preset"}},
    {"class_name": "Dense", "module": "keras.layers", "config": {"metrics": ["keras_nlp>Perplexity"]}},
)


@pytest.mark.parametrize("hostile", HOSTILE)
def test_nothing_of_keras_hub_but_image_classifiers_is_looked_up(hostile: dict[str, Any]) -> None:
    with pytest.raises(
        ModelError, match="of keras-hub; edgefx takes backbones and image classifiers"
    ) as said:
        judge_config({"config.json": hostile}, source=SOURCE)
    assert "model.export" in said.value.hint


def test_what_a_classifier_is_made_of_is_judged_to_its_depth() -> None:
    inside = classifier()
    inside["config"]["backbone"]["config"]["activation"] = {"class_name": "__lambda__", "config": {}}
    with pytest.raises(ModelError, match="Lambda layers"):
        judge_config({"config.json": of_hub("EfficientNetBackbone"), "task.json": inside}, source=SOURCE)


def test_the_image_converter_stands_in_front() -> None:
    scale = [1 / 255 / 0.229, 1 / 255 / 0.224, 1 / 255 / 0.225]
    found = hub.preparation({"task.json": classifier(scale=scale, offset=[-2, -2.1, -1.9])}, source=SOURCE)
    assert found is not None
    assert (found.size, found.resize) == ((224, 224), Resize.CROP)
    assert "--resize crop" in found.note
    front = found.front(channels=3, source="m")
    pixels = np.array([[[[0, 100, 255]]]], np.uint8)
    expected = pixels * np.asarray(scale) + [-2, -2.1, -1.9]
    np.testing.assert_allclose(front.prepared(pixels), expected, rtol=1e-6)
    with pytest.raises(ModelError, match="figures for 3 channels, the model takes 1"):
        found.front(channels=1, source="m")


def test_older_converters_have_mean_and_variance() -> None:
    said = of_hub(
        "EfficientNetImageConverter",
        height=8, width=9, scale=1 / 255, mean=[0.5, 0.4, 0.3], variance=[0.25, 0.16, 0.04],
        crop_to_aspect_ratio=False, pad_to_aspect_ratio=True,
    )  # fmt: skip
    found = hub.preparation({"image_converter.json": said}, source=SOURCE)
    assert found is not None
    assert (found.size, found.resize) == ((8, 9), Resize.PAD)
    np.testing.assert_allclose(found.scale, [1 / 255 / 0.5, 1 / 255 / 0.4, 1 / 255 / 0.2])
    np.testing.assert_allclose(found.offset, [-1, -1, -1.5])


@pytest.mark.parametrize(
    "config",
    [{"scale": "1/255"}, {"scale": [1, None, 1]}, {"offset": float("nan")}, {"offset": []}, {"scale": True},
     {"mean": [0.5] * 3, "variance": [1, 0, 1]}, {"data_format": "channels_first"}],
)  # fmt: skip
def test_converters_that_make_no_sense(config: dict[str, Any]) -> None:
    with pytest.raises(ModelError, match="image converter cannot be put inside") as caught:
        hub.preparation({"image_converter.json": converter(**config)}, source=SOURCE)
    assert "--pixels" in caught.value.hint


@pytest.mark.parametrize("config", [None, [], {}, {"config": 3}, {"config.json": of_hub("ResNetBackbone")}])
def test_models_without_a_converter(config: Any) -> None:
    assert hub.preparation(config, source=SOURCE) is None


@pytest.mark.parametrize(
    "address",
    ["hf://name", "hf://a/b/c", "hf://../x", "kaggle://a/b", "kaggle://a/b/keras/../x", "hf://a/b?x=1"],
)
def test_odd_addresses_are_refused_before_anything_is_asked(address: str) -> None:
    assert hub.is_address(address)
    with pytest.raises(ModelError, match="no address of a model") as caught:
        hub.located(address)
    assert "hf://keras/efficientnet_b0" in caught.value.hint


def test_addresses_name_models() -> None:
    assert name_of("hf://keras/efficientnet_b0") == "efficientnet_b0"
    assert name_of("kaggle://keras/efficientnet/keras/efficientnet_b0_ra/3") == "efficientnet_b0_ra"
    assert not hub.is_address("https://x/y")
    assert hub.located("a/model.keras") == Path("a/model.keras")


def test_a_hub_without_keras_hub_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgefx.system.packages.is_installed", lambda module: module != "keras_hub")
    with pytest.raises(MissingDependencyError, match="keras_hub") as caught:
        hub.located("hf://keras/efficientnet_b0")
    assert "keras-hub" in caught.value.hint


def test_a_hub_that_cannot_be_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("keras_hub")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(EdgefxError, match=r"hf://keras/nowhere: cannot be downloaded") as caught:
        hub.located("hf://keras/nowhere")
    assert "network" in caught.value.hint


def test_reading_a_preset_imports_nothing_heavy(tmp_path: Path) -> None:
    path = preset(tmp_path / "mine", task=classifier(scale=2))
    code = f"""
import sys
from pathlib import Path
from edgefx.models import hub
from edgefx.models.formats import sniff
from edgefx.models.safety.configs import judge_config
path = Path({str(path)!r})
config = sniff(path).config
judge_config(config, source=path)
hub.preparation(config, source=path)
print([name for name in ("numpy", "h5py", "keras", "keras_hub", "tensorflow") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
