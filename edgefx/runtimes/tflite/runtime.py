"""LiteRT (TFLite): float32, float16, dynamic range, INT8 and INT16 x INT8.

The float ``.tflite`` is made once per run and kept in the graph's workdir; the quantized targets and the
latency baseline start from it. INT8 is static quantization by ai-edge-quantizer with our own activation
ranges (`calibrate`), then the ends are made what was asked for, and the file is read back.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from edgefx.compilation import Operator
from edgefx.compression import Footprint
from edgefx.protocols import Progress, Session, TimedSession
from edgefx.quantization import Quantization
from edgefx.runtimes import bounds, requests
from edgefx.runtimes.passes import Pass
from edgefx.runtimes.protocol import ConversionRequest, Probes, QatTemplate
from edgefx.runtimes.session import AnySession
from edgefx.storage.atomic import write_artifact
from edgefx.storage.hashes import hash_file
from edgefx.system.packages import require
from edgefx.targets import TARGETS
from edgefx.types import Artifact, ArtifactFile, ArtifactMetadata, ForeignMetadata, FrozenGraph, Precision
from edgefx.vocabulary import Effort
from edgefx.vocabulary import Runtime as RuntimeName

if TYPE_CHECKING:
    from edgefx.qat.parameters import FakeQuantization
    from edgefx.types import Pixels


class TfliteRuntime:
    """A `Runtime`, `Introspectable`, `Compilable` and `Trainable`."""

    def check(self) -> None:
        """Raise `MissingDependencyError` when TensorFlow, LiteRT or ai-edge-quantizer is absent."""
        require(*TARGETS["tflite-int8"].packages, purpose="the tflite targets")

    def passes(self, precision: Precision) -> Mapping[Effort, tuple[Pass, ...]]:
        """Return what each effort does; see `Runtime.passes`."""
        from edgefx.runtimes.tflite.passes import PASSES

        return PASSES.get(precision, {})

    def convert(self, request: ConversionRequest, out: Path, progress: Progress) -> tuple[Path, ...]:
        """Write a ``.tflite``; see `Runtime.convert`."""
        self.check()
        requests.check(request, RuntimeName.TFLITE)
        from edgefx.runtimes.tflite import artifact, convert, training

        graph, scheme = request.graph, request.scheme
        if request.trained is not None:
            content = training.written(request.trained.template, request.trained.parameters, graph, scheme)
        elif scheme.precision is Precision.FLOAT32:
            content = convert.float_content(graph, progress)
        elif scheme.precision in (Precision.FLOAT16, Precision.DYNAMIC):
            with progress.task(f"converting to TFLite {scheme.precision}"):
                content = convert.from_tensorflow(graph, scheme.precision)
        elif scheme.precision is Precision.WEIGHT_INT8:
            content = _weights_quantized(graph, progress)
        else:
            content = _quantized(request, progress)
        artifact.verify(content, graph, scheme)
        write_artifact(out, content)
        return (out,)

    def embed(self, path: Path, metadata: ArtifactMetadata) -> None:
        """Write metadata into an artifact's file; see `Runtime.embed`."""
        from edgefx.runtimes.tflite import metadata as own

        own.embed(path, metadata)

    def read_metadata(self, path: Path) -> ArtifactMetadata | None:
        """Return what an artifact says of itself; see `Runtime.read_metadata`."""
        from edgefx.runtimes.tflite import metadata

        return metadata.read(path)

    def read_foreign_metadata(self, path: Path) -> ForeignMetadata:
        """Return what a file of other origin says of itself; see `Runtime.read_foreign_metadata`."""
        from edgefx.runtimes.tflite import foreign

        return foreign.read(path)

    def stated_precision(self, path: Path) -> str:
        """Return what the file makes LiteRT compute in; see `Runtime.stated_precision`."""
        from edgefx.runtimes.tflite import artifact, flatbuffer

        return artifact.describe(flatbuffer.read(path)).precision

    def describe(self, path: Path) -> Artifact:
        """Read an artifact's inputs, outputs and operations back; see `Runtime.describe`."""
        require("ai_edge_litert", purpose="reading .tflite files")
        from edgefx.runtimes.tflite import artifact, flatbuffer

        model = flatbuffer.read(path)
        try:
            for graph in model.subgraphs:
                for tensor in graph.tensors:
                    shape = () if tensor.shape is None else tensor.shape
                    bounds.check_tensor(path, (tensor.name or b"").decode(errors="replace"), shape)
            contents = artifact.describe(model)
        except bounds.DAMAGE as error:
            raise bounds.damaged(path, error) from error
        bounds.check_ends(path, contents.inputs, contents.outputs)
        return Artifact(
            target="",
            files=(ArtifactFile(path=path, size_bytes=path.stat().st_size, sha256=hash_file(path)),),
            inputs=contents.inputs,
            outputs=contents.outputs,
            ops=contents.ops,
            compute_int8=contents.compute_int,
            compute_float=contents.compute_float,
            int8_macs_share=contents.int8_macs_share,
            notes=(f"computes in: {contents.precision}",),
        )

    @contextmanager
    def open_session(
        self, path: Path, *, threads: int, precision: Precision | None = None
    ) -> Iterator[TimedSession]:
        """Open an artifact in the LiteRT interpreter (CPU, XNNPACK); see `Runtime.open_session`.

        `precision` is not used: the file itself says what it computes in.
        """
        del precision
        require("ai_edge_litert", purpose="running .tflite files")
        from edgefx.runtimes.tflite.session import LiteRtSession

        try:
            session = LiteRtSession(path, threads)
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
        require("ai_edge_litert", purpose="running .tflite files")
        from edgefx.runtimes.tflite.session import AnyLiteRtSession

        try:
            yield AnyLiteRtSession(path, threads, batch=batch)
        except bounds.DAMAGE as error:
            raise bounds.damaged(path, error) from error

    def write_features(self, path: Path, out: Path) -> bool:
        """Write a copy of an artifact that ends in what its last weights read; see `Runtime`."""
        from edgefx.runtimes.tflite import features

        return features.write(path, out)

    def read_quantization(self, path: Path, graph: FrozenGraph) -> Quantization:
        """Read back what an artifact quantizes; see `Introspectable`."""
        from edgefx.runtimes.tflite import readback

        return readback.quantization(path, graph)

    def probes(self, path: Path, graph: FrozenGraph, *, threads: int) -> AbstractContextManager[Probes]:
        """Open an artifact with the outputs of its layers as its outputs; see `Introspectable`."""
        from edgefx.runtimes.tflite import readback

        return readback.open_probes(path, graph, threads)

    def plain(self, path: Path) -> bytes:
        """Return an artifact's file without metadata of edgefx; see `Compilable`."""
        from edgefx.runtimes.tflite import flatbuffer, metadata

        model = flatbuffer.read(path)
        metadata.remove(model)
        return flatbuffer.write(model)

    def for_microcontrollers(self, path: Path, *, packed: bool) -> bytes:
        """Return an artifact's file as TFLM runs it on every image; see `Compilable`."""
        from edgefx.runtimes.tflite import micro

        return micro.adapted(self.plain(path), packed=packed)

    def operators(self, path: Path) -> tuple[Operator, ...]:
        """Return the kinds of operations of an artifact; see `Compilable`."""
        from edgefx.runtimes.tflite import flatbuffer, kernels

        return kernels.operators(flatbuffer.read(path))

    def footprint(self, path: Path) -> Footprint:
        """Return what an artifact takes, as it is and packed; see `Compilable`."""
        from edgefx.runtimes.tflite import footprint

        return footprint.measure(path)

    @contextmanager
    def open_reference(self, path: Path) -> Iterator[Session]:
        """Open an artifact with LiteRT's reference kernels; see `Compilable`."""
        from edgefx.runtimes.tflite.session import LiteRtSession

        session = LiteRtSession(path, 1, reference=True)
        try:
            yield session
        finally:
            session.close()

    def first_difference(self, path: Path, image: Pixels) -> str:
        """Return the first operation that XNNPACK computes otherwise than the reference; see `Compilable`."""
        from edgefx.runtimes.tflite import flatbuffer, kernels

        return kernels.first_difference(flatbuffer.read(path), image)

    def template(self, request: ConversionRequest, progress: Progress) -> QatTemplate:
        """Make the artifact that training for quantization starts from; see `Trainable`."""
        self.check()
        from edgefx.runtimes.tflite import quantize

        assert request.calibration is not None
        return quantize.template(request.graph, request.scheme, request.calibration, progress)

    def read_template(self, template: QatTemplate, graph: FrozenGraph) -> FakeQuantization:
        """Return a template in terms of canonical layers; see `Trainable`."""
        from edgefx.runtimes.tflite import training

        return training.read(template, graph)


RUNTIME: Final = TfliteRuntime()


def _weights_quantized(graph: FrozenGraph, progress: Progress) -> bytes:
    from edgefx.runtimes.tflite import aeq, convert, flatbuffer

    model = flatbuffer.read(convert.float_content(graph, progress))
    with progress.task("quantizing weights"):
        quantized = flatbuffer.read(aeq.quantize_weights(model))
    flatbuffer.rename_io(quantized, input_name=graph.input_name, output_names=graph.output_names)
    return flatbuffer.write(quantized)


def _quantized(request: ConversionRequest, progress: Progress) -> bytes:
    """Quantize weights and activations with ranges from the calibration images."""
    from edgefx.runtimes.tflite import convert, ends, flatbuffer, quantize

    graph, scheme, calibration = request.graph, request.scheme, request.calibration
    assert calibration is not None  # requests.check
    model = flatbuffer.read(convert.float_content(graph, progress))
    quantized = quantize.quantize(model, graph, scheme, calibration, progress)
    ends.finish(
        quantized,
        input_name=graph.input_name,
        output_names=graph.output_names,
        input_dtype=scheme.io_dtype,
        output_dtypes=scheme.output_dtypes(graph.output_names),
        float_sigmoids=scheme.float_sigmoids(graph.output_names),
    )
    return flatbuffer.write(quantized)
