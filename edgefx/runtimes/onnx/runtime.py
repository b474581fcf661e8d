"""ONNX Runtime: float32, float16, dynamic, INT8 weights and INT8 artifacts, and running them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Final

from edgefx.protocols import Progress, TimedSession
from edgefx.quantization import Quantization
from edgefx.runtimes import bounds, requests
from edgefx.runtimes.passes import Pass
from edgefx.runtimes.protocol import ConversionRequest, Probes
from edgefx.runtimes.session import AnySession
from edgefx.system.packages import require
from edgefx.targets import TARGETS
from edgefx.types import Artifact, ArtifactMetadata, ForeignMetadata, FrozenGraph, Precision
from edgefx.vocabulary import Effort
from edgefx.vocabulary import Runtime as RuntimeName


class OnnxRuntime:
    """A `Runtime` and `Introspectable`."""

    def check(self) -> None:
        """Raise `MissingDependencyError` when TensorFlow, tf2onnx, onnx or ONNX Runtime is absent."""
        require(*TARGETS["onnx-int8"].packages, purpose="the onnx targets")

    def passes(self, precision: Precision) -> Mapping[Effort, tuple[Pass, ...]]:
        """Return what each effort does; see `Runtime.passes`."""
        from edgefx.runtimes.onnx.passes import PASSES

        return PASSES.get(precision, {})

    def convert(self, request: ConversionRequest, out: Path, progress: Progress) -> tuple[Path, ...]:
        """Write an ``.onnx``; see `Runtime.convert`."""
        self.check()
        requests.check(request, RuntimeName.ONNX)
        from edgefx.runtimes.onnx import artifact, convert, profile, quantize

        scheme, graph = request.scheme, request.source
        model = convert.float_model(graph, progress)
        match scheme.precision:
            case Precision.FLOAT32:
                pass
            case Precision.FLOAT16:
                model = quantize.float16(model)
            case Precision.DYNAMIC:
                model = quantize.dynamic(model, unsigned=scheme.hardware.saturates_pairs)
            case Precision.WEIGHT_INT8:
                model = quantize.weight_int8(model)
            case Precision.INT8:
                if message := profile.caveat(scheme):
                    progress.note(message)
                assert request.calibration is not None  # requests.check
                model = quantize.int8_model(
                    model, graph, scheme, request.calibration, progress, trained_ranges=request.trained_ranges
                )
        if scheme.precision in (Precision.DYNAMIC, Precision.INT8):
            artifact.state_hardware(model, scheme)
        convert.save(model, out, check=lambda path: artifact.verify(path, graph, scheme))
        return (out,)

    def embed(self, path: Path, metadata: ArtifactMetadata) -> None:
        """Write metadata into an artifact's file; see `Runtime.embed`."""
        from edgefx.runtimes.onnx import metadata as own

        own.embed(path, metadata)

    def read_metadata(self, path: Path) -> ArtifactMetadata | None:
        """Return what an artifact says of itself; see `Runtime.read_metadata`."""
        require("onnx", purpose="reading .onnx files")
        from edgefx.runtimes.onnx import artifact, metadata

        return metadata.read(artifact.load(path), path)

    def read_foreign_metadata(self, path: Path) -> ForeignMetadata:
        """Return what a file of other origin says of itself; see `Runtime.read_foreign_metadata`."""
        require("onnx", purpose="reading .onnx files")
        from edgefx.runtimes.onnx import artifact, metadata

        return metadata.read_foreign(artifact.load(path))

    def stated_precision(self, path: Path) -> str:
        """Return what the file makes ONNX Runtime compute in; see `Runtime.stated_precision`."""
        from edgefx.runtimes.onnx import artifact

        return artifact.precision(artifact.load(path), path)

    def describe(self, path: Path) -> Artifact:
        """Read an artifact's inputs, outputs and operations back; see `Runtime.describe`."""
        require("onnx", purpose="reading .onnx files")
        from edgefx.runtimes.onnx import artifact

        try:
            return artifact.describe(path)
        except bounds.DAMAGE as error:
            raise bounds.damaged(path, error) from error

    @contextmanager
    def open_session(
        self, path: Path, *, threads: int, precision: Precision | None = None
    ) -> Iterator[TimedSession]:
        """Open an artifact in ONNX Runtime's CPU provider; see `Runtime.open_session`.

        Files of other origin may be NHWC or NCHW, of fixed or free batch, with float, uint8 or int8 input.
        `precision` is not used: the file itself says what it computes in.
        """
        del precision
        require("onnx", "onnxruntime", purpose="running .onnx files")
        from edgefx.runtimes.onnx.session import OrtSession

        try:
            session = OrtSession(path, threads)
        except bounds.DAMAGE as error:
            raise bounds.damaged(path, error) from error
        try:
            yield session
        finally:
            session.close()

    @contextmanager
    def open_any(
        self, path: Path, *, threads: int, precision: Precision | None = None, batch: int | None = None
    ) -> Iterator[AnySession]:
        """Open any file, to be timed; see `Runtime.open_any`."""
        del precision
        require("onnx", "onnxruntime", purpose="running .onnx files")
        from edgefx.runtimes.onnx.session import AnyOrtSession, refusals

        try:
            yield AnyOrtSession(path, threads, batch=batch)
        except (*bounds.DAMAGE, *refusals()) as error:
            raise bounds.damaged(path, error) from error

    def write_features(self, path: Path, out: Path) -> bool:
        """Write a copy of an artifact that ends in what its last weights read; see `Runtime`."""
        from edgefx.runtimes.onnx import features

        return features.write(path, out)

    def read_quantization(self, path: Path, graph: FrozenGraph) -> Quantization:
        """Read back what an artifact quantizes; see `Introspectable`."""
        from edgefx.runtimes.onnx import readback

        return readback.quantization(path, graph)

    def probes(self, path: Path, graph: FrozenGraph, *, threads: int) -> AbstractContextManager[Probes]:
        """Open an artifact with the outputs of its layers as its outputs; see `Introspectable`."""
        from edgefx.runtimes.onnx import readback

        return readback.open_probes(path, graph, threads)


RUNTIME: Final = OnnxRuntime()
