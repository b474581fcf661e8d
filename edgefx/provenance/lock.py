"""``edgefx.lock.json``: all that a run's result depends on, and the result, to run it again and compare.

The recipe with its defaults written out, hashes of model, graph, images and artifacts, the seed, versions of
tools and operating system, the CPU, and what was measured.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgefx.compilation import Compilation
from edgefx.metrics import Figures
from edgefx.provenance import records
from edgefx.results import Accuracy, Environment, Latency

if TYPE_CHECKING:
    from edgefx.recipe.schema import Recipe

NAME = "edgefx.lock.json"
VERSION = 1


@dataclass(frozen=True, kw_only=True)
class LockedFile:
    """A file by content.

    Attributes:
        path: Relative to the folder of its image set or artifact.
        sha256: Hash of its bytes.
    """

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
class LockedProfile:
    """The hardware profile that operations were placed by.

    Attributes:
        cpu: What the CPU is called that it was measured on.
        sha256: Hash of what it says.
    """

    cpu: str
    sha256: str


@dataclass(frozen=True, kw_only=True)
class LockedTarget:
    """A target's result.

    Attributes:
        target: The target's name.
        files: The artifact's files; none when the target failed.
        content: SHA-256 of each of these files before the artifact's metadata (class names, edgefx's version)
            were written into it: the same weights and operations have the same ones. None in the lock of an
            earlier version.
        compilation: How a compiler made it of another artifact; None for a runtime's own, and in the lock of
            an earlier version.
        size_bytes: Their size together; None when the target failed.
        accuracy: None when it was not measured.
        latency: None when it was not measured.
    """

    target: str
    files: tuple[LockedFile, ...]
    size_bytes: int | None
    accuracy: Accuracy | None
    latency: Latency | None
    content: tuple[str, ...] = ()
    compilation: Compilation | None = None

    @property
    def figures(self) -> Figures:
        """What was measured of the target."""
        return Figures(
            size_bytes=self.size_bytes,
            accuracy=self.accuracy,
            latency=self.latency,
            compilation=self.compilation,
        )


@dataclass(frozen=True, kw_only=True)
class Lock:
    """One run: what went in and what came out.

    Attributes:
        schema_version: Changes when a field changes its meaning or goes away.
        created: When the run was finished, ISO 8601, UTC.
        command: What was typed, or the function that was called.
        recipe: The recipe with every default written out.
        threads: Number of threads that the runtimes used.
        seed: The seed of everything that is sampled or trained.
        model: What was compiled.
        data: Every image that was used.
        environment: Where it happened.
        targets: One result for each target.
        devices: What was measured of them on devices, each without files and named ``target@device``.
        profile: What was measured of the hardware that artifacts are laid out for: a file that was named, or
            that of the class, which ships with edgefx; None where there is none, and in the lock of an
            earlier version.
    """

    schema_version: int
    created: str
    command: str
    recipe: Mapping[str, Any]
    threads: int
    seed: int
    model: LockedModel
    data: tuple[LockedImages, ...]
    environment: Environment
    targets: tuple[LockedTarget, ...]
    devices: tuple[LockedTarget, ...] = ()
    profile: LockedProfile | None = None

    def images(self, role: str) -> LockedImages | None:
        """Return the images of a role."""
        return next((images for images in self.data if images.role == role), None)

    def target(self, name: str) -> LockedTarget | None:
        """Return a target's result, here or, by ``target@device``, on a device."""
        return next((one for one in (*self.targets, *self.devices) if one.target == name), None)


def write(lock: Lock, out: Path) -> None:
    """Write the lock file into the folder `out`, completely or not at all.

    Raises:
        OSError: The folder cannot be written.
    """
    from edgefx.storage.atomic import write_text
    from edgefx.storage.serde import dumps

    write_text(out / NAME, dumps(lock))


def read(path: Path) -> Lock:
    """Read a lock file, or the one in a run's output folder.

    Raises:
        UsageError: There is none, or it is not one that this edgefx reads.
    """
    from edgefx.storage.serde import from_json

    file = path / NAME if path.is_dir() else path
    with records.refused(file, what="lock file", hint=f"give the {NAME} of a run, or its output folder"):
        document = records.load(file, what="lock file", version=VERSION)
        return from_json(Lock, document)


def recipe(lock: Lock, path: Path) -> Recipe:
    """Return the recipe that a lock file records.

    Raises:
        UsageError: This edgefx does not know it any more.
    """
    from edgefx.recipe.load import parse

    return parse(lock.recipe, where=str(path))
