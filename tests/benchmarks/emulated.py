"""What artifacts answer on ARM CPUs, emulated: agreement with the float model and with this machine.

    python -m tests.benchmarks emulated --root arm64/ --prepare MIRROR
    python -m tests.benchmarks emulated --root arm64/ --images test/ build/*-int8.*
    python -m tests.benchmarks emulated --root arm64/ --commands demo-out/

The first line, needed once, makes a folder with an aarch64 Python, the runtimes and an emulator: on a Debian
or a descendant of it, from a mirror of Debian and the package index (`emulated_root`). The second runs each
artifact on the same pixels here and on each emulated CPU. An emulator answers as the CPU would, as far as
instructions go, and takes ten to fifty times as long: what it takes says nothing, and a sample of images
(``--limit``) says much. The third runs the commands that need no TensorFlow, and exits with 1 where one fails
(`emulated_commands`).

Printed for each artifact and CPU: the class that edgefx takes the CPU for, the precision the runtime chose,
top-1 where the images have labels, the share of images with the same class as the float artifact of the same
folder has here, the same for the artifact itself, the share of images whose scores are equal bit by bit, and
the largest difference of a score.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from edgefx import runtimes
from edgefx.data import digits, folders
from edgefx.data.pixels import fit, to_rgb
from edgefx.types import Resize

from .emulated_commands import run as run_commands
from .emulated_root import interpreter, prepare

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edgefx.types import Pixels, Scores

_CHECKOUT = Path(__file__).parents[2]
# Without dot products (Raspberry Pi 4), with them, and with INT8 matrix products and SVE.
CPUS = ("cortex-a72", "cortex-a76", "neoverse-n2")


@dataclass(frozen=True, eq=False)
class Answer:
    """What an artifact puts out on some CPU.

    Attributes:
        hardware: The class that edgefx takes the CPU for.
        precision: What the runtime says that it computes in.
        scores: Float32 [N, classes]; None where it could not be run.
        failure: Why not.
    """

    hardware: str = ""
    precision: str = ""
    scores: Scores | None = None
    failure: str = ""


def main(options: list[str]) -> None:
    """Prepare a folder, or print a line for each artifact and CPU."""
    parser = argparse.ArgumentParser(prog="emulated", description=__doc__)
    parser.add_argument("--root", type=Path, help="folder with an aarch64 Python and an emulator")
    parser.add_argument("--prepare", metavar="MIRROR", help="make that folder, from this mirror of Debian")
    parser.add_argument(
        "--commands", type=Path, metavar="RUN", help="run commands, on the output of digits-demo"
    )
    parser.add_argument("--images", type=Path, default=digits.evaluation_folder())
    parser.add_argument("--limit", type=int, default=0, help="a sample of so many images; 0: all")
    parser.add_argument("--cpu", action="append", help=f"of the emulator's; default: {', '.join(CPUS)}")
    parser.add_argument("artifacts", nargs="*", type=Path)
    args = parser.parse_args(options)
    if args.root is None:
        print("  left out: give --root, see the text of this module")
        return
    if args.prepare:
        prepare(args.root, args.prepare)
    if args.commands and (failed := run_commands(args.root, args.commands)):
        sys.exit(f"{failed} commands failed")
    for artifact in (path for path in args.artifacts if path.suffix != ".bin"):  # belongs to an .xml
        compare(args.root, artifact, args.images, cpus=args.cpu or CPUS, limit=args.limit)


def compare(root: Path, artifact: Path, images: Path, *, cpus: Sequence[str], limit: int) -> None:
    """Run an artifact here and on emulated CPUs, and print how the answers differ."""
    pixels, labels = _decoded(images, artifact, limit)
    here = answer([sys.executable], artifact, pixels)
    floats = sorted(path for path in artifact.parent.glob("*-float32.*") if path.suffix != ".bin")
    beside = floats[0] if floats else None
    reference = answer([sys.executable], beside, pixels).scores if beside is not None else None
    print(f"  {artifact}: {len(pixels)} images of {images}")
    _print("here", here, here, reference, labels)
    for cpu in cpus:
        _print(cpu, answer(interpreter(root, cpu), artifact, pixels), here, reference, labels)


def answer(python: Sequence[str | Path], artifact: Path, pixels: Pixels) -> Answer:
    """Run an artifact in a process of its own, which may be an emulated one.

    Args:
        python: The command of an interpreter.
        artifact: Its main file.
        pixels: Raw RGB, uint8 [N, H, W, 3].
    """
    with tempfile.TemporaryDirectory() as folder:
        given, found = Path(folder, "pixels.npy"), Path(folder, "scores.npy")
        np.save(given, pixels)
        # The packages of an emulated interpreter are named by `interpreter`.
        ended = subprocess.run(
            [*python, "-m", "tests.benchmarks.emulated_scores", given, artifact.absolute(), found],
            capture_output=True,
            text=True,
            check=False,
            cwd=_CHECKOUT,
            env={name: value for name, value in os.environ.items() if not name.startswith("PYTHON")},
        )
        if ended.returncode:
            said = ended.stderr.strip().splitlines() or [f"exit {ended.returncode}"]
            return Answer(failure=said[-1])
        said_of = json.loads(ended.stdout.splitlines()[-1])
        return Answer(scores=np.load(found), hardware=said_of["hardware"], precision=said_of["precision"])


def _decoded(folder: Path, artifact: Path, limit: int) -> tuple[Pixels, NDArray[np.int64] | None]:
    """Return images as the artifact takes them, decoded once, here, and their labels."""
    items = list(folders.scan(folder).items)
    if 0 < limit < len(items):
        chosen = np.random.default_rng(0).choice(len(items), limit, replace=False)
        items = [items[number] for number in sorted(chosen)]
    with runtimes.for_artifact(artifact).open_session(artifact, threads=1) as session:
        shape = session.input_spec.shape
    height, width = shape[1:3] if shape[3] == 3 else shape[2:]
    decoded = []
    for item in items:
        with Image.open(item.path) as image:
            decoded.append(np.asarray(fit(to_rgb(image), height=height, width=width, resize=Resize.STRETCH)))
    labels = [item.label for item in items]
    known = None if any(label is None for label in labels) else np.array(labels, np.int64)
    return np.stack(decoded), known


def _print(
    name: str, found: Answer, here: Answer, reference: Scores | None, labels: NDArray[np.int64] | None
) -> None:
    line = f"    {name:12} {found.hardware:16} {found.precision:14}"
    if found.scores is None:
        print(f"{line} FAILED: {found.failure}", flush=True)
        return
    best = found.scores.argmax(1)
    if labels is not None:
        line += f" top-1 {np.mean(best == labels):7.2%}"
    if reference is not None:
        line += f"  as float {np.mean(best == reference.argmax(1)):7.2%}"
    if here.scores is not None and found is not here:
        equal = np.mean((found.scores == here.scores).all(1))
        line += f"  as here {np.mean(best == here.scores.argmax(1)):7.2%}  equal bits {equal:7.2%}"
        line += f"  largest difference {np.abs(found.scores - here.scores).max():.1e}"
    print(line, flush=True)
