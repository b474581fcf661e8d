"""How an artifact is to be read that edgefx may not have made: its pixels, and which classes it has.

An artifact of edgefx takes raw pixels and has the classes of its model. One of other origin may want pixels
that are scaled, or have a background class in front. Where the file says so, or the user, that is done. Where
nobody does, `check` tries what is usual on a few labelled images, and asks rather than reports a figure that
is wrong: nothing is guessed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgefx.errors import UsageError
from edgefx.evaluation.statistics import paired_drop_ci
from edgefx.models import front
from edgefx.models.front import Front
from edgefx.models.hints import Hints
from edgefx.runtimes.session import ends_of_classifier, takes_codes
from edgefx.scores import kind_of
from edgefx.types import Dataset, ForeignMetadata, ImageSet, ModelTask, OutputKind, Resize, TensorInfo

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from edgefx.pipeline.memo import Memo
    from edgefx.protocols import Session
    from edgefx.runtimes.protocol import Runtime
    from edgefx.types import Artifact, ArtifactMetadata, Pixels, Scores

_TRIED = 48  # images that other readings are tried on
_USUAL = ("0..1", "-1..1", front.IMAGENET)  # ways of scaling pixels
_CHANCE = 1e-3  # of taking a reading for better that is not
_BACKGROUND = ("background", "__background__")
_RAW = "0..255"


@dataclass(frozen=True, kw_only=True)
class Reading:
    """How images become an artifact's input, and its output scores of classes.

    Attributes:
        height: Of the input, in pixels.
        width: Likewise.
        channels: Likewise; 1 for grey images.
        classes: Number of classes or values, without a background class.
        output: What the output is: values where that is the artifact's task, whatever it is called.
        skipped: Columns in front that are left out of what a session makes of the output.
        pixels: What pixels it wants, as `models.front.front` reads it; None: raw ones, or as they are stored.
        background: Whether class 0 is one that no image has; None where nobody says.
        class_names: Those that the file states, without the background; empty where it does not.
        notes: What the file says that matters.
    """

    height: int
    width: int
    channels: int
    classes: int
    output: OutputKind
    skipped: int
    pixels: str | None
    background: bool | None
    class_names: tuple[str, ...]
    notes: tuple[str, ...] = ()

    @contextmanager
    def open(self, opened: Callable[[], AbstractContextManager[Session]]) -> Iterator[Session]:
        """Open a session that takes raw RGB and gives scores of the classes."""
        made = front.front(self.pixels, channels=self.channels)
        with opened() as session:
            is_plain = not made.is_needed and not self.skipped
            yield session if is_plain else _Prepared(session, made, skipped=self.skipped)


class _Prepared:
    """A `protocols.Session` whose images are prepared for a file of other origin."""

    def __init__(self, session: Session, made: Front, *, skipped: int) -> None:
        self._session, self._front, self._skipped = session, made, skipped

    @property
    def input_spec(self) -> TensorInfo:
        """See `Session.input_spec`."""
        return self._session.input_spec

    @property
    def precision_ran(self) -> str:
        """See `Session.precision_ran`."""
        return self._session.precision_ran

    def infer(self, batch: Pixels) -> Scores:
        """See `Session.infer`."""
        prepared: Any = self._front.prepared(batch) if self._front.is_needed else batch
        return self._session.infer(prepared)[:, self._skipped :]


def read(
    artifact: Path,
    described: Artifact,
    target: Runtime,
    metadata: ArtifactMetadata | None,
    *,
    task: ModelTask,
    hints: Hints,
    background: bool | None,
) -> Reading:
    """Put together what the file and the user say.

    Args:
        artifact: The main file.
        described: What its graph holds.
        target: Its runtime.
        metadata: What edgefx wrote into it; None for a file of other origin.
        task: What it answers.
        hints: What the user says of the pixels.
        background: What the user says of class 0; None where nothing.

    Raises:
        ArtifactError: It does not take one image of a fixed size, or its metadata are damaged.
        UsageError: The pixels cannot be those of such an input.
    """
    if metadata is not None and metadata.outputs:
        own = ", ".join(one.tensor.name for one in metadata.outputs)
        raise UsageError(
            f"{artifact} has {len(metadata.outputs)} outputs ({own}), and this is for artifacts with one",
            hint="compile one of them: --head NAME",
        )
    image, scores, layout = ends_of_classifier(artifact, described.inputs, described.outputs)
    values = math.prod(scores.shape[1:])
    output = OutputKind.VALUES if task.gives_values else kind_of(scores.name)
    outputs = 2 if values == 1 and output is not OutputKind.VALUES else values
    # A session takes a single value for a score, of which it makes two; the last is as it was.
    is_split = values == 1 and output is not kind_of(scores.name)
    stated = ForeignMetadata() if metadata is not None else target.read_foreign_metadata(artifact)
    names = metadata.class_names if metadata is not None else stated.class_names
    pixels, notes = None, []
    if metadata is None:
        pixels = hints.pixels
        if pixels is None and stated.mean and not takes_codes(image):
            pixels = _moments(stated)
            notes.append(f"the file says that its pixels are {pixels}: --pixels {_RAW} overrules it")
        elif pixels is None and takes_codes(image) and image.scale not in (None, 1.0):
            notes.append(f"its {image.dtype} input scales: pixels are given to it as they are stored")
    if len(names) == outputs and background is None and names[0].lower() in _BACKGROUND:
        background = True
        notes.append(f"the file names its class 0 '{names[0]}': it is left out; --no-background keeps it")
    if names and len(names) != outputs:
        notes.append(f"the file has {len(names)} names for {outputs} classes: they are not used")
        names = ()
    front.front(pixels, channels=layout.channels)  # that they can be these
    return Reading(
        height=layout.height,
        width=layout.width,
        channels=layout.channels,
        classes=outputs - bool(background),
        output=output,
        skipped=int(is_split or bool(background)),
        pixels=pixels,
        background=background,
        class_names=names[1:] if background else names,
        notes=tuple(notes),
    )


def _moments(stated: ForeignMetadata) -> str:
    mean, deviation = (",".join(f"{one:.7g}" for one in end) for end in (stated.mean, stated.deviation))
    return f"mean={mean}/std={deviation}"


def check_count(reading: Reading, dataset: Dataset) -> None:
    """Ask whether there is a background class where the artifact has one class more than the images.

    Raises:
        UsageError: It seems so.
    """
    if reading.background is None and dataset.class_names and len(dataset.class_names) == reading.classes - 1:
        raise UsageError(
            f"{dataset.root} has {reading.classes - 1} classes, the artifact {reading.classes}",
            hint="if its class 0 is a background class, which no image has, say --background",
        )


def check(
    artifact: Path,
    reading: Reading,
    opened: Callable[[], AbstractContextManager[Session]],
    dataset: Dataset,
    *,
    resize: Resize,
    memo: Memo,
) -> None:
    """Ask where another reading of a file of other origin is surely right on more of a few images.

    Args:
        artifact: The main file.
        reading: What is known of it.
        opened: Opens it on this machine.
        dataset: Labelled images.
        resize: How they become the input.
        memo: Where progress is shown.

    Raises:
        UsageError: There is one; names the flags that say so.
    """
    labels = [item.label for item in dataset.items if item.label is not None]
    offsets = [0]
    if reading.background is None and reading.classes > 2 and max(labels) < reading.classes - 1:
        offsets = [0, 1]
    usual: tuple[str, ...] = () if reading.pixels is not None else _USUAL
    if reading.channels == 1:
        usual = tuple(one for one in usual if one != front.IMAGENET)
    if not usual and len(offsets) == 1:
        return
    decoded = _decoded(reading, dataset, resize, memo)
    right = {}
    with opened() as session, memo.progress.task("try its pixels", 1 + len(usual)) as task:
        for one in (reading.pixels, *usual):
            made = front.front(one, channels=reading.channels)
            scores = _Prepared(session, made, skipped=0).infer(decoded.pixels)
            for offset in offsets:
                right[one, offset] = scores[:, offset:].argmax(1) == decoded.labels
            task.advance()
    default = right[reading.pixels, 0]
    best = max(right.values(), key=lambda one: int(one.sum()))
    confidence = 1 - _CHANCE / len(right)
    if not _is_better(best, default, confidence=confidence):
        return
    # Others may be as good: a few images do not tell 0..1 from ImageNet's mean and deviation.
    others = {one: hits for one, hits in right.items() if not _is_better(best, hits, confidence=0.95)}
    ranked = sorted(others, key=lambda one: -int(right[one].sum()))
    as_is = [f"--pixels {_RAW}"] * bool(usual) + ["--no-background"] * (len(offsets) > 1)
    raise UsageError(
        f"{artifact}: of {len(default)} images it is right on {int(default.sum())}, and on "
        + ", or ".join(f"{int(right[one].sum())} when read with {_meaning(*one, reading)}" for one in ranked),
        hint=f"say {', or '.join(_flags(*one, reading) for one in ranked)}; or {' '.join(as_is)} to read it"
        " as it is",
    )


def _is_better(one: NDArray[np.bool_], other: NDArray[np.bool_], *, confidence: float) -> bool:
    """Whether a reading is surely right on more images than another."""
    gained, lost = int((one & ~other).sum()), int((other & ~one).sum())
    return paired_drop_ci(gained, lost, len(other), confidence=confidence)[0] > 0


def _meaning(pixels: str | None, offset: int, reading: Reading) -> str:
    said = [f"pixels {pixels}"] * (pixels != reading.pixels) + ["a background class"] * bool(offset)
    return " and ".join(said)


def _flags(pixels: str | None, offset: int, reading: Reading) -> str:
    return " ".join([f"--pixels {pixels}"] * (pixels != reading.pixels) + ["--background"] * bool(offset))


def _decoded(reading: Reading, dataset: Dataset, resize: Resize, memo: Memo) -> ImageSet:
    """Decode a few images, of all the folder."""
    from edgefx.data import images

    total = len(dataset.items)
    places = sorted({number * total // _TRIED for number in range(_TRIED)})
    loading = images.load(
        replace(dataset, items=tuple(dataset.items[place] for place in places)),
        height=reading.height,
        width=reading.width,
        resize=resize,
        skip_bad=True,
        progress=memo.progress,
        role="evaluation",
        scratch=memo.workspace.scratch,
    )
    with loading as loader:
        return loader.finish()
