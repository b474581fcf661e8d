"""LiteRT's own profile of a file: the events of its profiler, as raw as it gives them.

LiteRT's Python interface has no profiler; the library that comes with it has one, for programs in C, and
that is called here. It also tells of the operations inside of XNNPACK, which the interpreter hides.

A script of its own, which edgefx also sends to devices: it takes Python 3.9 or later, its standard library
and the runtime, and imports nothing of edgefx.
"""

from __future__ import annotations

import ctypes
import importlib.metadata
import importlib.util
import os
import statistics
import time
from pathlib import Path
from typing import Any

_WARMUP = 10
_FIRST, _LAST = (2, 3), (3, 0)  # of the versions whose interface in C is this one
_CPU = 1
_WRITE = 1  # a tensor buffer's lock
_FLOAT32, _BYTES = 1, (3, 9)  # codes of element types
_OPTIONS = {"runtime_options_string": "enable_profiling = true\n", "xnnpack": "num_threads = {threads}\n"}
_MOST_BYTES_OF_TYPE = 256  # a ranked tensor type takes 72
_NODE, _INSIDE = (2, 8), 8  # kinds of events: an operation of the file, and one of a delegate
_WHOLE = "Invoke"

_Handle = ctypes.c_void_p


class _Memory(ctypes.Structure):
    _fields_ = (("total", ctypes.c_size_t), ("in_use", ctypes.c_size_t), ("private", ctypes.c_size_t))


class _Event(ctypes.Structure):
    _fields_ = (
        ("tag", ctypes.c_char_p),
        ("kind", ctypes.c_int),
        ("start_us", ctypes.c_uint64),
        ("elapsed_us", ctypes.c_uint64),
        ("memory_before", _Memory),
        ("memory_after", _Memory),
        ("index", ctypes.c_uint64),
        ("more", ctypes.c_uint64),
        ("source", ctypes.c_int),
    )


def collect(path: str, threads: int, runs: int, *, is_float32: bool = False) -> dict[str, Any]:
    """Run a file under the profiler.

    Args:
        path: The ``.tflite`` file.
        threads: Of XNNPACK.
        runs: Inferences that count.
        is_float32: Not used: the file says what it computes in.

    Returns:
        "runs"; "total_us", the median of whole inferences; "events" in the order of execution, each with
        "tag", "inside" (of a delegate), "index" and "us", the mean of the middle half of its times: what else
        a machine does must not count.

    Raises:
        RuntimeError: The installed LiteRT has no such profiler, or does not take the file.
    """
    del is_float32
    model = _Model(path, threads)
    for _ in range(_WARMUP):
        model.run()
    totals, found = [], []
    for _ in range(runs):
        model.start()
        begin = time.perf_counter_ns()
        model.run()
        took_us = (time.perf_counter_ns() - begin) / 1e3
        events, whole_us = _of_one(model.stop())
        totals.append(whole_us or took_us)
        found.append(events)
    count = min(map(len, found))
    return {
        "runs": runs,
        "total_us": statistics.median(totals),
        "events": [
            {
                "tag": found[0][place][0],
                "inside": found[0][place][1],
                "index": found[0][place][2],
                "us": _middle([events[place][3] for events in found]),
            }
            for place in range(count)
        ],
    }


def _middle(times: list[float]) -> float:
    """Return the mean of the values between the quartiles."""
    ordered, cut = sorted(times), len(times) // 4
    return statistics.mean(ordered[cut : len(ordered) - cut])


def _of_one(events: list[tuple[str, int, int, float]]) -> tuple[list[tuple[str, bool, int, float]], float]:
    """Return what was executed in one inference, and the time of all of it."""
    operations = [(tag, kind == _INSIDE, index, us) for tag, kind, index, us in events if kind in _NODE]
    return operations, sum(us for tag, kind, _, us in events if kind == 1 and tag == _WHOLE)


class _Model:
    """A file compiled for the CPU, with zeros or random values in its inputs."""

    def __init__(self, path: str, threads: int) -> None:
        self._library = _library()
        self._kept: list[Any] = []  # what C has pointers to
        environment = self._made("CreateEnvironment", 0, None)
        model = self._made("CreateModelFromFile", environment, os.fsencode(path))
        options = self._made("CreateOptions")
        self._call("SetOptionsHardwareAccelerators", options, _CPU)
        self._kept.append(
            ctypes.CFUNCTYPE(None, ctypes.c_void_p)(lambda _: None)
        )  # frees a text: nothing to do
        for name, text in _OPTIONS.items():
            self._kept.append(ctypes.create_string_buffer(text.format(threads=threads).encode()))
            payload = ctypes.cast(self._kept[-1], _Handle)
            one = self._made("CreateOpaqueOptions", name.encode(), payload, self._kept[0])
            self._call("AddOpaqueOptions", options, one)
        self._compiled = self._made("CreateCompiledModel", environment, model, options)
        self._profiler = self._made("CompiledModelGetProfiler", self._compiled)
        if not self._profiler.value:
            raise RuntimeError("LiteRT gives no profiler")
        signature = self._made("GetModelSignature", model, ctypes.c_size_t(0))
        self._inputs = self._buffers(environment, signature, "Input")
        self._outputs = self._buffers(environment, signature, "Output")

    def run(self) -> None:
        """Run what is in the inputs."""
        self._call(
            "RunCompiledModel",
            self._compiled,
            ctypes.c_size_t(0),
            ctypes.c_size_t(len(self._inputs)),
            self._inputs,
            ctypes.c_size_t(len(self._outputs)),
            self._outputs,
        )

    def start(self) -> None:
        """Forget what the profiler has seen, and let it begin."""
        self._call("StartProfiler", self._profiler)

    def stop(self) -> list[tuple[str, int, int, float]]:
        """Return what the profiler saw: tag, kind, index of the operation and microseconds."""
        self._call("StopProfiler", self._profiler)
        count = ctypes.c_int()
        self._call("GetNumProfilerEvents", self._profiler, ctypes.byref(count))
        events = (_Event * count.value)()
        self._call("GetProfilerEvents", self._profiler, count, events)
        return [
            (one.tag.decode("utf-8", errors="replace"), one.kind, one.index, float(one.elapsed_us))
            for one in events
        ]

    def _buffers(self, environment: Any, signature: Any, side: str) -> Any:
        count = ctypes.c_size_t()
        self._call(f"GetNumSignature{side}s", signature, ctypes.byref(count))
        buffers = []
        for number in range(count.value):
            tensor = self._made(f"GetSignature{side}TensorByIndex", signature, ctypes.c_size_t(number))
            kind = (ctypes.c_char * _MOST_BYTES_OF_TYPE)()
            self._call("GetRankedTensorType", tensor, ctypes.byref(kind))
            needed = self._made(
                f"GetCompiledModel{side}BufferRequirements",
                self._compiled,
                ctypes.c_size_t(0),
                ctypes.c_size_t(number),
            )
            buffer = self._made(
                "CreateManagedTensorBufferFromRequirements", environment, ctypes.byref(kind), needed
            )
            self._fill(buffer, int.from_bytes(bytes(kind)[:4], "little"))
            buffers.append(buffer.value)
        return (_Handle * len(buffers))(*buffers)

    def _fill(self, buffer: Any, kind: int) -> None:
        """Put values into a buffer: what is in fresh memory may be slow to compute with."""
        import random

        size = ctypes.c_size_t()
        self._call("GetTensorBufferPackedSize", buffer, ctypes.byref(size))
        place = _Handle()
        self._call("LockTensorBuffer", buffer, ctypes.byref(place), _WRITE)
        draw = random.Random(0)
        if kind == _FLOAT32:
            count = size.value // 4
            content = bytes((ctypes.c_float * count)(*(float(one) for one in draw.randbytes(count))))
        else:
            content = draw.randbytes(size.value) if kind in _BYTES else bytes(size.value)
        ctypes.memmove(place, content, len(content))
        self._call("UnlockTensorBuffer", buffer)

    def _made(self, name: str, *arguments: Any) -> Any:
        """Call what gives something back through its last argument, and return that."""
        result = _Handle()
        self._call(name, *arguments, ctypes.byref(result))
        return result

    def _call(self, name: str, *arguments: Any) -> None:
        function = getattr(self._library, f"LiteRt{name}")
        function.restype = ctypes.c_int
        if status := function(*arguments):
            raise RuntimeError(f"LiteRT{name} failed with status {status}")


def _library() -> Any:
    """Open the library that the Python package brings along."""
    version = importlib.metadata.version("ai-edge-litert")
    found = tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
    spec = importlib.util.find_spec("ai_edge_litert")
    path = Path(spec.origin).with_name("libLiteRt.so") if spec and spec.origin else Path()
    if not _FIRST <= found < _LAST or not path.is_file():
        raise RuntimeError(f"the profiler of LiteRT {version} cannot be called; it can from 2.3 on, on Linux")
    return ctypes.CDLL(str(path))
