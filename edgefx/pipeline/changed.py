"""What artifacts answer otherwise than the float model, and which parts of these images either looks at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

from edgefx.cache import keys
from edgefx.errors import EdgefxError
from edgefx.measured import Changes, Explanation, FlippedImage, Saliency
from edgefx.pipeline.records import Saliencies
from edgefx.pipeline.search import failing_alone
from edgefx.pipeline.stages import Computed, Stage
from edgefx.scores import of_first
from edgefx.vocabulary import StageKind

if TYPE_CHECKING:
    from collections.abc import Callable

    from edgefx.cache.entry import Json, Key
    from edgefx.pipeline.artifacts import ArtifactBuilder, Candidate
    from edgefx.pipeline.inputs import Inputs
    from edgefx.pipeline.memo import Memo
    from edgefx.pipeline.records import Measured
    from edgefx.types import Pixels, Scores


def changes_of(measured: Measured, inputs: Inputs) -> Changes | None:
    """Compare an artifact's answers with the float model's; None where they are no classes."""
    from edgefx.evaluation.changes import Answer, changes

    images = inputs.evaluation
    assert images is not None
    if not inputs.source.spec.task.classifies:
        return None
    root, hashes = images.dataset.root, images.file_hashes
    before = zip(inputs.baseline_top1, inputs.baseline_confidence, strict=True)
    after = zip(measured.top1, measured.confidence, strict=True)
    labels = images.labels or (None,) * len(images.paths)
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
                images.paths, labels, before, after, strict=True
            )
            if best is not None and confidence is not None
        ]
    )


class Explainer:
    """Asks the float model and artifacts which parts of the images that change their class they go by.

    Args:
        inputs: The model and its evaluation images.
        builder: Opens artifacts.
        memo: Keeps what was found.
        most: Images at most.
    """

    def __init__(self, inputs: Inputs, builder: ArtifactBuilder, memo: Memo, *, most: int) -> None:
        self._inputs = inputs
        self._builder = builder
        self._memo = memo
        self._most = most

    def explain(
        self, changed: Mapping[str, Changes], candidates: Mapping[str, Candidate]
    ) -> tuple[Explanation, ...]:
        """Explain the images of whose class the float model was surest, of all targets together.

        Args:
            changed: By target, what it answers otherwise.
            candidates: The artifacts.

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
        self._add(maps, "", lambda: self._of_model(chosen), chosen)
        for target, found in changed.items():
            own = [one for one in found.surest if one.image in maps]
            if own:
                self._add(maps, target, partial(self._of_artifact, target, candidates[target], own), own)
        return tuple(
            Explanation(image=one.image, sha256=one.sha256, maps=tuple(maps[one.image]))
            for one in chosen
            if maps[one.image]
        )

    def _add(
        self,
        maps: Mapping[str, list[Saliency]],
        target: str,
        stage: Callable[[], Stage[Saliencies, None]],
        images: Sequence[FlippedImage],
    ) -> None:
        """Add the maps of a target, or of the float model; that it has none is no failure of the run."""

        def failed(error: EdgefxError) -> None:
            who = target or "the float model"
            self._memo.warn(
                f"what {who} looks at cannot be shown: {error.message}",
                to_try="leave out --explain to go on without",
            )

        with failing_alone(f"explain {target or 'the float model'}", failed):
            for one, found in zip(images, self._memo.get(stage()).maps, strict=True):
                maps[one.image].append(found)

    def _of_model(self, images: Sequence[FlippedImage]) -> Stage[Saliencies, None]:
        def compute() -> Computed[Saliencies, None]:
            return self._asked("", images, [one.before for one in images], self._inputs.source.loaded.predict)

        asked: list[Json] = [[one.sha256, one.before] for one in images]
        key = keys.explanation(self._inputs.baseline_stage.key, asked)
        return self._stage(key, "", compute)

    def _of_artifact(
        self, target: str, candidate: Candidate, images: Sequence[FlippedImage]
    ) -> Stage[Saliencies, None]:
        def compute() -> Computed[Saliencies, None]:
            with self._builder.opened(candidate) as session:
                return self._asked(target, images, [one.after for one in images], session.infer)

        asked: list[Json] = [[one.sha256, one.after] for one in images]
        return self._stage(keys.explanation(self._builder.evaluation_key(candidate), asked), target, compute)

    def _stage(
        self, key: Key, target: str, compute: Callable[[], Computed[Saliencies, None]]
    ) -> Stage[Saliencies, None]:
        return Stage(
            kind=StageKind.EVALUATE,
            key=key,
            result=Saliencies,
            compute=compute,
            target=target,
            what="what changed images rest on",
            clock=target or "explain",
        )

    def _asked(
        self,
        target: str,
        images: Sequence[FlippedImage],
        labels: Sequence[int],
        answer: Callable[[Pixels], Scores],
    ) -> Computed[Saliencies, None]:
        from edgefx.analysis import occlusion

        evaluation, spec = self._inputs.evaluation, self._inputs.source.spec
        assert evaluation is not None
        decoded, root = evaluation.get(), evaluation.dataset.root
        places = {path.relative_to(root).as_posix(): place for place, path in enumerate(evaluation.paths)}
        found = []
        with self._memo.progress.task(f"explain {target or 'float model'}", len(images)) as task:
            for one, label in zip(images, labels, strict=True):
                pixels = decoded.pixels[places[one.image]]
                whole, drops = occlusion.explain(
                    pixels, label, lambda chunk: of_first(answer(chunk), spec), spec.output
                )
                found.append(Saliency(target=target, label=label, confidence=whole, drops=drops))
                task.advance()
        return Computed(value=Saliencies(maps=tuple(found)), opened=None)
