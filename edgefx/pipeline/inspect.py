"""What a model or an artifact is made of: `edgefx inspect`."""

from __future__ import annotations

from pathlib import Path

from edgefx import runtimes
from edgefx.errors import UsageError
from edgefx.models import zoo
from edgefx.models.hints import NO_HINTS, Hints
from edgefx.protocols import Progress
from edgefx.storage import temporary
from edgefx.targets import TARGETS
from edgefx.views import ArtifactInspection, ModelInspection

SUFFIXES = {row.suffix: row.runtime for row in TARGETS.values()}  # of artifacts


def existing(path: Path) -> Path:
    """Check that a file or folder that the user named exists.

    Raises:
        UsageError: It does not.
    """
    if not path.exists():
        raise UsageError(f"{path}: no such file or folder", hint="check the path")
    return path


def is_artifact(subject: str) -> bool:
    """Whether a name is that of an artifact, by its suffix; else it is a model's."""
    return Path(subject).suffix in SUFFIXES


def run(
    subject: str,
    progress: Progress,
    *,
    weights: str | None = None,
    classes: int | None = None,
    input_size: int | str | None = None,
    hints: Hints = NO_HINTS,
    allow_unsafe: bool = False,
) -> ModelInspection | ArtifactInspection:
    """Read an artifact back, or load a model and make its deployable graph.

    Args:
        subject: An artifact's main file, the path of a model, or a zoo name.
        progress: Where long work is reported.
        weights: Zoo models: the weights; by default random ones, as the structure is the same.
        classes: Zoo models: the number of classes.
        input_size: Models: input height and width in pixels.
        hints: Models: what their file does not tell.
        allow_unsafe: Load a model that would be refused as unsafe.

    Raises:
        UsageError: There is no such file, or an option for models is given with an artifact.
        MissingDependencyError: The artifact's runtime is not installed.
        EdgefxError: The file is damaged, or is no model that can be deployed.
    """
    if not is_artifact(subject):
        return _model(
            subject,
            progress,
            weights=weights,
            classes=classes,
            input_size=input_size,
            hints=hints,
            allow_unsafe=allow_unsafe,
        )
    if weights or classes or input_size or hints != NO_HINTS:
        raise for_models(subject)
    path = existing(Path(subject))
    target = runtimes.for_artifact(path)
    artifact, metadata = target.describe(path), target.read_metadata(path)
    foreign = target.read_foreign_metadata(path) if metadata is None else None
    return ArtifactInspection(artifact=artifact, metadata=metadata, foreign=foreign)


def for_models(subject: str) -> UsageError:
    """Return the error that says that an option has no meaning for an artifact."""
    return UsageError(
        f"{subject} is an artifact: --layers, --weights, --classes, --input-size, --task, --head, --pixels "
        "and --custom-objects are for models",
        hint="leave them out",
    )


def _model(
    source: str,
    progress: Progress,
    *,
    weights: str | None,
    classes: int | None,
    input_size: int | str | None,
    hints: Hints,
    allow_unsafe: bool,
) -> ModelInspection:
    from edgefx.models.graph.canonical import canonicalize
    from edgefx.models.load import load

    family = zoo.known(source)
    if weights is None and family is not None and zoo.PACKAGED not in family.weights:
        weights = zoo.RANDOM
    with temporary.workspace() as workdir:
        with progress.task(f"load {source}"):
            loaded = load(
                source,
                weights=weights,
                classes=classes,
                input_size=input_size,
                allow_unsafe=allow_unsafe,
                hints=hints,
            )
        with progress.task("make the graph deployable"):
            graph = canonicalize(loaded, workdir)
    return ModelInspection(model=graph.spec, layers=graph.layers, notes=loaded.notes)
