"""The agent: a script that keeps files on a device and starts the processes that run artifacts there.

It takes Python 3.9 or later and its standard library. Nothing of edgefx is installed on the device: this
text is sent through the connection to ``python3 -c`` and runs from memory, so that it can be neither stale
nor left behind. It brings `edgefx.benchmarking.devices.runner` with it, of which it makes one process for
each artifact. JSON lines come in, and one JSON line goes out for each:

    facts FOLDER             -> what the machine is; nothing but Python has run yet
    boot                     -> {"boot": ...}: what tells this start of its system from others
    have KEY FILES           -> {"missing": [...]}: files that are not there with the content of their hash
    put KEY NAME SIZE SHA256 -> {"go": true}; then "data" until SIZE bytes have come -> {"stored": true}
    start CONFIG             -> {"runner": N}: a process for one artifact
    ask N REQUEST TIMEOUT_S  -> what that runner answers
    stop N                   -> {}
    execute COMMAND          -> {"code": N, "tail": [...]}: a program, to its end

The agent ends, and its runners with it, as soon as its stdin ends or has been silent for a minute: whatever
happens at the other end or to the network in between, no process and no half-written file stays.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import importlib.metadata
import json
import os
import platform
import queue
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import IO, Any

HELLO = "edgefx-agent 1"  # on a line of its own: a login script of the device may print something before it
SILENCE_S = 60.0  # that an agent bears; the other end sends an empty line every few seconds
BLOCK = 1 << 16  # bytes of a file that are sent at a time
_KEPT_BYTES = 2 * 10**9  # of files that came earlier; those that are longest unused go first
_KEPT_S = 30 * 86400.0
_KEY_LENGTH = 64  # of a SHA-256; folders of other names are not files that were sent
_PART = ".part"  # how the names of unfinished files end
_TAIL = 15  # lines of a runner's stderr in an error
_LEAST_BYTES = 10**9  # of memory that a runner may take, whatever is said to be left
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_START = 'import sys;f=sys.stdin.buffer;exec(compile(f.read(int(f.readline())),"edgefx","exec"))'


class _Refusal(Exception):  # noqa: N818 - an answer, and no fault of this script
    """What the other end is told instead of an answer."""

    def __init__(self, kind: str, message: str, details: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.answer = {"error": message, "kind": kind, "details": list(details)}


def main() -> None:
    """Serve until stdin ends; the first line is the text of the runner's script."""
    source = json.loads(sys.stdin.buffer.readline())
    sys.stdout.write(f"{HELLO}\n")
    sys.stdout.flush()
    Agent(source).serve()


class Agent:
    """The process that the connection talks to."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._folder = Path()
        # Bounded: who sends a file faster than the disk takes it shall wait.
        self._messages: queue.Queue[tuple[dict[str, Any], bytes]] = queue.Queue(maxsize=16)
        self._heard_s = time.monotonic()
        self._runners: dict[int, _Child] = {}
        self._part: Path | None = None  # the file that is being written
        self._command: subprocess.Popen[bytes] | None = None  # that is being executed
        self._ending = threading.RLock()

    def serve(self) -> None:
        """Answer requests until stdin ends, which ends the process."""
        for name in ("SIGHUP", "SIGTERM", "SIGINT"):
            if hasattr(signal, name):
                signal.signal(getattr(signal, name), lambda *_: self._end())
        threading.Thread(target=self._listen, daemon=True).start()
        threading.Thread(target=self._watch, daemon=True).start()
        while True:
            request, _ = self._messages.get()
            try:
                self._answer(getattr(self, f"_{request.pop('do')}")(**request))
            except _Refusal as refusal:
                self._answer(refusal.answer)
            except BrokenPipeError:
                self._end()
            except OSError as error:
                self._answer(_of_system(error, self._folder).answer)

    def _listen(self) -> None:
        """Read requests, and notice at once when the other end is gone, whatever is being done."""
        stream = sys.stdin.buffer
        try:
            for line in iter(stream.readline, b""):
                self._heard_s = time.monotonic()
                if not line.strip():
                    continue
                request = json.loads(line)
                size = request.pop("bytes", 0)
                data = stream.read(size) if size else b""
                if len(data) < size:
                    break
                self._messages.put((request, data))
        finally:
            self._end()

    def _watch(self) -> None:
        """End when nothing is heard: a network that was unplugged closes no connection."""
        while time.monotonic() - self._heard_s < SILENCE_S:
            time.sleep(SILENCE_S / 20)
        self._end()

    def _end(self) -> None:
        with self._ending:  # nothing is started any more: the lock is never given back
            for child in self._runners.values():
                child.kill()
            if self._command is not None and hasattr(os, "killpg"):
                with contextlib.suppress(OSError):
                    os.killpg(self._command.pid, signal.SIGKILL)
            if self._part is not None:
                with contextlib.suppress(OSError):
                    self._part.unlink()
            os._exit(0)

    def _answer(self, document: dict[str, Any]) -> None:
        sys.stdout.write(json.dumps(document) + "\n")
        sys.stdout.flush()

    def _facts(self, folder: str) -> dict[str, Any]:
        self._folder = Path(folder).expanduser().absolute()
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        _tidy(self._folder)
        return {**_machine(), "folder": str(self._folder), "free_bytes": shutil.disk_usage(self._folder).free}

    def _boot(self) -> dict[str, Any]:
        return {"boot": _boot_id()}

    def _have(self, key: str, files: dict[str, str]) -> dict[str, Any]:
        place = self._place(key)
        with contextlib.suppress(OSError):
            os.utime(place)  # what is used is kept
        return {"missing": [name for name, sha256 in files.items() if _hash(_inside(place, name)) != sha256]}

    def _put(self, key: str, name: str, size: int, sha256: str) -> dict[str, Any]:
        """Receive a file; it gets its name when it is complete, and has the content that it should have."""
        path = _inside(self._place(key), name)
        if shutil.disk_usage(self._folder).free < size:
            raise OSError(errno.ENOSPC, "No space left on device")
        descriptor, part = tempfile.mkstemp(dir=self._folder, suffix=_PART)
        self._part = Path(part)
        try:
            with os.fdopen(descriptor, "wb") as stream:
                _lock(stream)
                self._answer({"go": True})
                found = self._received(stream, size)
                stream.flush()
                os.fsync(descriptor)
            if found != sha256:
                raise _Refusal("damaged", f"{name} arrived with another content")
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._part.replace(path)
        finally:
            with contextlib.suppress(FileNotFoundError):
                Path(part).unlink()
            self._part = None
        return {"stored": True}

    def _received(self, part: IO[bytes], size: int) -> str:
        """Write what comes; a failure is raised when all has come, so that the next request is one."""
        total, content = 0, hashlib.sha256()
        failure: OSError | None = None
        while total < size:
            _, data = self._messages.get()
            total += len(data)
            content.update(data)
            try:
                if failure is None:
                    part.write(data)
            except OSError as error:
                failure = error
        if failure is not None:
            raise failure
        return content.hexdigest()

    def _start(self, config: dict[str, Any]) -> dict[str, Any]:
        config["path"] = str(_inside(self._place(config.pop("key")), config.pop("name")))
        with self._ending:
            number = len(self._runners)
            self._runners[number] = _Child(self._source, config)
        return {"runner": number}

    def _ask(self, runner: int, request: str, timeout_s: float) -> dict[str, Any]:
        if request.startswith("infer "):
            request = f"infer {_inside(self._place(request[6:]), 'pixels.npy')}"
        return self._runners[runner].ask(request, timeout_s)

    def _stop(self, runner: int) -> dict[str, Any]:
        self._runners[runner].stop()
        return {}

    def _execute(self, command: list[str]) -> dict[str, Any]:
        with self._ending:
            self._command = subprocess.Popen(  # noqa: S603 - what who is connected wants
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        output, _ = self._command.communicate()
        code, self._command = self._command.returncode, None
        lines = output.decode("utf-8", errors="replace").splitlines()
        return {"code": code, "tail": [line for line in lines if line.strip()][-_TAIL:]}

    def _place(self, key: str) -> Path:
        return _inside(self._folder, key)


class _Child:
    """A runner, as its agent sees it."""

    def __init__(self, source: str, config: dict[str, Any]) -> None:
        threads = str(config["threads"])
        env = dict(os.environ, OMP_WAIT_POLICY="PASSIVE", PYTHONFAULTHANDLER="1")
        for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
            env[name] = threads
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the process
        self._lines: queue.Queue[bytes] = queue.Queue()
        self._process = subprocess.Popen(  # noqa: S603 - this very script
            [sys.executable, "-c", _START],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            env=env,
        )
        _limit_memory(self._process.pid)
        threading.Thread(target=self._read, daemon=True).start()
        text = source.encode()
        self._send(b"%d\n%s%s\n" % (len(text), text, json.dumps(config).encode()))

    def ask(self, request: str, timeout_s: float) -> dict[str, Any]:
        """Send a request ("" for what comes by itself after the start) and return the answer."""
        if request:
            self._send(request.encode() + b"\n")
        try:
            line = self._lines.get(timeout=timeout_s)
        except queue.Empty:
            self.kill()
            raise _Refusal("hung", f"no answer within {timeout_s:.0f} s", self._tail()) from None
        if not line:
            raise self._died()
        found = json.loads(line)
        if "error" in found:
            self.stop()
            found["details"] += self._tail()
        return dict(found)

    def kill(self) -> None:
        """End the process at once."""
        self._process.kill()
        self._process.wait()

    def stop(self) -> None:
        """Let the process end, or end it."""
        with contextlib.suppress(OSError):
            self._process.stdin.close()  # type: ignore[union-attr]
        try:
            self._process.wait(timeout=2)
        except subprocess.TimeoutExpired:
            self.kill()

    def _send(self, data: bytes) -> None:
        with contextlib.suppress(OSError):  # it has ended: the next line, which says so, is there already
            self._process.stdin.write(data)  # type: ignore[union-attr]
            self._process.stdin.flush()  # type: ignore[union-attr]

    def _read(self) -> None:
        for line in self._process.stdout:  # type: ignore[union-attr]
            self._lines.put(line)
        self._lines.put(b"")

    def _died(self) -> _Refusal:
        self.stop()
        code = self._process.returncode
        how = f"exit code {code}" if code >= 0 else f"signal {signal.Signals(-code).name}"
        return _Refusal("illegal" if code == -signal.SIGILL else "died", how, self._tail())

    def _tail(self) -> tuple[str, ...]:
        self._stderr.seek(0)
        lines = self._stderr.read().decode("utf-8", errors="replace").splitlines()
        return tuple(line for line in lines if line.strip())[-_TAIL:]


def _machine() -> dict[str, Any]:
    """Describe the machine without importing anything that its CPU may not be able to run."""
    cpuinfo = _text("/proc/cpuinfo")
    packages = {}
    for name in ("numpy", "ai-edge-litert", "tflite-runtime", "onnxruntime", "openvino"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            packages[name] = importlib.metadata.version(name)
    release = dict(line.split("=", 1) for line in _text("/etc/os-release").splitlines() if "=" in line)
    memory = _memory()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "python": platform.python_version(),
        "executable": sys.executable,
        "machine": platform.machine(),
        "os": f"{release.get('PRETTY_NAME', platform.system()).strip(chr(34))}, Linux {platform.release()}",
        # Flags stand with the first CPU, the board's name on an Arm behind the last.
        "cpuinfo": cpuinfo if len(cpuinfo) < 12_000 else f"{cpuinfo[:8000]}\n{cpuinfo[-2000:]}",
        "board": _text("/sys/firmware/devicetree/base/model").strip("\0\n "),
        "libc": " ".join(platform.libc_ver()),
        "cores": cores or 1,
        "boot": _boot_id(),
        "memory_bytes": memory.get("MemTotal", 0),
        "available_bytes": memory.get("MemAvailable", 0),
        "governor": _text("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor").strip(),
        "packages": packages,
    }


def _boot_id() -> str:
    """Return what Linux draws anew at each start of the system; "" where it is not said."""
    return _text("/proc/sys/kernel/random/boot_id").strip()


def _memory() -> dict[str, int]:
    """Return what Linux says of the machine's memory, in bytes."""
    lines = (line.split() for line in _text("/proc/meminfo").splitlines())
    return {words[0].rstrip(":"): int(words[1]) * 1024 for words in lines if len(words) > 1}


def _text(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _inside(folder: Path, name: str) -> Path:
    """Return the path of a name that must not lead out of a folder."""
    path = Path(os.path.normpath(folder / name))
    if folder not in path.parents:
        raise _Refusal("usage", f"{name!r} is no name of a file below {folder}")
    return path


def _hash(path: Path) -> str | None:
    content = hashlib.sha256()
    try:
        with path.open("rb") as stream:
            for block in iter(lambda: stream.read(1 << 20), b""):
                content.update(block)
    except OSError:
        return None
    return content.hexdigest()


def _lock(part: IO[bytes]) -> None:
    """Mark a file as being written: the lock goes with the process, however that ends.

    Raises:
        OSError: Another process is writing it.
    """
    try:
        import fcntl
    except ImportError:  # not a POSIX system
        return
    fcntl.flock(part, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _tidy(folder: Path) -> None:
    """Remove what killed agents have left half-written, and what is long unused or too much."""
    kept = []
    for entry in folder.iterdir():
        with contextlib.suppress(OSError):  # another agent was faster, or writes it
            if entry.suffix == _PART and time.time() - entry.stat().st_mtime > SILENCE_S:
                with entry.open("rb") as part:
                    _lock(part)
                    entry.unlink()
            elif entry.is_dir() and len(entry.name) == _KEY_LENGTH:
                kept.append(
                    (entry.stat().st_mtime, sum(one.stat().st_size for one in entry.rglob("*")), entry)
                )
    total = 0
    for used_s, size, entry in sorted(kept, reverse=True):
        total += size
        if total > _KEPT_BYTES or time.time() - used_s > _KEPT_S:
            shutil.rmtree(entry, ignore_errors=True)


def _of_system(error: OSError, folder: Path) -> _Refusal:
    kind = "full" if error.errno in _NO_ROOM else "system"
    return _Refusal(kind, f"{error.filename or folder}: {error.strerror or type(error).__name__}")


def _limit_memory(pid: int) -> None:
    """Let a runner that takes all memory fail by itself, before the system ends a process of its choice."""
    if sys.platform != "linux":
        return
    import resource

    most = max(_memory().get("MemAvailable", 0), _LEAST_BYTES)
    with contextlib.suppress(OSError, ValueError):
        resource.prlimit(pid, resource.RLIMIT_DATA, (most, most))


if __name__ == "__main__":
    main()
