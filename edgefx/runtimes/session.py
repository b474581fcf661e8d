"""What every opened artifact does alike: raw RGB in, float scores out, whatever the file's ends are."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgefx.errors import ArtifactError
from edgefx.runtimes import bounds
from edgefx.scores import by_class, kind_of
from edgefx.types import TensorInfo

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edgefx.types import Pixels, Scores


@dataclass(frozen=True)
class Layout:
    """How images lie in a file's input tensor."""

    batch: int
    height: int
    width: int
    channels_first: bool

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """The input tensor's shape."""
        if self.channels_first:
            return (self.batch, 3, self.height, self.width)
        return (self.batch, self.height, self.width, 3)


class BatchSession(ABC):
    """A `protocols.Session` over a runtime that takes the file's fixed batch at a time."""

    def __init__(
        self,
        path: Path,
        image: TensorInfo,
        scores: TensorInfo,
        layout: Layout,
        *,
        refusals: tuple[type[Exception], ...] = (),
    ) -> None:
        self._path = path
        self._image, self._scores, self._layout = image, scores, layout
        self._output = kind_of(scores.name)
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
    def _run(self, part: NDArray[Any]) -> NDArray[Any]:
        """Run at most one batch of images.

        Args:
            part: In the file's layout; uint8 or stored as the input tensor stores it.

        Returns:
            The output [at least as many as in `part`, classes] as stored; valid until the next call.
        """

    def infer(self, batch: Pixels) -> Scores:
        """Run raw RGB uint8 [N, H, W, 3]; returns float32 [N, classes], dequantized.

        Raises:
            ValueError: The images' size is not the artifact's.
            ArtifactError: The file cannot be run.
        """
        layout = self._layout
        if batch.shape[1:] != (layout.height, layout.width, 3):
            raise ValueError(f"images {batch.shape[1:]} for an input of {(layout.height, layout.width, 3)}")
        try:
            return self._inferred(batch)
        except self._damage as error:
            raise bounds.damaged(self._path, error) from error

    def _inferred(self, batch: Pixels) -> Scores:
        import numpy as np

        layout = self._layout
        ready = stored(batch, self._image)
        if layout.channels_first:
            ready = ready.transpose(0, 3, 1, 2)
        scores: Scores | None = None
        for start in range(0, len(ready), layout.batch):
            part = ready[start : start + layout.batch]
            found = self._run(part)
            if scores is None:
                scores = np.empty((len(ready), found.shape[1]), np.float32)
            scores[start : start + len(part)] = found[: len(part)]
        if scores is None:
            return np.empty((0, int(np.prod(self._scores.shape[1:]))), np.float32)
        if self._scores.scale is not None:
            scores -= self._scores.zero_point or 0
            scores *= np.float32(self._scores.scale)
        return by_class(scores, self._output)


def ends_of_classifier(
    path: Path, inputs: Sequence[TensorInfo], outputs: Sequence[TensorInfo]
) -> tuple[TensorInfo, TensorInfo, Layout]:
    """Return the only input, the only output, and how images lie in the input.

    A dimension that is free counts as one image.

    Raises:
        ArtifactError: The file is no image classifier.
    """
    if len(inputs) != 1 or len(outputs) != 1:
        raise ArtifactError(
            f"{path}: {len(inputs)} inputs and {len(outputs)} outputs",
            hint="edgefx runs image classifiers: one image in, one score vector out",
        )
    shape = inputs[0].shape
    if len(shape) == 4 and min(shape[1:]) > 0:
        batch = max(1, shape[0])
        if shape[3] == 3:
            return inputs[0], outputs[0], Layout(batch, shape[1], shape[2], channels_first=False)
        if shape[1] == 3:
            return inputs[0], outputs[0], Layout(batch, shape[2], shape[3], channels_first=True)
    raise ArtifactError(
        f"{path}: input shape {list(shape)} is not [N, height, width, 3] or [N, 3, height, width]",
        hint="edgefx runs image classifiers on RGB images of a fixed size",
    )


def stored(batch: Pixels, image: TensorInfo) -> NDArray[Any]:
    """Return images as an input tensor stores them; those of float tensors stay uint8, to be cast in copying.

    Args:
        batch: Raw RGB, uint8.
        image: The tensor. Integers without a scale are raw pixels (uint8), or pixels - 128 (int8).
    """
    import numpy as np

    scale = 1.0 if image.scale is None else image.scale
    if image.dtype == "uint8" and scale == 1.0 and not image.zero_point:
        return batch
    if image.dtype == "int8" and scale == 1.0 and image.zero_point in (None, -128):
        return shifted(batch)
    if image.scale is None:
        return batch
    limits = np.iinfo(image.dtype)
    codes = np.round(batch / scale) + (image.zero_point or 0)
    return np.clip(codes, limits.min, limits.max).astype(image.dtype)


def shifted(batch: Pixels) -> NDArray[Any]:
    """Return pixel - 128 as int8, without arithmetic: only the highest bit changes."""
    import numpy as np

    return (batch ^ np.uint8(0x80)).view(np.int8)
