"""Artifacts of other origin: what they may refer to and declare, judged before any runtime opens them."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgefx import runtimes
from edgefx.errors import ArtifactError
from edgefx.runtimes import bounds
from edgefx.runtimes.openvino import xml


def model(*, shape: tuple[int | str, ...] = (1, 4, 4, 3), location: str = "", nested: bool = False) -> bytes:
    """Return a classifier that adds a constant, whose values are in the file `location` where given."""
    weight = numpy_helper.from_array(np.ones((1, 3), np.float32), "weight")
    if location:
        weight.ClearField("raw_data")
        weight.data_location = TensorProto.EXTERNAL
        for name, value in (("location", location), ("offset", "0"), ("length", "12")):
            entry = weight.external_data.add()
            entry.key, entry.value = name, value
    nodes = [
        helper.make_node("ReduceMean", ["image"], ["mean"], axes=[1, 2], keepdims=0),
        helper.make_node("Add", ["mean", "weight"], ["scores"]),
    ]
    if nested:  # the constant is in an attribute instead
        nodes.insert(0, helper.make_node("Constant", [], ["weight"], value=weight))
    graph = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, [1, 3])],
        [] if nested else [weight],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    content: bytes = made.SerializeToString()
    return content


def described(path: Path) -> str:
    """Describe a file that must be refused; return the message."""
    with pytest.raises(ArtifactError) as caught:
        runtimes.for_artifact(path).describe(path)
    assert str(path) in caught.value.message
    assert caught.value.hint
    return caught.value.message


# -------------------------------------------------------------------------------------------- external data


@pytest.mark.parametrize("nested", [False, True], ids=["initializer", "attribute"])
@pytest.mark.parametrize(
    "location", ["../secret", "/etc/passwd", "sub/../../secret", "c:\\x", "..\\x", "link"]
)
def test_weights_outside_the_folder_are_refused(tmp_path: Path, location: str, nested: bool) -> None:
    (tmp_path / "secret").write_bytes(bytes(12))
    folder = tmp_path / "model"
    (folder / "sub").mkdir(parents=True)
    (folder / "link").symlink_to(tmp_path / "secret")
    path = folder / "m.onnx"
    path.write_bytes(model(location=location, nested=nested))
    assert "outside the model's folder" in described(path)


def test_weights_beside_the_model_are_read_and_counted(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(model(location="m.data"))
    assert "is missing" in described(path)
    (tmp_path / "m.data").write_bytes(np.ones(3, np.float32).tobytes())
    artifact = runtimes.for_artifact(path).describe(path)
    assert [file.path.name for file in artifact.files] == ["m.onnx", "m.data"]
    (tmp_path / "m.data").unlink()
    os.mkfifo(tmp_path / "m.data")
    assert "a named pipe" in described(path)


# ---------------------------------------------------------------------------------------------------- sizes


@pytest.mark.parametrize(
    ("shape", "reason"),
    [
        ((1, 60_000, 60_000, 3), "more than"),
        ((1, 2**31, 2**31, 3), "more than"),
        ((2**40, 224, 224, 3), "more than"),
        ((1, 5000, 4, 3), "at most 4096 pixels"),
        ((0, 224, 224, 3), "batch of 0"),
        ((1, 0, 4, 3), "holds nothing"),
    ],
)
def test_sizes_that_no_classifier_has_are_refused(
    tmp_path: Path, shape: tuple[int, ...], reason: str
) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(model(shape=shape))
    assert reason in described(path)


def test_a_free_batch_is_one(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(model(shape=("batch", 4, 4, 3)))
    assert runtimes.for_artifact(path).describe(path).inputs[0].shape == (1, 4, 4, 3)


def test_a_large_tensor_inside_the_graph_is_refused(tmp_path: Path) -> None:
    graph = onnx.load_from_string(model())
    graph.graph.node.insert(0, helper.make_node("Tile", ["image", "repeats"], ["large"]))
    graph.graph.initializer.append(numpy_helper.from_array(np.array([1, 30_000, 30_000, 1]), "repeats"))
    graph.graph.node[1].input[0] = "large"
    path = tmp_path / "m.onnx"
    path.write_bytes(graph.SerializeToString())
    assert "'large'" in described(path)


def test_the_largest_efficientnet_is_allowed() -> None:
    bounds.check_tensor(Path("b7"), "expand", (1, 300, 300, 192))
    bounds.check_tensor(Path("b7"), "batch", (8, 600, 600, 3))


def test_contradicting_values_are_no_bug(tmp_path: Path) -> None:
    graph = onnx.load_from_string(model())
    graph.graph.node.append(helper.make_node("QuantizeLinear", ["scores", "scale"], ["q"]))
    scale = graph.graph.initializer.add()
    scale.name, scale.data_type = "scale", TensorProto.FLOAT
    scale.dims.append(1)  # one value is declared, none is there
    graph.graph.output[0].name = "q"
    graph.graph.output[0].type.tensor_type.elem_type = TensorProto.UINT8
    path = tmp_path / "m.onnx"
    path.write_bytes(graph.SerializeToString())
    assert "not a valid ONNX graph" in described(path)


# ----------------------------------------------------------------------------------------------- OpenVINO

_IR = '<net name="m" version="11"><layers>{}</layers><edges/></net>'
_LAUGHS = '<!DOCTYPE net [<!ENTITY a "ha"><!ENTITY b "&a;&a;">]>'
_FOREIGN = '<!DOCTYPE net [<!ENTITY x SYSTEM "file:///etc/passwd">]>'


@pytest.mark.parametrize("start", [_LAUGHS, _FOREIGN, "<!doctype net>", '<!ENTITY % x "y">'])
def test_document_types_are_refused(tmp_path: Path, start: str) -> None:
    path = tmp_path / "m.xml"
    path.with_suffix(".bin").write_bytes(b"")
    path.write_text('<?xml version="1.0"?>\n' + start + _IR.format("&b;"))
    assert "document type definition" in described(path)


def test_another_encoding_cannot_hide_one(tmp_path: Path) -> None:
    path = tmp_path / "m.xml"
    path.with_suffix(".bin").write_bytes(b"")
    for encoding in ("utf-16", "utf-16-be", "utf-32", "latin-1"):
        path.write_bytes((_LAUGHS + _IR.format("\xe9")).encode(encoding))
        assert "UTF-8" in described(path)


def test_comments_and_character_data_are_no_document_type(tmp_path: Path) -> None:
    path = tmp_path / "m.xml"
    path.with_suffix(".bin").write_bytes(b"")
    path.write_text("<!-- c --><net><![CDATA[x]]></net>")
    xml.check(path)


def test_a_graph_without_ends_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.xml"
    path.with_suffix(".bin").write_bytes(b"")
    path.write_text('<?xml version="1.0"?>' + _IR.format(""))
    message = described(path)
    assert "has no input" in message or "cannot read" in message


# ---------------------------------------------------------------------------------------- no regular files


@pytest.mark.parametrize("suffix", [".tflite", ".onnx", ".xml", ".bin"])
@pytest.mark.parametrize("kind", ["pipe", "socket", "device", "folder"])
def test_only_regular_files_are_opened(tmp_path: Path, suffix: str, kind: str) -> None:
    path = tmp_path / f"m{suffix}"
    if suffix == ".bin":
        path.with_suffix(".xml").write_text("<net/>")
    with socket.socket(socket.AF_UNIX) as listener:
        if kind == "pipe":
            os.mkfifo(path)
        elif kind == "socket":
            listener.bind(str(path))
        elif kind == "device":
            path.symlink_to("/dev/zero")
        else:
            path.mkdir()
        message = described(path.with_suffix(".xml") if suffix == ".bin" else path)
    assert {"pipe": "a named pipe", "socket": "a socket", "device": "a device", "folder": "directory"}[
        kind
    ] in message
