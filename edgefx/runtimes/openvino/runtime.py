"""OpenVINO IR: float32, float16 weights, and INT8.

The float IR is made once per run and kept in the graph's workdir. A float32 artifact computes in float32 on
every CPU, also on those where OpenVINO would otherwise use bf16 (`edgefx.runtimes.openvino.artifact.write`).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Final

from edgefx.errors import UsageError
from edgefx.protocols import Progress, Session
from edgefx.quantization import Quantization
from edgefx.runtimes import bounds
from edgefx.runtimes.protocol import ConversionRequest, Probes
from edgefx.system.packages import require
from edgefx.targets import TARGETS
from edgefx.types import Artifact, FrozenGraph, IoDtype, Precision


class OpenVinoRuntime:
    """A `Runtime` and `Introspectable`."""

    def check(self) -> None:
        """Raise `MissingDependencyError` when TensorFlow or OpenVINO is absent."""
        require(*TARGETS["openvino-int8"].packages, purpose="the openvino targets")

    def convert(self, request: ConversionRequest, out: Path, progress: Progress) -> tuple[Path, ...]:
        """Write the IR as `out` and its ``.bin``; see `Runtime.convert`."""
        self.check()
        from edgefx.runtimes.openvino import artifact, convert, quantize

        scheme, trained = request.scheme, request.trained
        graph = trained.graph if trained is not None and trained.graph is not None else request.graph
        if scheme.precision not in (Precision.FLOAT32, Precision.FLOAT16, Precision.INT8):
            raise UsageError(f"there is no target openvino-{scheme.precision}")
        unknown = scheme.keep_float - {layer.name for layer in graph.layers} if graph.layers else frozenset()
        if unknown:
            raise UsageError(
                f"no such layer to keep in float: {', '.join(sorted(unknown))}",
                hint="give names as `edgefx inspect --layers` lists them",
            )
        if scheme.precision is not Precision.INT8 and scheme.io_dtype is not IoDtype.FLOAT32:
            raise UsageError(
                f"openvino-{scheme.precision} has float32 input and output, {scheme.io_dtype} was asked for",
                hint="use --io-dtype with openvino-int8",
            )
        model = convert.float_model(graph, progress)
        if scheme.precision is Precision.INT8:
            if request.calibration is None or not len(request.calibration):
                raise UsageError("openvino-int8 needs calibration images", hint="give a folder with --calib")
            spans = trained.parameters.spans() if trained is not None else None
            model = quantize.int8_model(model, graph, scheme, request.calibration, progress, spans=spans)
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
    ) -> Iterator[Session]:
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

    def read_quantization(self, path: Path, graph: FrozenGraph) -> Quantization:
        """Read back what an artifact quantizes; see `Introspectable`."""
        from edgefx.runtimes.openvino import readback

        return readback.quantization(path, graph)

    def probes(self, path: Path, graph: FrozenGraph, *, threads: int) -> AbstractContextManager[Probes]:
        """Open an artifact with the outputs of its layers as its outputs; see `Introspectable`."""
        from edgefx.runtimes.openvino import readback

        return readback.tapped(path, graph, threads)


RUNTIME: Final = OpenVinoRuntime()
