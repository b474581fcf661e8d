"""Kill a run at random instants; the next one must succeed with the right bytes.

`digits-demo` is started with a cache of its own and killed (SIGKILL to it and its workers) after a random
part of the time that a run takes: N times, each time going on with what the killed ones have left in the
cache and in the output folder. In the end the artifacts are compared with those of a run without a cache, and
after each kill the cache is looked through: every entry must be whole.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from edgefx.cache.entry import key
from edgefx.cache.store import Store

from .common import show

SUFFIXES = (".tflite", ".onnx", ".xml", ".bin")


@dataclass(frozen=True)
class Outcome:
    """What became of the runs."""

    killed: int
    finished: int
    wrong: int
    failed: int
    damaged: int
    left_over: int


def main(options: list[str]) -> None:
    """Kill, compare, print; exits with 1 when anything was wrong."""
    parser = argparse.ArgumentParser(prog="kills", description=__doc__)
    parser.add_argument("--recipe", default="digits-demo")
    parser.add_argument("--count", type=int, default=20)
    parser.add_argument("--every", type=int, default=5, help="start with an empty cache after so many kills")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args(options)
    outcome = kill(args.recipe, count=args.count, every=args.every, seed=args.seed)
    show(
        {
            "runs killed": outcome.killed,
            "runs that were through before their kill": outcome.finished,
            "runs that failed after a kill (aim 0)": outcome.failed,
            "runs with wrong bytes (aim 0)": outcome.wrong,
            "damaged cache entries (aim 0)": outcome.damaged,
            "temporary files left in the end (aim 0)": outcome.left_over,
        },
        as_json=args.json,
    )
    if outcome.failed or outcome.wrong or outcome.damaged or outcome.left_over:
        sys.exit(1)


def kill(recipe: str, *, count: int, every: int, seed: int, settings: tuple[str, ...] = ()) -> Outcome:
    """Kill `count` runs of a recipe.

    Args:
        recipe: Name or file.
        count: How many kills.
        every: Kills in one cache, before the run that must succeed; the next begins with an empty cache.
        seed: Of the instants.
        settings: Further options of `edgefx run`.
    """
    generator = random.Random(seed)
    killed = finished = wrong = failed = damaged = 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        command = [sys.executable, "-m", "edgefx", "run", recipe, *settings, "-q"]
        begin = time.perf_counter()
        _run([*command, "-o", str(folder / "right"), "--no-cache"], folder)
        whole_s = time.perf_counter() - begin
        right = contents(folder / "right")
        while killed < count:
            for old in ("cache", "out"):
                shutil.rmtree(folder / old, ignore_errors=True)
            for _ in range(min(every, count - killed)):
                process = _start([*command, "-o", str(folder / "out")], folder)
                try:
                    process.wait(generator.uniform(0.0, whole_s))
                except subprocess.TimeoutExpired:
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait()
                    killed += 1
                else:  # through: what it has kept makes the next one too short to be killed
                    finished += 1
                    wrong += contents(folder / "out") != right
                    break
                damaged += len(broken(folder / "cache"))
            process = _start([*command, "-o", str(folder / "out")], folder)
            failed += process.wait() != 0
            wrong += contents(folder / "out") != right
            print(f"  {killed} of {count}: {'right' if not wrong + failed else 'WRONG'}", file=sys.stderr)
        left_over = [
            *(folder / "cache" / "v1" / "temporary").iterdir(),
            *(folder / "out").glob(".edgefx-*"),
            *folder.glob("edgefx-*/"),
        ]
    return Outcome(
        killed=killed,
        finished=finished,
        wrong=wrong,
        failed=failed,
        damaged=damaged,
        left_over=len(left_over),
    )


def contents(folder: Path) -> dict[str, bytes]:
    """Return the artifacts in a folder."""
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.suffix in SUFFIXES}


def broken(cache: Path) -> list[str]:
    """Return what is wrong with the entries of a cache."""
    problems: list[str] = []
    store = Store(cache, limit_bytes=10**12, warn=problems.append)
    for usage in store.usages():
        manifest = usage.folder / "manifest.json"
        if not manifest.is_file():
            problems.append(f"{usage.folder.name}: no manifest")
            continue
        document = json.loads(manifest.read_bytes())
        wanted = key(document["stage"], **document["key"])
        if wanted.digest != usage.folder.name:
            problems.append(f"{usage.folder.name}: another key")
        entry = store.get(wanted)
        if entry is not None:
            for file in entry.files:
                store.read(entry, file.name)
    return problems


def _start(command: list[str], folder: Path) -> subprocess.Popen[bytes]:
    """Start a run in a process group of its own, with cache and temporary files in `folder`."""
    variables = {"EDGEFX_CACHE_DIR": str(folder / "cache"), "TMPDIR": str(folder)}
    environment = {key: value for key, value in os.environ.items() if key != "EDGEFX_CACHE_SIZE"}
    with (folder / "output.log").open("ab") as log:
        return subprocess.Popen(
            command,
            env={**environment, **variables},
            stdout=log,
            stderr=log,
            start_new_session=True,
        )


def _run(command: list[str], folder: Path) -> None:
    process = _start(command, folder)
    if process.wait() != 0:
        sys.exit(f"{' '.join(command)} failed:\n{(folder / 'output.log').read_text(errors='replace')}")
