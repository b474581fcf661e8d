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
import queue
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any, Self

from edgefx import runtimes
from edgefx.benchmarking.devices import agent
from edgefx.benchmarking.devices.protocol import RUN_TIMEOUT_S, START_TIMEOUT_S, Runner
from edgefx.errors import BenchmarkError, DeviceDependencyError, DeviceError, DiskFullError, EdgefxError
from edgefx.protocols import SILENT, Progress
from edgefx.results import Environment
from edgefx.runtimes.session import ends_of_classifier
from edgefx.system import cpu, host
from edgefx.targets import row_for_artifact
from edgefx.types import Precision, TensorInfo
from edgefx.version import __version__
from edgefx.vocabulary import Hardware

if TYPE_CHECKING:
    from edgefx.types import Artifact, Pixels, Scores

FOLDER = "~/.cache/edgefx"  # on the device
# What Python is given with -c: it reads a script, whose length comes first. Python 2 must understand it, too.
BOOTSTRAP = (
    'import sys;sys.version_info<(3,9) and sys.exit("Python "+sys.version.split()[0]);'
    'f=sys.stdin.buffer;exec(compile(f.read(int(f.readline())),"edgefx","exec"))'
)
_CONNECT_TIMEOUT_S = 60.0
_ANSWER_TIMEOUT_S = 60.0  # of what takes the device no time, over a slow network
_HEARTBEAT_S = 15.0
_BLOCK = 1 << 16  # bytes: the agent hears something while a slow network carries a file
_SLOWEST_BYTES_PER_S = 10**6  # at which a device reads its own files to hash them


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
        progress: Progress = SILENT,
    ) -> None:
        """Prepare a connection.

        Args:
            name: What the user calls the device.
            command: Runs a Python there that is given `BOOTSTRAP`.
            explain: Turns the exit code of `command` and the last lines of its stderr into an error that says
                what to do; None where it does not know.
            folder: Where files are kept there; ``~`` is its user's home.
            progress: Shows how files are copied.
        """
        self._name, self._command, self._explain = name, command, explain
        self._folder, self._progress = folder, progress
        self._sending = threading.Lock()
        self._ended = threading.Event()
        self._waiting = False  # for an answer: after an interruption, the next one would be to that request
        self._answers: queue.Queue[str | None] = queue.Queue()
        self._facts: Mapping[str, Any] = {}

    def __enter__(self) -> Self:
        self._stderr: IO[bytes] = tempfile.TemporaryFile()
        self._process = subprocess.Popen(  # noqa: S603 - arguments as a list
            self._command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            bufsize=0,  # closing must not wait until a dead network takes what is left
            # Ctrl-C is for edgefx, which ends the connection in good order by closing it.
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        try:
            script, runner = _script("agent"), _script("runner").decode()
            self._send(b"%d\n%s%s\n" % (len(script), script, json.dumps(runner).encode()))
            while self._line(_CONNECT_TIMEOUT_S).strip() != agent.HELLO:
                pass  # what a login script of the device prints
            threading.Thread(target=self._beat, daemon=True).start()
            self._facts = self._request("facts", folder=self._folder)
            self.environment = _environment(self._facts)
            self.hardware = cpu.detect(architecture=self._facts["machine"], described=self._facts["cpuinfo"])
        except BaseException:
            self._close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    @property
    def name(self) -> str:
        """See `Device.name`."""
        return self._name

    @property
    def folder(self) -> str:
        """Where files are kept there."""
        return str(self._facts["folder"])

    @property
    def free_bytes(self) -> int:
        """What was free in that folder when the device was connected."""
        return int(self._facts["free_bytes"])

    @property
    def python(self) -> str:
        """The path of its Python."""
        return str(self._facts["executable"])

    def start(
        self, path: Path, threads: int, precision: Precision | None = None
    ) -> AbstractContextManager[RemoteRunner]:
        """Copy an artifact to the device and start a process for it; see `Device.start`."""
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

    @contextmanager
    def _started(self, path: Path, threads: int, precision: Precision | None) -> Iterator[RemoteRunner]:
        runtime = runtimes.for_artifact(path)
        found = runtime.describe(path)
        image, scores, _ = ends_of_classifier(path, found.inputs, found.outputs)
        key = self._copy(found)
        answer = self._request(
            "start",
            config={
                "key": key,
                "name": _names(found)[0],
                "runtime": row_for_artifact(path).runtime,
                "threads": threads,
                "precision": precision,
                "image": asdict(image),
                "scores": asdict(scores),
                "stated": runtime.stated_precision(path),
            },
        )
        runner = RemoteRunner(self, path, answer["runner"], image)
        try:
            yield runner
        finally:
            if not self._waiting:  # else the connection ends, and the process with it
                with contextlib.suppress(DeviceError):
                    self._request("stop", runner=runner.number)

    def _copy(self, artifact: Artifact) -> str:
        """Copy those files of an artifact that are not there; returns the key that they are kept under."""
        names = _names(artifact)
        hashes = {name: file.sha256 for name, file in zip(names, artifact.files, strict=True)}
        key = hashlib.sha256(json.dumps(hashes).encode()).hexdigest()
        missing = self._missing(key, hashes, artifact.size_bytes)
        for name, file in zip(names, artifact.files, strict=True):
            if name in missing:
                with file.path.open("rb") as stream:
                    self._put(key, name, stream, file.size_bytes, file.sha256)
        return key

    def keep(self, data: bytes, name: str) -> str:
        """Copy bytes to the device, unless they are there; returns the key that they are kept under."""
        key = hashlib.sha256(data).hexdigest()
        if self._missing(key, {name: key}, len(data)):
            self._put(key, name, io.BytesIO(data), len(data), key)
        return key

    def _missing(self, key: str, hashes: Mapping[str, str], size_bytes: int) -> Sequence[str]:
        timeout_s = _ANSWER_TIMEOUT_S + size_bytes / _SLOWEST_BYTES_PER_S
        return list(self._request("have", timeout_s=timeout_s, key=key, files=dict(hashes))["missing"])

    def _put(self, key: str, name: str, stream: IO[bytes], size: int, sha256: str) -> None:
        self._request("put", key=key, name=name, size=size, sha256=sha256)
        blocks = -(-size // _BLOCK)
        with self._progress.task(f"copy {name} to {self._name}", blocks) as task:
            self._waiting = True
            for _ in range(blocks):
                data = stream.read(_BLOCK)
                if not data:
                    break
                self._send(json.dumps({"do": "data", "bytes": len(data)}).encode() + b"\n" + data)
                task.advance()
            self._checked(self._answer(_ANSWER_TIMEOUT_S + size / _SLOWEST_BYTES_PER_S))

    def ask(self, runner: int, request: str, timeout_s: float) -> dict[str, Any]:
        """Ask a runner; returns its answer, which may be that it failed."""
        document = {"do": "ask", "runner": runner, "request": request, "timeout_s": timeout_s}
        return self._exchanged(document, timeout_s + _ANSWER_TIMEOUT_S)

    def _request(self, do: str, *, timeout_s: float = _ANSWER_TIMEOUT_S, **fields: object) -> dict[str, Any]:
        return self._checked(self._exchanged({"do": do, **fields}, timeout_s))

    def _exchanged(self, document: Mapping[str, object], timeout_s: float) -> dict[str, Any]:
        self._waiting = True
        self._send(json.dumps(document).encode() + b"\n")
        return self._answer(timeout_s)

    def _checked(self, answer: dict[str, Any]) -> dict[str, Any]:
        if "error" not in answer:
            return answer
        if answer["kind"] == "full":
            raise DiskFullError(
                f"{self._name}: no room for a file: {answer['error']}",
                hint="free some space there, or choose another folder of it: --device-dir",
            )
        raise DeviceError(
            f"{self._name}: {answer['error']}",
            hint="try again: the connection may be faulty"
            if answer["kind"] == "damaged"
            else "choose a folder that can be written there: --device-dir",
        )

    def _answer(self, timeout_s: float) -> dict[str, Any]:
        line = self._line(timeout_s)
        self._waiting = False
        try:
            answer = json.loads(line)
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            raise DeviceError(
                f"{self._name}: what answers there is no agent of edgefx: {line.strip()[:80]!r}"
            )
        return answer

    def _line(self, timeout_s: float) -> str:
        try:
            line = self._answers.get(timeout=timeout_s)
        except queue.Empty:
            raise DeviceError(
                f"{self._name}: no answer within {timeout_s:.0f} s", hint="is it overloaded, or the network?"
            ) from None
        if line is None:
            raise self._lost()
        return line

    def _send(self, data: bytes) -> None:
        assert self._process.stdin is not None
        try:
            with self._sending:
                left = memoryview(data)
                while left:
                    left = left[self._process.stdin.write(left) :]
        except (OSError, ValueError):  # the pipe is broken, or closed already
            raise self._lost() from None

    def _beat(self) -> None:
        """Tell the agent that someone is still there (a thread)."""
        while not self._ended.wait(_HEARTBEAT_S):
            try:
                self._send(b"\n")
            except EdgefxError:
                return

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._answers.put(line.decode("utf-8", errors="replace"))
        self._answers.put(None)

    def _lost(self) -> EdgefxError:
        """Return the error that says why the connection ended."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=5.0)
        self._stderr.seek(0)
        text = self._stderr.read().decode("utf-8", errors="replace")
        lines = [line for line in text.splitlines() if line.strip()][-_TAIL:]
        code = self._process.returncode
        known = self._explain(-1 if code is None else code, lines) if not self._facts else None
        return known or DeviceError(
            f"{self._name}: the connection ended" + ("" if self._facts else f" (exit code {code})"),
            hint="nothing is left running there; see that the device and the network are up, and try again",
            details=lines,
        )

    def _close(self) -> None:
        """End the connection; the agent ends by itself, and its runners with it."""
        self._ended.set()
        assert self._process.stdin is not None
        with contextlib.suppress(OSError, ValueError), self._sending:
            self._process.stdin.close()
        try:
            self._process.wait(timeout=5.0)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join(timeout=1.0)
        if not self._reader.is_alive():
            assert self._process.stdout is not None
            self._process.stdout.close()
        self._stderr.close()


_TAIL = 10  # lines of a command's stderr in an error


class RemoteRunner(Runner):
    """A process on a device for one artifact."""

    def __init__(self, device: Remote, path: Path, number: int, image: TensorInfo) -> None:
        self._device, self._path = device, path
        self.number, self.image = number, image

    def wait_ready(self) -> None:
        """Wait until the runtime is imported there."""
        self._ask("", START_TIMEOUT_S)

    def infer(self, pixels: Pixels) -> tuple[Scores, float]:
        """Run images there.

        Args:
            pixels: Raw RGB, uint8 [N, H, W, 3].

        Returns:
            Scores float32 [N, classes], and the seconds that they took there.

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
        return self._runner.stats()[1]

    def infer(self, batch: Pixels) -> Scores:
        """See `Session.infer`."""
        scores, seconds = self._runner.infer(batch)
        self.images += len(batch)
        self.seconds += seconds
        return scores


def _script(name: str) -> bytes:
    return Path(__file__).with_name(f"{name}.py").read_bytes()


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
