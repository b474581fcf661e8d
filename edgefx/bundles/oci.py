"""A bundle's files as an OCI image layout, in the form of CNCF ModelPack, for registries.

Each file is a layer of its own, as it is: registries keep it once however many versions hold it, and whoever
pulls can take one file. Formats: https://github.com/opencontainers/image-spec (v1.1, image layout and
manifest) and https://github.com/modelpack/model-spec (v1).
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from pathlib import Path

from edgefx.bundles import archive
from edgefx.bundles.archive import Content
from edgefx.bundles.manifest import NAME, Manifest
from edgefx.errors import OutputError
from edgefx.shipments import OciLayout
from edgefx.storage import temporary
from edgefx.storage.atomic import PREFIX
from edgefx.storage.disk import explained
from edgefx.storage.serde import dumps
from edgefx.targets import select

_MODEL = "application/vnd.cncf.model"
_CONFIG = f"{_MODEL}.config.v1+json"
_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_INDEX = "application/vnd.oci.image.index.v1+json"
_PATH = "org.cncf.model.filepath"
_TAG = "org.opencontainers.image.ref.name"
_NOT_OF_TAGS = re.compile(r"[^A-Za-z0-9._-]")


def write(folder: Path, members: Mapping[str, Content], manifest: Manifest) -> OciLayout:
    """Write an image layout with one image, completely or not at all. The same bundle gives the same bytes.

    Args:
        folder: Where; an empty folder, or none yet.
        members: The bundle's files by name.
        manifest: The bundle's manifest.

    Raises:
        OutputError: The folder holds something already, or cannot be written.
        DiskFullError: No space is left.
    """
    require_free(folder)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with temporary.folder(folder.parent, PREFIX) as made:
            layout = made / "layout"
            digest = _write(layout, members, manifest)
            if folder.exists():
                folder.rmdir()
            layout.replace(folder)
    except OSError as error:
        raise explained(error, folder) from error
    return OciLayout(path=folder, digest=digest, tag=_tag(manifest))


def require_free(folder: Path) -> None:
    """Check that nothing would be overwritten.

    Raises:
        OutputError: The folder holds something already, or cannot be read.
    """
    try:
        free = not folder.exists() or (folder.is_dir() and not any(folder.iterdir()))
    except OSError as error:
        raise explained(error, folder) from error
    if not free:
        raise OutputError(
            f"{folder}: is there already, and not empty",
            hint="an image layout gets a folder of its own: choose another with --oci",
        )


def _write(layout: Path, members: Mapping[str, Content], manifest: Manifest) -> str:
    blobs = layout / "blobs" / "sha256"
    blobs.mkdir(parents=True)
    layers = [
        {**_blob(blobs, content, _media_type(name)), "annotations": {_PATH: name}}
        for name, content in members.items()
    ]
    config = _blob(blobs, _json(_config(manifest, [str(layer["digest"]) for layer in layers])), _CONFIG)
    image = _blob(
        blobs,
        _json(
            {
                "schemaVersion": 2,
                "mediaType": _MANIFEST,
                "artifactType": f"{_MODEL}.manifest.v1+json",
                "config": config,
                "layers": layers,
                "annotations": {
                    "org.opencontainers.image.created": manifest.created,
                    "org.opencontainers.image.title": manifest.model.name,
                },
            }
        ),
        _MANIFEST,
    )
    tagged = {**image, "annotations": {_TAG: _tag(manifest)}}
    index = {"schemaVersion": 2, "mediaType": _INDEX, "manifests": [tagged]}
    (layout / "index.json").write_bytes(_json(index))
    (layout / "oci-layout").write_bytes(_json({"imageLayoutVersion": "1.0.0"}))
    return str(image["digest"])


def _blob(blobs: Path, content: Content, media_type: str) -> dict[str, object]:
    """Store a blob under its hash; return its descriptor."""
    size, _, sha256 = archive.measured(content)
    path = blobs / sha256
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        shutil.copyfile(content, path)
    return {"mediaType": media_type, "digest": f"sha256:{sha256}", "size": size}


def _media_type(name: str) -> str:
    kinds = {"artifacts": "weight", "c": "code", NAME: "weight.config", "labels.txt": "weight.config"}
    return f"{_MODEL}.{kinds.get(name.partition('/')[0], 'doc')}.v1.raw"


def _config(manifest: Manifest, digests: list[str]) -> dict[str, object]:
    rows = select(target.target for target in manifest.targets)
    return {
        "descriptor": {
            "createdAt": manifest.created,
            "name": manifest.model.name,
            "description": f"Compiled by edgefx {manifest.edgefx} for {', '.join(row.name for row in rows)}",
        },
        "config": {
            "format": ", ".join(dict.fromkeys(row.runtime for row in rows)),
            "paramSize": str(manifest.model.parameters),
            "precision": ", ".join(dict.fromkeys(row.precision for row in rows)),
            "capabilities": {"inputTypes": ["image"], "outputTypes": ["other"]},
        },
        "modelfs": {"type": "layers", "diffIds": digests},  # raw layers: what is stored is what is meant
    }


def _json(document: object) -> bytes:
    return dumps(document).encode()


def _tag(manifest: Manifest) -> str:
    """Return the model's name as a tag, of which registries allow 128 characters."""
    return _NOT_OF_TAGS.sub("_", manifest.model.name).lstrip(".-")[:128] or "model"
