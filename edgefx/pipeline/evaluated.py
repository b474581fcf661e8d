"""What evaluations of artifacts with one output and with several do alike."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING

from edgefx.benchmarking.devices.local import HOST
from edgefx.pipeline import answers, likeness
from edgefx.pipeline.plan import Plan
from edgefx.recipe.schema import DataSection, ModelSection, Recipe, TargetSection
from edgefx.runtimes import hardware
from edgefx.system import cpu
from edgefx.targets import row_for_artifact
from edgefx.types import DataInfo
from edgefx.views import DeviceAnswers

if TYPE_CHECKING:
    from edgefx.benchmarking.devices.remote import Remote
    from edgefx.data.images import Loader
    from edgefx.evaluation.inference import Inferred
    from edgefx.pipeline.memo import Memo
    from edgefx.protocols import Progress, Session, Task
    from edgefx.types import Artifact, Dataset, ImageSet, ModelSpec, Resize, Scores


def scored(
    opened: Callable[[], AbstractContextManager[Session]],
    dataset: Dataset,
    memo: Memo,
    *,
    height: int,
    width: int,
    resize: Resize,
    skip_bad: bool,
    label: str,
) -> tuple[ImageSet, Inferred, str]:
    """Run an artifact over images while they are being decoded.

    Returns:
        The images, the answers, and what the runtime executed in.
    """
    from edgefx.data import images
    from edgefx.evaluation import inference

    loading = images.load(
        dataset,
        height=height,
        width=width,
        resize=resize,
        skip_bad=skip_bad,
        progress=memo.progress,
        role="evaluation",
        scratch=memo.workspace.scratch,
    )
    with loading as loader, opened() as session, memo.progress.task(label, len(loader)) as shown:
        parts, reasons, seconds = _streamed(session, loader, shown)
        decoded = loader.finish()
        precision_ran = session.precision_ran
        images_per_s = likeness.throughput(session, len(decoded), seconds)
    images.check_range(decoded.pixels, where=str(dataset.root))
    for path, reason in decoded.skipped:
        memo.warn(f"skipped {path}: {reason}", to_try="replace it, or take it out of the folder")
    return decoded, inference.of_parts(parts, reasons, images_per_s), precision_ran


def _streamed(session: Session, loader: Loader, shown: Task) -> tuple[list[Scores], dict[int, str], float]:
    """Return the answers to images as they are decoded, why some have none, and the seconds that it took."""
    from edgefx.evaluation import inference

    parts: list[Scores] = []
    reasons: dict[int, str] = {}
    seconds = 0.0
    for start, chunk in loader.chunks(inference.CHUNK):
        begun = time.perf_counter()
        scores, why = inference.answered(session, chunk)
        seconds += time.perf_counter() - begun
        parts.append(scores)
        reasons |= {start + place: reason for place, reason in why.items()}
        shown.advance(len(chunk))
    return parts, reasons, seconds


def told(ran: Inferred, images: ImageSet, root: Path) -> str:
    """Say which images got no answer, why, and what to try; "" where all did."""
    from edgefx.evaluation import inference

    return inference.told(ran.reasons, answers.names(images.paths, root), images=len(images))


def misfit(described: Artifact, there: Remote | None, progress: Progress) -> tuple[str, ...]:
    """Say of an artifact that it is laid out for other hardware than it is run on.

    Args:
        described: The artifact.
        there: The device that runs it; None for this machine.
        progress: Is told, too.
    """
    present, name = (cpu.detect(), HOST.name) if there is None else (there.hardware, there.name)
    said = hardware.misfit(described.notes, present, name)
    if said is None:
        return ()
    progress.warn(f"{described.path}: {said}")
    return (said,)


def as_here(
    images: ImageSet,
    few: Scores,
    there: Remote,
    opened: Callable[[], AbstractContextManager[Session]],
    spec: ModelSpec | None = None,
) -> DeviceAnswers:
    """Run a few images here, too, and compare the answers with those of a device.

    Args:
        images: All images that the device was given.
        few: Its scores of those that `likeness.few` chooses.
        there: The device.
        opened: Opens the artifact here.
        spec: The model, where it has several outputs.
    """
    import numpy as np

    with opened() as session:
        here = session.infer(np.asarray(images.pixels[likeness.few(len(images))]))
    same = likeness.compared(here, few, spec)
    return DeviceAnswers(
        device=there.name, environment=there.environment, hardware=there.hardware, **vars(same)
    )


def planned(
    artifact: Path, dataset: Dataset, model: ModelSection, data: DataSection, *, allow_unsafe: bool
) -> Plan:
    """Plan what a compilation would do before it makes an artifact: find the images and score the model."""
    recipe = Recipe(
        version=1, model=model, targets=(TargetSection(target=row_for_artifact(artifact).name),), data=data
    )
    return Plan(recipe=recipe, targets=(), calibration=None, evaluation=dataset, allow_unsafe=allow_unsafe)


def data_info(decoded: ImageSet, data: Path, *, seed: int | None, note: str) -> DataInfo:
    """Return what a result says of the images."""
    from edgefx.data.images import INTERPOLATION

    return DataInfo(
        role="evaluation",
        root=str(data),
        images=len(decoded),
        classes=None if decoded.labels is None else len(set(decoded.labels.tolist())),
        sha256=decoded.sha256,
        resize=decoded.resize,
        interpolation=INTERPOLATION,
        seed=seed,
        skipped=len(decoded.skipped),
        note=note,
    )
