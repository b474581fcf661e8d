"""Reads inputs of one loader, and says what came of each: `python -m tests.fuzzing.worker LOADER`.

A process of its own, because an input may bring it down. It is told the folder of an input per line, and
answers with a line of JSON; what it reads prints elsewhere. Which lines of the readers that are written in
Python follow which is noted on the way: an input that makes them go a new way is worth changing further.

    python -m tests.fuzzing.worker LOADER --seeds FOLDER    # write the valid inputs, and leave
"""

from __future__ import annotations

import faulthandler
import json
import os
import sys
import tempfile
import traceback
import zlib
from pathlib import Path
from types import FrameType
from typing import Any

import PIL
import yaml

from edgefx.errors import EdgefxError
from tests.fuzzing import loaders
from tests.fuzzing.mutations import write

_PACKAGE = str(Path(__file__).parents[2] / "edgefx")
_TRACED = (_PACKAGE, str(Path(PIL.__file__).parent), str(Path(yaml.__file__).parent))
_TRACED_OF_SLOW = 4  # one of so many inputs, where TensorFlow's own Python would be slowed down most


class Coverage:
    """The steps from line to line that were taken.

    Attributes:
        fresh: Those that were first taken since it was last emptied.
    """

    def __init__(self) -> None:
        self.fresh: set[int] = set()
        self._known: set[int] = set()
        self._names: dict[str, str] = {}

    def trace(self, frame: FrameType, event: str, _argument: object) -> Any:
        """See `sys.settrace`."""
        if event != "call" or not frame.f_code.co_filename.startswith(_TRACED):
            return None
        return self._of(frame)

    def _of(self, frame: FrameType) -> Any:
        name, previous = f"{frame.f_code.co_filename}:{frame.f_code.co_name}", frame.f_lineno

        def local(inner: FrameType, event: str, _argument: object) -> Any:
            nonlocal previous
            if event == "line":
                step = zlib.crc32(f"{name}:{previous}:{inner.f_lineno}".encode())
                previous = inner.f_lineno
                if step not in self._known:
                    self._known.add(step)
                    self.fresh.add(step)
            return local

        return local


def examine(load: Any, folder: Path) -> dict[str, Any]:
    """Read one input; say how it ended and, where that is a finding, of what kind and where."""
    try:
        load(folder)
    except EdgefxError as error:
        return {"outcome": "refused", "text": error.message}
    except BaseException as error:  # noqa: BLE001 - any other exception is what is looked for
        frames = traceback.extract_tb(error.__traceback__)
        ours = [frame for frame in frames if frame.filename.startswith(_PACKAGE)]
        last = (ours or list(frames))[-1]
        return {
            "outcome": "finding",
            "kind": type(error).__name__,
            "where": f"{Path(last.filename).name}:{last.lineno}",
            "text": "".join(traceback.format_exception(error))[-6000:],
        }
    return {"outcome": "read"}


def main() -> None:
    """Serve, or write the seeds."""
    name, *options = sys.argv[1:]
    loader = loaders.LOADERS[name]
    if options:
        with tempfile.TemporaryDirectory() as scratch:
            for number, files in enumerate(loader.seeds(Path(scratch))):
                folder = Path(options[1]) / f"seed-{number}"
                folder.mkdir(parents=True)
                write(files, folder)
        return
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print goes to the log
    faulthandler.enable()
    coverage = Coverage()
    every = _TRACED_OF_SLOW if loader.imports_tensorflow else 1
    for number, line in enumerate(sys.stdin):
        folder = Path(line.rstrip("\n"))
        sys.settrace(coverage.trace if number % every == 0 else None)
        answer = examine(loader.load, folder)
        sys.settrace(None)
        answers.write(json.dumps({**answer, "steps": sorted(coverage.fresh)}) + "\n")
        answers.flush()
        coverage.fresh.clear()


if __name__ == "__main__":
    main()
