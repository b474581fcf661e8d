"""The last step of an artifact: what it is, and what its classes are called, written into its files.

It is apart from the conversion, and of it only hashes are kept: class names and the resize mode change from
run to run, and neither is a reason to convert or to measure again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from edgefx import harmless, runtimes
from edgefx.cache import keys
from edgefx.pipeline.records import FinishedFiles
from edgefx.pipeline.stages import Computed, Stage
from edgefx.scores import described, output_of
from edgefx.storage.hashes import hash_file
from edgefx.types import Artifact, ArtifactFile, ArtifactMetadata
from edgefx.version import __version__
from edgefx.vocabulary import OutputKind, ScoreFunction, StageKind, TargetKind

if TYPE_CHECKING:
    from edgefx.pipeline.inputs import Inputs
    from edgefx.targets import TargetRow

Files = tuple[Path, ...]


def metadata(target: str, artifact: Artifact, inputs: Inputs) -> ArtifactMetadata:
    """Return what an artifact says of itself.

    Args:
        target: Its target.
        artifact: Its description.
        inputs: What the run is made of: the model, and images that may name the classes.
    """
    spec, image_sets = inputs.named_spec, inputs.image_sets
    output = output_of(artifact.outputs, spec)
    return ArtifactMetadata(
        edgefx=__version__,
        target=target,
        model=harmless.line(spec.name),
        model_sha256=spec.sha256,
        input=artifact.inputs[0],
        output=output,
        output_kind=OutputKind.LOGITS if ScoreFunction.of(output.name) else spec.output,
        pixel_range=spec.pixel_range,
        resize=image_sets[0].resize if image_sets else "",
        class_names=tuple(map(harmless.line, spec.class_names)),
        task=spec.task,
        outputs=described(artifact.outputs, spec),
    )


def stage(
    row: TargetRow, content: Sequence[str], metadata: ArtifactMetadata, *, files: Callable[[], Files]
) -> Stage[FinishedFiles, Files]:
    """Return the stage that writes the metadata.

    Args:
        row: The target.
        content: SHA-256 of each file as converted.
        metadata: What to write.
        files: Returns the converted files, the main one first; they are changed.
    """

    def compute() -> Computed[FinishedFiles, Files]:
        paths = files()
        if row.kind is not TargetKind.NATIVE:  # machine code has no place for them
            runtimes.load(row).embed(paths[0], metadata)
        finished = tuple(
            ArtifactFile(path=Path(path.name), size_bytes=path.stat().st_size, sha256=hash_file(path))
            for path in paths
        )
        return Computed(value=FinishedFiles(files=finished), opened=paths)

    return Stage(
        kind=StageKind.CONVERT,
        key=keys.finished(row, content, metadata),
        result=FinishedFiles,
        compute=compute,
        target=row.name,
        what="metadata",
        clock=None,
    )
