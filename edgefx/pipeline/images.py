"""A run's image sets: known by the hashes of their files, decoded only when a stage needs pixels."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from edgefx.cache import keys
from edgefx.data import calibration
from edgefx.data import images as decoding
from edgefx.data.folders import combine
from edgefx.errors import DataError
from edgefx.pipeline.memo import Memo
from edgefx.pipeline.records import ImagesRecord
from edgefx.pipeline.stages import Computed, Stage
from edgefx.types import DataInfo, Dataset, ImageSet, ModelSpec, Resize
from edgefx.vocabulary import StageKind

if TYPE_CHECKING:
    from edgefx.cache.entry import Json
    from edgefx.data.images import Loader
    from edgefx.storage.hashes import FileHashes


class Images:
    """One role's images.

    Args:
        dataset: The files; labels fit the model.
        spec: The model: its input size and pixel range.
        role: "calibration", "training" or "evaluation".
        resize: How files become height x width.
        skip_bad: Leave out files that cannot be decoded.
        memo: Recalls, computes and keeps what decoding tells.
        hashes: Hashes of the files.

    Attributes:
        dataset: The files.
        role: As given.
        resize: As given.
        skip_bad: As given.
        sha256: Hash of what decoding would give: the files' bytes, order, labels, size and resize mode; equal
            to `ImageSet.sha256`.
        stage: What decoding tells of the set, and the decoded images.
    """

    def __init__(
        self,
        dataset: Dataset,
        spec: ModelSpec,
        *,
        role: str,
        resize: Resize,
        skip_bad: bool,
        memo: Memo,
        hashes: FileHashes,
    ) -> None:
        self.dataset = dataset
        self.role = role
        self.skip_bad = skip_bad
        self._spec = spec
        self.resize = resize
        self._memo = memo
        self._digests = hashes.all(item.path for item in dataset.items)
        self.sha256 = combine(self._digests, dataset, height=spec.height, width=spec.width, resize=resize)
        self.stage = Stage(
            kind=StageKind.LOAD,
            key=keys.images(
                self.sha256,
                [str(item.path) for item in dataset.items],
                skip_bad=skip_bad,
                pixel_range=spec.pixel_range,
            ),
            result=ImagesRecord,
            compute=self._decoded,
            what=f"{role} images",
            clock=None,
        )

    @property
    def record(self) -> ImagesRecord:
        """What is known of the set; it is decoded when nothing is known yet.

        Raises:
            DataError: Files cannot be decoded, or hold other pixels than the model takes.
        """
        return self._memo.get(self.stage)

    @property
    def identity(self) -> Json:
        """The set by content, for the keys of what is computed from it."""
        return [self.sha256, self.skip_bad]

    @property
    def paths(self) -> tuple[Path, ...]:
        """The files that can be decoded, in order."""
        skipped = {name for name, _ in self.record.skipped}
        return tuple(item.path for item in self.dataset.items if str(item.path) not in skipped)

    @property
    def labels(self) -> tuple[int, ...] | None:
        """The class index of each decoded image; None when unlabelled."""
        if not self.dataset.labelled:
            return None
        skipped = {name for name, _ in self.record.skipped}
        items = [item for item in self.dataset.items if str(item.path) not in skipped]
        return tuple(item.label for item in items if item.label is not None)

    @property
    def file_hashes(self) -> dict[Path, str]:
        """SHA-256 of each file."""
        return {item.path: digest for item, digest in zip(self.dataset.items, self._digests, strict=True)}

    def sample(self, count: int | None, *, seed: int) -> tuple[int, ...] | None:
        """Choose `count` of the images that can be decoded, of each class its share.

        Returns:
            Their places among the decoded images, rising; None where that would be all of them.
        """
        paths = self.paths
        if count is None or count >= len(paths):
            return None
        usable = calibration.without(self.dataset, {item.path for item in self.dataset.items} - set(paths))
        drawn = {item.path for item in calibration.proportional(usable, samples=count, seed=seed).items}
        return tuple(place for place, path in enumerate(paths) if path in drawn)

    def first(self, count: int) -> Json:
        """Identify the first images that can be decoded, by content, size and resize mode."""
        by_path = self.file_hashes
        return [
            f"{self._spec.height}x{self._spec.width} {self.resize}",
            *(by_path[path] for path in self.paths[:count]),
        ]

    def info(self, *, seed: int, note: str) -> DataInfo:
        """Describe the set for the report."""
        record = self.record
        return DataInfo(
            role=self.role,
            root=str(self.dataset.root),
            images=record.images,
            classes=record.classes,
            sha256=self.sha256,
            resize=self.resize,
            interpolation=decoding.INTERPOLATION,
            seed=seed,
            skipped=len(record.skipped),
            note=note,
        )

    def get(self) -> ImageSet:
        """Return the decoded images.

        Raises:
            DataError: As for `record`.
        """
        return self._memo.open(self.stage)

    @contextmanager
    def decoding(self) -> Iterator[Loader]:
        """Decode in the background while the block runs, and be decoded after it.

        Raises:
            DataError: As for `record`.
        """
        with self._loading() as loader:
            yield loader
            self._memo.keep(self.stage, self._finished(loader))

    def _decoded(self) -> Computed[ImagesRecord, ImageSet]:
        with self._loading() as loader:
            return self._finished(loader)

    def _loading(self) -> AbstractContextManager[Loader]:
        return decoding.load(
            self.dataset,
            height=self._spec.height,
            width=self._spec.width,
            resize=self.resize,
            skip_bad=self.skip_bad,
            progress=self._memo.progress,
            role=self.role,
            scratch=self._memo.workspace.scratch,
        )

    def _finished(self, loader: Loader) -> Computed[ImagesRecord, ImageSet]:
        images = loader.finish()
        decoding.check_range(images.pixels, self._spec.pixel_range, where=str(self.dataset.root))
        if images.sha256 != self.sha256:
            raise DataError(
                f"{self.dataset.root}: {self.role} images were changed while the run read them",
                hint="run again once nothing writes to the folder",
            )
        record = ImagesRecord(
            images=len(images),
            classes=None if images.labels is None else len(set(images.labels.tolist())),
            skipped=tuple((str(path), reason) for path, reason in images.skipped),
        )
        return Computed(value=record, opened=images)
