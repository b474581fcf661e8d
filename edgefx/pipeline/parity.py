"""Whether an interpreter for microcontrollers answers as LiteRT does, bit by bit, and where the two part."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from edgefx import runtimes
from edgefx.compilation import Parity
from edgefx.runtimes.protocol import Compilable
from edgefx.vocabulary import ScoreFunction

if TYPE_CHECKING:
    from edgefx.protocols import Progress
    from edgefx.targets import TargetRow
    from edgefx.types import Pixels, Scores, TensorInfo


def of(
    row: TargetRow,
    path: Path,
    scores: Scores,
    pixels: Pixels,
    *,
    output: TensorInfo,
    threads: int,
    progress: Progress,
) -> Parity:
    """Compare an interpreter's scores with those of LiteRT's fast and reference kernels.

    Args:
        row: The target.
        path: The artifact that both run.
        scores: The interpreter's, float32 [N, classes].
        pixels: uint8 [N, H, W, 3], raw RGB.
        output: The artifact's output: of stored integers, which the scores are multiples of.
        threads: Of LiteRT's fast kernels.
        progress: Shown what is run.

    Raises:
        ArtifactError: LiteRT refuses the artifact.
    """
    import numpy as np

    from edgefx.evaluation import inference

    runtime = runtimes.load(row)
    assert isinstance(runtime, Compilable)
    sessions = (
        ("LiteRT", runtime.open_session(path, threads=threads, precision=row.precision)),
        ("LiteRT's reference kernels", runtime.open_reference(path)),
    )
    found: list[Scores] = []
    for name, opened in sessions:
        with progress.task(f"compare {row.name} with {name}", len(pixels)) as task, opened as session:
            found.append(inference.run(session, pixels, task=task).scores)
    fast, reference = found
    differs = np.flatnonzero((fast != scores).any(axis=1))
    step = output.scale or 1.0
    apart = fast - scores
    if ScoreFunction.of(output.name) is not None:  # steps are those of logits: a sure score hardly changes
        tiny = np.finfo(np.float32).tiny
        apart = np.log(np.maximum(fast, tiny)) - np.log(np.maximum(scores, tiny))
    return Parity(
        images=len(scores),
        identical=len(scores) - len(differs),
        identical_to_reference=int((reference == scores).all(axis=1).sum()),
        largest_step=round(float(np.abs(apart).max(initial=0)) / step),
        parts_at=runtime.first_difference(path, pixels[differs[0]]) if len(differs) else "",
    )
