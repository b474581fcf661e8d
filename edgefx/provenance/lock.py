"""``edgefx.lock.json``: all that a run's result depends on, and the result, to run it again and compare.

The recipe with its defaults written out, hashes of model, graph, images and artifacts, the seed, versions of
tools and operating system, the CPU, and what was measured.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgefx.errors import UsageError
from edgefx.results import Accuracy, Environment, Latency, RunReport

if TYPE_CHECKING:
    from edgefx.plan import Plan
    from edgefx.recipe.schema import Recipe
    from edgefx.run.imageset import Images
    from edgefx.run.inputs import Inputs

NAME = "edgefx.lock.json"
_VERSION = 1


@dataclass(frozen=True, kw_only=True)
class LockedFile:
    """A file by content; `path` is relative to its folder."""

    path: str
    sha256: str


@dataclass(frozen=True, kw_only=True)
class LockedImages:
    """An image set.

    Attributes:
        role: "calibration", "training" or "evaluation".
        root: The folder.
        sha256: Over files, labels, size and resize mode.
        files: Every file that was used, in order.
    """

    role: str
    root: str
    sha256: str
    files: tuple[LockedFile, ...]


@dataclass(frozen=True, kw_only=True)
class LockedModel:
    """The model.

    Attributes:
        source: Zoo name with its weights, or the path.
        content: Hash of the file or folder; for a zoo model, what determines its weights.
        graph_sha256: Hash of the canonical graph.
    """

    source: str
    content: str
    graph_sha256: str


@dataclass(frozen=True, kw_only=True)
class LockedTarget:
    """A target's result; no files when it failed."""

    target: str
    files: tuple[LockedFile, ...]
    size_bytes: int | None
    accuracy: Accuracy | None
    latency: Latency | None


@dataclass(frozen=True, kw_only=True)
class Lock:
    """One run: what went in and what came out."""

    schema_version: int
    created: str  # ISO 8601, UTC
    command: str
    recipe: Mapping[str, Any]
    threads: int
    seed: int
    model: LockedModel
    data: tuple[LockedImages, ...]
    environment: Environment
    targets: tuple[LockedTarget, ...]

    def images(self, role: str) -> LockedImages | None:
        """Return the images of a role."""
        return next((images for images in self.data if images.role == role), None)

    def target(self, name: str) -> LockedTarget | None:
        """Return a target's result."""
        return next((target for target in self.targets if target.target == name), None)


def make(report: RunReport, plan: Plan, inputs: Inputs, *, threads: int) -> Lock:
    """Put a finished run's lock together.

    Args:
        report: Of the run.
        plan: What was wanted.
        inputs: What it was made from.
        threads: Intra-op threads.
    """
    from edgefx.recipe.dump import to_lock

    return Lock(
        schema_version=_VERSION,
        created=report.created,
        command=report.command,
        recipe=to_lock(plan.recipe),
        threads=threads,
        seed=report.seed,
        model=LockedModel(
            source=report.model.source,
            content=str(inputs.source.identity["content"]),
            graph_sha256=inputs.source.record.sha256,
        ),
        data=tuple(map(_images, inputs.image_sets)),
        environment=report.environment,
        targets=tuple(
            LockedTarget(
                target=result.target,
                files=tuple(
                    LockedFile(path=file.path.name, sha256=file.sha256) for file in result.artifact.files
                )
                if result.artifact
                else (),
                size_bytes=result.artifact.size_bytes if result.artifact else None,
                accuracy=result.accuracy,
                latency=result.latency,
            )
            for result in report
        ),
    )


def write(lock: Lock, out: Path) -> None:
    """Write the lock file into the folder `out`, completely or not at all.

    Raises:
        OSError: The folder cannot be written.
    """
    from edgefx.report import write_text
    from edgefx.report.json import dumps

    write_text(out / NAME, dumps(lock))


def read(path: Path) -> Lock:
    """Read a lock file, or the one in a run's output folder.

    Raises:
        UsageError: There is none, or it is not one that this edgefx reads.
    """
    from edgefx.report.json import from_json

    file = path / NAME if path.is_dir() else path
    try:
        document = json.loads(file.read_text(encoding="utf-8"))
        version = document["schema_version"]
        if version != _VERSION:
            raise UsageError(
                f"{file}: a lock file of version {version}, this edgefx reads version {_VERSION}",
                hint="use the edgefx that wrote it, or run the recipe again",
            )
        return from_json(Lock, document)
    except OSError as error:
        raise UsageError(
            f"{file}: cannot be read: {error.strerror}",
            hint=f"give the {NAME} of a run, or its output folder",
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        reason = str(error).splitlines()[0]
        raise UsageError(
            f"{file}: no lock file of edgefx: {reason}", hint=f"give the {NAME} of a run"
        ) from error


def recipe(lock: Lock, path: Path) -> Recipe:
    """Return the recipe that a lock file records.

    Raises:
        UsageError: This edgefx does not know it any more.
    """
    from edgefx.recipe.load import parse

    return parse(lock.recipe, where=str(path))


def _images(images: Images) -> LockedImages:
    root = images.dataset.root
    return LockedImages(
        role=images.role,
        root=str(root.absolute()),
        sha256=images.sha256,
        files=tuple(
            LockedFile(path=path.relative_to(root).as_posix(), sha256=sha256)
            for path, sha256 in images.file_hashes.items()
        ),
    )
