"""Decode image files to the identical tensors that the baseline and every runtime are fed.

Decoding runs in threads (Pillow releases the GIL) ahead of the consumer, so that it overlaps inference:

    with images.load(dataset, height=224, width=224, resize=Resize.STRETCH, ...) as loader:
        for start, chunk in loader.chunks(32):  # uint8 [<= 32, 224, 224, 3]
            ...
        image_set = loader.finish()

`decode` is the same without looking at the chunks. Importing this module imports the standard library only.
"""

from __future__ import annotations

import errno
import os
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgefx.data.folders import INTERPOLATION, check_labels, combine, fingerprint, first_names, scan
from edgefx.errors import DataError
from edgefx.protocols import Progress, Task
from edgefx.storage.disk import disk_full, is_disk_full
from edgefx.system.host import cores
from edgefx.types import Dataset, ImageSet, Resize

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edgefx.data.pixels import Decoded
    from edgefx.types import Pixels

__all__ = [
    "INTERPOLATION",
    "Loader",
    "check_labels",
    "check_range",
    "decode",
    "fingerprint",
    "load",
    "scan",
]

MAP_ABOVE_BYTES = 512 * 10**6  # larger sets live in a file instead of memory
_AHEAD_BYTES = 64 * 10**6  # decoded images that may wait for the consumer
_DARK = 15  # values that fill no more than 1/15 of the range are not raw pixels: 17 of 255


def decode(
    dataset: Dataset,
    *,
    height: int,
    width: int,
    resize: Resize,
    skip_bad: bool,
    progress: Progress,
    role: str,
    scratch: Path | None = None,
) -> ImageSet:
    """Decode all of `dataset`; arguments and errors as for `load`."""
    with load(
        dataset,
        height=height,
        width=width,
        resize=resize,
        skip_bad=skip_bad,
        progress=progress,
        role=role,
        scratch=scratch,
    ) as loader:
        return loader.finish()


@contextmanager
def load(
    dataset: Dataset,
    *,
    height: int,
    width: int,
    resize: Resize,
    skip_bad: bool,
    progress: Progress,
    role: str,
    scratch: Path | None = None,
    threads: int | None = None,
) -> Iterator[Loader]:
    """Start decoding `dataset` in the background.

    Leaving the context, by an error or Ctrl-C too, cancels what has not begun and waits for the threads.

    Args:
        dataset: From `scan`.
        height: Rows of every decoded image.
        width: Columns of every decoded image.
        resize: How a file's image becomes height x width.
        skip_bad: Leave out files that cannot be decoded and record them in `ImageSet.skipped`.
        progress: Shows one task, a step per file.
        role: "calibration" or "evaluation", for messages.
        scratch: Where a file for the pixels may be made when they exceed `MAP_ABOVE_BYTES`; it must live as
            long as the pixels are used. None keeps any size in memory.
        threads: Decoding threads; the number of usable cores by default.

    Raises:
        DataError: Files that cannot be decoded (all are named), or none is left; raised while consuming.
        DiskFullError: No space in `scratch`.
    """
    if not dataset.items:
        raise DataError(f"{dataset.root}: no {role} images", hint="give a folder with more images")
    shape = (len(dataset.items), height, width, 3)
    with (
        ThreadPoolExecutor(threads or cores(), thread_name_prefix="edgefx-decode") as pool,
        progress.task(f"decode {role} images", total=len(dataset.items)) as task,
    ):
        try:
            yield Loader(
                dataset=dataset,
                pixels=_allocate(shape, scratch, role),
                resize=resize,
                skip_bad=skip_bad,
                role=role,
                pool=pool,
                task=task,
            )
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


class Loader:
    """Images that are being decoded, in the data set's order; made by `load`."""

    def __init__(
        self,
        *,
        dataset: Dataset,
        pixels: Pixels,
        resize: Resize,
        skip_bad: bool,
        role: str,
        pool: ThreadPoolExecutor,
        task: Task,
    ) -> None:
        self._dataset = dataset
        self._pixels = pixels
        self._resize = resize
        self._skip_bad = skip_bad
        self._role = role
        self._pool = pool
        self._task = task
        self._waiting: deque[Future[Decoded]] = deque()
        self._ahead = max(8, _AHEAD_BYTES // max(1, pixels[0].nbytes))
        self._submitted = 0
        self._digests: list[str] = []
        self._kept: list[int] = []  # positions in the data set of the rows filled so far
        self._bad: list[tuple[Path, str]] = []
        self._result: ImageSet | None = None
        self._submit()

    def __len__(self) -> int:
        """Number of files, those that may turn out to be bad included."""
        return len(self._dataset.items)

    def chunks(self, size: int) -> Iterator[tuple[int, Pixels]]:
        """Yield (index of the first image, uint8 [<= size, H, W, 3]) as images become ready, in order.

        Bad files are left out of the count. Without `skip_bad` the first bad file ends the chunks: the rest
        is decoded to name every bad file at once. Every call starts from the first image.

        Raises:
            DataError: As `load` says.
        """
        start = 0
        while True:
            while len(self._kept) < start + size and self._take():
                if self._bad and not self._skip_bad:
                    self._finish()
            stop = min(start + size, len(self._kept))
            if stop == start:
                break
            yield start, self._pixels[start:stop]
            start = stop
        self._finish()

    def finish(self) -> ImageSet:
        """Wait for the remaining images and return the whole set.

        Raises:
            DataError: As `load` says.
        """
        return self._finish()

    def _submit(self) -> None:
        from edgefx.data.pixels import read

        _, height, width, _ = self._pixels.shape
        while len(self._waiting) < self._ahead and self._submitted < len(self._dataset.items):
            path = self._dataset.items[self._submitted].path
            self._waiting.append(self._pool.submit(read, path, height, width, self._resize))
            self._submitted += 1

    def _take(self) -> bool:
        """Receive the next image in order; False when there is none left."""
        if not self._waiting:
            return False
        decoded = self._waiting.popleft().result()
        self._submit()
        position = len(self._digests)
        self._digests.append(decoded.digest)
        if decoded.pixels is None:
            self._bad.append((self._dataset.items[position].path, decoded.reason))
        else:
            self._pixels[len(self._kept)] = decoded.pixels
            self._kept.append(position)
        self._task.advance()
        return True

    def _finish(self) -> ImageSet:
        if self._result is not None:
            return self._result
        while self._take():
            pass
        self._refuse_bad()
        import numpy as np

        _, height, width, _ = self._pixels.shape
        items = [self._dataset.items[position] for position in self._kept]
        labels = [item.label for item in items if item.label is not None]
        self._result = ImageSet(
            pixels=self._pixels[: len(items)],
            labels=np.array(labels, np.int64) if self._dataset.labelled else None,
            paths=tuple(item.path for item in items),
            sha256=combine(self._digests, self._dataset, height=height, width=width, resize=self._resize),
            resize=self._resize,
            skipped=tuple(self._bad),
            values=np.array([item.values for item in items], np.float32) if items[0].values else None,
        )
        return self._result

    def _refuse_bad(self) -> None:
        if not self._bad or (self._skip_bad and self._kept):
            return
        names = first_names(f"{path}: {reason}" for path, reason in self._bad)
        total = len(self._dataset.items)
        if not self._kept:
            raise DataError(
                f"{self._dataset.root}: none of the {total} {self._role} images can be decoded",
                hint="give a folder of intact JPEG, PNG, WebP or BMP files",
                details=names,
            )
        raise DataError(
            f"{self._dataset.root}: {len(self._bad)} of {total} {self._role} images cannot be decoded",
            hint="repair or remove them, or leave them out with --skip-bad-images",
            details=names,
        )


def check_range(
    pixels: NDArray[Any], pixel_range: tuple[float, float] = (0.0, 255.0), *, where: str = "the images"
) -> None:
    """Check that pixels fill the range that the model's own preprocessing expects.

    Pixels in [0, 1] given to a model that takes [0, 255] cost 76 points of accuracy when they calibrate an
    INT8 model (measured: 93 % to 17 %), so they are an error. So is anything that fills no more than 1/15
    of the range: images divided by 255, or 4-bit values that were never scaled.

    Args:
        pixels: Any shape, integers or floats; read in parts and only as far as needed.
        pixel_range: Lowest and highest value that the model expects.
        where: What the pixels are, for the message.

    Raises:
        DataError: Says the values seen and the values expected; also for NaN and infinity.
    """
    import numpy as np

    low, high = pixel_range
    seen_low, seen_high = np.inf, -np.inf
    step = max(1, (16 << 20) // max(1, pixels[:1].nbytes))
    for start in range(0, len(pixels), step):
        part = pixels[start : start + step]
        part_low, part_high = float(part.min()), float(part.max())
        if not (np.isfinite(part_low) and np.isfinite(part_high)):
            raise DataError(f"{where}: NaN or infinite pixels", hint="give raw RGB values")
        seen_low, seen_high = min(seen_low, part_low), max(seen_high, part_high)
        if np.issubdtype(pixels.dtype, np.uint8) and low <= 0 and high >= 255 and seen_high > high / _DARK:
            return  # nothing that follows can leave the range
    expected = f"the model expects raw values in [{low:g}, {high:g}]"
    seen = f"{where}: values span [{seen_low:g}, {seen_high:g}]"
    if seen_low < low or seen_high > high:
        raise DataError(
            f"{seen}, {expected}",
            hint="give pixels as stored in image files, not normalised: preprocessing is part of the model",
        )
    if seen_high - low <= (high - low) / _DARK:
        raise DataError(
            f"{seen}, {expected}",
            hint=f"these look already divided by {high:g}, or are all black: preprocessing is part of the "
            "model, give the original images",
        )


def _allocate(shape: tuple[int, int, int, int], scratch: Path | None, role: str) -> Pixels:
    """Return an array for the pixels: in memory, or in a file of `scratch` when it is large."""
    import numpy as np

    size = int(np.prod(shape, dtype=np.int64))
    if scratch is None or size <= MAP_ABOVE_BYTES:
        return np.empty(shape, np.uint8)
    path = scratch / f"{role}-{shape[0]}x{shape[1]}x{shape[2]}.pixels"
    try:
        with path.open("wb") as file:
            # Reserve the space now: writing to a map of a full disk would kill the process (SIGBUS).
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, size)
            else:
                for start in range(0, size, 1 << 24):
                    file.write(bytes(min(1 << 24, size - start)))
        return np.memmap(path, np.uint8, "r+", shape=shape)
    except OSError as error:
        path.unlink(missing_ok=True)
        if not is_disk_full(error) and error.errno != errno.EFBIG:
            raise
        raise disk_full(
            scratch,
            what=f"no space for {size / 1e6:.0f} MB of decoded {role} images",
            hint="free some space, set TMPDIR to another disk, or use fewer images (--samples)",
        ) from error
