"""Run an ONNX classifier in ONNX Runtime: raw RGB in, float scores out, whatever the file's ends are."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgefx.errors import ArtifactError
from edgefx.runtimes.onnx import artifact
from edgefx.runtimes.session import AnySession, BatchSession, batched, ends_of_images
from edgefx.types import TensorInfo

if TYPE_CHECKING:
    from numpy.typing import NDArray

_DTYPES = {
    "tensor(float)": "float32",
    "tensor(float16)": "float16",
    "tensor(uint8)": "uint8",
    "tensor(int8)": "int8",
    "tensor(int32)": "int32",
    "tensor(int64)": "int64",
    "tensor(double)": "float64",
    "tensor(bool)": "bool",
}
_SILENT = 3  # log severity "error": whatever ONNX Runtime has to say of a refusal is in the exception too


class OrtSession(BatchSession):
    """An ONNX Runtime session whose ends are known: raw RGB in, float scores out."""

    def __init__(self, path: Path, threads: int) -> None:
        self._session = _opened(path, threads)
        ends = _ends(self._session, path)
        super().__init__(path, *ends_of_images(path, ends.inputs, ends.outputs), refusals=refusals())

    @property
    def precision_ran(self) -> str:
        """The numeric format that the CPU provider computes in, e.g. "int8+float32"."""
        return artifact.precision(artifact.load(self._path), self._path)

    def _put(self, part: NDArray[Any]) -> None:
        import numpy as np

        batch = self._layout.batch
        if len(part) < batch:  # fill up with copies of the last image
            part = np.concatenate([part, np.repeat(part[-1:], batch - len(part), axis=0)])
        self._feed = {self._image.name: np.ascontiguousarray(part, self._image.dtype)}

    def _invoke(self) -> None:
        self._found = self._session.run(None, self._feed)

    def _take(self) -> Sequence[NDArray[Any]]:
        found: list[NDArray[Any]] = self._found
        return found

    def close(self) -> None:
        """Free the session and its memory."""
        del self._session


class AnyOrtSession(AnySession):
    """An ONNX Runtime session whose inputs and outputs may be anything."""

    def __init__(self, path: Path, threads: int, *, batch: int | None = None) -> None:
        self._session = _opened(path, threads)
        ends = _ends(self._session, path)
        free = [
            any(not isinstance(size, int) or size < 0 for size in node.shape[:1])
            for node in self._session.get_inputs()
        ]
        super().__init__(path, batched(path, ends.inputs, free, batch))
        self._feed = {info.name: value for info, value in zip(ends.inputs, self._feeds, strict=True)}

    @property
    def precision_ran(self) -> str:
        """The numeric format that the CPU provider computes in."""
        return artifact.precision(artifact.load(self._path), self._path)

    def run(self) -> None:
        """See `AnySession.run`."""
        self._session.run(None, self._feed)


def _opened(path: Path, threads: int) -> Any:
    if not path.is_file():
        raise ArtifactError(f"{path}: no such file", hint="give the path of an .onnx file")
    try:
        return open_session(path, threads)
    except ArtifactError:
        artifact.load(path)  # says more exactly what is wrong with a damaged file
        raise


def _ends(session: Any, path: Path) -> artifact.Ends:
    """Return inputs and outputs.

    ONNX Runtime tells names, types and shapes. The file is read only for the scales of integer ends: it takes
    time and memory that a latency worker would count as the runtime's.
    """

    def tensor(node: Any) -> TensorInfo:
        # A free dimension has a name, or is negative; edgefx feeds a batch of 1.
        fixed = [size if isinstance(size, int) and size >= 0 else -1 for size in node.shape]
        shape = tuple(1 if place == 0 and size < 0 else size for place, size in enumerate(fixed))
        if 0 in shape:
            raise ArtifactError(
                f"{path}: '{node.name}' has the shape {list(shape)}, which holds nothing",
                hint="export it with a batch of 1",
            )
        return TensorInfo(name=node.name, shape=shape, dtype=_DTYPES.get(node.type, node.type))

    inputs, outputs = (tuple(map(tensor, nodes)) for nodes in (session.get_inputs(), session.get_outputs()))
    if not {end.dtype for end in (*inputs, *outputs)} & {"uint8", "int8"}:
        return artifact.Ends(inputs=inputs, outputs=outputs)
    return artifact.ends(artifact.load(path), path)


def open_session(source: Path | bytes, threads: int) -> Any:
    """Open a file or a serialized model in ONNX Runtime's CPU provider.

    Raises:
        ArtifactError: ONNX Runtime refuses it.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = _SILENT
    try:
        return onnxruntime.InferenceSession(
            str(source) if isinstance(source, Path) else source, options, providers=["CPUExecutionProvider"]
        )
    except refusals() as error:
        where = source if isinstance(source, Path) else "the converted model"
        raise ArtifactError(
            f"{where}: ONNX Runtime refuses it: {error}", hint="convert it again, or run: edgefx inspect"
        ) from error


def refusals() -> tuple[type[Exception], ...]:
    """Return what ONNX Runtime raises for a model that it cannot run."""
    import onnxruntime

    kinds = vars(onnxruntime.capi.onnxruntime_pybind11_state).values()
    return tuple(kind for kind in kinds if _is_exception(kind))


def _is_exception(kind: object) -> bool:
    return isinstance(kind, type) and issubclass(kind, Exception)
