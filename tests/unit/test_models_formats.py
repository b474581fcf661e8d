"""What a model file is, told from its content."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from edgefx.errors import ModelError
from edgefx.models.formats import Container, opened_weights, sniff


def keras_zip(path: Path, *, version: str = "3.15.1", config: Any = None) -> Path:
    weights = path.with_name("weights")
    with h5py.File(weights, "w") as file:
        file["vars"] = np.ones(2000, np.float32)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("metadata.json", json.dumps({"keras_version": version}))
        archive.writestr("config.json", json.dumps(config or {"class_name": "Functional"}))
        archive.write(weights, "model.weights.h5")
    weights.unlink()
    return path


def hdf5(path: Path, *, version: str | None = "2.13.1", config: bool = True) -> Path:
    with h5py.File(path, "w") as file:
        if config:
            file.attrs["model_config"] = json.dumps({"class_name": "Functional"})
        if version is not None:
            file.attrs["keras_version"] = version
        file.create_group("model_weights")
    return path


def test_a_zip_of_keras_3(tmp_path: Path) -> None:
    file = sniff(keras_zip(tmp_path / "model.bin"))
    assert (file.container, file.keras_version, file.legacy) == (Container.ZIP, "3.15.1", False)


def test_a_zip_of_keras_2(tmp_path: Path) -> None:
    assert sniff(keras_zip(tmp_path / "model.keras", version="2.15.0")).legacy


@pytest.mark.parametrize("name", ["model.h5", "model.keras"])
@pytest.mark.parametrize(("version", "legacy"), [("2.13.1", True), ("3.4.0", False), (None, True)])
def test_hdf5_whatever_it_is_called(tmp_path: Path, name: str, version: str | None, legacy: bool) -> None:
    file = sniff(hdf5(tmp_path / name, version=version))
    assert (file.container, file.legacy) == (Container.HDF5, legacy)


def test_saved_model_folders(tmp_path: Path) -> None:
    (tmp_path / "saved_model.pb").write_bytes(b"x")
    assert not sniff(tmp_path).legacy
    (tmp_path / "keras_metadata.pb").write_bytes(b"x")
    assert sniff(tmp_path).legacy


def refused(path: Path) -> ModelError:
    with pytest.raises(ModelError) as caught:
        sniff(path)
    assert str(path) in caught.value.message
    return caught.value


def test_truncated_files(tmp_path: Path) -> None:
    for whole in (keras_zip(tmp_path / "a.keras"), hdf5(tmp_path / "b.h5")):
        content = whole.read_bytes()
        whole.write_bytes(content[: len(content) // 2])
        assert "corrupt or truncated" in refused(whole).message


def test_a_damaged_member(tmp_path: Path) -> None:
    path = keras_zip(tmp_path / "a.keras")
    content = bytearray(path.read_bytes())
    content[content.index(b"model.weights.h5") + 1000] ^= 0xFF
    path.write_bytes(content)
    assert "model.weights.h5" in refused(path).message


def test_other_files(tmp_path: Path) -> None:
    empty, text = tmp_path / "empty.keras", tmp_path / "model.onnx"
    empty.touch()
    text.write_text("not a model")
    assert "empty" in refused(empty).message
    assert "compiled artifact" in refused(text).hint
    other = tmp_path / "other.zip"
    with zipfile.ZipFile(other, "w") as archive:
        archive.writestr("readme.txt", "hello")
    assert "no config.json" in refused(other).message
    torch = tmp_path / "model.pt"
    torch.write_bytes(b"\x80\x02}q\x00.")
    assert "PyTorch" in refused(torch).hint


def test_weights_only(tmp_path: Path) -> None:
    error = refused(hdf5(tmp_path / "model.weights.h5", config=False))
    assert "weights only" in error.message
    assert "--weights" in error.hint


@pytest.mark.parametrize(
    ("files", "hint"),
    [
        (["daisy/1.jpg"], "an image folder is given with --calib"),
        (["1/saved_model.pb", "2/saved_model.pb"], "give the folder of the model: {}/1"),
        (["checkpoint", "ck-1.index", "ck-1.data-00000-of-00001"], "a checkpoint holds weights only"),
        (["best.keras", "log.csv"], "give the file: {}/best.keras"),
    ],
)
def test_a_folder_that_is_no_model(tmp_path: Path, files: list[str], hint: str) -> None:
    for name in files:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    error = refused(tmp_path)
    assert "not a SavedModel" in error.message
    assert hint.format(tmp_path) in error.hint


@pytest.mark.parametrize(
    ("inside", "hint"),
    [("flowers/saved_model.pb", "give the folder"), ("flowers/best.h5", "give the model in it")],
)
def test_a_model_in_a_zip_file(tmp_path: Path, inside: str, hint: str) -> None:
    with zipfile.ZipFile(tmp_path / "model.zip", "w") as archive:
        archive.writestr(inside, "")
    assert hint in refused(tmp_path / "model.zip").hint


def test_a_weights_file_gets_the_suffix_that_keras_goes_by(tmp_path: Path) -> None:
    bare = tmp_path / "d.h5"
    with h5py.File(bare, "w") as file:
        file.create_group("layers")
    cases = (
        (hdf5(tmp_path / "a.keras"), ".h5"),
        (keras_zip(tmp_path / "b.h5"), ".keras"),
        (hdf5(tmp_path / "c.h5"), ".h5"),
        (bare, ".weights.h5"),
    )
    for path, suffix in cases:
        with opened_weights(path) as copy:
            assert copy.name == f"model{suffix}"
            assert copy.read_bytes() == path.read_bytes()
        assert not copy.exists()
