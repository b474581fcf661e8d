"""The runner: a script that holds one artifact on a device, runs it and times it.

It takes Python 3.9 or later, its standard library, NumPy and one runtime; its agent
(`edgefx.benchmarking.devices.agent`) starts it from memory. The first line on stdin says which artifact it is
for; then it answers "open", "run K", "time K MS", "profile K" and "stats" as `edgefx.benchmarking.worker`
does on the host, and "infer FILE" with the scores as a ``.npy``. Between requests it blocks on stdin and uses
no CPU.
"""

from __future__ import annotations

import base64
import contextlib
import importlib
import importlib.metadata
import io
import json
import math
import os
import signal
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, Any, Iterator  # noqa: UP035 - Python 3.9

# What pip calls a runtime, and the module to import; the first is the one to install.
_ENGINES = {
    "tflite": (
        ("ai-edge-litert", "ai_edge_litert.interpreter"),
        ("tflite-runtime", "tflite_runtime.interpreter"),
    ),
    "onnx": (("onnxruntime", "onnxruntime"),),
    "openvino": (("openvino", "openvino"),),
}


class _Refusal(Exception):  # noqa: N818 - an answer, and no fault of this script
    """What the agent is told instead of an answer."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.answer = {"error": message, "kind": kind, "details": []}


def main() -> None:
    """Serve until stdin ends."""
    # `python -c` searches the folder that it is started in: a device's home may hold anyone's numpy.py.
    sys.path[:] = [folder for folder in sys.path if folder]
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _end_with_parent()
    answers = _claim_stdout()
    config = json.loads(sys.stdin.buffer.readline())
    try:
        for answer in serve(config, sys.stdin.buffer):
            answers.write(json.dumps(answer) + "\n")
            answers.flush()
    except BrokenPipeError:
        sys.exit(1)  # the agent is gone; there is nobody to tell
    except _Refusal as refusal:
        answers.write(json.dumps(refusal.answer) + "\n")
        answers.flush()
        sys.exit(1)


def serve(config: dict[str, Any], requests: IO[bytes]) -> Iterator[dict[str, Any]]:
    """Yield one answer for each request; see the module's docstring."""
    package, module = _imported(config["runtime"])
    yield {"ready": True}
    served = _Served(config, package, module)
    for line in requests:
        command, _, argument = line.decode().rstrip("\n").partition(" ")
        if command in ("run", "time", "infer", "stats") and served.session is None:
            raise _Refusal("usage", f"'{command}' before 'open'")
        answer = getattr(served, f"do_{command}", None)
        if answer is None:
            raise _Refusal("usage", f"unknown request '{command}'")
        yield answer(*([argument] if command == "infer" else argument.split()))


class _Served:
    """The artifact of this process; a method for each request."""

    def __init__(self, config: dict[str, Any], package: str, module: Any) -> None:
        self._config, self._package, self._module = config, package, module
        self._memory_mb = _memory_mb("VmRSS:")
        self.session: Any = None
        self._streams: list[_Session] = []

    def do_open(self) -> dict[str, Any]:
        begin = time.perf_counter_ns()
        self.session = _opened(self._config, self._package, self._module)
        opened = time.perf_counter_ns() - begin
        _fill(self.session)
        return {"load_ms": opened / 1e6, "cold_start_ms": opened / 1e6 + _invoke_ms(self.session)}

    def do_run(self, count: str) -> dict[str, Any]:
        return {"times_ms": [_invoke_ms(self.session) for _ in range(int(count))]}

    def do_time(self, count: str, least_ms: str) -> dict[str, Any]:
        return _timed(self.session, int(count), float(least_ms))

    def do_prepare(self, count: str, batch: str) -> dict[str, Any]:
        if batch != "1":
            raise _Refusal("usage", "devices run one image at a time: measure batches on this machine")
        self._streams = [_opened(self._config, self._package, self._module) for _ in range(int(count))]
        for stream in self._streams:
            _fill(stream)
        return {"cores": self._config["cores"]}

    def do_flood(self, seconds: str) -> dict[str, Any]:
        return _flooded(self._streams, float(seconds), _script(self._config["counters"]))

    def do_profile(self, runs: str) -> dict[str, Any]:
        """Let the runtime's profiler tell what it executes, by the script that came along."""
        config = self._config
        try:
            collect = _script(config["collector"])["collect"]
            is_float32 = config["precision"] == "float32"
            return {"raw": collect(config["path"], config["threads"], int(runs), is_float32=is_float32)}
        except Exception as error:
            raise _Refusal("profile", f"cannot be profiled there: {error}") from error

    def do_infer(self, file: str) -> dict[str, Any]:
        import numpy as np

        pixels = np.load(file, allow_pickle=False)
        begin = time.perf_counter_ns()
        scores = self.session.infer(pixels)
        seconds = (time.perf_counter_ns() - begin) / 1e9
        stream = io.BytesIO()
        np.save(stream, scores, allow_pickle=False)
        return {"npy": base64.b64encode(stream.getvalue()).decode(), "seconds": seconds}

    def do_stats(self) -> dict[str, Any]:
        return {
            "peak_memory_mb": _memory_mb("VmHWM:"),
            "runtime_memory_mb": self._memory_mb,
            "precision_ran": self.session.precision,
            "cores": self._config["cores"],
        }


def _fill(session: _Session) -> None:
    import numpy as np

    session.put(session.ready(np.random.default_rng(0).integers(0, 256, session.images, dtype=np.uint8)))


def _script(text: str) -> dict[str, Any]:
    """Run the text of a module that came along; returns what it defines."""
    module: dict[str, Any] = {"__name__": "script"}
    exec(compile(text, "script", "exec"), module)  # noqa: S102 - of edgefx
    return module


def _imported(runtime: str) -> tuple[str, Any]:
    """Import NumPy and the runtime: the name that pip has for it, and its module."""
    # OpenVINO would report its use from a process of its own, which stays; None makes importing that fail.
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    try:
        importlib.import_module("numpy")
    except ImportError as error:
        raise _Refusal("missing", f"NumPy cannot be imported: {error}") from error
    first: ImportError | None = None
    for package, module in _ENGINES[runtime]:
        try:
            return package, importlib.import_module(module)
        except ImportError as error:
            first = first or error
    raise _Refusal("missing", f"{_ENGINES[runtime][0][0]} cannot be imported: {first}")


def _opened(config: dict[str, Any], package: str, module: Any) -> _Session:
    try:
        return {"tflite": _LiteRt, "onnx": _Ort, "openvino": _OpenVino}[config["runtime"]](config, module)
    except Exception as error:
        version = importlib.metadata.version(package)
        raise _Refusal("refused", f"{package} {version} there refuses it: {error}") from error


def _invoke_ms(session: _Session) -> float:
    begin = time.perf_counter_ns()
    session.invoke()
    return (time.perf_counter_ns() - begin) / 1e6


def _timed(session: _Session, count: int, least_ms: float) -> dict[str, Any]:
    """Time inferences: `edgefx.benchmarking.worker.timed`, line by line."""
    session.invoke()
    times: list[float] = []
    cpu_s, begin = time.process_time(), time.perf_counter_ns()
    end = begin + least_ms * 1e6
    while len(times) < count or time.perf_counter_ns() < end:
        times.append(_invoke_ms(session))
    wall_ms = (time.perf_counter_ns() - begin) / 1e6
    return {"times_ms": times, "wall_ms": wall_ms, "cpu_ms": 1e3 * (time.process_time() - cpu_s)}


def _flooded(streams: list[_Session], seconds: float, counters: dict[str, Any]) -> dict[str, Any]:
    """Run several sessions at the same time: `edgefx.benchmarking.worker.flooded`, line by line."""
    counts = [0] * len(streams)
    before = counters["read"]()
    begin, cpu_s = time.perf_counter(), time.process_time()

    def run(number: int) -> None:
        while time.perf_counter() - begin < seconds:
            streams[number].invoke()
            counts[number] += 1

    with ThreadPoolExecutor(max_workers=len(streams)) as pool:
        for done in [pool.submit(run, number) for number in range(len(streams))]:
            done.result()
    wall_ms, cpu_ms = 1e3 * (time.perf_counter() - begin), 1e3 * (time.process_time() - cpu_s)
    return {
        "inferences": sum(counts),
        "wall_ms": wall_ms,
        "cpu_ms": cpu_ms,
        "joules": counters["joules"](before, counters["read"]()),
        "counter": counters["source"](before),
    }


class _Session:
    """What `edgefx.runtimes.session.BatchSession` is on the host: uint8 RGB in, float32 scores out."""

    def __init__(self, config: dict[str, Any]) -> None:
        self.image, self.outputs, self.precision = config["image"], config["outputs"], config["stated"]
        shape = self.image["shape"]
        self.batch = max(1, shape[0])
        self.channels_first = shape[3] not in (1, 3) or (shape[3] == 1 and shape[1] == 3)
        channels = shape[1] if self.channels_first else shape[3]
        height, width = shape[2:] if self.channels_first else shape[1:3]
        self.images = (self.batch, height, width, channels)

    def put(self, part: Any) -> None:
        """Copy at most a batch of stored images into the input."""
        raise NotImplementedError

    def invoke(self) -> None:
        """Run what is in the input: what is timed."""
        raise NotImplementedError

    def take(self) -> Any:
        """Return the outputs, each [batch, values] as stored."""
        raise NotImplementedError

    def ready(self, batch: Any) -> Any:
        """Return images as the file stores and lays them out."""
        ready = _stored(batch, self.image)
        return ready.transpose(0, 3, 1, 2) if self.channels_first else ready

    def infer(self, batch: Any) -> Any:
        """Run uint8 [N, H, W, 3]; returns float32 [N, columns], several outputs side by side."""
        import numpy as np

        ready = self.ready(batch)
        found: list[Any] = []  # by output
        for start in range(0, len(ready), self.batch):
            part = ready[start : start + self.batch]
            self.put(part)
            self.invoke()
            taken = self.take()
            found = found or [np.empty((len(ready), one.shape[1]), np.float32) for one in taken]
            for place, one in enumerate(taken):
                found[place][start : start + len(part)] = one[: len(part)]
        for place, info in enumerate(self.outputs if found else ()):
            if info["scale"] is not None:
                np.subtract(found[place], np.float32(info["zero_point"] or 0), out=found[place])
                np.multiply(found[place], np.float32(info["scale"]), out=found[place])
        return np.concatenate(found, axis=1)


def _stored(batch: Any, image: dict[str, Any]) -> Any:
    """Return images as an input tensor stores them: `edgefx.runtimes.session.stored`, line by line."""
    import numpy as np

    if batch.dtype == np.uint8 and _takes_codes(image):
        return batch if image["dtype"] == "uint8" else (batch ^ np.uint8(0x80)).view(np.int8)
    if image["scale"] is None:
        return batch
    limits = np.iinfo(image["dtype"])
    codes = np.round(batch / image["scale"]) + (image["zero_point"] or 0)
    return np.clip(codes, limits.min, limits.max).astype(image["dtype"])


def _takes_codes(image: dict[str, Any]) -> bool:
    """Whether an 8-bit input takes pixels as they are stored: `edgefx.runtimes.session.takes_codes`."""
    if image["dtype"] not in ("uint8", "int8"):
        return False
    lowest, highest = (0, 255) if image["dtype"] == "uint8" else (-128, 127)
    scale = image["scale"] or 1.0
    zero_point = lowest if image["zero_point"] is None else image["zero_point"]
    return (scale == 1.0 and zero_point == lowest) or (highest - zero_point) * scale < 64.0


class _LiteRt(_Session):
    def __init__(self, config: dict[str, Any], module: Any) -> None:
        super().__init__(config)
        self._interpreter = module.Interpreter(config["path"], num_threads=config["threads"])
        self._interpreter.allocate_tensors()
        inputs, outputs = self._interpreter.get_input_details(), self._interpreter.get_output_details()
        self._feed = self._interpreter.tensor(inputs[0]["index"])
        self._fetch = [self._interpreter.tensor(one["index"]) for one in outputs]

    def put(self, part: Any) -> None:
        self._feed()[: len(part)] = part

    def invoke(self) -> None:
        self._interpreter.invoke()

    def take(self) -> Any:
        return [one().reshape(self.batch, -1).copy() for one in self._fetch]


class _Ort(_Session):
    def __init__(self, config: dict[str, Any], module: Any) -> None:
        super().__init__(config)
        options = module.SessionOptions()
        options.intra_op_num_threads = config["threads"]
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        self._session = module.InferenceSession(
            config["path"], options, providers=["CPUExecutionProvider"]
        )  # fmt: skip
        self._name, self._dtype = self.image["name"], self.image["dtype"]

    def put(self, part: Any) -> None:
        import numpy as np

        if len(part) < self.batch:
            part = np.concatenate([part, np.repeat(part[-1:], self.batch - len(part), axis=0)])
        self._feed = {self._name: np.ascontiguousarray(part, self._dtype)}

    def invoke(self) -> None:
        self._found = self._session.run(None, self._feed)

    def take(self) -> Any:
        return [one.reshape(self.batch, -1) for one in self._found]


class _OpenVino(_Session):
    def __init__(self, config: dict[str, Any], module: Any) -> None:
        import numpy as np

        super().__init__(config)
        core = module.Core()
        model = core.read_model(config["path"])
        if model.inputs[0].get_partial_shape().is_dynamic:
            model.reshape([self.batch, *self.image["shape"][1:]])
        asked = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": config["threads"]}
        if config["precision"] == "float32":
            asked["INFERENCE_PRECISION_HINT"] = "f32"
        work = {one.get_friendly_name(): _macs(one) for one in model.get_ordered_ops()}
        self._compiled = core.compile_model(model, "CPU", asked)
        self._request = self._compiled.create_infer_request()
        end = self._compiled.inputs[0]
        self._buffer = np.zeros(tuple(end.shape), end.element_type.to_dtype())
        self._tensor = module.Tensor(self._buffer, shared_memory=True)
        self._request.set_input_tensor(self._tensor)
        self.precision = self._precision_ran(work)

    def put(self, part: Any) -> None:
        self._buffer[: len(part)] = part

    def invoke(self) -> None:
        self._request.infer(share_outputs=True)  # else it copies them

    def take(self) -> Any:
        found = (self._request.get_output_tensor(place) for place in range(len(self.outputs)))
        return [one.data.reshape(self.batch, -1) for one in found]

    def _precision_ran(self, macs: dict[str, int]) -> str:
        names = {"f32": "float32", "f16": "float16", "i8": "int8", "u8": "int8"}
        work: Counter[str] = Counter()
        for operation in self._compiled.get_runtime_model().get_ops():
            info = operation.get_rt_info()
            if info["layerType"].value in ("Convolution", "FullyConnected", "MatMul", "GroupConvolution"):
                kind = str(info["runtimePrecision"].value)
                work[names.get(kind, kind)] += max(1, macs.get(operation.get_friendly_name(), 0))
        return "+".join(name for name, _ in work.most_common()) or "unknown"


def _macs(operation: Any) -> int:
    """Multiply-accumulates of one inference; 0 where there are none, or when the shape is not known."""
    kind = operation.get_type_name()
    if kind not in ("Convolution", "GroupConvolution", "MatMul"):
        return 0
    output, weights = operation.output(0).get_partial_shape(), operation.input_value(1).get_partial_shape()
    if output.is_dynamic or weights.is_dynamic:
        return 0
    kernel = [int(size) for size in weights.to_shape()]
    each = {"Convolution": kernel[1:], "GroupConvolution": kernel[2:]}.get(kind)
    if each is None:
        each = [kernel[-1 if operation.get_attributes()["transpose_b"] else -2]]
    return int(math.prod(output.to_shape()) * math.prod(each))


def _memory_mb(field: str) -> float:
    """Return what Linux says of this process: `edgefx.benchmarking.worker.memory_mb`."""
    with contextlib.suppress(OSError), Path("/proc/self/status").open(encoding="utf-8") as status:
        for line in status:
            if line.startswith(field):
                return int(line.split()[1]) * 1024 / 1e6
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6


def _end_with_parent() -> None:
    """Let Linux end this process with the agent, even one that is killed while this one is busy."""
    if sys.platform == "linux":
        import ctypes

        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def _claim_stdout() -> IO[str]:
    """Keep the real stdout for answers; whatever libraries print there goes to stderr."""
    sys.stdout.flush()
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return answers


if __name__ == "__main__":
    main()
