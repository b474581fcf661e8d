"""A device at the other end of a pipe: files are copied there, and artifacts run and timed there.

How the pipe comes about is not known here: `edgefx.benchmarking.devices.ssh` makes a command line whose stdin
and stdout are those of a Python on the device. That Python is given the agent's script
(`edgefx.benchmarking.devices.agent`), which says what is understood at the other end.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from edgefx import runtimes
from edgefx.benchmarking import counters
from edgefx.benchmarking.devices.link import ANSWER_TIMEOUT_S, SLOWEST_BYTES_PER_S, Link
from edgefx.benchmarking.devices.protocol import RUN_TIMEOUT_S, START_TIMEOUT_S, Runner
from edgefx.errors import BenchmarkError, DeviceDependencyError, DeviceError, EdgefxError
from edgefx.protocols import SILENT, Progress
from edgefx.results import Environment
from edgefx.runtimes.session import as_scores, ends_of_images
from edgefx.storage.hashes import hash_file
from edgefx.system import cpu, host
from edgefx.targets import TargetRow, row_for_artifact
from edgefx.types import Precision, TensorInfo
from edgefx.version import __version__
from edgefx.vocabulary import Hardware

if TYPE_CHECKING:
    from edgefx.types import Artifact, Pixels, Scores

FOLDER = "~/.cache/edgefx"  # on the device
_INSTALL_TIMEOUT_S = 3600.0  # wheels of 100 MB over a slow network, unpacked on an SD card


class Remote:
    """A device, connected; a context manager.

    Attributes:
        name: What the user calls it.
        environment: What it is and has installed.
        hardware: The class of its CPU.

    Raises:
        DeviceError: From everything: the device cannot be reached, or the connection ended.
        DiskFullError: The device has no room for a file.
    """

    environment: Environment
    hardware: Hardware

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        explain: Callable[[int, Sequence[str]], EdgefxError | None],
        folder: str = FOLDER,
        threads: int | None = None,
        progress: Progress = SILENT,
    ) -> None:
        """Prepare a connection.

        Args:
            name: What the user calls the device.
            command: Runs a Python there that is given `BOOTSTRAP`.
            explain: Turns the exit code of `command` and the last lines of its stderr into an error that says
                what to do; None where it does not know.
            folder: Where files are kept there; ``~`` is its user's home.
            threads: Runtime threads where a command names none; None for all of its cores.
            progress: Shows how files are copied.
        """
        self._name, self._folder, self._threads = name, folder, threads
        self._link = Link(name, command, explain, progress)
        self._facts: Mapping[str, Any] = {}

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            stack.enter_context(self._link)
            self._facts = self._link.request("facts", folder=self._folder)
            self._link.boot = self._facts["boot"]
            self.environment = _environment(self._facts)
            self.hardware = cpu.detect(architecture=self._facts["machine"], described=self._facts["cpuinfo"])
            self._leave = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._leave.close()

    @property
    def name(self) -> str:
        """See `Device.name`."""
        return self._name

    @property
    def threads(self) -> int:
        """Runtime threads where a command names none."""
        return self._threads or self.environment.cores

    @property
    def folder(self) -> str:
        """Where files are kept there."""
        return str(self._facts["folder"])

    @property
    def free_bytes(self) -> int:
        """What was free in that folder when the device was connected."""
        return int(self._facts["free_bytes"])

    @property
    def memory_available_mb(self) -> int:
        """Memory that was available there when it was connected, in 10^6 bytes."""
        return int(self._facts["available_bytes"]) // 10**6

    @property
    def governor(self) -> str:
        """The policy that sets the CPU's frequency, "" where nothing says."""
        return str(self._facts["governor"])

    @property
    def glibc(self) -> tuple[int, int] | None:
        """The version of its GNU C library, which decides what wheels it takes; None where it has another."""
        name, _, version = str(self._facts["libc"]).partition(" ")
        major, _, minor = version.partition(".")
        return (int(major), int(minor)) if name == "glibc" and minor.isdigit() else None

    @property
    def python(self) -> str:
        """The path of its Python."""
        return str(self._facts["executable"])

    def start(
        self, path: Path, threads: int, precision: Precision | None = None, *, any_ends: bool = False
    ) -> AbstractContextManager[RemoteRunner]:
        """Copy an artifact to the device and start a process for it; see `Device.start`.

        Raises:
            BenchmarkError: It is no image classifier, which is timed on this machine only.
        """
        if any_ends:
            raise BenchmarkError(
                f"{path}: is no image classifier, and devices time these only",
                hint="time it on this machine: leave --device out",
            )
        return self._started(path, threads, precision)

    @contextmanager
    def open_session(
        self, path: Path, *, threads: int, precision: Precision | None = None
    ) -> Iterator[RemoteSession]:
        """Open an artifact on the device, as `Runtime.open_session` does here.

        Raises:
            BenchmarkError: Its runtime is absent there, or refuses the file.
        """
        with self._started(path, threads, precision) as runner:
            runner.wait_ready()
            runner.open()
            yield RemoteSession(self, runner)

    def lacks(self, runtime: str) -> str:
        """Import a runtime there; returns why that fails, or "" when it can be used."""
        config = {"key": "none", "name": "none", "runtime": runtime, "threads": 1}
        number = self._link.request("start", config=config)["runner"]
        answer = self.ask(number, "", START_TIMEOUT_S)
        self._link.request("stop", runner=number)
        return str(answer.get("error", ""))

    def execute(self, *command: str, what: str) -> None:
        """Run a command there and wait for it.

        Args:
            command: A program and its arguments.
            what: What it is for, for the error.

        Raises:
            DeviceError: It failed; its last lines are the details.
        """
        answer = self._link.request("execute", timeout_s=_INSTALL_TIMEOUT_S, command=list(command))
        if answer["code"]:
            raise DeviceError(
                f"{self._name}: {what} failed (exit code {answer['code']})", details=answer["tail"]
            )

    def ask(self, runner: int, request: str, timeout_s: float) -> dict[str, Any]:
        """Ask a runner; returns its answer, which may be that it failed."""
        return self._link.ask(runner, request, timeout_s)

    @contextmanager
    def _started(self, path: Path, threads: int, precision: Precision | None) -> Iterator[RemoteRunner]:
        runtime = runtimes.for_artifact(path)
        found = runtime.describe(path)
        image, outputs, _ = ends_of_images(path, found.inputs, found.outputs)
        key = self._copy(found)
        answer = self._link.request(
            "start",
            config={
                "key": key,
                "name": _names(found)[0],
                "runtime": row_for_artifact(path).runtime,
                "threads": threads,
                "precision": precision,
                "image": asdict(image),
                "outputs": list(map(asdict, outputs)),
                "stated": runtime.stated_precision(path),
                "collector": _collector(row_for_artifact(path)),
                "cores": self.environment.cores,
                "counters": Path(counters.__file__).read_text(encoding="utf-8"),
            },
        )
        runner = RemoteRunner(self, path, answer["runner"], image=image, outputs=outputs)
        try:
            yield runner
        finally:
            if not self._link.waiting:  # else the connection ends, and the process with it
                with contextlib.suppress(DeviceError):
                    self._link.request("stop", runner=runner.number)

    def _copy(self, artifact: Artifact) -> str:
        """Copy those files of an artifact that are not there; returns the key that they are kept under."""
        names = _names(artifact)
        hashes = {name: file.sha256 for name, file in zip(names, artifact.files, strict=True)}
        key = hashlib.sha256(json.dumps(hashes).encode()).hexdigest()
        missing = self._missing(key, hashes, artifact.size_bytes)
        for name, file in zip(names, artifact.files, strict=True):
            if name in missing:
                with file.path.open("rb") as stream:
                    self._link.put(key, name, stream, file.size_bytes, file.sha256)
        return key

    def keep(self, data: bytes, name: str) -> str:
        """Copy bytes to the device, unless they are there; returns the key that they are kept under."""
        key = hashlib.sha256(data).hexdigest()
        if self._missing(key, {name: key}, len(data)):
            self._link.put(key, name, io.BytesIO(data), len(data), key)
        return key

    def keep_folder(self, folder: Path) -> str:
        """Copy the files of a folder to the device; returns the folder there that they are in."""
        files = sorted(folder.iterdir())
        hashes = {file.name: hash_file(file) for file in files}
        key = hashlib.sha256(json.dumps(hashes).encode()).hexdigest()
        missing = self._missing(key, hashes, sum(file.stat().st_size for file in files))
        for name in missing:
            with (folder / name).open("rb") as stream:
                self._link.put(key, name, stream, (folder / name).stat().st_size, hashes[name])
        return f"{self.folder}/{key}"

    def _missing(self, key: str, hashes: Mapping[str, str], size_bytes: int) -> Sequence[str]:
        timeout_s = ANSWER_TIMEOUT_S + size_bytes / SLOWEST_BYTES_PER_S
        return list(self._link.request("have", timeout_s=timeout_s, key=key, files=dict(hashes))["missing"])


class RemoteRunner(Runner):
    """A process on a device for one artifact."""

    def __init__(
        self,
        device: Remote,
        path: Path,
        number: int,
        *,
        image: TensorInfo,
        outputs: Sequence[TensorInfo],
    ) -> None:
        self._device, self._path = device, path
        self.number, self.image, self.outputs = number, image, outputs

    def wait_ready(self) -> None:
        """Wait until the runtime is imported there."""
        self._ask("", START_TIMEOUT_S)

    def infer(self, pixels: Pixels) -> tuple[Scores, float]:
        """Run images there.

        Args:
            pixels: Raw RGB, uint8 [N, H, W, 3].

        Returns:
            The outputs as they are, side by side, float32 [N, columns], and the seconds that they took there.

        Raises:
            BenchmarkError: The process died, or did not answer with scores of these images.
        """
        import numpy as np

        stream = io.BytesIO()
        np.save(stream, pixels, allow_pickle=False)
        key = self._device.keep(stream.getvalue(), "pixels.npy")
        timeout_s = RUN_TIMEOUT_S + 20 * len(pixels) * self._last_ms / 1e3
        answer = self._ask(f"infer {key}", timeout_s)
        scores = np.load(io.BytesIO(base64.b64decode(answer["npy"])), allow_pickle=False)
        if scores.ndim != 2 or len(scores) != len(pixels) or scores.dtype != np.float32:
            raise BenchmarkError(f"{self._path}: {self._device.name} gave no scores of the images")
        return scores, float(answer["seconds"])

    def _ask(self, request: str, timeout_s: float) -> dict[str, Any]:
        answer = self._device.ask(self.number, request, timeout_s)
        if "error" in answer:
            raise self._failure(answer, request or "start")
        return answer

    def _failure(self, answer: Mapping[str, Any], request: str) -> BenchmarkError:
        """Return the error that says why an artifact cannot be run there, and what to do."""
        device, row = self._device, row_for_artifact(self._path)
        where, reason, details = f"{self._path}: on {device.name}", answer["error"], answer["details"]
        package = row.run_by[-1]
        install = f"{device.python} -m pip install {package} numpy"
        match answer["kind"]:
            case "missing":
                return DeviceDependencyError(
                    f"{where}: {reason}", hint=f"run there: {install}", details=details
                )
            case "refused":
                have = host.versions([package]).get(package, "another version")
                return BenchmarkError(
                    f"{where}: {reason}",
                    hint=f"this machine has {package} {have}; run there: {install} --upgrade",
                    details=details,
                )
            case "illegal":
                return BenchmarkError(
                    f"{where}: '{request}' ended the process with an illegal instruction",
                    hint=f"{package} or numpy there is built for a newer CPU than {device.environment.cpu}: "
                    "install an older version, or the distribution's",
                    details=details,
                )
            case "died":
                return BenchmarkError(
                    f"{where}: the process died during '{request}' ({reason})",
                    hint="the runtime crashed or ran out of memory; its last output is above",
                    details=details,
                )
        return BenchmarkError(f"{where}: '{request}': {reason}", details=details)


class RemoteSession:
    """An artifact opened on a device: a `protocols.Session`.

    Attributes:
        images: How many images it has run.
        seconds: How long the device took for them, without what their way there took.
    """

    def __init__(self, device: Remote, runner: RemoteRunner) -> None:
        self._device, self._runner = device, runner
        self.images, self.seconds = 0, 0.0

    @property
    def input_spec(self) -> TensorInfo:
        """See `Session.input_spec`."""
        return self._runner.image

    @property
    def precision_ran(self) -> str:
        """See `Session.precision_ran`."""
        return self._runner.stats().precision_ran

    def infer(self, batch: Pixels) -> Scores:
        """See `Session.infer`."""
        scores, seconds = self._runner.infer(batch)
        self.images += len(batch)
        self.seconds += seconds
        return as_scores(scores, self._runner.outputs)


def _collector(row: TargetRow) -> str:
    """Return the script that asks a runtime's profiler."""
    package = Path(__file__).parents[2]
    return (package / "runtimes" / row.runtime / "collect.py").read_text(encoding="utf-8")


def _names(artifact: Artifact) -> list[str]:
    """Return what files are called on a device: those that refer to each other keep the names they use."""
    main = artifact.path
    names = [f"model{main.suffix}"]
    for file in artifact.files[1:]:
        beside = main.suffix == ".xml" and file.path.suffix == ".bin"
        names.append("model.bin" if beside else file.path.relative_to(main.parent).as_posix())
    return names


def _environment(facts: Mapping[str, Any]) -> Environment:
    model, flags = cpu.parse_cpuinfo(facts["cpuinfo"])
    board = facts["board"]
    return Environment(
        edgefx=__version__,
        python=facts["python"],
        os=facts["os"],
        machine=facts["machine"],
        cpu=f"{board} ({model})" if board else model,
        cpu_features=host.named_features(flags),
        cores=facts["cores"],
        memory_mb=facts["memory_bytes"] // 10**6,
        packages=facts["packages"],
    )
