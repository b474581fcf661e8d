"""Model files that would run code, use other files or inflate without end never reach Keras."""

from __future__ import annotations

import json
import os
import socket
import struct
import zipfile
from contextlib import closing
from pathlib import Path
from typing import Any

import h5py
import pytest

from edgefx.cache.settings import OFF
from edgefx.errors import ExitCode, MissingDependencyError, ModelError
from edgefx.models.formats import opened_weights, sniff
from edgefx.models.load import load
from edgefx.models.safety import archives, bounds
from edgefx.models.safety import hdf5 as safe_hdf5
from edgefx.models.safety.configs import judge_config
from edgefx.models.safety.operations import PURE, is_pure_function
from edgefx.models.safety.snapshot import snapshot
from edgefx.pipeline.memo import Memo, Workspace
from edgefx.pipeline.model import Source
from edgefx.protocols import SILENT
from edgefx.recipe.schema import ModelSection
from edgefx.storage.hashes import FileHashes

from .test_models_formats import hdf5, keras_zip

SOURCE = Path("model.keras")


def model_of(*layers: dict[str, Any]) -> dict[str, Any]:
    return {"class_name": "Functional", "module": "keras", "config": {"name": "m", "layers": list(layers)}}


def layer(class_name: str, *, module: str | None = "keras.layers", **config: Any) -> dict[str, Any]:
    named = {"class_name": class_name, "config": {"name": "mine", **config}, "registered_name": None}
    return named if module is None else {**named, "module": module}


def function(name: str, module: str) -> dict[str, Any]:
    return {"class_name": "function", "module": module, "config": name, "registered_name": name}


# ------------------------------------------------------------------------------------------- configurations

ORDINARY = (
    layer(
        "Conv2D", activation="relu", kernel_initializer=layer("GlorotUniform", module="keras.initializers")
    ),
    layer("Conv2D", module=None, activation="swish"),
    layer("Activation", activation=function("silu", "builtins")),
    layer("Activation", activation=function("softmax", "keras.activations")),
    layer("Add", module="keras.src.ops.numpy"),
    layer("Dense", kernel_initializer=layer("Constant", module="tensorflow.python.ops.init_ops_v2")),
    layer("Dense", dtype={"class_name": "DTypePolicy", "module": "keras", "config": {"name": "float32"}}),
    layer("TFOpLambda", module=None, function="math.truediv"),
    layer("TFOpLambda", module=None, function="compat.v1.transpose"),
    layer("SlicingOpLambda", module=None, function="__operators__.getitem"),
    layer("TensorFlowOpLayer", module=None, node_def={"op": "RealDiv", "name": "div"}),
    layer("StringLookup", vocabulary=["a", "b"]),
    layer("MyOwnLayer", module=None),  # Keras says that it is missing
)


@pytest.mark.parametrize("ordinary", ORDINARY)
def test_what_keras_models_are_made_of_passes(ordinary: dict[str, Any]) -> None:
    judge_config(model_of(ordinary), source=SOURCE)


HOSTILE = (
    (layer("Lambda"), "Lambda layers (mine)"),
    (layer("Lambda", module=None), "Lambda layers (mine)"),
    (layer("lambda_layer.Lambda", module="keras.src.layers.core"), "Lambda layers (mine)"),
    ({**layer("Dense"), "registered_name": "Lambda"}, "Lambda layers (mine)"),
    (
        layer("Activation", activation={"class_name": "__lambda__", "config": {"value": "4w"}}),
        "Lambda layers",
    ),
    (
        layer("TFOpLambda", module=None, function="io.write_file"),
        "'mine' calls the TensorFlow function 'io.w",
    ),
    (layer("TFOpLambda", module=None, function="io.gfile.rmtree"), "'io.gfile.rmtree'"),
    (layer("TFOpLambda", module=None, function="keras.utils.get_file"), "'keras.utils.get_file'"),
    (layer("TFOpLambda", module=None, function="compat.v1.py_func"), "'compat.v1.py_func'"),
    (layer("TFOpLambda", module=None, function=["math.add"]), "'mine' calls"),
    (layer("SlicingOpLambda", module=None, function="numpy_function"), "'numpy_function'"),
    (layer("TensorFlowOpLayer", module=None, node_def={"op": "WriteFile"}), "operation 'WriteFile'"),
    (layer("TensorFlowOpLayer", module=None, node_def="\n\x01x"), "operation 'None'"),
    (layer("ClassMethod", module=None, cls_symbol="x"), "'mine' is a ClassMethod"),
    (layer("TFSMLayer", filepath="/other"), "loads another SavedModel"),
    (layer("TorchModuleWrapper", module="keras.src.utils.torch_utils"), "unpickles"),
    (layer("Activation", activation=function("system", "os")), "'system' (of os)"),
    (layer("Activation", activation=function("eval", "builtins")), "Python function 'eval'"),
    (layer("Activation", activation={**function("relu", "builtins"), "registered_name": "exec"}), "Python"),
    (layer("Activation", activation=function("get_file", "keras.utils")), "keras.utils.get_file"),
    (
        layer("Activation", activation=function("get_file", "keras.src.utils.data_utils")),
        "no part of a model",
    ),
    (layer("load_model", module="keras.models"), "keras.models.load_model, which is no part"),
    (layer("models.load_model", module="keras"), "no part of a model"),
    (layer("Popen", module="subprocess"), "custom class or function 'Popen' (of subprocess)"),
    (layer("StringLookup", vocabulary="/etc/passwd"), "vocabulary from the file '/etc/passwd'"),
    (layer("Wrapped", module="my_package.layers"), "needs the custom class"),
)


@pytest.mark.parametrize(("hostile", "told"), HOSTILE, ids=[str(number) for number in range(len(HOSTILE))])
def test_what_would_run_code_or_use_files_is_refused(hostile: dict[str, Any], told: str) -> None:
    nested = model_of(layer("Dense"), layer("TimeDistributed", layer=model_of(hostile)))
    with pytest.raises(ModelError) as caught:
        judge_config(nested, source=SOURCE)
    assert told in caught.value.message
    assert caught.value.hint


def test_a_file_is_refused_before_keras_is_imported(tmp_path: Path) -> None:
    """Whatever version it says it is of."""
    hostile = model_of(layer("TFOpLambda", module=None, function="io.write_file"))
    h5 = tmp_path / "m.h5"
    with h5py.File(h5, "w") as file:
        file.attrs["model_config"] = json.dumps(hostile)
    for path in (keras_zip(tmp_path / "a.keras", config=hostile), h5):
        with pytest.raises(ModelError, match=r"io\.write_file"):
            load(str(path))


def test_the_lists_hold_nothing_with_effects() -> None:
    effects = (
        "File Print Summary PyFunc Dataset Reader Save Restore Send Recv Rpc Debug Dump Abort ImmutableConst"
    )
    assert not [name for name in PURE for word in effects.split() if word in name]
    for symbol in (
        "io.read_file",
        "py_function",
        "print",
        "summary.write",
        "saved_model.load",
        "keras.backend.function",
    ):
        assert not is_pure_function(symbol)


# ------------------------------------------------------------------------------------------------- archives


def refused(path: Path) -> ModelError:
    with pytest.raises(ModelError) as caught:
        load(str(path))
    assert str(path) in caught.value.message
    return caught.value


def archive(path: Path, *, compression: int = zipfile.ZIP_STORED, **members: str | bytes) -> Path:
    with zipfile.ZipFile(path, "w", compression) as file:
        for name, content in members.items():
            file.writestr(name.replace("_", "."), content)
    return path


@pytest.mark.parametrize(
    ("metadata", "told"),
    [
        ("[]", "no JSON object"),
        ("null", "no JSON object"),
        ('{"keras_version": "abc"}', "'abc'"),
        ('{"keras_version": null}', "'None'"),
        ('{"keras_version": "' + "9" * 5000 + '"}', "no version"),
        ("[" * 100_000, "corrupt"),
        ("\xff", "corrupt"),
    ],
)
def test_odd_metadata(tmp_path: Path, metadata: str, told: str) -> None:
    path = archive(tmp_path / "m.keras", config_json="{}", metadata_json=metadata.encode("latin-1"))
    assert told in refused(path).message


@pytest.mark.parametrize("config", ["[]", "1", "[" * 100_000, '{"a":' * 100_000, ""])
def test_odd_configurations(tmp_path: Path, config: str) -> None:
    assert "corrupt" in refused(archive(tmp_path / "m.keras", config_json=config)).message
    path = tmp_path / "m.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("big", data=config)  # an attribute is limited to 64 kB in this format
        file.attrs["model_config"] = config[:60_000]
    assert "corrupt" in refused(path).message


def patched(path: Path, offset: int, value: bytes) -> Path:
    """Write `value` at an offset of the first member's local and central header."""
    content = bytearray(path.read_bytes())
    central = content.index(b"PK\x01\x02")
    content[offset : offset + len(value)] = value
    content[central + offset + 2 : central + offset + 2 + len(value)] = value
    path.write_bytes(content)
    return path


def test_encrypted_members_and_unknown_compressions(tmp_path: Path) -> None:
    whole = archive(tmp_path / "a.keras", config_json="{}")
    assert "encrypted" in refused(patched(whole, 6, b"\x01")).message
    whole = archive(tmp_path / "b.keras", config_json="{}")
    assert "compression" in refused(patched(whole, 8, struct.pack("<H", 97))).message


def test_members_that_do_not_inflate(tmp_path: Path) -> None:
    path = archive(
        tmp_path / "a.keras", compression=zipfile.ZIP_DEFLATED, config_json=json.dumps(list(range(500)))
    )
    content = bytearray(path.read_bytes())
    for at in range(60, 90):
        content[at] ^= 0xA5
    path.write_bytes(content)
    assert "corrupt" in refused(path).message


def test_what_inflates_to_far_more_than_its_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds, "_FLOOR", 1 << 20)
    monkeypatch.setattr(archives, "MAX_TEXT", 1 << 20)
    zeros = bytes(4 << 20)
    deflated = zipfile.ZIP_DEFLATED
    path = archive(tmp_path / "a.keras", compression=deflated, config_json=b'"' + zeros + b'"')
    assert "inflates to more than 1 MiB" in refused(path).message
    path = archive(tmp_path / "b.keras", compression=deflated, config_json="{}", model_weights_h5=zeros)
    error = refused(path)
    assert "inflates to more than 1 MiB" in error.message
    assert "--allow-unsafe" in error.hint


def test_declared_sizes_are_not_believed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds, "_FLOOR", 1 << 20)
    path = tmp_path / "a.keras"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("config.json", "{}")
        file.writestr("model.weights.h5", bytes(4 << 20))
    content = path.read_bytes()
    lying = content.replace(struct.pack("<I", 4 << 20), struct.pack("<I", 10))
    assert lying != content
    path.write_bytes(lying)
    assert path.stat().st_size < 1 << 20
    error = refused(path)  # zipfile stops at the size that is declared, and finds a wrong checksum
    assert "inflates" in error.message or "corrupt" in error.message


def test_hdf5_that_declares_huge_datasets(tmp_path: Path) -> None:
    bomb = tmp_path / "bomb"
    with h5py.File(bomb, "w") as file:
        file.attrs["model_config"] = json.dumps(model_of())
        file.create_group("model_weights").create_dataset(
            "kernel", shape=(1 << 34,), chunks=(1 << 20,), dtype="f4", compression="gzip"
        )
    assert bomb.stat().st_size < 1 << 20
    assert "inflates to more than 64 MiB" in refused(bomb).message
    path = archive(tmp_path / "m.keras", config_json="{}", model_weights_h5=bomb.read_bytes())
    assert "inflates to more than 64 MiB" in refused(path).message
    with pytest.raises(ModelError, match="inflates"), opened_weights(bomb):
        pass


def test_hdf5_that_leads_to_other_files(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(bytes(400))
    path = hdf5(tmp_path / "linked.h5")
    with h5py.File(path, "r+") as file:
        file["model_weights/a"] = h5py.ExternalLink(str(secret), "/x")
    assert "link to another file" in refused(path).message
    path = hdf5(tmp_path / "external.h5")
    with h5py.File(path, "r+") as file:
        file.create_dataset("model_weights/b", (100,), "f4", external=[(str(secret), 0, 400)])
    assert "in another file" in refused(path).message
    path = hdf5(tmp_path / "virtual.h5")
    layout = h5py.VirtualLayout((100,), "f4")
    layout[:] = h5py.VirtualSource(str(secret), "x", (100,))
    with h5py.File(path, "r+") as file:
        file.create_virtual_dataset("model_weights/c", layout)
    assert "in another file" in refused(path).message


def test_links_in_circles_end(tmp_path: Path) -> None:
    path = hdf5(tmp_path / "circle.h5")
    with h5py.File(path, "r+") as file:
        file["model_weights/up"] = file["/"]
    assert sniff(path).legacy


def test_hdf5_that_the_library_never_ends_to_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(safe_hdf5, "_SECONDS", 2)
    path = hdf5(tmp_path / "endless.h5")
    with h5py.File(path, "r+") as file:
        file["model_weights"].attrs["backend"] = "tensorflow"  # a text, which is in a heap of the file
    content = bytearray(path.read_bytes())
    heap = content.index(b"GCOL") + 16  # its first object: index, references, size
    struct.pack_into("<Q", content, heap + 8, 2**64 - 16)  # with its own head, it takes no room
    path.write_bytes(content)
    assert "does not come to its end" in refused(path).message
    whole = archive(tmp_path / "m.keras", config_json="{}", model_weights_h5=bytes(content))
    assert "corrupt" in refused(whole).message
    with pytest.raises(ModelError, match="corrupt"), opened_weights(path):
        pass


def test_real_weights_are_far_from_the_bounds() -> None:
    megabyte = 10**6
    assert bounds.limit(480 * megabyte) > 4 * 480 * megabyte
    assert bounds.limit(1) == 64 << 20


# ------------------------------------------------------------------------------------- special files, copies


def specials(folder: Path) -> list[Path]:
    os.mkfifo(folder / "fifo")
    with closing(socket.socket(socket.AF_UNIX)) as listener:
        here = Path.cwd()
        os.chdir(folder)  # the name of a socket is limited to 107 bytes
        try:
            listener.bind("socket")
        finally:
            os.chdir(here)
    return [folder / "fifo", folder / "socket", Path("/dev/zero")]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no named pipes")
def test_only_regular_files_are_opened(tmp_path: Path) -> None:
    for path in specials(tmp_path):
        assert "not a regular file" in refused(path).message
        with pytest.raises(ModelError, match="not a regular file"), opened_weights(path):
            pass
        with pytest.raises(OSError, match="not a regular file"):
            FileHashes(None).sha256(path)
    folder = tmp_path / "model"
    (folder / "variables").mkdir(parents=True)
    (folder / "saved_model.pb").write_bytes(b"x")
    os.mkfifo(folder / "variables" / "variables.index")
    with pytest.raises(ModelError, match="a named pipe, not a regular file"):
        load(str(folder))


def test_a_copy_is_what_was_hashed(tmp_path: Path) -> None:
    file, folder = hdf5(tmp_path / "m.h5"), tmp_path / "saved"
    (folder / "variables").mkdir(parents=True)
    (folder / "saved_model.pb").write_bytes(b"graph")
    (folder / "variables" / "variables.index").write_bytes(b"index")
    for path in (file, folder):
        known = FileHashes(None).content(path)
        with snapshot(path, suffix=".x", sha256=known) as copy:
            assert copy.sha256 == known == FileHashes(None).content(copy.path)
            assert copy.path.name == "model.x"
        assert not copy.path.parent.exists()
    (folder / "variables" / "variables.index").write_bytes(b"INDEX")
    with pytest.raises(ModelError, match="was changed while the run read it"), snapshot(folder, sha256=known):
        pass
    with pytest.raises(ModelError, match="was changed"), opened_weights(file, sha256=known):
        pass
    (folder / "link").symlink_to(tmp_path)
    with pytest.raises(ModelError, match="is a link to another folder"), snapshot(folder):
        pass


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_a_model_that_changes_between_hash_and_load(tmp_path: Path, kind: str) -> None:
    """Its artifact would be the replacement's, and be kept in the cache under the original's hash."""
    section = {
        "file": ModelSection(source=str(tmp_path / "m.h5")),
        "folder": ModelSection(source=str(tmp_path / "saved")),
    }[kind]
    changing = hdf5(tmp_path / "m.h5")
    if kind == "folder":
        (tmp_path / "saved").mkdir()
        changing = tmp_path / "saved" / "saved_model.pb"
        changing.write_bytes(b"one")
    workspace = Workspace(scratch=tmp_path, staging=tmp_path)
    with closing(OFF.store(SILENT.warn)) as store, closing(OFF.hashes()) as hashes:
        source = Source(section, seed=0, memo=Memo(store, SILENT, workspace), hashes=hashes)
        hdf5(tmp_path / "other", version="2.9.0").replace(changing)
        with pytest.raises(ModelError, match="was changed while the run read it"):
            _ = source.loaded


# ---------------------------------------------------------------------------------------- failing imports


@pytest.mark.parametrize(
    ("cause", "message", "hint"),
    [
        (
            ModuleNotFoundError("No module named 'tensorflow'", name="tensorflow"),
            "cannot be imported",
            "install",
        ),
        (ModuleNotFoundError("No module named 'wrapt'", name="wrapt"), "No module named 'wrapt'", "missing"),
        (
            ImportError("libtensorflow_cc.so.2: failed to map segment from shared object"),
            "map",
            "too little memory",
        ),
        (ImportError("libx.so: cannot open shared object file"), "installed but cannot", "repair"),
        (MemoryError(), "not enough memory", "too little memory"),
    ],
)
def test_why_a_package_cannot_be_imported(cause: BaseException, message: str, hint: str) -> None:
    error = MissingDependencyError("tensorflow", needed_for="loading a model", cause=cause)
    assert message in error.message
    assert hint in error.hint
    assert error.exit_code is ExitCode.MISSING_DEPENDENCY


@pytest.mark.parametrize("module", ["tensorflow_hub.keras_layer", "mine"])
def test_a_layer_of_tensorflow_hub_is_told_how_to_be_exported(module: str) -> None:
    inside = layer("KerasLayer", module=module, handle="https://tfhub.dev/x/1")
    with pytest.raises(ModelError, match="'KerasLayer'") as caught:
        judge_config(model_of(inside), source=SOURCE)
    assert "TensorFlow Hub" in caught.value.hint
    assert "model.export" in caught.value.hint
