"""Read changed files for some minutes a loader, and count what is neither read nor refused properly.

Each input is read in a worker process (`tests.fuzzing.worker`). What counts is that it ends within a time,
stays below a size in memory, lives, and raises nothing but an `EdgefxError`; inputs that reach new code are
kept and changed further. TensorFlow leaks some 35 MB with each SavedModel that it fails to load, so an input
at which a process grew too large or too slow is read once more by a fresh one before it counts.

Each kind of finding is written into a folder once, with the traceback. To have it among the tests, copy its
files to `tests/fuzzing/corpus/LOADER/NAME`.

The engine is our own: atheris (libFuzzer) sees no more of TensorFlow and the runtimes than this does, as they
are not built for it, and stops at its first finding.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import resource
import selectors
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import psutil

from tests.fuzzing import loaders
from tests.fuzzing.mutations import Files, mutated, read, write

from .common import show

_POLL_S = 0.05
_START_S = 60.0  # of the CPU, that a worker may take to import TensorFlow
_RENEW = 300  # inputs after which a worker is replaced, for what libraries leak
_LEAKED = 0.75  # of the memory that it may take, at which it is replaced before the next input
_LARGEST = 2_000_000  # bytes of an input


@dataclass
class Outcome:
    """What came of one loader."""

    tried: int = 0
    refused: int = 0
    kept: int = 0
    steps: set[int] = field(default_factory=set)
    findings: dict[str, str] = field(default_factory=dict)  # what -> where it was written
    longest_s: float = 0.0
    most_mb: float = 0.0
    cpu_s: float = 0.0  # of all processes: on a busy machine less than the time that passed


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What no input may exceed: seconds of the CPU, as many of waiting for anything else, and memory."""

    seconds: float
    memory_mb: float


def main(options: list[str]) -> None:
    """Fuzz one loader or all; exits with 1 when there are findings."""
    parser = argparse.ArgumentParser(prog="fuzz", description=__doc__)
    parser.add_argument("--minutes", type=float, default=1.0, help="of each loader")
    parser.add_argument("--loader", action="append", choices=list(loaders.LOADERS), help="may be repeated")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=30.0, help="of the CPU that an input may take")
    parser.add_argument("--memory-mb", type=float, default=2000.0, help="that a worker may take")
    parser.add_argument("--out", type=Path, default=Path("fuzz-findings"), help="where findings go")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args(options)
    rows: dict[str, object] = {}
    found = 0
    for name in args.loader or loaders.LOADERS:
        limits = Limits(seconds=args.seconds, memory_mb=args.memory_mb)
        outcome = fuzz(name, minutes=args.minutes, seed=args.seed, limits=limits, out=args.out)
        found += len(outcome.findings)
        rows[f"{name}: inputs tried"] = outcome.tried
        rows[f"{name}: CPU s"] = round(outcome.cpu_s, 1)
        rows[f"{name}: properly refused"] = outcome.refused
        rows[f"{name}: inputs that reached new code"] = outcome.kept
        rows[f"{name}: longest s, most MB"] = f"{outcome.longest_s:.1f}, {outcome.most_mb:.0f}"
        rows[f"{name}: findings (aim 0)"] = len(outcome.findings)
        for what, where in outcome.findings.items():
            rows[f"  {what}"] = where
    show(rows, as_json=args.json)
    if found:
        sys.exit(1)


def fuzz(name: str, *, minutes: float, seed: int, limits: Limits, out: Path) -> Outcome:
    """Fuzz one loader.

    Args:
        name: Of `tests.fuzzing.loaders.LOADERS`.
        minutes: How long, the start not counted.
        seed: Of the changes.
        limits: What no input may exceed.
        out: Where findings go.
    """
    generator, outcome = random.Random(seed), Outcome()
    command = [sys.executable, "-m", "tests.fuzzing.worker", name]
    before = _of_children_s()
    with tempfile.TemporaryDirectory(prefix="fuzz-") as scratch, _worker(command, Path(scratch)) as worker:
        corpus = _seeds(name, Path(scratch))
        waiting = list(corpus)
        begun = 0.0
        while waiting or time.monotonic() < begun + 60 * minutes:
            files = waiting.pop(0) if waiting else mutated(generator.choice(corpus), corpus, generator)
            if sum(map(len, files.values())) > _LARGEST:
                continue
            answer = worker.read(files, limits)
            begun = begun or time.monotonic()
            outcome.tried += 1
            outcome.refused += answer["outcome"] == "refused"
            outcome.longest_s = max(outcome.longest_s, answer["seconds"])
            outcome.most_mb = max(outcome.most_mb, answer["memory_mb"])
            if answer["outcome"] == "finding":
                _note(outcome, name, files, answer, out)
            elif set(answer["steps"]) - outcome.steps:
                outcome.steps |= set(answer["steps"])
                outcome.kept += 1
                corpus.append(files)
    outcome.cpu_s = _of_children_s() - before
    return outcome


def _seeds(name: str, scratch: Path) -> list[Files]:
    folder = scratch / "seeds"
    subprocess.run(
        [sys.executable, "-m", "tests.fuzzing.worker", name, "--seeds", str(folder)],
        check=True,
        capture_output=True,
    )
    past = loaders.CORPUS / name
    folders = [*sorted(folder.iterdir()), *(sorted(past.iterdir()) if past.is_dir() else ())]
    return [read(one) for one in folders]


def _note(outcome: Outcome, name: str, files: Files, answer: dict[str, Any], out: Path) -> None:
    """Write the first input of each kind of finding, and the smallest one since."""
    what = f"{answer['kind']} in {answer['where']}"
    folder = out / f"{name}-{hashlib.sha256(what.encode()).hexdigest()[:10]}"
    before = sum(map(len, read(folder / "input").values())) if folder.is_dir() else None
    if what in outcome.findings and before is not None and before <= sum(map(len, files.values())):
        return
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "input").mkdir(parents=True)
    write(files, folder / "input")
    (folder / "finding.txt").write_text(f"{what}\n{answer.get('text', '')}\n", errors="backslashreplace")
    if what not in outcome.findings:
        print(f"  {name}: {what}", file=sys.stderr, flush=True)
    outcome.findings[what] = str(folder)


# ------------------------------------------------------------------------------------------------ workers


class Worker:
    """A process that reads inputs; it is started anew when it ends, or is ended, or has leaked much."""

    def __init__(self, command: list[str], scratch: Path) -> None:
        self._command = command
        self._scratch = scratch
        self._process: subprocess.Popen[bytes] | None = None
        self._read = 0

    def read(self, files: Files, limits: Limits) -> dict[str, Any]:
        """Have an input read; the answer says how it ended, how long it took and what memory there was.

        What exceeds a limit in a process that has read others before is read again by a fresh one, since
        libraries leak: only the second answer is about this input.

        Args:
            files: The input.
            limits: What it may take.
        """
        fresh = self._is_spent(limits)
        answer = self._read_once(files, limits, fresh=fresh)
        if answer.pop("stopped", False) and not fresh:
            answer = self._read_once(files, limits, fresh=True)
            answer.pop("stopped", None)
        return answer

    def _is_spent(self, limits: Limits) -> bool:
        return (
            self._process is None
            or self._process.poll() is not None
            or self._read >= _RENEW
            or (self._read > 0 and _memory_mb(self._process) > _LEAKED * limits.memory_mb)
        )

    def _read_once(self, files: Files, limits: Limits, *, fresh: bool) -> dict[str, Any]:
        if fresh:
            self._start()
        process = self._process
        assert process is not None
        assert process.stdin is not None
        self._read += 1
        folder = self._scratch / f"input-{self._read % 16:x}"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        write(files, folder)
        begun, before = time.monotonic(), _cpu_s(process)
        allowed = limits.seconds + (_START_S if fresh else 0.0)
        try:
            process.stdin.write(f"{folder}\n".encode())
            process.stdin.flush()
        except BrokenPipeError:
            return self._ended(process, "before it read anything")
        answer = self._wait(process, replace(limits, seconds=before + allowed), patience=allowed)
        took = time.monotonic() - begun
        return {"seconds": 0.0 if fresh else took, **answer}

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            for stream in (self._process.stdin, self._process.stdout):
                if stream is not None:
                    stream.close()

    def _start(self) -> None:
        self.close()
        self._read = 0
        temporary = self._scratch / "temporary"
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir()
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env={**os.environ, "TMPDIR": str(temporary), "TF_CPP_MIN_LOG_LEVEL": "3"},
            )

    @property
    def _log(self) -> Path:
        return self._scratch / "worker.log"

    def _wait(self, process: subprocess.Popen[bytes], limits: Limits, *, patience: float) -> dict[str, Any]:
        """Wait for an answer, or until the worker has used more than it may in all, or sleeps too long."""
        most = slept = 0.0
        seen = time.monotonic()
        assert process.stdout is not None
        with selectors.DefaultSelector() as selector:
            selector.register(process.stdout, selectors.EVENT_READ)
            while True:
                if selector.select(_POLL_S):
                    line = process.stdout.readline()
                    if line:
                        return {**json.loads(line), "memory_mb": max(most, _memory_mb(process))}
                    return self._ended(process, "", memory_mb=most)
                most = max(most, _memory_mb(process))
                if most > limits.memory_mb:
                    return self._stopped(process, f"more than {limits.memory_mb:.0f} MB", most)
                now = time.monotonic()
                slept, seen = slept + min(1.0, now - seen) * _sleeps(process), now
                if slept > patience or _cpu_s(process) > limits.seconds:
                    return self._stopped(process, "takes too long", most)

    def _stopped(self, process: subprocess.Popen[bytes], kind: str, memory_mb: float) -> dict[str, Any]:
        where = self._stack(process)
        process.kill()
        process.wait()
        finding = {"outcome": "finding", "kind": kind, "where": where, "seconds": 0.0, "memory_mb": memory_mb}
        return {**finding, "stopped": True}

    def _stack(self, process: subprocess.Popen[bytes]) -> str:
        """Ask where a worker is: faulthandler writes its stack when it is aborted."""
        process.send_signal(6)
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            return "native code"
        return self._last_place()

    def _last_place(self) -> str:
        lines = self._log.read_text(errors="replace").splitlines()
        ours = [line.strip() for line in lines if 'File "' in line and "/edgefx/" in line]
        return (
            ours[0].rpartition("/")[2].replace('", line ', ":").partition(" ")[0] if ours else "native code"
        )

    def _ended(self, process: subprocess.Popen[bytes], text: str, memory_mb: float = 0.0) -> dict[str, Any]:
        code = process.wait()
        log = self._log.read_text(errors="replace")[-4000:]
        return {
            "outcome": "finding",
            "kind": f"signal {-code}" if code < 0 else f"exit {code}",
            "where": self._last_place(),
            "text": f"{text}\n{log}",
            "seconds": 0.0,
            "memory_mb": memory_mb,
        }


@contextmanager
def _worker(command: list[str], scratch: Path) -> Iterator[Worker]:
    worker = Worker(command, scratch)
    try:
        yield worker
    finally:
        worker.close()


def _of_children_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)  # of those that have ended
    return used.ru_utime + used.ru_stime


def _cpu_s(process: subprocess.Popen[bytes]) -> float:
    try:
        used = psutil.Process(process.pid).cpu_times()
    except psutil.Error:
        return 0.0
    return float(used.user + used.system)


def _sleeps(process: subprocess.Popen[bytes]) -> bool:
    """Whether no thread could use the CPU if it had it; on a busy machine most could, and do not get it."""
    states = []
    for path in Path(f"/proc/{process.pid}/task").glob("*/stat"):
        with suppress(OSError):  # it has just ended
            states.append(path.read_text().rpartition(")")[2].split()[0])
    return bool(states) and all(state == "S" for state in states)


def _memory_mb(process: subprocess.Popen[bytes]) -> float:
    try:
        return float(psutil.Process(process.pid).memory_info().rss) / 1e6
    except psutil.Error:
        return 0.0
