"""A phone without Python: LiteRT's own `benchmark_model` runs artifacts there, and says how long they take.

The tool is the file that a user names, or that of the installed release of LiteRT
(`edgefx.benchmarking.devices.tool`). It and the artifacts are copied to a folder below /data/local/tmp, where
programs may run, and removed afterwards. Only `.tflite` files can be measured, and no answers are seen: for
these a phone must have a Python that the debug bridge's shell may run
(`edgefx.benchmarking.devices.connect`).
"""

from __future__ import annotations

import contextlib
import math
import secrets
import shlex
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from statistics import median
from types import TracebackType
from typing import TYPE_CHECKING, NoReturn, Self

from edgefx import runtimes
from edgefx.benchmarking.devices import benchmark_model, tool
from edgefx.benchmarking.devices.adb import Adb
from edgefx.benchmarking.devices.benchmark_model import ToolRun
from edgefx.benchmarking.devices.link import restarted
from edgefx.benchmarking.repeats import median_interval, ratio, ratio_interval
from edgefx.errors import BenchmarkError, DeviceError, MissingToolError, UsageError
from edgefx.results import Environment, Latency
from edgefx.storage.hashes import hash_file
from edgefx.system import cpu, host
from edgefx.version import __version__

if TYPE_CHECKING:
    from edgefx.benchmarking.asked import Subject, Timing
    from edgefx.benchmarking.devices.protocol import Runner
    from edgefx.protocols import Progress
    from edgefx.types import Precision

_TEMPORARY = "/data/local/tmp"
_START_S = 180.0  # for opening a large model there
_MARK = "edgefx-part"
_LITERT = "ai-edge-litert"
# In the order of the parts of the answer.
_FACTS = (
    "getprop ro.product.manufacturer",
    "getprop ro.product.model",
    "getprop ro.build.version.release",
    "getprop ro.product.cpu.abi",
    "uname -m",
    "nproc",
    "cat /proc/meminfo",
    "cat /proc/cpuinfo",
    "cat /proc/sys/kernel/random/boot_id 2>/dev/null || getprop ro.boottime.init",
)
_BOOT = _FACTS[-1]
WITHOUT_PYTHON = (
    "not measured: the phone has no Python with NumPy that adb's shell may run; name one with --device-python"
)


class Phone:
    """A phone, connected, with the tool on it; a context manager and a `Device`.

    Attributes:
        environment: What it is.
        hardware: The class of its CPU.
        python: "": it has none that serves.

    Raises:
        DeviceError: From everything: it is not there any more, or has been restarted.
    """

    environment: Environment

    def __init__(self, adb: Adb, program: Path | None, *, threads: int | None, progress: Progress) -> None:
        """Prepare a connection.

        Args:
            adb: The bridge.
            program: `benchmark_model` for Android, on this machine; None for that which is published.
            threads: Runtime threads where a command names none; None for all of its cores.
            progress: Shows what is copied.

        Raises:
            UsageError: The tool is no program for Android.
        """
        self._adb, self._tool, self._threads, self._progress = adb, program, threads, progress
        self._tool_abi = "" if program is None else tool.abi(program)
        self._folder = f"{_TEMPORARY}/edgefx-{secrets.token_hex(6)}"
        self._abi = self._boot = self._origin = ""
        self.python = ""

    def __enter__(self) -> Self:
        facts = self._facts()
        maker, model, release, self._abi, machine, cores, memory, described, self._boot = facts
        pair = (self._abi, self._tool_abi)
        if self._tool and self._abi != self._tool_abi and pair != ("arm64-v8a", "armeabi-v7a"):
            raise UsageError(
                f"{self._tool}: it is for {self._tool_abi}, and {self.name} is {self._abi}",
                hint=f"name a benchmark_model for {self._abi}",
            )
        name, flags = cpu.parse_cpuinfo(described)
        self.hardware = cpu.detect(architecture=machine, described=described)
        kilobytes = next(
            (line.split()[1] for line in memory.splitlines() if line.startswith("MemTotal")), "0"
        )
        self.environment = Environment(
            edgefx=__version__,
            python="",
            os=f"Android {release}",
            machine=machine,
            cpu=f"{maker} {model} ({name})",
            cpu_features=host.named_features(flags),
            cores=int(cores) if cores.isdigit() else 1,
            memory_mb=int(kilobytes) * 1024 // 10**6,
            packages={},
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._tidy()

    @property
    def name(self) -> str:
        """See `Device.name`."""
        return self._adb.name

    @property
    def threads(self) -> int:
        """Runtime threads where a command names none."""
        return self._threads or self.environment.cores

    def lacks(self, runtime: str) -> str:
        """Say why artifacts of a runtime cannot be run there, or ""."""
        return (
            "" if runtime == "tflite" else "adb:// runs LiteRT's benchmark_model, and that .tflite files only"
        )

    def start(
        self, path: Path, threads: int, precision: Precision | None = None, *, any_ends: bool = False
    ) -> AbstractContextManager[Runner]:
        """There is no process that answers; see `Device.start`."""
        del threads, precision, any_ends
        self.refuse(path)

    def open_session(self, path: Path, *, threads: int, precision: Precision | None = None) -> NoReturn:
        """No answers are seen; see `Runtime.open_session`."""
        del threads, precision
        self.refuse(path)

    def refuse(self, path: Path) -> NoReturn:
        """Say that only latency can be measured.

        Raises:
            BenchmarkError: Always.
        """
        raise BenchmarkError(
            f"{path}: on {self.name}, where LiteRT's benchmark_model runs it, only latency can be measured",
            hint="name a Python of the phone with LiteRT: --device-python",
        )

    def measure(
        self,
        subjects: Sequence[Subject],
        timing: Timing,
        *,
        threads: int,
        progress: Progress,
        on_failure: Callable[[Subject, BenchmarkError], None],
    ) -> dict[str, Latency]:
        """Measure latency, interleaved: each launch is a call of the tool; see `latency.measure`."""
        self._copy_tool()
        left = list(subjects)
        files: dict[str, str] = {}
        calls: dict[str, list[ToolRun]] = {}
        launches = max(1, timing.launches)
        with progress.task(f"latency by benchmark_model, on {self.name}", launches * len(left)) as task:
            for launch in range(launches):
                for subject in left if launch % 2 == 0 else left[::-1]:
                    try:
                        if subject.key not in files:
                            files[subject.key] = self._copied(subject, len(files))
                        words = self._words(files[subject.key], subject.threads or threads, timing, len(left))
                        calls.setdefault(subject.key, []).append(self._called(subject, words, timing))
                    except BenchmarkError as error:
                        on_failure(subject, error)
                        left = [one for one in left if one is not subject]
                    task.advance()
        found = {one.key: calls[one.key] for one in left if one.key in calls}
        return {
            subject.key: _compared(
                _latency(self.name, found[subject.key], subject, subject.threads or threads),
                found[subject.key],
                found.get(subject.float_key or ""),
            )
            for subject in left
        }

    def find_tool(self) -> Path:
        """Return the program that measures; that of the installed release of LiteRT where none was named.

        Raises:
            MissingToolError: None can be had.
        """
        if self._tool is None:
            release = self._release()
            self._tool = tool.published(release, self._progress)
            self._origin = f"LiteRT {release}, "
        said = f"{self._origin}sha256 {hash_file(self._tool)}"
        self.environment = replace(self.environment, packages={"benchmark_model": said})
        return self._tool

    def _release(self) -> str:
        """Return the release of LiteRT whose tool is to be fetched."""
        release = host.versions([_LITERT]).get(_LITERT)
        if release is not None and self._abi == tool.PUBLISHED:
            return release
        raise MissingToolError(
            f"{self.name}: it has no Python that serves, and there is no benchmark_model to measure with: "
            + (
                f"none is published for {self._abi}"
                if release
                else f"{_LITERT}, which says which, is not here"
            ),
            hint="name one for Android: --benchmark-model",
        )

    def _copy_tool(self) -> None:
        program = self.find_tool()
        with self._progress.task(f"copy benchmark_model to {self.name}"):
            self._must(f"mkdir -m 700 {self._folder}", "make a folder")
            self._adb.push(program, f"{self._folder}/benchmark_model")
            self._must(f"chmod 700 {self._folder}/benchmark_model", "make it a program")

    def _copied(self, subject: Subject, number: int) -> str:
        if subject.path.suffix != ".tflite":
            raise BenchmarkError(f"{subject.path}: {self.name}: {self.lacks('other')}")
        to = f"{self._folder}/{number}.tflite"
        with self._progress.task(f"copy {subject.path.name} to {self.name}"):
            self._adb.push(subject.path, to)
        return to

    def _words(self, file: str, threads: int, timing: Timing, artifacts: int) -> str:
        launches = max(1, timing.launches)
        options = {
            "graph": file,
            "num_threads": threads,
            "num_runs": math.ceil(timing.rounds / launches),
            "min_secs": timing.least_s / launches,
            "max_secs": max(1.0, timing.budget_s / launches / artifacts),
            "warmup_runs": max(1, timing.warmup),
            "report_peak_memory_footprint": "true",
        }
        words = (f"--{name}={value}" for name, value in options.items())
        return shlex.join([f"{self._folder}/benchmark_model", *words])

    def _called(self, subject: Subject, words: str, timing: Timing) -> ToolRun:
        limit_s = _START_S + 2 * timing.budget_s
        code, output = self._adb.shell(f"{_BOOT}; echo {_MARK}; {words}", timeout_s=limit_s)
        boot, _, text = output.partition(f"{_MARK}\n")
        self._same_boot(boot)
        where = f"{subject.path}: on {self.name}"
        if code:
            raise BenchmarkError(
                f"{where}: benchmark_model failed (exit code {code})",
                hint="its LiteRT may be older than this machine's, or lack an operation: see its last lines",
                details=benchmark_model.last_words(text),
            )
        try:
            found = benchmark_model.parse(text)
        except ValueError as error:
            raise BenchmarkError(
                f"{where}: benchmark_model: {error}", details=benchmark_model.last_words(text)
            ) from error
        if found.memory_mb is None:
            raise BenchmarkError(f"{where}: benchmark_model does not say how much memory it took")
        if found.median_ms is None or found.p95_ms is None:
            raise BenchmarkError(
                f"{where}: benchmark_model prints averages only, and no median",
                hint="name one of LiteRT 1.0 or later: --benchmark-model",
            )
        return found

    def _same_boot(self, told: str) -> None:
        if told.strip() != self._boot:
            raise restarted(self.name)

    def _facts(self) -> list[str]:
        _, text = self._adb.shell("; ".join(f"{one}; echo {_MARK}" for one in _FACTS))
        parts = [part.strip() for part in text.split(f"{_MARK}\n")][: len(_FACTS)]
        if len(parts) < len(_FACTS):
            raise DeviceError(f"{self.name}: it does not say what it is", details=text.splitlines()[-5:])
        return parts

    def _must(self, script: str, what: str) -> None:
        code, text = self._adb.shell(script)
        if code:
            raise DeviceError(
                f"{self.name}: cannot {what}: {text.strip()}", hint="is there room on the phone?"
            )

    def _tidy(self) -> None:
        with contextlib.suppress(DeviceError, UsageError):
            self._adb.shell(f"rm -rf {self._folder}")


def _latency(device: str, calls: Sequence[ToolRun], subject: Subject, threads: int) -> Latency:
    medians = [one.median_ms for one in calls if one.median_ms is not None]
    last = calls[-1]
    load, first = median(one.init_ms for one in calls), median(one.first_ms for one in calls)
    memory = [one.memory_mb for one in calls if one.memory_mb is not None]
    return Latency(
        device=device,
        threads=threads,
        rounds=sum(one.count for one in calls),
        p50_ms=median(medians),
        p50_ci95_ms=median_interval([[one] for one in medians]),
        p95_ms=median(one.p95_ms for one in calls if one.p95_ms is not None),
        min_ms=min(one.min_ms for one in calls),
        std_ms=median(one.std_ms for one in calls),
        cold_start_ms=load + first,
        load_ms=load,
        first_ms=first,
        peak_memory_mb=max(memory),
        precision_ran=runtimes.for_artifact(subject.path).stated_precision(subject.path) or "unknown",
        timed_ms=sum(one.count * one.mean_ms for one in calls),
        launches=len(calls),
        delegate_coverage=last.coverage,
    )


def _compared(latency: Latency, calls: Sequence[ToolRun], other: Sequence[ToolRun] | None) -> Latency:
    if other is None:
        return latency
    ours, theirs = ([[one.median_ms or math.nan] for one in each] for each in (calls, other))
    return replace(latency, ratio_to_float=ratio(ours, theirs), ratio_ci95=ratio_interval(ours, theirs))
