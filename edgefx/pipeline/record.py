"""What a run leaves beside its artifacts and its report: the lock file, and each image's best class."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from edgefx import harmless
from edgefx.provenance import lock as locks
from edgefx.provenance import predictions
from edgefx.provenance.lock import Lock, LockedFile, LockedImages, LockedModel, LockedProfile, LockedTarget
from edgefx.results import Latency
from edgefx.storage.atomic import write_text
from edgefx.verdicts import on_device

if TYPE_CHECKING:
    from edgefx.pipeline.images import Images
    from edgefx.pipeline.inputs import Inputs
    from edgefx.pipeline.plan import Plan
    from edgefx.results import RunReport
    from edgefx.storage.hardware import AskedHardware
    from edgefx.types import ModelSpec


def lock_of(
    report: RunReport, plan: Plan, inputs: Inputs, *, contents: Mapping[str, Sequence[str]], threads: int
) -> Lock:
    """Put a finished run's lock together.

    Args:
        report: The run's report.
        plan: What was wanted.
        inputs: What it was made from.
        contents: SHA-256 of each file of a target's artifact before its metadata were written into it.
        threads: Intra-op threads.
    """
    from edgefx.recipe.dump import to_lock

    return Lock(
        schema_version=locks.VERSION,
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
        profile=_profile(plan.hardware),
        targets=tuple(
            LockedTarget(
                target=result.target,
                files=tuple(
                    LockedFile(path=file.path.name, sha256=file.sha256) for file in result.artifact.files
                )
                if result.artifact
                else (),
                content=tuple(contents.get(result.target, ())),
                size_bytes=result.artifact.size_bytes if result.artifact else None,
                accuracy=result.accuracy,
                latency=_locked(result.latency),
                compilation=result.compilation,
            )
            for result in report
        ),
        devices=tuple(
            LockedTarget(
                target=on_device(one.target, device.device),
                files=(),
                content=tuple(contents.get(one.target, ())),
                size_bytes=None,
                accuracy=one.accuracy,
                latency=_locked(one.latency),
            )
            for device in report.devices
            for one in device.targets
        ),
    )


def _locked(latency: Latency | None) -> Latency | None:
    """Leave out how times are distributed, which only reports show."""
    return None if latency is None else replace(latency, histogram=None)


def _profile(asked: AskedHardware | None) -> LockedProfile | None:
    if asked is None or asked.profile is None or asked.sha256 is None:
        return None
    return LockedProfile(cpu=asked.profile.cpu, sha256=asked.sha256)


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


def write_sources(report: RunReport) -> None:
    """Write ``MODEL-tflm-int8/``: sources that build the artifact for microcontrollers into firmware.

    Raises:
        OSError: The folder cannot be written.
    """
    from edgefx.bundles import csource
    from edgefx.storage.regular import read_bytes

    names = tuple(map(harmless.line, report.model.class_names))
    for result in report:
        if result.artifact is None or result.compilation is None or result.compilation.arena is None:
            continue
        folder = result.artifact.path.with_suffix("")
        folder.mkdir(exist_ok=True)
        for name, source in csource.of(result, read_bytes(result.artifact.path), names, report.model).items():
            write_text(folder / name, source.decode())


def write_labels(out: Path, spec: ModelSpec) -> None:
    """Write ``MODEL-labels.txt``, the class names in the order of the outputs, one a line.

    Without names, that of an earlier run is removed.

    Raises:
        OSError: The folder cannot be written.
    """
    path = out / f"{spec.name}-labels.txt"
    if spec.class_names:  # what would end a line, or act on a terminal, is shown as a sign
        write_text(path, "".join(f"{harmless.line(name)}\n" for name in spec.class_names))
    else:
        path.unlink(missing_ok=True)


def write_predictions(
    out: Path,
    *,
    images: Images,
    baseline: tuple[Sequence[int], Sequence[float]],
    targets: Mapping[str, tuple[Sequence[int | None], Sequence[float | None]]],
) -> None:
    """Write ``predictions.json`` into the folder `out`, completely or not at all.

    Args:
        out: The folder.
        images: The evaluation images.
        baseline: The float model's best class of each, and its probability.
        targets: Those of each artifact.

    Raises:
        OSError: The folder cannot be written.
    """
    root = images.dataset.root
    document = {
        "schema_version": predictions.VERSION,
        "images": [path.relative_to(root).as_posix() for path in images.paths],
        "labels": images.labels,
        "class_names": images.dataset.class_names,
        "baseline": baseline[0],
        "targets": {name: best for name, (best, _) in targets.items()},
        "baseline_confidence": baseline[1],
        "confidence": {name: sure for name, (_, sure) in targets.items()},
    }
    lines = ",\n".join(f" {json.dumps(name)}: {json.dumps(value)}" for name, value in document.items())
    write_text(out / predictions.NAME, f"{{\n{lines}\n}}\n")


def remove_predictions(out: Path) -> None:
    """Remove the predictions of an earlier run, where this one has none.

    Raises:
        OSError: The folder cannot be written.
    """
    (out / predictions.NAME).unlink(missing_ok=True)
