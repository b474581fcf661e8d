"""Which kind of model file is this? Told from its first bytes and what it declares, never from its suffix."""

from __future__ import annotations

import json
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from edgefx.errors import ModelError

_HDF5 = b"\x89HDF\r\n\x1a\n"
_ZIP = b"PK\x03\x04"

_EXPECTED = "expected a Keras model: .keras, .h5 or a SavedModel folder"


class Container(StrEnum):
    """How a model is stored."""

    ZIP = "zip"  # .keras of Keras 3, and of Keras 2.12+
    HDF5 = "hdf5"  # .h5, and .keras of older Keras 2
    SAVED_MODEL = "saved_model"  # a folder


@dataclass(frozen=True, kw_only=True)
class ModelFile:
    """A model on disk, not loaded yet.

    Attributes:
        path: File or folder.
        container: How it is stored.
        keras_version: Version of Keras that wrote it; "" for a SavedModel without Keras layers.
        config: The architecture as saved; None for a SavedModel.
    """

    path: Path
    container: Container
    keras_version: str
    config: Any

    @property
    def legacy(self) -> bool:
        """Whether Keras 2 wrote it, which tf_keras reads."""
        return self.keras_version != "" and int(self.keras_version.split(".")[0]) < 3


def sniff(path: Path) -> ModelFile:
    """Find out what kind of model `path` is, without importing Keras.

    Raises:
        ModelError: There is no such file; it is truncated, of another format, or holds weights only.
    """
    if path.is_dir():
        return _saved_model(path)
    if not path.exists():
        raise ModelError(
            f"{path}: no such model file", hint="give a path, or a name listed by: edgefx models"
        )
    try:
        with path.open("rb") as file:
            magic = file.read(8)
    except OSError as error:
        raise ModelError(f"{path}: cannot be read: {error.strerror or error}") from error
    if magic == _HDF5:
        return _hdf5(path)
    if magic[:4] == _ZIP:
        return _zip(path)
    if not magic:
        raise ModelError(f"{path}: the file is empty", hint=_EXPECTED)
    raise ModelError(f"{path}: not a Keras model file", hint=_format_hint(path, magic))


def _format_hint(path: Path, magic: bytes) -> str:
    if path.suffix in (".tflite", ".onnx", ".xml") or magic[4:8] == b"TFL3":
        return "this is a compiled artifact; edgefx compiles the Keras model it came from"
    if path.suffix in (".pt", ".pth", ".safetensors"):
        return f"this looks like a PyTorch file; {_EXPECTED}"
    if path.name == "saved_model.pb":
        return f"give the folder it lies in: {path.parent}"
    return _EXPECTED


def _zip(path: Path) -> ModelFile:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            if "config.json" not in names:
                raise ModelError(
                    f"{path}: a zip file, but not a Keras model (no config.json in it)", hint=_EXPECTED
                )
            config = json.loads(archive.read("config.json"))
            metadata = json.loads(archive.read("metadata.json")) if "metadata.json" in names else {}
            damaged = archive.testzip()
    except (zipfile.BadZipFile, json.JSONDecodeError, UnicodeDecodeError, EOFError, OSError) as error:
        raise _corrupt(path, error) from error
    if damaged:
        raise ModelError(f"{path}: corrupt ({damaged} in it is damaged)", hint="copy or download it again")
    return ModelFile(
        path=path,
        container=Container.ZIP,
        keras_version=str(metadata.get("keras_version", "3")),
        config=config,
    )


def _hdf5(path: Path) -> ModelFile:
    import h5py

    try:
        with h5py.File(path, "r") as file:
            attributes = {
                key: _text(file.attrs[key]) for key in ("model_config", "keras_version") if key in file.attrs
            }
            weights_only = "model_config" not in attributes and len(file) > 0
        config = json.loads(attributes["model_config"]) if "model_config" in attributes else None
    except (OSError, KeyError, RuntimeError, json.JSONDecodeError) as error:
        raise _corrupt(path, error) from error
    if config is None:
        if weights_only:
            raise ModelError(
                f"{path}: holds weights only, no architecture",
                hint=f"name the architecture: edgefx compile b0 --weights {path} --classes N",
            )
        raise ModelError(f"{path}: an HDF5 file, but not a Keras model", hint=_EXPECTED)
    version = attributes.get("keras_version", "2")
    return ModelFile(path=path, container=Container.HDF5, keras_version=version, config=config)


def _saved_model(path: Path) -> ModelFile:
    if not (path / "saved_model.pb").is_file():
        raise ModelError(
            f"{path}: a folder, but not a SavedModel (no saved_model.pb in it)",
            hint=f"{_EXPECTED}; an image folder is given with --calib or --eval",
        )
    legacy = (path / "keras_metadata.pb").is_file()
    return ModelFile(
        path=path, container=Container.SAVED_MODEL, keras_version="2" if legacy else "", config=None
    )


def _corrupt(path: Path, error: BaseException) -> ModelError:
    return ModelError(f"{path}: corrupt or truncated ({error})", hint="copy or download it again")


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def refuse_lambdas(file: ModelFile) -> None:
    """Refuse a model with Lambda layers: they are Python byte code, which would run on loading.

    Raises:
        ModelError: Names the layers.
    """
    names = sorted(set(_lambdas(file.config)))
    if names:
        raise ModelError(
            f"{file.path}: holds Lambda layers ({', '.join(names)}), whose Python code edgefx does not run",
            hint="replace them by Keras layers (Rescaling, Normalization, Activation), or export the model "
            "where its code is at hand with model.export('folder') and compile that folder",
        )


def _lambdas(config: Any) -> Iterator[str]:
    if isinstance(config, dict):
        if config.get("class_name") == "Lambda":
            inner = config.get("config") or {}
            yield str(config.get("name") or inner.get("name") or "lambda")
        for value in config.values():
            yield from _lambdas(value)
    elif isinstance(config, list):
        for value in config:
            yield from _lambdas(value)


@contextmanager
def with_suffix_of_content(path: Path) -> Iterator[str]:
    """Give `path` a name that Keras recognises: Keras goes by the suffix, a user's file may have any.

    Yields:
        The path itself, or that of a symbolic link in a temporary folder.

    Raises:
        ModelError: Neither HDF5 nor zip.
    """
    with path.open("rb") as file:
        magic = file.read(8)
    if magic == _HDF5:
        import h5py

        try:
            with h5py.File(path, "r") as h5:
                legacy = bool({"layer_names", "model_config"} & set(h5.attrs)) or "model_weights" in h5
        except OSError as error:
            raise _corrupt(path, error) from error
        suffix = ".h5" if legacy else ".weights.h5"
    elif magic[:4] == _ZIP:
        suffix = ".keras"
    else:
        raise ModelError(
            f"{path}: neither an HDF5 nor a .keras file", hint="expected .weights.h5, .h5 or .keras"
        )
    if path.name.endswith(suffix) and (suffix != ".h5" or not path.name.endswith(".weights.h5")):
        yield str(path)
        return
    with tempfile.TemporaryDirectory(prefix="edgefx-") as folder:
        link = Path(folder) / f"model{suffix}"
        link.symlink_to(path.resolve())
        yield str(link)
