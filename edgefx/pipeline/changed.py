"""What artifacts answer otherwise than the float model, and which parts of these images either looks at."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from edgefx.cache import keys
from edgefx.errors import EdgefxError
from edgefx.measured import Changes, Explanation, FlippedImage, Saliency
from edgefx.pipeline.records import Saliencies
from edgefx.pipeline.search import failing_alone
from edgefx.pipeline.stages import Computed, Stage
from edgefx.scores import of_first
from edgefx.vocabulary import StageKind

if TYPE_CHECKING:
    from edgefx.cache.entry import Json, Key
    from edgefx.pipeline.artifacts import ArtifactBuilder, Candidate
    from edgefx.pipeline.images import Images
    from edgefx.pipeline.inputs import Inputs
    from edgefx.pipeline.memo import Memo
    from edgefx.pipeline.records import Measured
    from edgefx.protocols import Session
    from edgefx.types import ImageSet, ModelSpec, Pixels, Scores

BestClass: TypeAlias = tuple[int | None, float | None]  # with its probability; None without an answer


def changes_of(measured: Measured, inputs: Inputs) -> Changes | None:
    """Compare an artifact's answers with the float model's; None where they are no classes."""
    images = inputs.evaluation
    assert images is not None
    if not inputs.source.spec.task.classifies:
        return None
    after = list(zip(measured.top1, measured.confidence, strict=True))
    return compared(images, images.paths, images.labels, _of_baseline(inputs), after)


def _of_baseline(inputs: Inputs) -> list[BestClass]:
    return list(zip(inputs.baseline_top1, inputs.baseline_confidence, strict=True))


def compared(
    images: Images,
    paths: Sequence[Path],
    labels: Sequence[int] | None,
    before: Sequence[BestClass],
    after: Sequence[BestClass],
) -> Changes:
    """Compare answers image by image.

    Args:
        images: Where the images are from.
        paths: Those that were answered.
        labels: The class of each; None without labels.
        before: The float model's answers.
        after: The artifact's.
    """
    from edgefx.evaluation.changes import Answer, changes

    root, hashes = images.dataset.root, images.file_hashes
    return changes(
        [
            Answer(
                image=path.relative_to(root).as_posix(),
                sha256=hashes[path],
                label=label,
                before=was,
                after=best,
                before_confidence=sure,
                after_confidence=confidence,
            )
            for path, label, (was, sure), (best, confidence) in zip(
                paths, labels or (None,) * len(paths), before, after, strict=True
            )
            if not (was is None or sure is None or best is None or confidence is None)
        ]
    )


@dataclass(frozen=True, kw_only=True)
class Asked:
    """The float model or an artifact, as somebody who answers images.

    Attributes:
        opened: Opens it; what that gives takes uint8 [N, H, W, 3] and returns scores, float32 [N, columns].
        key: What determines its answers; None where what they rest on is not to be kept.
    """

    opened: Callable[[], AbstractContextManager[Callable[[Pixels], Scores]]]
    key: Key | None = None


def asked(opened: Callable[[], AbstractContextManager[Session]], *, key: Key | None = None) -> Asked:
    """Ask an artifact, which is opened when that is needed."""

    @contextmanager
    def inferring() -> Iterator[Callable[[Pixels], Scores]]:
        with opened() as session:
            yield session.infer

    return Asked(opened=inferring, key=key)


def asked_of(builder: ArtifactBuilder, candidate: Candidate) -> Asked:
    """Ask an artifact of a run."""
    return asked(partial(builder.opened, candidate), key=builder.evaluation_key(candidate))


class Explainer:
    """Asks the float model and artifacts which parts of the images that change their class they go by.

    Args:
        inputs: The model.
        images: Decodes the images, when that is needed.
        root: The folder that they are in.
        memo: Keeps what was found.
        most: Images at most.
        key: What determines the float model's answers; None where what they rest on is not to be kept.
    """

    def __init__(
        self,
        inputs: Inputs,
        images: Callable[[], ImageSet],
        root: Path,
        memo: Memo,
        *,
        most: int,
        key: Key | None = None,
    ) -> None:
        self._inputs = inputs
        self._images = images
        self._root = root
        self._memo = memo
        self._most = most
        self._key = key

    @classmethod
    def of(cls, inputs: Inputs, memo: Memo, *, most: int) -> Explainer:
        """Explain evaluation images."""
        images = inputs.evaluation
        assert images is not None
        return cls(inputs, images.get, images.dataset.root, memo, most=most, key=inputs.baseline_stage.key)

    @property
    def _spec(self) -> ModelSpec:
        return self._inputs.source.spec

    def explain(
        self, changed: Mapping[str, Changes], artifacts: Mapping[str, Asked]
    ) -> tuple[Explanation, ...]:
        """Explain the images of whose class the float model was surest, of all targets together.

        Args:
            changed: By target, what it answers otherwise.
            artifacts: By target.

        Raises:
            DiskFullError: No space is left.
        """
        by_image: dict[str, FlippedImage] = {}
        for found in changed.values():
            for one in found.surest:
                by_image.setdefault(one.image, one)
        chosen = sorted(by_image.values(), key=lambda one: -one.before_confidence)[: self._most]
        if not chosen:
            return ()
        maps: dict[str, list[Saliency]] = {one.image: [] for one in chosen}
        model = Asked(opened=self._model, key=self._key)
        self._add(maps, "", model, chosen, [one.before for one in chosen])
        for target, found in changed.items():
            own = [one for one in found.surest if one.image in maps]
            if own:
                self._add(maps, target, artifacts[target], own, [one.after for one in own])
        return tuple(
            Explanation(image=one.image, sha256=one.sha256, maps=tuple(maps[one.image]))
            for one in chosen
            if maps[one.image]
        )

    def explain_one(
        self, name: str, opened: Callable[[], AbstractContextManager[Session]], answers: Sequence[BestClass]
    ) -> tuple[Explanation, ...]:
        """Explain evaluation images as one artifact answers them.

        Args:
            name: What it is called.
            opened: Opens it.
            answers: Of all that can be decoded.
        """
        images = self._inputs.evaluation
        assert images is not None
        changes = compared(images, images.paths, images.labels, _of_baseline(self._inputs), answers)
        return self.explain({name: changes}, {name: asked(opened)})

    @contextmanager
    def _model(self) -> Iterator[Callable[[Pixels], Scores]]:
        yield self._inputs.source.loaded.predict

    def _add(
        self,
        maps: Mapping[str, list[Saliency]],
        target: str,
        asked: Asked,
        images: Sequence[FlippedImage],
        labels: Sequence[int],
    ) -> None:
        """Add the maps of a target, or of the float model; that it has none is no failure of the run."""

        def failed(error: EdgefxError) -> None:
            who = target or "the float model"
            self._memo.warn(
                f"what {who} looks at cannot be shown: {error.message}",
                to_try="leave out --explain to go on without",
            )

        compute = partial(self._asked, target, asked, images, labels)
        with failing_alone(f"explain {target or 'the float model'}", failed):
            if asked.key is None:
                value = compute().value
            else:
                value = self._memo.get(self._stage(asked.key, target, images, labels, compute))
            for one, found in zip(images, value.maps, strict=True):
                maps[one.image].append(found)

    def _stage(
        self,
        answers: Key,
        target: str,
        images: Sequence[FlippedImage],
        labels: Sequence[int],
        compute: Callable[[], Computed[Saliencies, None]],
    ) -> Stage[Saliencies, None]:
        asked: list[Json] = [[one.sha256, label] for one, label in zip(images, labels, strict=True)]
        return Stage(
            kind=StageKind.EVALUATE,
            key=keys.explanation(answers, asked),
            result=Saliencies,
            compute=compute,
            target=target,
            what="what changed images rest on",
            clock=target or "explain",
        )

    def _asked(
        self, target: str, asked: Asked, images: Sequence[FlippedImage], labels: Sequence[int]
    ) -> Computed[Saliencies, None]:
        from edgefx.analysis import occlusion

        decoded, spec = self._images(), self._spec
        places = {path.relative_to(self._root).as_posix(): place for place, path in enumerate(decoded.paths)}
        found = []
        with (
            asked.opened() as answer,
            self._memo.progress.task(f"explain {target or 'float model'}", len(images)) as task,
        ):
            for one, label in zip(images, labels, strict=True):
                pixels = decoded.pixels[places[one.image]]
                whole, drops = occlusion.explain(
                    pixels, label, lambda chunk: of_first(answer(chunk), spec), spec.output
                )
                found.append(Saliency(target=target, label=label, confidence=whole, drops=drops))
                task.advance()
        return Computed(value=Saliencies(maps=tuple(found)), opened=None)
