"""OpenVINO IR: float32, float16 weights, INT8 weights, and INT8.

The float IR is made once per run and kept in the graph's workdir. A float32 artifact computes in float32 on
every CPU, also on those where OpenVINO would otherwise use bf16 (`edgefx.runtimes.openvino.artifact.write`).
"""

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


class OpenVinoRuntime:
    """A `Runtime` and `Introspectable`."""

    def check(self) -> None:
        """Raise `MissingDependencyError` when TensorFlow or OpenVINO is absent."""
        require(*TARGETS["openvino-int8"].packages, purpose="the openvino targets")

    def passes(self, precision: Precision) -> Mapping[Effort, tuple[Pass, ...]]:
        """Return what each effort does; see `Runtime.passes`."""
        from edgefx.runtimes.openvino.passes import PASSES

        return PASSES.get(precision, {})

    def convert(self, request: ConversionRequest, out: Path, progress: Progress) -> tuple[Path, ...]:
        """Write the IR as `out` and its ``.bin``; see `Runtime.convert`."""
        self.check()
        requests.check(request, RuntimeName.OPENVINO)
        from edgefx.runtimes.openvino import artifact, convert, profile, quantize

        scheme, graph = request.scheme, request.source
        model = convert.float_model(graph, progress)
        if scheme.precision is Precision.INT8:
            if message := profile.caveat(scheme.hardware):
                progress.note(message)
            assert request.calibration is not None  # requests.check
            model = quantize.int8_model(
                model, graph, scheme, request.calibration, progress, trained_ranges=request.trained_ranges
            )
            artifact.state_hardware(model, scheme)
        elif scheme.precision is Precision.WEIGHT_INT8:
            quantize.weight_int8(model)
        elif scheme.precision is Precision.FLOAT32:
            convert.products_to_convolutions(model)
        convert.finish(model, graph)
        return artifact.write(
            model,
            out,
            half=scheme.precision is Precision.FLOAT16,
            exact=scheme.precision is Precision.FLOAT32,
            check=lambda path: artifact.verify(path, graph, scheme),
        )

    def embed(self, path: Path, metadata: ArtifactMetadata) -> None:
        """Write metadata into an artifact's file; see `Runtime.embed`."""
        from edgefx.runtimes.openvino import metadata as own

        own.embed(path, metadata)

    def read_metadata(self, path: Path) -> ArtifactMetadata | None:
        """Return what an artifact says of itself; see `Runtime.read_metadata`."""
        from edgefx.runtimes.openvino import metadata

        return metadata.read(path)

    def read_foreign_metadata(self, path: Path) -> ForeignMetadata:
        """Return what a file of other origin says of itself; see `Runtime.read_foreign_metadata`."""
        from edgefx.runtimes.openvino import metadata

        return metadata.read_foreign(path)

    def stated_precision(self, path: Path) -> None:
        """Return nothing: OpenVINO chooses for the CPU; see `Runtime.stated_precision`."""
        del path

    def describe(self, path: Path) -> Artifact:
        """Read an artifact's inputs, outputs and operations back; see `Runtime.describe`."""
        require("openvino", purpose="OpenVINO .xml files")
        from edgefx.runtimes.openvino import artifact

        try:
            return artifact.describe(path)
        except bounds.DAMAGE as error:
            raise bounds.damaged(path, error) from error

    @contextmanager
    def open_session(
        self, path: Path, *, threads: int, precision: Precision | None = None
    ) -> Iterator[TimedSession]:
        """Open an artifact on the CPU, compiled for latency; see `Runtime.open_session`.

        ``FLOAT32`` makes OpenVINO compute in float32 whatever the CPU offers; otherwise OpenVINO decides, as
        it would in a deployment.
        """
        require("openvino", purpose="OpenVINO .xml files")
        from edgefx.runtimes.openvino.session import OpenVinoSession

        try:
            session = OpenVinoSession(path, threads, precision)
        except bounds.DAMAGE as error:
            raise bounds.damaged(path, error) from error
        yield session

    @contextmanager
    def open_any(
        self, path: Path, *, threads: int, precision: Precision | None = None, batch: int | None = None
    ) -> Iterator[AnySession]:
        """Open any file, to be timed; see `Runtime.open_any`."""
        require("openvino", purpose="OpenVINO .xml files")
        from edgefx.runtimes.openvino.session import AnyOpenVinoSession

        try:
            yield AnyOpenVinoSession(path, threads, precision, batch=batch)
        except bounds.DAMAGE as error:
            raise bounds.damaged(path, error) from error

    def write_features(self, path: Path, out: Path) -> bool:
        """Write a copy of an artifact that ends in what its last weights read; see `Runtime`."""
        from edgefx.runtimes.openvino import features

        return features.write(path, out)

    def read_quantization(self, path: Path, graph: FrozenGraph) -> Quantization:
        """Read back what an artifact quantizes; see `Introspectable`."""
        from edgefx.runtimes.openvino import readback

        return readback.quantization(path, graph)

    def probes(self, path: Path, graph: FrozenGraph, *, threads: int) -> AbstractContextManager[Probes]:
        """Open an artifact with the outputs of its layers as its outputs; see `Introspectable`."""
        from edgefx.runtimes.openvino import readback

        return readback.open_probes(path, graph, threads)


RUNTIME: Final = OpenVinoRuntime()
