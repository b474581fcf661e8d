"""Metadata of an OpenVINO ``.xml``: entries of ``rt_info``; the ``.bin`` is left alone.

Section ``model_info`` is the configuration that OpenVINO's Model API and DL Streamer read
(``docs/model-configuration.md`` in the Model API's repository). Its lists are split at white space, so that a
class name there has underscores for spaces; section ``edgefx`` has the names as they are.
"""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree as ET

from edgefx.errors import ArtifactError
from edgefx.runtimes import metadata as documents
from edgefx.runtimes.openvino import xml
from edgefx.storage.atomic import replacing
from edgefx.types import ArtifactMetadata, ForeignMetadata
from edgefx.vocabulary import Resize

SECTION = "edgefx"  # our section of the model's rt_info
_KEY = "metadata"
_RESIZE = {Resize.STRETCH: "standard", Resize.CROP: "crop", Resize.PAD: "fit_to_window_letterbox"}
_FLOAT = re.compile(r"-?\d{1,9}(?:\.\d{1,9})?")
# White space ends a name there; XML has no place for the others.
_NOT_IN_A_LABEL = re.compile(r"\s|[\ufffe\uffff]")


def embed(path: Path, metadata: ArtifactMetadata) -> None:
    """Write an artifact's metadata into its ``.xml``.

    Raises:
        OSError: The file cannot be written.
    """
    tree = ET.parse(path)  # noqa: S314 - our own file
    root = tree.getroot()
    for section, entries in (
        (SECTION, {_KEY: documents.dumps(metadata)}),
        ("model_info", _model_info(metadata)),
    ):
        parent = _child(_child(root, "rt_info"), section)
        for key, value in entries.items():
            ET.SubElement(parent, key, value=value)
    with replacing(path) as made:
        tree.write(made, encoding="utf-8", xml_declaration=True)


def read(path: Path) -> ArtifactMetadata | None:
    """Return what an artifact says of itself; None where it says nothing.

    Raises:
        ArtifactError: A file of the pair is missing or damaged.
    """
    found = _stated(path, f"{SECTION}/{_KEY}")
    return None if found is None else documents.loads(found, path)


def read_foreign(path: Path) -> ForeignMetadata:
    """Return what the Model API's configuration says in an IR of other origin.

    Raises:
        ArtifactError: As `read`.
    """
    labels = (_stated(path, "model_info/labels") or "").split()
    mean, deviation = (
        tuple(float(number) for number in _FLOAT.findall(_stated(path, f"model_info/{key}") or ""))[:3]
        for key in ("mean_values", "scale_values")
    )
    if mean or deviation:
        mean, deviation = mean or (0.0,), deviation or (1.0,)
    if not all(number > 0 for number in deviation):
        mean = deviation = ()
    return ForeignMetadata(class_names=documents.clean(tuple(labels)), mean=mean, deviation=deviation)


def _stated(path: Path, entry: str) -> str | None:
    """Return an entry of ``rt_info``; None where it is absent.

    Raises:
        ArtifactError: As `read`.
    """
    xml.check(path)
    try:
        found = ET.parse(path).find(f"rt_info/{entry}")  # noqa: S314 - without a DTD: checked
    except ET.ParseError as error:
        raise ArtifactError(
            f"{path}: no XML: {error}",
            hint="the file is damaged or no OpenVINO IR; convert the model again",
        ) from error
    return None if found is None else found.get("value", "")


def _model_info(metadata: ArtifactMetadata) -> dict[str, str]:
    """Return the configuration of the Model API's classifier."""
    entries = {
        "model_type": "Classification",
        "layout": f"{metadata.input.name}:NHWC",
        # Images are given to the Model API as OpenCV reads them: BGR.
        "reverse_input_channels": "True",
    }
    if metadata.resize in _RESIZE:
        entries["resize_type"] = _RESIZE[Resize(metadata.resize)]
    if metadata.class_names:
        entries["labels"] = " ".join(label(name) for name in metadata.class_names)
    return entries


def label(name: str) -> str:
    """Return a class name as an element of a list that is split at white space."""
    return _NOT_IN_A_LABEL.sub("_", name) or "_"


def _child(parent: ET.Element, tag: str) -> ET.Element:
    found = parent.find(tag)
    return ET.SubElement(parent, tag) if found is None else found
