"""What every opened artifact does alike: raw RGB in, float scores out, whatever the file's ends are."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgefx.errors import ArtifactError
from edgefx.runtimes import bounds
from edgefx.scores import by_class, kind_of, of_logits
from edgefx.types import TensorInfo
from edgefx.vocabulary import ScoreFunction

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edgefx.types import Artifact, Pixels, Scores


_RAW = 64.0  # the largest value of an input: of raw pixels it is about 255, of scaled ones 1 to 3


@dataclass(frozen=True)
class Layout:
    """How images lie in a file's input tensor; artifacts of edgefx have three channels, which come last."""

    batch: int
    height: int
    width: int
    channels_first: bool
    channels: int = 3

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """The input tensor's shape."""
        if self.channels_first:
            return (self.batch, self.channels, self.height, self.width)
        return (self.batch, self.height, self.width, self.channels)


class BatchSession(ABC):
    """A `protocols.Session` over a runtime that takes the file's fixed batch at a time."""

    def __init__(
        self,
        path: Path,
        image: TensorInfo,
        outputs: tuple[TensorInfo, ...],
        layout: Layout,
        *,
        refusals: tuple[type[Exception], ...] = (),
    ) -> None:
        self._path = path
        self._image, self._outputs, self._layout = image, outputs, layout
        # What running a file of other origin may raise.
        self._damage: tuple[type[Exception], ...] = (*bounds.DAMAGE, *refusals)

    @property
    def input_spec(self) -> TensorInfo:
        """The input tensor as stored in the file."""
        return self._image

    @property
    @abstractmethod
    def precision_ran(self) -> str:
        """The numeric format that the runtime executes in."""

    @abstractmethod
    def _put(self, part: NDArray[Any]) -> None:
        """Copy at most one batch of images into the input.

        Args:
            part: In the file's layout; uint8 or stored as the input tensor stores it.
        """

    @abstractmethod
    def _invoke(self) -> None:
        """Run what is in the input."""

    @abstractmethod
    def _take(self) -> Sequence[NDArray[Any]]:
        """Return the outputs, each [batch, ...] as stored; valid until the next run."""

    def prepared(self, batch: Pixels) -> Callable[[], None]:
        """Put images into the input, at most the file's batch; returns what runs them, to be timed alone.

        Raises:
            ValueError: The images' size is not the artifact's.
        """
        self._put(self._ready(batch))

        def invoke() -> None:
            try:
                self._invoke()
            except self._damage as error:
                raise bounds.damaged(self._path, error) from error

        return invoke

    def infer(self, batch: Pixels) -> Scores:
        """Run raw RGB uint8 [N, H, W, 3]; returns float32 [N, columns], dequantized.

        Of artifacts that end before the sigmoid or softmax of their model, it is computed here. Several
        outputs stand side by side, in the file's order.

        Files of other origin may take what somebody has prepared: float32, or a single channel.

        Raises:
            ValueError: The images' size is not the artifact's.
            ArtifactError: The file cannot be run.
        """
        ready = self._ready(batch)
        try:
            return self._inferred(ready)
        except self._damage as error:
            raise bounds.damaged(self._path, error) from error

    def _ready(self, batch: Pixels) -> NDArray[Any]:
        """Return images as the file stores and lays them out."""
        layout = self._layout
        expected = (layout.height, layout.width, layout.channels)
        if batch.shape[1:] != expected:
            raise ValueError(f"images {batch.shape[1:]} for an input of {expected}")
        ready = stored(batch, self._image)
        return ready.transpose(0, 3, 1, 2) if layout.channels_first else ready

    def _inferred(self, ready: NDArray[Any]) -> Scores:
        import numpy as np

        layout = self._layout
        found: list[Scores] = []  # by output
        for start in range(0, len(ready), layout.batch):
            part = ready[start : start + layout.batch]
            self._put(part)
            self._invoke()
            taken = [one.reshape(layout.batch, -1) for one in self._take()]
            if not found:
                found = [np.empty((len(ready), one.shape[1]), np.float32) for one in taken]
            for all_of_it, one in zip(found, taken, strict=True):
                all_of_it[start : start + len(part)] = one[: len(part)]
        if not found:
            return np.empty((0, sum(math.prod(one.shape[1:]) for one in self._outputs)), np.float32)
        for info, scores in zip(self._outputs, found, strict=True):
            if info.scale is not None:
                np.subtract(scores, np.float32(info.zero_point or 0), out=scores)
                np.multiply(scores, np.float32(info.scale), out=scores)
        return as_scores(np.concatenate(found, axis=1) if len(found) > 1 else found[0], self._outputs)


def as_scores(values: Scores, outputs: Sequence[TensorInfo]) -> Scores:
    """Return what outputs say as scores: of one, a column per class; several stay as they are, side by side.

    Args:
        values: Dequantized, float32 [N, columns].
        outputs: Whose they are.
    """
    if len(outputs) > 1:
        return values
    (name,) = (info.name for info in outputs)
    return by_class(of_logits(values, ScoreFunction.of(name)), kind_of(name))


def ends_of_classifier(
    path: Path, inputs: Sequence[TensorInfo], outputs: Sequence[TensorInfo]
) -> tuple[TensorInfo, TensorInfo, Layout]:
    """Return the only input, the only output, and how images lie in the input.

    A dimension that is free counts as one image.

    Raises:
        ArtifactError: The file is no image classifier.
    """
    if len(outputs) != 1:
        raise _no_classifier(path, inputs, outputs)
    image, scores, layout = ends_of_images(path, inputs, outputs)
    return image, scores[0], layout


def ends_of_images(
    path: Path, inputs: Sequence[TensorInfo], outputs: Sequence[TensorInfo]
) -> tuple[TensorInfo, tuple[TensorInfo, ...], Layout]:
    """Return the only input, the outputs, and how images lie in the input.

    Raises:
        ArtifactError: The file does not take one image, or has several outputs of which one has no fixed
            size.
    """
    free = len(outputs) > 1 and any(min(one.shape[1:], default=1) < 1 for one in outputs)
    if len(inputs) != 1 or not outputs or free:
        raise _no_classifier(path, inputs, outputs)
    shape = inputs[0].shape
    if len(shape) == 4 and min(shape[1:]) > 0:
        batch = max(1, shape[0])
        for channels in (3, 1):
            if shape[3] == channels:
                layout = Layout(batch, shape[1], shape[2], channels_first=False, channels=channels)
                return inputs[0], tuple(outputs), layout
            if shape[1] == channels:
                layout = Layout(batch, shape[2], shape[3], channels_first=True, channels=channels)
                return inputs[0], tuple(outputs), layout
    raise ArtifactError(
        f"{path}: input shape {list(shape)} is not [N, height, width, 3] or [N, 3, height, width]",
        hint="edgefx runs image classifiers on RGB or grey images of a fixed size",
    )


def is_vector(shape: Sequence[int]) -> bool:
    """Whether a tensor of this shape has one value for each channel of an image, and no map of them."""
    return sum(size > 1 for size in shape) <= 1


def _no_classifier(path: Path, inputs: Sequence[TensorInfo], outputs: Sequence[TensorInfo]) -> ArtifactError:
    return ArtifactError(
        f"{path}: {_counted(inputs, 'input')} and {_counted(outputs, 'output')}",
        hint="edgefx runs image classifiers: one image in, one score vector out",
    )


def _counted(ends: Sequence[TensorInfo], what: str) -> str:
    return f"{len(ends)} {what}{'' if len(ends) == 1 else 's'}"


def takes_images(artifact: Artifact) -> bool:
    """Whether an artifact takes one image, and gives answers of a fixed size, so that images can be run."""
    try:
        ends_of_images(artifact.path, artifact.inputs, artifact.outputs)
    except ArtifactError:
        return False
    return True


class AnySession(ABC):
    """An artifact opened to be timed, whatever it takes and gives: no images are understood."""

    def __init__(self, path: Path, inputs: Sequence[TensorInfo]) -> None:
        """Make what it is fed.

        Raises:
            ArtifactError: An input has no fixed size, or holds what there is no number for.
        """
        self._path = path
        self._feeds = [_anything(path, info) for info in inputs]

    @property
    @abstractmethod
    def precision_ran(self) -> str:
        """The numeric format that the runtime executes in."""

    @abstractmethod
    def run(self) -> None:
        """Run what is in the inputs."""


def batched(
    path: Path, inputs: Sequence[TensorInfo], free: Sequence[bool], batch: int | None
) -> list[TensorInfo]:
    """Return inputs for a batch of so many images.

    Args:
        path: The file, for the error.
        inputs: As the file has them.
        free: Of each, whether the file leaves the first dimension free.
        batch: None for the file's own: one where it is free.

    Raises:
        ArtifactError: The file has another batch.
    """
    if batch is None:
        return list(inputs)
    found = []
    for info, is_free in zip(inputs, free, strict=True):
        own = next(iter(info.shape), 1)
        if batch != own and not is_free:
            raise ArtifactError(
                f"{path}: its batch is fixed at {own}: it does not run {batch} images at once",
                hint="measure it with --streams; the batch must be free in the file for others",
            )
        found.append(replace(info, shape=(batch, *info.shape[1:])))
    return found


def _anything(path: Path, info: TensorInfo) -> NDArray[Any]:
    """Return random values for an input; zeros where they may be indices."""
    import numpy as np

    shape = fixed_shape(path, info)
    rng = np.random.default_rng(0)
    if info.dtype in ("uint8", "int8"):
        return rng.integers(0, 128, shape, dtype=info.dtype)
    if info.dtype in ("float32", "float16", "float64"):
        return rng.random(shape).astype(info.dtype)
    try:
        return np.zeros(shape, info.dtype)
    except TypeError as error:
        raise ArtifactError(
            f"{path}: input '{info.name}' is of the type {info.dtype}, which cannot be made up",
            hint="only numeric inputs can be timed",
        ) from error


def with_free(shape: tuple[int, ...], signature: Iterable[int] | None) -> tuple[int, ...]:
    """Return a shape with -1 for each size, but the batch, that the file leaves free: it stores 1 for it.

    Args:
        shape: As stored.
        signature: Of the same length where something is free.
    """
    known = () if signature is None else tuple(int(size) for size in signature)
    if len(known) != len(shape):
        return shape
    return shape[:1] + tuple(min(size, free) for size, free in zip(shape[1:], known[1:], strict=True))


def fixed_shape(path: Path, info: TensorInfo) -> tuple[int, ...]:
    """Return an input's shape, of one image where the batch is free.

    Raises:
        ArtifactError: The file leaves more than the batch free.
    """
    shape = tuple(1 if place == 0 and size < 1 else size for place, size in enumerate(info.shape))
    if any(size < 1 for size in shape):
        raise ArtifactError(
            f"{path}: input '{info.name}' has the shape {list(shape)}, of which negative sizes are free",
            hint="export it with a fixed size",
        )
    return shape


def stored(batch: Pixels, image: TensorInfo) -> NDArray[Any]:
    """Return images as an input tensor stores them; those of float tensors stay uint8, to be cast in copying.

    Args:
        batch: Raw RGB, uint8; or pixels that somebody has scaled, float32.
        image: The tensor. Integers without a scale are raw pixels (uint8), or pixels - 128 (int8); so are
            those that stand for scaled pixels, such as 0..1.
    """
    import numpy as np

    if batch.dtype == np.uint8 and takes_codes(image):
        return batch if image.dtype == "uint8" else shifted(batch)
    if image.scale is None:
        return batch
    limits = np.iinfo(image.dtype)
    codes = np.round(batch / image.scale) + (image.zero_point or 0)
    return np.clip(codes, limits.min, limits.max).astype(image.dtype)


def takes_codes(image: TensorInfo) -> bool:
    """Whether an 8-bit input takes pixels as they are stored: 0 to 255, or 128 less.

    So it does where its real values are the pixels, and where they were scaled in training: then it is the
    quantization that scales, as quantized files of TensorFlow Hub and Teachable Machine do.
    """
    if image.dtype not in ("uint8", "int8"):
        return False
    lowest, highest = (0, 255) if image.dtype == "uint8" else (-128, 127)
    scale, zero_point = image.scale or 1.0, lowest if image.zero_point is None else image.zero_point
    if scale == 1.0 and zero_point == lowest:
        return True
    return (highest - zero_point) * scale < _RAW


def shifted(batch: Pixels) -> NDArray[Any]:
    """Return pixel - 128 as int8, without arithmetic: only the highest bit changes."""
    import numpy as np

    return (batch ^ np.uint8(0x80)).view(np.int8)
