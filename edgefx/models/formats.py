"""Which kind of model file is this? Told from its first bytes and what it declares, never from its suffix."""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from itertools import islice
from pathlib import Path
from typing import Any

from edgefx.errors import ModelError, NoModelError
from edgefx.models import hub
from edgefx.models.safety import archives, hdf5
from edgefx.models.safety.snapshot import check_regular, snapshot

_HDF5 = b"\x89HDF\r\n\x1a\n"
_ZIP = b"PK\x03\x04"

_VERSION = re.compile(r"\d{1,4}(\.\w{1,20}){0,5}")
_SAVE_AGAIN = "copy or download it again, or save it again with Keras"
_KERAS = (".keras", ".h5", ".hdf5")
_COMPILED = (".tflite", ".onnx", ".xml")
# What edgefx writes itself, by the end of its name: what it is, and the command that takes it.
_OURS = {
    ".edgefx.zip": ("a bundle", "verify"),
    "edgefx.lock.json": ("the lock file of a run", "reproduce"),
    "report.json": ("the report of a run", "report"),
}
_GRAPH = "saved_model.pb"
PYTORCH = (".pt", ".pth", ".safetensors")  # weights that --weights takes, not models
_EXPECTED = "expected a Keras model: .keras, .h5, a SavedModel folder or a preset of keras-hub"
_IMAGES = "an image folder is given with --calib or --eval"
_LISTED = 10_000  # names of a folder, which may be one of images


class Container(StrEnum):
    """How a model is stored."""

    ZIP = "zip"  # .keras of Keras 3, and of Keras 2.12+
    HDF5 = "hdf5"  # .h5, and .keras of older Keras 2
    SAVED_MODEL = "saved_model"  # a folder
    PRESET = "preset"  # a folder of keras-hub


# What Keras goes by.
SUFFIXES = {Container.ZIP: ".keras", Container.HDF5: ".h5", Container.SAVED_MODEL: "", Container.PRESET: ""}


@dataclass(frozen=True, kw_only=True)
class ModelFile:
    """A model on disk, not loaded yet.

    Attributes:
        path: File or folder.
        container: How it is stored.
        keras_version: Version of Keras that wrote it; "" for a SavedModel without Keras layers.
        config: The architecture as saved; of a preset, what its files of configuration hold, by name; None
            for a SavedModel.
    """

    path: Path
    container: Container
    keras_version: str
    config: Any

    @property
    def legacy(self) -> bool:
        """Whether Keras 2 wrote it, which tf_keras reads."""
        return self.keras_version != "" and int(self.keras_version.split(".")[0]) < 3


def container(path: Path) -> Container:
    """Tell how a model is stored, from its first bytes alone.

    Raises:
        NoModelError: There is no such file, or it is of another format.
        ModelError: It cannot be read.
    """
    if path.is_dir():
        if (path / _GRAPH).is_file():
            return Container.SAVED_MODEL
        if (path / hub.BACKBONE).is_file():
            return Container.PRESET
        raise NoModelError(
            f"{path}: a folder, but not a SavedModel (no {_GRAPH} in it)", hint=_folder_hint(path)
        )
    if not path.exists():
        raise NoModelError(f"{path}: no such model file", hint=_absent_hint(path))
    check_regular(path)
    try:
        with path.open("rb") as file:
            magic = file.read(8)
    except OSError as error:
        raise ModelError(f"{path}: cannot be read: {error.strerror or error}") from error
    if magic == _HDF5:
        return Container.HDF5
    if magic[:4] == _ZIP:
        return Container.ZIP
    if not magic:
        raise NoModelError(f"{path}: the file is empty", hint=_EXPECTED)
    raise NoModelError(f"{path}: not a Keras model file", hint=_format_hint(path, magic))


def name_of(model: str | Path) -> str:
    """Return what a model is called: as its path is typed, not what a symbolic link leads to."""
    if isinstance(model, str) and hub.is_address(model):
        return hub.name_at(model)
    path = Path(model)
    named = path if path.name not in ("", "..") else path.resolve()
    return named.stem


def sniff(path: Path, *, copy: Path | None = None, bounded: bool = True) -> ModelFile:
    """Find out what kind of model `path` is, without importing Keras.

    Args:
        path: File or folder as the user names it, in messages too.
        copy: Where to read it, if elsewhere: see `edgefx.models.safety.snapshot`.
        bounded: Refuse what inflates to far more than its size.

    Raises:
        ModelError: There is no such file; it is truncated, of another format, or holds weights only.
    """
    readers = {
        Container.SAVED_MODEL: _saved_model,
        Container.ZIP: _zip,
        Container.HDF5: _hdf5,
        Container.PRESET: _preset,
    }
    content = copy if copy is not None else path
    return readers[container(content)](path, content, bounded)


def _absent_hint(path: Path) -> str:
    if path.suffix in (*_COMPILED, *PYTORCH):
        return _format_hint(path, b"")
    return "give a path, or a name listed by: edgefx models"


def _format_hint(path: Path, magic: bytes) -> str:
    if path.suffix in _COMPILED or magic[4:8] == b"TFL3":
        return "this is a compiled artifact; edgefx compiles the Keras model it came from"
    if path.suffix in PYTORCH:
        return f"weights of PyTorch go with an architecture: edgefx compile b0 --weights {path}"
    if path.suffix == ".bin":
        return "an OpenVINO artifact is named by its .xml file; edgefx compiles the Keras model it came from"
    if path.name == "saved_model.pb":
        return f"give the folder it lies in: {path.parent}"
    for ending, (what, command) in _OURS.items():
        if path.name.endswith(ending):
            return f"this looks like {what}: edgefx {command} {path}"
    return _EXPECTED


def _folder_hint(path: Path) -> str:
    """Say what to do with a folder that is no model: what it holds may be one, or belong to one."""
    names = sorted(one.name for one in islice(path.iterdir(), _LISTED))
    inner = next((name for name in names if (path / name / _GRAPH).is_file()), None)
    file = next((name for name in names if Path(name).suffix in _KERAS), None)
    if inner is not None:
        return f"give the folder of the model: {path / inner}"
    if any(name == "checkpoint" or name.endswith(".index") for name in names):
        return (
            "a checkpoint holds weights only: load it into its model with model.load_weights, and save that"
            " with model.save('model.keras')"
        )
    return f"give the file: {path / file}" if file is not None else f"{_EXPECTED}; {_IMAGES}"


def _zip_hint(path: Path, names: Sequence[str]) -> str:
    """Say what to do with a zip file that is no model: one may be in it."""
    if any(Path(name).name == _GRAPH for name in names):
        return f"unpack it, and give the folder that {_GRAPH} lies in"
    if any(Path(name).suffix in _KERAS or Path(name).name == "config.json" for name in names):
        return "unpack it, and give the model in it"
    return _format_hint(path, _ZIP)


def _zip(path: Path, content: Path, bounded: bool) -> ModelFile:
    try:
        with zipfile.ZipFile(content) as archive:
            names = archive.namelist()
            if "config.json" not in names:
                raise ModelError(
                    f"{path}: a zip file, but not a Keras model (no config.json in it)",
                    hint=_zip_hint(path, names),
                )
            config = _json(archives.read_member(archive, "config.json", source=path))
            metadata = (
                _json(archives.read_member(archive, "metadata.json", source=path))
                if "metadata.json" in names
                else {}
            )
            archives.check_zip(archive, source=path, size=content.stat().st_size if bounded else None)
    except archives.ZIP_ERRORS as error:
        raise _corrupt(path, error) from error
    if not isinstance(config, dict) or not isinstance(metadata, dict):
        raise ModelError(f"{path}: corrupt (its configuration is no JSON object)", hint=_SAVE_AGAIN)
    version = _version(path, metadata.get("keras_version", "3"))
    return ModelFile(path=path, container=Container.ZIP, keras_version=version, config=config)


def _hdf5(path: Path, content: Path, bounded: bool) -> ModelFile:
    try:
        held = hdf5.judge(content, source=path, size=content.stat().st_size if bounded else None)
        config = _json(held.model_config) if held.model_config is not None else None
    except ValueError as error:
        raise _corrupt(path, error) from error
    if config is None:
        if held.members:
            raise ModelError(
                f"{path}: holds weights only, no architecture",
                hint=f"name the architecture: edgefx compile b0 --weights {path} --classes N",
            )
        raise ModelError(f"{path}: an HDF5 file, but not a Keras model", hint=_EXPECTED)
    if not isinstance(config, dict):
        raise ModelError(f"{path}: corrupt (its configuration is no JSON object)", hint=_SAVE_AGAIN)
    version = _version(path, held.keras_version if held.keras_version is not None else "2")
    return ModelFile(path=path, container=Container.HDF5, keras_version=version, config=config)


def _saved_model(path: Path, content: Path, bounded: bool) -> ModelFile:  # noqa: ARG001 - graphs.py bounds it
    legacy = (content / "keras_metadata.pb").is_file()
    return ModelFile(
        path=path, container=Container.SAVED_MODEL, keras_version="2" if legacy else "", config=None
    )


def _preset(path: Path, content: Path, bounded: bool) -> ModelFile:
    if (content / hub.SHARDS).exists():
        raise ModelError(
            f"{path}: the weights of this preset are in several files, which edgefx does not read",
            hint="save it again with a larger max_shard_size, or as a .keras file",
        )
    config = {name: _config(path, content / name) for name in hub.CONFIGS if (content / name).exists()}
    if "registered_name" not in config[hub.BACKBONE]:
        raise ModelError(
            f"{path}: a folder of another library, not a preset of keras-hub ({hub.BACKBONE} names no class)",
            hint="load it with keras_hub's from_preset, and save it with save_to_preset",
        )
    size = sum(file.stat().st_size for file in content.rglob("*") if file.is_file())
    for name in hub.WEIGHTS:
        if (content / name).exists():
            try:
                hdf5.judge(content / name, source=path, size=size if bounded else None)
            except ValueError as error:
                raise _corrupt(path / name, error) from error
        elif name == hub.BACKBONE_WEIGHTS:
            raise ModelError(f"{path}: no {name} in this preset of keras-hub", hint=_SAVE_AGAIN)
    metadata = _config(path, content / hub.METADATA) if (content / hub.METADATA).exists() else {}
    version = _version(path, metadata.get("keras_version", "3"))
    return ModelFile(path=path, container=Container.PRESET, keras_version=version, config=config)


def _config(path: Path, file: Path) -> dict[str, Any]:
    """Read a file of a preset's configuration."""
    with file.open("rb") as stream:
        text = stream.read(archives.MAX_TEXT + 1)
    if len(text) > archives.MAX_TEXT:
        raise ModelError(f"{path}: {file.name} is larger than any configuration", hint=_SAVE_AGAIN)
    try:
        config = _json(text)
    except ValueError as error:
        raise _corrupt(path / file.name, error) from error
    if not isinstance(config, dict):
        raise ModelError(f"{path}: corrupt ({file.name} is no JSON object)", hint=_SAVE_AGAIN)
    return config


def _json(text: str | bytes) -> Any:
    """Parse JSON.

    Raises:
        ValueError: It is none, or is nested deeper than Python can follow.
    """
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("JSON that is nested too deeply") from error


def _version(path: Path, given: Any) -> str:
    """Return the version of Keras that a file says wrote it."""
    version = str(given)
    if not _VERSION.fullmatch(version):
        raise ModelError(
            f"{path}: says that it was written by Keras '{version:.40}', which is no version",
            hint=_SAVE_AGAIN,
        )
    return version


def _corrupt(path: Path, error: BaseException) -> ModelError:
    reason = str(error) or type(error).__name__
    return ModelError(f"{path}: corrupt or truncated ({reason})", hint="copy or download it again")


@contextmanager
def opened_weights(path: Path, *, sha256: str | None = None, bounded: bool = True) -> Iterator[Path]:
    """Copy a weights file, under a name that Keras recognises: Keras goes by the suffix.

    Args:
        path: An HDF5 or .keras file, whatever it is called.
        sha256: The hash that it must have, where the caller has hashed it before.
        bounded: Refuse what inflates to far more than its size.

    Yields:
        The copy, which is gone afterwards.

    Raises:
        ModelError: Neither HDF5 nor zip, damaged, or inflating to far more than its size.
    """
    kind = container(path)
    if path.is_dir():
        raise ModelError(f"{path}: a folder, not a weights file", hint="expected .weights.h5, .h5 or .keras")
    with snapshot(path, sha256=sha256) as whole:
        copy = whole.path.with_name(f"model{_weights_suffix(path, whole.path, kind, bounded)}")
        whole.path.rename(copy)
        yield copy


def _weights_suffix(path: Path, content: Path, kind: Container, bounded: bool) -> str:
    size = content.stat().st_size if bounded else None
    if kind is Container.ZIP:
        try:
            with zipfile.ZipFile(content) as archive:
                archives.check_zip(archive, source=path, size=size)
        except archives.ZIP_ERRORS as error:
            raise _corrupt(path, error) from error
        return SUFFIXES[kind]
    try:
        legacy = hdf5.judge(content, source=path, size=size).legacy
    except ValueError as error:
        raise _corrupt(path, error) from error
    return SUFFIXES[kind] if legacy else ".weights.h5"
