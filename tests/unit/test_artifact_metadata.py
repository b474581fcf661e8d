"""Metadata in artifacts: the forms that other tools read, and what is refused."""

from __future__ import annotations

import io
import struct
import zipfile
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import flatbuffers  # type: ignore[import-untyped]
import pytest
from ai_edge_litert import schema_py_generated as schema

from edgefx import harmless, runtimes
from edgefx.errors import ArtifactError, ConversionError
from edgefx.runtimes import metadata as documents
from edgefx.runtimes.onnx import metadata as onnx_form
from edgefx.runtimes.openvino import metadata as openvino_form
from edgefx.runtimes.tflite import metadata as tflite_form
from edgefx.types import ArtifactMetadata, TensorInfo

NAMES = tuple(map(harmless.line, ("great white shark", "b\nc", "d" * 10**7)))
METADATA = ArtifactMetadata(
    edgefx="0.1.0",
    target="tflite-int8",
    model="b0",
    model_sha256="ab" * 32,
    input=TensorInfo(name="image", shape=(1, 224, 192, 3), dtype="uint8", scale=1.0, zero_point=0),
    output=TensorInfo(name="probabilities", shape=(1, 3), dtype="uint8", scale=1 / 256, zero_point=0),
    output_kind="probabilities",
    resize="pad",
    class_names=NAMES,
)


# ---------------------------------------------------------------------------------------- the document


def test_a_document_is_ascii_on_one_line_and_comes_back() -> None:
    text = documents.dumps(METADATA)
    assert text.isascii()
    assert "\n" not in text
    assert len(text) < 3000
    assert documents.loads(text, Path("a.tflite")) == METADATA


def test_a_document_of_a_later_version_is_read() -> None:
    text = (
        documents.dumps(METADATA).replace('"edgefx":', '"new":{"a":1},"edgefx":').replace('"pad"', '"tile"')
    )
    assert documents.loads(text, Path("a.tflite")) == replace(METADATA, resize="tile")


@pytest.mark.parametrize(
    "text",
    [
        *("", "null", "[" * 10**5, "{}", '{"edgefx": 3}', "\x1b[31m", b"\xff"),
        b"x" * (documents.MOST_BYTES + 1),
        documents.dumps(METADATA).replace("[1,3]", "[]"),
    ],
)
def test_a_damaged_document_is_an_error(text: str | bytes) -> None:
    with pytest.raises(ArtifactError, match=r"a\.tflite: its metadata of edgefx is") as caught:
        documents.loads(text, Path("a.tflite"))
    assert "\x1b" not in caught.value.message


def test_names_of_a_foreign_document_are_made_harmless() -> None:
    text = documents.dumps(replace(METADATA, class_names=("\x1b[31m", "x" * 1000)))
    first, second = documents.loads(text, Path("a")).class_names
    assert "\x1b" not in first
    assert len(second) == 200


# ---------------------------------------------------------------------------------------- TFLite


class Reader:
    """A table, read with the flatbuffers package and the field numbers of metadata_schema.fbs."""

    def __init__(self, content: bytes, place: int) -> None:
        self.table = flatbuffers.table.Table(content, place)

    @classmethod
    def root(cls, content: bytes) -> Reader:
        return cls(content, struct.unpack_from("<I", content)[0])

    def _place(self, field: int) -> int:
        offset = self.table.Offset(4 + 2 * field)
        assert offset, f"no field {field}"
        return int(self.table.Pos + offset)

    def text(self, field: int) -> str:
        return str(self.table.String(self._place(field)).decode())

    def number(self, field: int, kind: str) -> Any:
        return struct.unpack_from(f"<{kind}", self.table.Bytes, self._place(field))[0]

    def child(self, field: int) -> Reader:
        return Reader(self.table.Bytes, self.table.Indirect(self._place(field)))

    def vector(self, field: int) -> list[Reader]:
        offset = self.table.Offset(4 + 2 * field)
        begin, length = self.table.Vector(offset), self.table.VectorLen(offset)
        return [Reader(self.table.Bytes, self.table.Indirect(begin + 4 * index)) for index in range(length)]

    def floats(self, field: int) -> list[float]:
        offset = self.table.Offset(4 + 2 * field)
        begin, length = self.table.Vector(offset), self.table.VectorLen(offset)
        return list(struct.unpack_from(f"<{length}f", self.table.Bytes, begin))


def test_tflites_own_metadata_have_the_fields_of_the_schema() -> None:
    content = tflite_form.standard(METADATA)
    assert content[4:8] == b"M001"
    model = Reader.root(content)
    assert model.text(0) == "b0"
    assert "edgefx 0.1.0" in model.text(1)
    assert model.text(7) == "1.0.0"
    (graph,) = model.vector(3)
    (image,), (scores,) = graph.vector(2), graph.vector(3)
    assert (image.text(0), scores.text(0)) == ("image", "probabilities")
    assert image.child(3).number(0, "B") == 2  # ImageProperties
    properties = image.child(3).child(1)
    assert properties.number(0, "B") == 1  # RGB
    assert (properties.child(1).number(0, "I"), properties.child(1).number(1, "I")) == (192, 224)
    (unit,) = image.vector(4)
    assert unit.number(0, "B") == 1  # NormalizationOptions: pixels are taken as they are
    assert (unit.child(1).floats(0), unit.child(1).floats(1)) == ([0.0], [1.0])
    assert (image.child(5).floats(0), image.child(5).floats(1)) == ([255.0], [0.0])
    assert scores.child(3).number(0, "B") == 1  # FeatureProperties
    (labels,) = scores.vector(6)
    assert (labels.text(0), labels.number(2, "B")) == ("labels.txt", 2)  # TENSOR_AXIS_LABELS


def tiny_tflite(*, outside: bool = False) -> bytes:
    """Return a model of two buffers with metadata that a converter left, as edgefx writes files."""
    model, graph, entry = schema.ModelT(), schema.SubGraphT(), schema.MetadataT()
    empty, kept = schema.BufferT(), schema.BufferT()
    kept.data = list(b"2.0.0")
    if outside:
        kept.offset, kept.size = 4096, 5
    graph.tensors, graph.operators, graph.inputs, graph.outputs = [], [], [], []
    entry.name, entry.buffer = "min_runtime_version", 1
    model.version, model.description = 3, "tiny"
    model.subgraphs, model.buffers, model.metadata, model.operatorCodes = [graph], [empty, kept], [entry], []
    builder = flatbuffers.Builder(0)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


def test_a_tflite_file_lies_in_the_new_one_as_it_was(tmp_path: Path) -> None:
    path, before = tmp_path / "a.tflite", tiny_tflite()
    path.write_bytes(before)
    tflite_form.embed(path, METADATA)
    content = path.read_bytes()
    place = content.index(before)
    assert place % 64 == 0

    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(content, 0))
    assert (model.version, model.description) == (3, b"tiny")
    found = {entry.name.decode(): bytes(model.buffers[entry.buffer].data) for entry in model.metadata}
    assert list(found) == ["min_runtime_version", "TFLITE_METADATA", "edgefx"]
    assert found["min_runtime_version"] == b"2.0.0"
    assert found["TFLITE_METADATA"] == tflite_form.standard(METADATA)
    assert found["edgefx"].decode() == documents.dumps(METADATA)
    assert len(model.buffers) == 4

    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        (entry,) = archive.infolist()
        assert (entry.filename, entry.date_time, entry.create_system) == (
            "labels.txt",
            (1980, 1, 1, 0, 0, 0),
            3,
        )
        assert archive.read(entry).decode().splitlines() == list(NAMES)


def test_a_tflite_file_without_class_names_has_no_archive(tmp_path: Path) -> None:
    path = tmp_path / "a.tflite"
    path.write_bytes(tiny_tflite())
    tflite_form.embed(path, replace(METADATA, class_names=()))
    assert not zipfile.is_zipfile(path)
    found = tflite_form.read(path)
    assert found is not None
    assert found.class_names == ()


def test_buffers_outside_of_the_table_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.tflite"
    path.write_bytes(tiny_tflite(outside=True))
    with pytest.raises(ConversionError, match="lie outside"):
        tflite_form.embed(path, METADATA)
    assert path.read_bytes() == tiny_tflite(outside=True)
    assert list(tmp_path.iterdir()) == [path]


def test_a_damaged_tflite_file_is_an_error_and_never_a_crash(tmp_path: Path) -> None:
    path = tmp_path / "a.tflite"
    path.write_bytes(tiny_tflite())
    tflite_form.embed(path, METADATA)
    content = path.read_bytes()
    damaged = [content[:length] for length in range(0, len(content), 97)]
    for place in range(0, content.index(tiny_tflite()), 3):
        flipped = bytes((content[place] ^ 0xFF,))
        damaged.append(content[:place] + flipped + content[place + 1 :])
    for one in damaged:
        path.write_bytes(one)
        with suppress(ArtifactError):
            tflite_form.read(path)


# ---------------------------------------------------------------------------------------- ONNX, OpenVINO


def test_onnx_entries_are_appended_and_standard(tmp_path: Path) -> None:
    import onnx

    path = tmp_path / "a.onnx"
    model = onnx.ModelProto(producer_name="test")
    model.metadata_props.add(key="edgefx.hardware", value="aarch64")
    before = model.SerializeToString()
    path.write_bytes(before)
    onnx_form.embed(path, METADATA)
    assert path.read_bytes().startswith(before)
    found = onnx.ModelProto.FromString(path.read_bytes())
    assert found.producer_name == "test"
    entries = {entry.key: entry.value for entry in found.metadata_props}
    assert entries.pop("edgefx.metadata") == documents.dumps(METADATA)
    assert entries == {
        "edgefx.hardware": "aarch64",
        "Image.BitmapPixelFormat": "Rgb8",
        "Image.ColorSpaceGamma": "SRGB",
        "Image.NominalPixelRange": "NominalRange_0_255",
    }
    assert onnx_form.read(found, path) == METADATA


def test_openvino_has_the_configuration_of_the_model_api(tmp_path: Path) -> None:
    path = tmp_path / "a.xml"
    path.with_suffix(".bin").write_bytes(b"")
    path.write_text("<?xml version='1.0' encoding='utf-8'?>\n<net name=\"b0\"><layers /></net>")
    assert openvino_form.read(path) is None
    names = ("great white shark", "a\u00a0b\u3000c", "", " ", '<&"', "\uffff")
    openvino_form.embed(path, replace(METADATA, class_names=names))
    from xml.etree import ElementTree as ET

    root = ET.parse(path).getroot()  # noqa: S314 - made here
    section = root.find("rt_info/model_info")
    assert section is not None
    labels = 'great_white_shark a_b_c _ _ <&" _'
    assert {entry.tag: entry.get("value") for entry in section} == {
        "model_type": "Classification",
        "layout": "image:NHWC",
        "reverse_input_channels": "True",
        "resize_type": "fit_to_window_letterbox",
        "labels": labels,
    }
    assert len(labels.split()) == len(names), "no class moves to another index"
    found = openvino_form.read(path)
    assert found is not None
    assert found.class_names == names


def test_a_file_without_metadata_says_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a.tflite"
    path.write_bytes(tiny_tflite())
    assert runtimes.for_artifact(path).read_metadata(path) is None
