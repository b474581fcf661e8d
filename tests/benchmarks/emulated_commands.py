"""The commands that need no TensorFlow, on an emulated aarch64 CPU: exit codes."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from edgefx.data import digits, folders

from .emulated_root import interpreter

_CHECKOUT = Path(__file__).parents[2]
_CPU = "cortex-a76"
_IMAGES = 5  # an emulator takes its time
_SHOWN = 4  # lines of what a command that failed has said


def run(root: Path, made: Path) -> int:
    """Run each command, print its exit code, and return how many failed.

    Args:
        root: See `emulated_root.prepare`.
        made: Output folder of a run of the recipe digits-demo.
    """
    failed = 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shutil.copytree(made, folder / "run")
        _sample(folder / "images")
        for words in _commands(folder / "run", folder / "images", folder / "run.edgefx.zip"):
            begin = time.monotonic()
            ended = subprocess.run(
                [*interpreter(root, _CPU), "-m", "edgefx", *words],
                capture_output=True,
                text=True,
                check=False,
                cwd=_CHECKOUT,
                env={**os.environ, "EDGEFX_CACHE_DIR": str(folder / "cache"), "TMPDIR": name},
            )
            shown = " ".join(words).replace(f"{folder}/", "")
            print(f"  {ended.returncode:3} {time.monotonic() - begin:6.1f} s  edgefx {shown}", flush=True)
            if ended.returncode:
                failed += 1
                print(
                    "\n".join(f"        {line}" for line in ended.stderr.splitlines()[-_SHOWN:]), flush=True
                )
    return failed


def _commands(made: Path, images: Path, bundle: Path) -> Iterator[list[str]]:
    """Yield the commands; each is to end with exit code 0."""
    yield ["--help"]
    yield ["targets"]
    yield ["recipe", "check", "digits-demo"]
    for suffix in (".tflite", ".onnx", ".xml"):
        (artifact,) = made.glob(f"*-int8{suffix}")
        yield ["inspect", str(artifact)]
        yield ["evaluate", str(artifact), str(images)]
    yield ["gate", str(made), "--gate", "size_bytes <= 1MB", "--gate", "drop_pp <= 5"]
    yield ["diff", str(made), str(made)]
    yield ["bundle", str(made), "-o", str(bundle)]
    yield ["verify", str(bundle)]


def _sample(folder: Path) -> None:
    """Write a few images, with their labels."""
    folder.mkdir()
    items = folders.scan(digits.evaluation_folder()).items
    chosen = items[:: len(items) // _IMAGES][:_IMAGES]
    rows = ["file,label"]
    for number, item in enumerate(chosen):
        shutil.copy(item.path, folder / f"{number}.png")
        rows.append(f"{number}.png,{item.label}")
    (folder / "labels.csv").write_text("\n".join(rows) + "\n")
