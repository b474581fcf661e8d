"""A figure that can be believed: top-1 of the float model, of INT8 by hand and of INT8 by edgefx.

    python -m tests.benchmarks believed --model b0.keras --calib calib/ --eval imagenet/val/
    python -m tests.benchmarks believed --model b0.keras --calib calib/ --eval val/ --json > b0.json

INT8 "by hand" is what the scripts of `byhand` make: each toolkit's usual recipe with its defaults, from the
same calibration images. Every image is decoded once, and the same pixels go to the Keras model and to all
artifacts, each in its own runtime. So all differences are paired, image by image: Tango's 95 % interval of a
drop, Wilson's of a share. The Keras model is asked as Keras loads it, without anything of edgefx.

Only counts are kept of what was answered, and a few images wait to be answered: memory does not grow with
the number of images, but for their paths (about half a kilobyte each). How far it is, and how long it still
takes, is printed on stderr. Images that also calibrated are left out, by content; so are files that cannot be
decoded, and both are counted. With --artifacts the artifacts are kept, and taken again the next time. With
--predictions every answer is written to a CSV file, from which all figures can be computed anew.

The model takes raw RGB from 0 to 255, as Keras EfficientNets do.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import os
import resource
import sys
import tempfile
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO, TypeAlias

from edgefx.evaluation.statistics import mcnemar_p_value, paired_drop_ci, wilson_ci
from edgefx.storage.hashes import hash_file
from edgefx.types import ImageItem, ModelTask, Resize

from . import byhand
from .common import run

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from edgefx.data.pixels import Decoded
    from edgefx.types import Pixels

SUFFIXES = {"tflite": ".tflite", "onnx": ".onnx", "openvino": ".xml"}
FLOAT = "float (Keras)"
_CHUNK = 16  # images
_AHEAD = 4 * _CHUNK  # images that are decoded before they are needed
_SETTLED = 512  # images after which everything that is allocated once has been
_TELL_S = 10.0
_MADE = "made.json"

Answer: TypeAlias = "Callable[[Pixels], NDArray[np.int64]]"  # images to their best classes


def main(options: list[str]) -> dict[str, object]:
    """Make the artifacts, measure them, and print the table or JSON."""
    parser = argparse.ArgumentParser(prog="believed", description=__doc__)
    parser.add_argument("--model", default="digits", help="a .keras file")
    parser.add_argument("--calib", help="calibration images (digits brings its own)")
    parser.add_argument("--eval", help="labelled images: a folder per class, or labels.csv (digits: its own)")
    parser.add_argument("--runtimes", default="tflite,onnx,openvino")
    parser.add_argument("--effort", default="balanced", help="of edgefx")
    parser.add_argument("--resize", default="stretch", choices=[str(one) for one in Resize])
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), help="per runtime")
    parser.add_argument("--artifacts", type=Path, help="folder to keep artifacts in, or to take them from")
    parser.add_argument("--predictions", type=Path, help="CSV file for every answer")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args(options)
    names = args.runtimes.split(",")
    if not set(names) <= set(SUFFIXES):
        sys.exit(f"--runtimes: some of {','.join(SUFFIXES)}")
    with tempfile.TemporaryDirectory() as scratch:
        folder: Path = args.artifacts or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        model, calib = byhand.inputs(args.model, args.calib, folder)
        artifacts = make(model, calib, names, folder, effort=args.effort)
        images = args.eval or _digits(args.model)
        found = _measure(args, model, calib, images, artifacts)
    if args.json:
        print(json.dumps(found, indent=2))
    else:
        print("\n".join(_lines(found)))
    return found


# --------------------------------------------------------------------------------------------- artifacts


def make(
    model: str, calib: str, runtimes: Sequence[str], folder: Path, *, effort: str
) -> dict[str, tuple[str, Path]]:
    """Make what is not there yet, each in a process of its own.

    Returns:
        Runtime and main file of each artifact, by the name that is printed.
    """
    facts = {"model": hash_file(Path(model)), "calibration": _content(Path(calib)), "effort": effort}
    known = folder / _MADE
    if known.is_file() and json.loads(known.read_text()) != facts:
        sys.exit(f"{folder}: its artifacts are of another model, other images or another effort")
    known.write_text(json.dumps(facts))
    found: dict[str, tuple[str, Path]] = {}
    for runtime in runtimes:
        theirs = folder / f"byhand{SUFFIXES[runtime]}"
        if not theirs.is_file():
            _tell(f"making {theirs.name}")
            run(byhand.command(runtime, model, calib, folder))
        found[f"{runtime} by hand"] = (runtime, theirs)
        place = folder / f"ours-{runtime}"
        if not list(place.glob(f"*-int8{SUFFIXES[runtime]}")):
            _tell(f"making {runtime}-int8 by edgefx")
            command = [sys.executable, "-m", "edgefx", "compile", model, "--calib", calib, "-o", str(place)]
            command += ["--target", f"{runtime}-int8", "--effort", effort, "--no-eval", "--no-benchmark"]
            run(command)
        found[f"{runtime} by edgefx"] = (runtime, next(place.glob(f"*-int8{SUFFIXES[runtime]}")))
    return found


def _digits(model: str) -> str:
    if model != "digits":
        sys.exit("--eval is needed for a model of your own")
    from edgefx.data import digits

    return str(digits.evaluation_folder())


def _content(calib: Path) -> list[str]:
    from edgefx.data.folders import digest, scan

    return sorted(digest(item.path) for item in scan(calib).items)


# ---------------------------------------------------------------------------------------------- measuring


@dataclass
class Tally:
    """What all sides answered, as counts: memory does not depend on the number of images.

    Attributes:
        sides: Their names; the first is what the others are held against.
        right: How often each combination of sides was right; a bool for each side, in order.
        same: How often each side answers as the first one does.
        left_out: Images that were not answered, by reason.
    """

    sides: tuple[str, ...]
    right: Counter[tuple[bool, ...]] = field(default_factory=Counter)
    same: Counter[str] = field(default_factory=Counter)
    left_out: Counter[str] = field(default_factory=Counter)

    @property
    def images(self) -> int:
        """How many were answered."""
        return self.right.total()

    def add(self, label: int, answers: Sequence[int]) -> None:
        """Count one image."""
        self.right[tuple(answer == label for answer in answers)] += 1
        self.same.update(
            side for side, answer in zip(self.sides, answers, strict=True) if answer == answers[0]
        )

    def top1(self, side: str) -> dict[str, Any]:
        """Return a side's share of right answers."""
        place = self.sides.index(side)
        right = sum(count for pattern, count in self.right.items() if pattern[place])
        low, high = wilson_ci(right, self.images)
        return {"right": right, "top1": right / self.images, "top1_ci95": [low, high]}

    def drop(self, before: str, after: str) -> dict[str, Any]:
        """Return what the second side loses against the first one, on the same images."""
        first, second = self.sides.index(before), self.sides.index(after)
        lost = sum(count for one, count in self.right.items() if one[first] and not one[second])
        gained = sum(count for one, count in self.right.items() if one[second] and not one[first])
        return {
            "lost": lost,
            "gained": gained,
            "drop_pp": 100 * (lost - gained) / self.images,
            "drop_ci95_pp": list(paired_drop_ci(lost, gained, self.images)),
            "p_value": mcnemar_p_value(lost, gained),
        }


def decoded(
    items: Iterable[ImageItem], read: Callable[[Path], Decoded], *, ahead: int = _AHEAD, threads: int = 2
) -> Iterator[tuple[ImageItem, Decoded]]:
    """Decode images in order, no more than so many before they are asked for."""
    waiting: deque[tuple[ImageItem, Future[Decoded]]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        for item in items:
            waiting.append((item, pool.submit(read, item.path)))
            if len(waiting) >= ahead:
                first, future = waiting.popleft()
                yield first, future.result()
        for first, future in waiting:
            yield first, future.result()


def answer_all(
    items: Sequence[ImageItem],
    read: Callable[[Path], Decoded],
    sides: Mapping[str, Answer],
    *,
    calibrated: frozenset[str] = frozenset(),
    watch: Callable[[int, Tally], object] | None = None,
    write: Callable[[Sequence[object]], object] | None = None,
) -> tuple[Tally, str]:
    """Let all sides answer all images.

    Args:
        items: Images with labels.
        read: Decodes one.
        sides: What answers, by name.
        calibrated: SHA-256 of the calibration images.
        watch: Told of the number of images done after each chunk.
        write: Given path, label and answers of each image.

    Returns:
        The counts, and SHA-256 over content and label of the images that were answered.
    """
    import numpy as np

    tally, total = Tally(tuple(sides)), hashlib.sha256()
    done = 0
    stream = decoded(items, read)
    while chunk := list(islice(stream, _CHUNK)):
        done += len(chunk)
        used = []
        for item, one in chunk:
            if one.pixels is None:
                tally.left_out["cannot be decoded"] += 1
            elif one.digest in calibrated:
                tally.left_out["calibrated with"] += 1
            else:
                used.append((item, one.pixels))
                total.update(f"{one.digest} {item.label}\n".encode())
        if used:
            pixels = np.stack([one for _, one in used])
            answers = np.stack([answer(pixels) for answer in sides.values()], 1).tolist()
            for (item, _), row in zip(used, answers, strict=True):
                assert item.label is not None
                tally.add(item.label, row)
                if write is not None:
                    write([item.path, item.label, *row])
        if watch is not None:
            watch(done, tally)
    return tally, total.hexdigest()


class Watch:
    """Tells how far it is, every ten seconds, and how much memory is in use."""

    def __init__(self, total: int, stream: TextIO = sys.stderr) -> None:
        self._total, self._stream = total, stream
        self._begun = self._told = time.monotonic()
        self.settled_mb = self.last_mb = 0.0
        self.settled_at = 0

    def __call__(self, done: int, tally: Tally) -> None:
        """Take notice of a chunk."""
        now = time.monotonic()
        self.last_mb = resident_mb()
        if not self.settled_at and done >= min(_SETTLED, self._total // 2):
            self.settled_mb, self.settled_at = self.last_mb, done
        if now - self._told < _TELL_S and done < self._total:
            return
        self._told = now
        per_s = done / max(now - self._begun, 1e-9)
        left_s = round((self._total - done) / per_s)
        shown = "; ".join(f"{side} {tally.top1(side)['top1']:.2%}" for side in tally.sides if tally.images)
        print(
            f"  {done:,} of {self._total:,} images, {per_s:.1f} a second, {left_s // 3600}:"
            f"{left_s // 60 % 60:02}:{left_s % 60:02} left, {self.last_mb:.0f} MB; so far {shown}",
            file=self._stream,
            flush=True,
        )

    @property
    def seconds(self) -> float:
        """Since the first image was asked for."""
        return time.monotonic() - self._begun


def resident_mb() -> float:
    """Return how much memory this process has in use now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1e6


def _measure(
    args: argparse.Namespace, model: str, calib: str, root: str, artifacts: Mapping[str, tuple[str, Path]]
) -> dict[str, object]:
    from edgefx.data import labels, pixels
    from edgefx.system.host import environment
    from edgefx.version import __version__

    with ExitStack() as stack:
        (height, width, classes), answer = _keras(model)
        sides: dict[str, Answer] = {FLOAT: answer}
        for name, (_, path) in artifacts.items():
            sides[name] = _artifact(path, args.threads, stack)
        found = labels.fit(
            labels.scan(Path(root), ModelTask.CLASSIFICATION), ModelTask.CLASSIFICATION, classes
        )
        if not found.labelled:
            sys.exit(f"{root} has no labels: give a folder per class, or labels.csv")
        write: Callable[[Sequence[object]], object] | None = None
        if args.predictions:
            table = csv.writer(stack.enter_context(args.predictions.open("w", newline="", encoding="utf-8")))
            table.writerow(["path", "label", *sides])
            write = table.writerow
        read = partial(pixels.read, height=height, width=width, resize=Resize(args.resize))
        watch = Watch(len(found.items))
        tally, content = answer_all(
            found.items, read, sides, calibrated=frozenset(_content(Path(calib))), watch=watch, write=write
        )
    if not tally.images:
        sys.exit(f"{root}: no image was answered: {dict(tally.left_out)}")
    results: dict[str, Any] = {FLOAT: tally.top1(FLOAT)}
    for name, (runtime, path) in artifacts.items():
        results[name] = tally.top1(name) | tally.drop(FLOAT, name)
        results[name] |= {"agreement": tally.same[name] / tally.images, "size_bytes": _size(path)}
        if name.endswith("by edgefx"):
            results[name]["against_by_hand"] = tally.drop(f"{runtime} by hand", name)
    return {
        "images": tally.images,
        "left_out": dict(tally.left_out),
        "images_sha256": content,
        "model_sha256": hash_file(Path(model)),
        "resize": args.resize,
        "results": results,
        "seconds": round(watch.seconds, 1),
        "memory_mb": {
            f"after {watch.settled_at} images": round(watch.settled_mb),
            "at the end": round(watch.last_mb),
            "peak": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6),
        },
        "edgefx": __version__,
        "environment": asdict(environment()),
    }


def _keras(model: str) -> tuple[tuple[int, int, int], Answer]:
    """Load the float model as Keras does; returns height, width and classes, and what answers."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import keras

    loaded = keras.models.load_model(model, compile=False)
    height, width = loaded.input_shape[1:3]

    def answer(pixels: Pixels) -> NDArray[np.int64]:
        scores = loaded.predict_on_batch(pixels.astype("float32"))
        best: NDArray[np.int64] = scores.argmax(1)
        return best

    return (height, width, loaded.output_shape[-1]), answer


def _artifact(path: Path, threads: int, stack: ExitStack) -> Answer:
    from edgefx import runtimes

    session = stack.enter_context(runtimes.for_artifact(path).open_session(path, threads=threads))
    return lambda pixels: session.infer(pixels).argmax(1)


def _size(path: Path) -> int:
    weights = path.with_suffix(".bin") if path.suffix == ".xml" else path
    return path.stat().st_size + (weights.stat().st_size if weights != path else 0)


# ----------------------------------------------------------------------------------------------- printing


def _lines(found: Mapping[str, Any]) -> Iterator[str]:
    yield f"  {found['images']:,} images" + "".join(
        f", {count:,} left out: {reason}" for reason, count in found["left_out"].items()
    )
    yield f"  {'':20} {'top-1':>8} {'95 % interval':>18} {'drop':>9} {'95 % interval':>18} {'agree':>7}"
    for name, one in found["results"].items():
        low, high = one["top1_ci95"]
        line = f"  {name:20} {one['top1']:8.2%} {f'{low:.2%} to {high:.2%}':>18}"
        if "drop_pp" in one:
            line += f" {one['drop_pp']:+6.2f} pp {_interval(one):>18} {one['agreement']:7.1%}"
        yield line
    for name, one in found["results"].items():
        if "against_by_hand" in one:
            less = one["against_by_hand"]
            yield (
                f"  {name} against by hand: {less['drop_pp']:+.2f} pp, {_interval(less)}"
                f" (exact McNemar p {less['p_value']:.2g})"
            )
    memory = ", ".join(f"{value} MB {when}" for when, value in found["memory_mb"].items())
    yield f"  memory: {memory}; {found['seconds']} s"


def _interval(one: Mapping[str, Any]) -> str:
    low, high = one["drop_ci95_pp"]
    return f"{low:+.2f} to {high:+.2f}"


def _tell(text: str) -> None:
    print(f"  {text}", file=sys.stderr, flush=True)
