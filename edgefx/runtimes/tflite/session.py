"""A ``.tflite`` file opened in the LiteRT interpreter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgefx.errors import ArtifactError
from edgefx.runtimes.session import AnySession, BatchSession, batched, ends_of_images, fixed_shape, with_free
from edgefx.system.packages import require
from edgefx.types import TensorInfo

if TYPE_CHECKING:
    from numpy.typing import NDArray


class LiteRtSession(BatchSession):
    """An interpreter with its input and output tensors looked up once."""

    def __init__(self, path: Path, threads: int, *, reference: bool = False) -> None:
        require("ai_edge_litert", purpose="running .tflite files")
        self._interpreter = _interpreter(path, threads, reference=reference)
        inputs, outputs = self._interpreter.get_input_details(), self._interpreter.get_output_details()
        ends = [[_tensor_info(details) for details in side] for side in (inputs, outputs)]
        super().__init__(path, *ends_of_images(path, *ends))
        self._feed = self._interpreter.tensor(inputs[0]["index"])
        self._fetch = [self._interpreter.tensor(one["index"]) for one in outputs]

    @property
    def precision_ran(self) -> str:
        """The numeric format that the file makes the interpreter compute in."""
        return _precision(self._path)

    def _put(self, part: NDArray[Any]) -> None:
        # Copying casts; the views must not outlive the statement: invoke refuses while one is held.
        self._feed()[: len(part)] = part

    def _invoke(self) -> None:
        self._interpreter.invoke()

    def _take(self) -> Sequence[NDArray[Any]]:
        return [one().copy() for one in self._fetch]

    def close(self) -> None:
        """Free the interpreter and its memory."""
        del self._feed, self._fetch, self._interpreter


class AnyLiteRtSession(AnySession):
    """An interpreter whose inputs and outputs may be anything."""

    def __init__(self, path: Path, threads: int, *, batch: int | None = None) -> None:
        require("ai_edge_litert", purpose="running .tflite files")
        self._interpreter = _interpreter(path, threads, batch=batch)
        inputs = self._interpreter.get_input_details()
        super().__init__(path, [_tensor_info(details) for details in inputs])
        for details, value in zip(inputs, self._feeds, strict=True):
            self._interpreter.set_tensor(details["index"], value)

    @property
    def precision_ran(self) -> str:
        """The numeric format that the file makes the interpreter compute in."""
        return _precision(self._path)

    def run(self) -> None:
        """See `AnySession.run`."""
        self._interpreter.invoke()


def _precision(path: Path) -> str:
    # Read when asked: a latency worker would count it as the runtime's time and memory.
    from edgefx.runtimes.tflite import artifact, flatbuffer

    return artifact.describe(flatbuffer.read(path)).precision


def _interpreter(path: Path, threads: int, *, reference: bool = False, batch: int | None = None) -> Any:
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    kernels = OpResolverType.BUILTIN_REF if reference else OpResolverType.AUTO

    def opened(**file: Any) -> Any:
        interpreter = Interpreter(**file, num_threads=threads, experimental_op_resolver_type=kernels)
        if batch is not None:
            ends = interpreter.get_input_details()
            free = [bool(len(end["shape_signature"])) and end["shape_signature"][0] < 0 for end in ends]
            wanted = batched(path, [_tensor_info(end) for end in ends], free, batch)
            for end, info in zip(ends, wanted, strict=True):
                interpreter.resize_tensor_input(end["index"], info.shape)
        interpreter.allocate_tensors()
        return interpreter

    try:
        return opened(model_path=str(path))
    except (ValueError, RuntimeError) as error:
        from edgefx.runtimes.tflite import artifact, flatbuffer, micro

        model = flatbuffer.read(path)
        if micro.restored(model):
            return opened(model_content=flatbuffer.write(model))
        for info in artifact.describe(model).inputs:  # says more exactly what is wrong with a damaged file
            fixed_shape(path, info)
        raise ArtifactError(
            f"{path}: LiteRT refuses the file: {error}", hint="convert it again, or run: edgefx inspect"
        ) from error


def _tensor_info(details: Mapping[str, Any]) -> TensorInfo:
    """Return a tensor as the interpreter describes it."""
    import numpy as np

    scale, zero_point = details["quantization"]
    dtype = np.dtype(details["dtype"])
    quantized = bool(scale) and np.issubdtype(dtype, np.integer)  # a damaged file may have scales of floats
    return TensorInfo(
        name=details["name"],
        shape=with_free(tuple(int(size) for size in details["shape"]), details["shape_signature"].tolist()),
        dtype=dtype.name,
        scale=float(scale) if quantized else None,
        zero_point=int(zero_point) if quantized else None,
    )
