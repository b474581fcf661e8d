"""``bom.cdx.json``: the bundle as a bill of materials for machine learning, CycloneDX 1.6 as JSON.

What each artifact was made from, with which tools, on which images, and what was measured of it, for programs
that keep such bills. It says nothing that the manifest does not. Format: https://cyclonedx.org/docs/1.6/json.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator

from edgefx import harmless
from edgefx.bundles.manifest import BundledTarget, Manifest
from edgefx.metrics import METRICS, Figures
from edgefx.results import RunReport, TargetResult
from edgefx.storage.serde import dumps
from edgefx.types import ArtifactFile

NAME = "bom.cdx.json"
_MODEL = "model"
_UNKNOWN = "not known to edgefx"


def content(manifest: Manifest, report: RunReport) -> bytes:
    """Return the bill of the artifacts of a bundle; the same run gives the same bytes.

    Args:
        manifest: What is in the bundle.
        report: The run's report on the targets that are in it.
    """
    results = {result.target: result for result in report}
    artifacts = [
        _artifact(target, results[target.target], manifest, report.model.task) for target in manifest.targets
    ]
    data = [
        {
            "type": "data",
            "bom-ref": _reference(images.role),
            "name": f"{images.role} images",
            "data": [{"type": "dataset"}],
            "properties": _properties(images=images.images, sha256=images.sha256, resize=images.resize),
        }
        for images in manifest.data
    ]
    source = {
        "type": "machine-learning-model",
        "bom-ref": _MODEL,
        "name": manifest.model.name,
        "hashes": [_hash(manifest.model.sha256)],
        "properties": _properties(licence=_UNKNOWN, parameters=manifest.model.parameters),
    }
    document: dict[str, object] = {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "timestamp": manifest.created,
            "tools": {"components": list(_tools(manifest))},
            "component": source,
        },
        "components": [*artifacts, *data],
        "dependencies": [{"ref": str(one["bom-ref"]), "dependsOn": [_MODEL]} for one in artifacts],
    }
    document["serialNumber"] = uuid.uuid5(uuid.NAMESPACE_URL, dumps(document)).urn
    return dumps(document).encode()


def _artifact(
    target: BundledTarget, result: TargetResult, manifest: Manifest, task: str
) -> dict[str, object]:
    assert result.artifact is not None
    files = dict(zip(target.files, result.artifact.files, strict=True))
    main, *_ = target.files
    return {
        "type": "machine-learning-model",
        "bom-ref": f"artifact:{target.target}",
        "name": main,
        "description": f"{manifest.model.name} for {target.target}",
        "hashes": [_hash(files[main].sha256)],
        "components": [_file(name, file) for name, file in files.items() if name != main],
        "pedigree": {"ancestors": [{"type": "machine-learning-model", "name": manifest.model.name}]},
        "modelCard": {
            "modelParameters": {
                "task": task,
                "datasets": [{"ref": _reference(images.role)} for images in manifest.data],
                "inputs": [{"format": f"image, {target.input.dtype} {list(target.input.shape)}"}],
                "outputs": [{"format": f"{target.output.name}, {target.output.dtype}"}],
            },
            "quantitativeAnalysis": {"performanceMetrics": list(_metrics(result))},
        },
        "properties": _properties(
            licence=_UNKNOWN, verdict=target.verdict, compiler=getattr(target.compilation, "compiler", None)
        ),
    }


def _metrics(result: TargetResult) -> Iterator[dict[str, object]]:
    figures = Figures.of(result)
    for row in METRICS.values():
        value = row.value(figures)
        if value is None:
            continue
        metric: dict[str, object] = {"type": row.id, "value": f"{value:.9g}"}
        interval = row.interval(figures) if row.interval is not None else None
        if interval is not None:
            low, high = (f"{end:.9g}" for end in interval)
            metric["confidenceInterval"] = {"lowerBound": low, "upperBound": high}
        yield metric


def _tools(manifest: Manifest) -> Iterator[dict[str, object]]:
    yield {
        "type": "application",
        "name": "edgefx",
        "version": manifest.edgefx,
        "licenses": [{"license": {"id": "Apache-2.0"}}],
    }
    compilers = {one.compilation.compiler for one in manifest.targets if one.compilation is not None}
    used = dict(manifest.packages) | dict(one.rsplit(" ", 1) for one in sorted(compilers) if " " in one)
    for name, version in used.items():
        named, at = harmless.line(name), harmless.line(version)
        yield {"type": "library", "name": named, "version": at, "purl": f"pkg:pypi/{named}@{at}"}


def _file(name: str, file: ArtifactFile) -> dict[str, object]:
    return {"type": "file", "name": name, "hashes": [_hash(file.sha256)]}


def _hash(sha256: str) -> dict[str, str]:
    return {"alg": "SHA-256", "content": sha256}


def _reference(role: str) -> str:
    return f"images:{role}"


def _properties(**values: object) -> list[dict[str, str]]:
    return [
        {"name": f"edgefx:{name}", "value": str(value)} for name, value in values.items() if value is not None
    ]
