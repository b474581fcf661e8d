"""What evaluations of artifacts with one output and with several do alike."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgefx.pipeline.likeness import throughput
from edgefx.pipeline.plan import Plan
from edgefx.recipe.schema import DataSection, ModelSection, Recipe, TargetSection
from edgefx.targets import row_for_artifact
from edgefx.types import DataInfo

if TYPE_CHECKING:
    from edgefx.pipeline.memo import Memo
    from edgefx.protocols import Session
    from edgefx.types import Dataset, ImageSet, Resize, Scores

_CHUNK = 16  # images a call; artifacts take one at a time, this only paces decoding and progress


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
) -> tuple[ImageSet, Scores, str, float]:
    """Run an artifact over images while they are being decoded.

    Returns:
        The images, the scores float32 [N, columns], what the runtime executed in, and the images per second.
    """
    from edgefx.data import images

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
    parts: list[Scores] = []
    seconds = 0.0
    with loading as loader, opened() as session, memo.progress.task(label, len(loader)) as shown:
        for _, chunk in loader.chunks(_CHUNK):
            begun = time.perf_counter()
            parts.append(session.infer(chunk))
            seconds += time.perf_counter() - begun
            shown.advance(len(chunk))
        decoded = loader.finish()
        precision_ran = session.precision_ran
        images_per_s = throughput(session, len(decoded), seconds)
    images.check_range(decoded.pixels, where=str(dataset.root))
    for path, reason in decoded.skipped:
        memo.warn(f"skipped {path}: {reason}")
    return decoded, np.concatenate(parts), precision_ran, images_per_s


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
