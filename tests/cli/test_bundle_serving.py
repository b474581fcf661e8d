"""`edgefx bundle --serving`, `--mcuboot` and `--oci`: what servers, a boot loader and registries take."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format

from tests.cli.conftest import Edgefx
from tests.cli.run_folders import run_folder
from tests.unit.report_samples import report

NAMES = ("daisy", 'a "b"', "\u00fc")


@pytest.fixture
def build(tmp_path: Path) -> Path:
    """A run's output folder with an artifact of each runtime."""
    return run_folder(tmp_path / "build", str.encode, name="a/b\n", class_names=NAMES)


def message(fields: dict[str, Any]) -> Any:
    """Make a protobuf message of the part of Triton's model configuration that is written here."""
    file = descriptor_pb2.FileDescriptorProto(name="model_config_part.proto", syntax="proto3")
    kinds = {"s": 9, "i": 5, "l": 3, "m": 11}

    def add(name: str, parts: dict[str, Any]) -> None:
        made = file.message_type.add(name=name)
        for number, (field, (kind, repeated, inner)) in enumerate(parts.items(), 1):
            made.field.add(
                name=field,
                number=number,
                type=kinds[kind],
                label=3 if repeated else 1,
                type_name=f".{inner}" if inner else None,
            )

    for name, parts in fields.items():
        add(name, parts)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(next(iter(fields))))()


TRITON = {
    "Config": {
        "name": ("s", False, ""),
        "backend": ("s", False, ""),
        "max_batch_size": ("i", False, ""),
        "input": ("m", True, "End"),
        "output": ("m", True, "End"),
        "parameters": ("m", True, "Entry"),
    },
    "End": {
        "name": ("s", False, ""),
        "data_type": ("s", False, ""),
        "dims": ("l", True, ""),
        "label_filename": ("s", False, ""),
    },
    "Entry": {"key": ("s", False, ""), "value": ("m", False, "Value")},
    "Value": {"string_value": ("s", False, "")},
}


def test_triton_gets_a_configuration_that_parses(edgefx: Edgefx, build: Path, tmp_path: Path) -> None:
    repository = tmp_path / "models"
    done = edgefx("bundle", str(build), "--serving", f"triton={repository}", "--json")
    assert done.code == 0, done.err
    served = json.loads(done.out)["served"]
    assert {one["target"].partition("-")[0] for one in served} == {"onnx", "openvino"}
    for one in served:
        folder = repository / one["name"]
        text = (folder / "config.pbtxt").read_text()
        for kind in ("FP32", "UINT8", "INT8"):  # an enumeration in Triton's schema, a text in ours
            text = text.replace(f"data_type: TYPE_{kind}\n", f'data_type: "TYPE_{kind}"\n')
        config = text_format.Parse(text, message(TRITON))
        assert config.name == one["name"]
        assert config.backend == {"onnx": "onnxruntime", "openvino": "openvino"}[one["target"].split("-")[0]]
        (result,) = (result for result in report() if result.target == one["target"])
        assert result.artifact is not None
        assert config.input[0].name == result.artifact.inputs[0].name
        assert tuple(config.input[0].dims) == result.artifact.inputs[0].shape
        assert config.output[0].label_filename == "labels.txt"
        assert (folder / "labels.txt").read_text().splitlines() == list(NAMES)
        names = sorted(path.name for path in (folder / "1").iterdir())
        assert names == (["model.onnx"] if "onnx" in one["target"] else ["model.bin", "model.xml"])


def test_a_further_run_is_a_further_version(edgefx: Edgefx, build: Path, tmp_path: Path) -> None:
    tf, ov = tmp_path / "tf", tmp_path / "ov"
    for version in (1, 2):
        done = edgefx(
            "bundle", str(build), "--serving", f"tf-serving={tf}", "--serving", f"openvino={ov}", "--json"
        )
        assert {one["version"] for one in json.loads(done.out)["served"]} == {version}
    (model,) = (path for path in tf.iterdir() if path.is_dir())
    assert sorted(path.name for path in model.iterdir()) == ["1", "2", "labels.txt"]
    assert (model / "2" / "model.tflite").read_bytes() == (build / "b0-int8.tflite").read_bytes()
    assert f'base_path: "/models/{model.name}"' in (tf / "models.config").read_text()
    listed = json.loads((ov / "config.json").read_text())["model_config_list"]
    assert [one["config"]["name"] for one in listed] == sorted(p.name for p in ov.iterdir() if p.is_dir())
    assert not [path for folder in (tf, ov) for path in folder.iterdir() if path.name.startswith(".")]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--serving", "triton"), "LAYOUT=DIR"),
        (("--serving", "tritn=x"), "did you mean triton"),
        (("--serving", "triton="), "LAYOUT=DIR"),
        (("--serving", "triton=x", "-t", "tflite-*"), "it takes onnx-* and openvino-*"),
    ],
)
def test_what_cannot_be_served(
    edgefx: Edgefx, build: Path, tmp_path: Path, options: tuple[str, ...], said: str
) -> None:
    out = tmp_path / "b.zip"
    done = edgefx("bundle", str(build), "-o", str(out), *options)
    assert done.code == 2
    assert said in done.err
    assert not out.exists()


def test_a_repository_that_cannot_be_written(edgefx: Edgefx, build: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = edgefx("bundle", str(build), "--serving", f"openvino={tmp_path / 'file'}")
    assert done.code == 2
    assert "Traceback" not in done.err


# ---------------------------------------- MCUboot


@pytest.fixture
def key(tmp_path: Path) -> Path:
    """A private key of Ed25519."""
    pytest.importorskip("cryptography", reason="cryptography is not installed")
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    private = Ed25519PrivateKey.generate()
    path = tmp_path / "key.pem"
    path.write_bytes(
        private.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return path


def test_an_image_that_mcuboot_takes(edgefx: Edgefx, build: Path, tmp_path: Path, key: Path) -> None:
    pytest.importorskip("imgtool", reason="imgtool is not installed")
    images = []
    for name in ("a.zip", "b.zip"):
        options = ("-o", str(tmp_path / name), "--mcuboot-key", str(key), "--mcuboot", "1.2.3+4")
        assert edgefx("bundle", str(build), *options).code == 0
        assert edgefx("verify", str(tmp_path / name)).code == 0
        with zipfile.ZipFile(tmp_path / name) as archive:
            (member,) = (one for one in archive.namelist() if one.startswith("mcuboot/"))
            images.append(archive.read(member))
    assert images[0] == images[1]
    model = (build / "b0-int8.tflite").read_bytes()
    assert images[0][32 : 32 + len(model)] == model
    path = tmp_path / "image.bin"
    path.write_bytes(images[0])
    command = [sys.executable, "-P", "-m", "imgtool.main", "verify", "-k", str(key), str(path)]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "Image version: 1.2.3+4" in said
    path.write_bytes(images[0].replace(model, model[::-1]))
    assert subprocess.run(command, capture_output=True, check=False).returncode != 0


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--mcuboot", "1.2.3"), "give --mcuboot-key"),
        (("--mcuboot", "1.2", "--mcuboot-key", "KEY"), "no version"),
        (("--slot-size", "1MB"), "give --mcuboot"),
        (("--mcuboot-key", "KEY"), "give --mcuboot"),
        (("--mcuboot", "1.2.3", "--mcuboot-key", "KEY", "--slot-size", "10B"), "and the slot 10"),
        (("--mcuboot", "1.2.3", "--mcuboot-key", "KEY", "-t", "onnx-*"), "compile for tflm-int8"),
        (("--mcuboot", "1.2.3", "--mcuboot-key", "nowhere.pem"), "nowhere.pem"),
    ],
)
def test_images_that_cannot_be_made(
    edgefx: Edgefx, build: Path, key: Path, options: tuple[str, ...], said: str
) -> None:
    pytest.importorskip("imgtool", reason="imgtool is not installed")
    given = [str(key) if option == "KEY" else option for option in options]
    done = edgefx("bundle", str(build), *given)
    assert done.code == 2
    assert said in done.err
    assert not list(build.glob("*.zip"))


# ---------------------------------------- OCI image layout


def test_an_image_layout_holds_the_files_of_the_bundle(edgefx: Edgefx, build: Path, tmp_path: Path) -> None:
    layout = tmp_path / "new" / "layout"
    done = edgefx("bundle", str(build), "--oci", str(layout), "--json")
    made = json.loads(done.out)

    def blob(descriptor: dict[str, str]) -> bytes:
        content = (layout / "blobs" / descriptor["digest"].replace(":", "/")).read_bytes()
        assert f"sha256:{sha256(content).hexdigest()}" == descriptor["digest"]
        assert len(content) == int(descriptor["size"])
        return content

    assert json.loads((layout / "oci-layout").read_text()) == {"imageLayoutVersion": "1.0.0"}
    (tagged,) = json.loads((layout / "index.json").read_text())["manifests"]
    assert tagged["digest"] == made["oci"]["digest"]
    assert tagged["annotations"] == {"org.opencontainers.image.ref.name": made["oci"]["tag"]}
    image = json.loads(blob(tagged))
    assert image["artifactType"] == "application/vnd.cncf.model.manifest.v1+json"
    config = json.loads(blob(image["config"]))
    assert set(config) == {"descriptor", "config", "modelfs"}
    assert config["modelfs"]["diffIds"] == [layer["digest"] for layer in image["layers"]]
    held = {layer["annotations"]["org.cncf.model.filepath"]: blob(layer) for layer in image["layers"]}
    with zipfile.ZipFile(made["path"]) as bundle:
        assert held == {name: bundle.read(name) for name in bundle.namelist()}
    kinds = {layer["mediaType"] for layer in image["layers"] if "artifacts/" in str(layer)}
    assert kinds == {"application/vnd.cncf.model.weight.v1.raw"}


def test_an_image_layout_is_the_same_twice_and_takes_no_folder_in_use(
    edgefx: Edgefx, build: Path, tmp_path: Path
) -> None:
    digests = []
    (tmp_path / "b").mkdir()  # an empty folder is as good as none
    for name in ("a", "b"):
        done = edgefx("bundle", str(build), "--oci", str(tmp_path / name), "--json")
        digests.append(json.loads(done.out)["oci"]["digest"])
    assert digests[0] == digests[1]
    before = sorted(path.name for path in tmp_path.rglob("*"))
    refused = edgefx("bundle", str(build), "-o", str(tmp_path / "c.zip"), "--oci", str(tmp_path / "a"))
    assert refused.code == 2
    assert "is there already" in refused.err
    assert sorted(path.name for path in tmp_path.rglob("*")) == before
