"""Whether new images are like those of a run: `edgefx drift`. The artifact answers, without a framework."""

from __future__ import annotations

import random
from collections.abc import Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from edgefx import runtimes
from edgefx.data import images as decoding
from edgefx.data.folders import scan
from edgefx.errors import DataError, UnknownNameError, UsageError
from edgefx.models.hints import NO_HINTS
from edgefx.pipeline import evaluate_outputs
from edgefx.pipeline.evaluate import task_of
from edgefx.protocols import Progress
from edgefx.provenance import lock as locks
from edgefx.provenance.lock import Lock, LockedImages, LockedTarget
from edgefx.runtimes.session import ends_of_images
from edgefx.scores import kind_of
from edgefx.storage import temporary
from edgefx.storage.hashes import hash_file
from edgefx.system import host, packages
from edgefx.targets import TARGETS
from edgefx.types import Dataset, ImageItem, Resize
from edgefx.views import DriftReport

if TYPE_CHECKING:
    from edgefx.analysis.drift import OutputAnswer, Sample
    from edgefx.data.images import Loader
    from edgefx.protocols import Session
    from edgefx.types import Artifact, ArtifactMetadata

SCHEMA_VERSION = 1
FEWEST = 20  # images of either side: with fewer, a p-value of 9 tests can hardly be small enough
_CHUNK = 16


def run(
    folder: Path,
    data: Path,
    progress: Progress,
    *,
    target: str | None = None,
    reference: Path | None = None,
    samples: int = 500,
    alarm_rate: float = 0.05,
    seed: int = 0,
    skip_bad: bool = False,
    threads: int | None = None,
) -> DriftReport:
    """Hold images against those that a run was measured on, or calibrated with where it was not measured.

    Args:
        folder: The run's output folder.
        data: A folder of images; labels are not looked at.
        progress: Where long work is reported.
        target: Whose artifact answers; by default the first that can be run here.
        reference: Where the run's images are now; by default where they were.
        samples: Most images that are taken of either side.
        alarm_rate: The share of samples without drift in which any test may say that there is one.
        seed: The seed of the samples and of the tests.
        skip_bad: Leave out new images that cannot be decoded.
        threads: Intra-op threads; all cores by default.

    Raises:
        UsageError: No such run, target or folder, or the artifact is no longer that of the run.
        DataError: The images cannot be used, or are not those of the run.
        ArtifactError: The artifact cannot be run.
    """
    from edgefx.analysis import drift

    lock = locks.read(folder)
    chosen = _target(lock, folder, target)
    artifact = _artifact(chosen, folder)
    known = _enough(_reference(lock, folder, reference, samples=samples, seed=seed))
    new = _enough(_sampled(scan(data), samples=samples, seed=seed))
    runtime = runtimes.for_artifact(artifact)
    described, metadata = runtime.describe(artifact), runtime.read_metadata(artifact)
    _, _, layout = ends_of_images(artifact, described.inputs, described.outputs)
    said = _answers(artifact, described, metadata)
    with ExitStack() as stack:
        scratch = stack.enter_context(temporary.workspace())
        opened = partial(runtime.open_session, threads=threads or host.cores())
        session, features = stack.enter_context(opened(artifact)), None
        if any(one.chooses for one in said) and runtime.write_features(artifact, scratch / artifact.name):
            features = stack.enter_context(opened(scratch / artifact.name))
        answered = partial(_answered, session, features, progress)
        load = partial(
            decoding.load, height=layout.height, width=layout.width, resize=_resize(lock), scratch=scratch
        )
        with load(known, skip_bad=False, progress=progress, role="reference") as loader:
            before = answered(loader, "reference")
        with load(new, skip_bad=skip_bad, progress=progress, role="new") as loader:
            after = answered(loader, "new")
    return DriftReport(
        schema_version=SCHEMA_VERSION,
        run=folder,
        target=chosen.target,
        role=_role(lock, folder).role,
        reference=known.root,
        reference_images=len(before.scores),
        data=data,
        images=len(after.scores),
        alarm_rate=alarm_rate,
        tests=drift.compare(before, after, answers=said, alarm_rate=alarm_rate, seed=seed),
    )


def _answers(artifact: Path, described: Artifact, metadata: ArtifactMetadata | None) -> list[OutputAnswer]:
    """Return what the artifact's scores say, output by output where there are several."""
    from edgefx.analysis.drift import OutputAnswer

    if metadata is not None and metadata.outputs:
        spec = evaluate_outputs.spec_of(artifact, described, metadata)
        return [
            OutputAnswer(output=one.output, chooses=one.task.classifies, name=one.name, place=place)
            for one, place in spec.parts
        ]
    (output,) = described.outputs
    task = task_of(artifact, output, metadata, NO_HINTS)
    return [OutputAnswer(output=kind_of(output.name), chooses=task.classifies)]


def _target(lock: Lock, folder: Path, name: str | None) -> LockedTarget:
    made = {one.target: one for one in lock.targets if one.files}
    if name is not None:
        if name not in made:
            raise UnknownNameError("target", name, made, hint=f"(the artifacts in {folder})")
        return made[name]
    if not made:
        raise UsageError(f"{folder}: no target of this run has an artifact", hint="give another run")
    return next((one for one in made.values() if _runs_here(one.target)), next(iter(made.values())))


def _runs_here(target: str) -> bool:
    return target in TARGETS and all(map(packages.is_installed, TARGETS[target].engine_packages))


def _artifact(chosen: LockedTarget, folder: Path) -> Path:
    for file in chosen.files:
        path = folder / Path(file.path).name
        if not path.is_file() or hash_file(path) != file.sha256:
            raise UsageError(
                f"{path}: it is not the artifact of this run, which the lock file describes",
                hint="run again, or give the output folder as the run has left it",
            )
    return folder / Path(chosen.files[0].path).name


def _role(lock: Lock, folder: Path) -> LockedImages:
    found = lock.images("evaluation") or lock.images("calibration")
    if found is None:
        raise UsageError(
            f"{folder}: this run used no images, so that there is nothing to compare with",
            hint="give a run that measured accuracy (edgefx compile --eval IMAGES)",
        )
    return found


def _reference(lock: Lock, folder: Path, root: Path | None, *, samples: int, seed: int) -> Dataset:
    """List a sample of the run's images, which must still be those of the run."""
    locked = _role(lock, folder)
    place = root if root is not None else Path(locked.root)
    if not place.is_dir():
        raise UsageError(
            f"{place}: the images of {folder} are not there", hint="say where they are: --reference DIR"
        )
    hashes = {place / file.path: file.sha256 for file in locked.files}
    found = _sampled(_dataset(place, hashes), samples=samples, seed=seed)
    changed = [str(item.path) for item in found.items if not _is(item.path, hashes)]
    if changed:
        raise DataError(
            f"{len(changed)} of {len(found.items)} images of {place} are not those of {folder}: missing or"
            " changed",
            hint="say where they are: --reference DIR",
            details=changed,
        )
    return found


def _is(path: Path, hashes: Mapping[Path, str]) -> bool:
    return path.is_file() and hash_file(path) == hashes[path]


def _dataset(root: Path, paths: Mapping[Path, str]) -> Dataset:
    items = tuple(ImageItem(path=path, label=None) for path in paths)
    return Dataset(root=root, items=items, class_names=(), kind="flat")


def _sampled(dataset: Dataset, *, samples: int, seed: int) -> Dataset:
    paths = sorted(item.path for item in dataset.items)
    if len(paths) > samples:
        paths = sorted(random.Random(seed).sample(paths, samples))
    return _dataset(dataset.root, dict.fromkeys(paths, ""))


def _resize(lock: Lock) -> Resize:
    section = lock.recipe.get("data")
    said = section.get("resize") if isinstance(section, Mapping) else None
    return Resize(said) if said in set(Resize) else Resize.STRETCH


def _enough(dataset: Dataset) -> Dataset:
    if len(dataset.items) < FEWEST:
        raise DataError(
            f"{dataset.root}: {len(dataset.items)} images, too few to tell drift from chance",
            hint=f"give {FEWEST} or more; with a hundred or more, small changes are seen, too",
        )
    return dataset


def _answered(
    session: Session, features: Session | None, progress: Progress, loader: Loader, role: str
) -> Sample:
    """Look at images and let the artifact answer them, while others are being decoded."""
    import numpy as np

    from edgefx.analysis.drift import Sample, traits

    scores, looks, read = [], [], []
    with progress.task(f"answer {role} images", len(loader)) as task:
        for _, chunk in loader.chunks(_CHUNK):
            scores.append(session.infer(chunk))
            looks.append(traits(chunk))
            if features is not None:
                read.append(features.infer(chunk))
            task.advance(len(chunk))
    for path, reason in loader.finish().skipped:
        progress.warn(f"skipped {path}: {reason}")
    return Sample(
        traits={name: np.concatenate([one[name] for one in looks]) for name in looks[0]},
        scores=np.concatenate(scores),
        features=np.concatenate(read) if read else None,
    )
