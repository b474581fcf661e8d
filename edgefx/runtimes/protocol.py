"""What a runtime offers: a package of `edgefx.runtimes` whose `runtime` module has one object, ``RUNTIME``.

Every runtime is a `Runtime`. One whose artifacts can be read back in terms of the canonical graph is
`Introspectable` too, one whose integer kernels training can imitate is `Trainable`, and one whose artifacts
compilers for NPUs take is `Compilable`; these are asked for with `isinstance`.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from edgefx.compilation import Operator
from edgefx.compression import Footprint
from edgefx.protocols import Progress, Session, TimedSession
from edgefx.quantization import ActivationRanges, Quantization, QuantScheme
from edgefx.runtimes.passes import Pass
from edgefx.runtimes.session import AnySession
from edgefx.types import (
    Artifact,
    ArtifactMetadata,
    ForeignMetadata,
    FrozenGraph,
    ImageSet,
    Precision,
)
from edgefx.vocabulary import Effort

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from edgefx.qat.parameters import FakeQuantization
    from edgefx.types import Pixels


@dataclass(frozen=True, kw_only=True, eq=False)
class QatTemplate:
    """What training for quantization starts from.

    Attributes:
        quantized: The fully integer artifact of post-training quantization, with int8 ends.
        float_model: The float model of the same runtime that it was quantized from.
    """

    quantized: bytes
    float_model: bytes


@dataclass(frozen=True, kw_only=True, eq=False)
class TrainedQuantization:
    """What a training found, for every runtime to write.

    Attributes:
        template: What the training started from.
        parameters: Weights, biases and scales after training.
        graph: The canonical graph with the trained weights; None for a `Trainable` runtime, which writes
            `parameters` into `template` instead.
    """

    template: QatTemplate
    parameters: FakeQuantization
    graph: FrozenGraph | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class ConversionRequest:
    """Everything that an artifact is made from.

    Attributes:
        graph: The canonical graph.
        scheme: Precision, type of the ends, effort, ranges, layers in float.
        calibration: Images for the activation ranges; None where the target needs none.
        trained: What a training found; None after post-training quantization.
    """

    graph: FrozenGraph
    scheme: QuantScheme
    calibration: ImageSet | None = None
    trained: TrainedQuantization | None = None

    @property
    def source(self) -> FrozenGraph:
        """The graph to convert: with the trained weights, where there are."""
        trained = self.trained.graph if self.trained is not None else None
        return self.graph if trained is None else trained

    @property
    def trained_ranges(self) -> ActivationRanges | None:
        """The activation ranges that a training found; None after post-training quantization."""
        return self.trained.parameters.activation_ranges() if self.trained is not None else None


@runtime_checkable
class Runtime(Protocol):
    """One runtime: conversion to its artifacts, reading them back, and running them."""

    def check(self) -> None:
        """Raise `errors.MissingDependencyError` when a package that conversion needs is absent."""

    def passes(self, precision: Precision) -> Mapping[Effort, tuple[Pass, ...]]:
        """Return what each effort does, in order; empty for a precision that nothing is calibrated for.

        Imports nothing heavy.
        """

    def convert(self, request: ConversionRequest, out: Path, progress: Progress) -> tuple[Path, ...]:
        """Write an artifact.

        Args:
            request: What to make.
            out: The main file; all files appear when they are complete and checked, or not at all.
            progress: Told of each conversion and of each pass over the calibration images.

        Returns:
            The files written, the main one first.

        Raises:
            UsageError: The runtime cannot do what the scheme asks for, calibration images are missing, or a
                layer to be kept in float does not exist.
            ConversionError: A converter refused the graph, or what it wrote is not what was asked for.
            OutputError: `out` cannot be written.
            DiskFullError: No space is left.
        """

    def embed(self, path: Path, metadata: ArtifactMetadata) -> None:
        """Write metadata into the main file of an artifact that `convert` wrote and that has none.

        What the file held stays as it was, so that it answers as before. Imports nothing heavy.

        Raises:
            ConversionError: The file is laid out as edgefx does not write it.
            OSError: The file cannot be written.
        """

    def read_metadata(self, path: Path) -> ArtifactMetadata | None:
        """Return what an artifact says of itself; None for a file that edgefx did not make.

        Raises:
            ArtifactError: A file is missing, or what it says is damaged.
        """

    def read_foreign_metadata(self, path: Path) -> ForeignMetadata:
        """Return what a file of other origin says of itself in its format's own fields; as much as it says.

        Raises:
            ArtifactError: A file is missing, or what it says is damaged.
        """

    def stated_precision(self, path: Path) -> str | None:
        """Return what the file makes the runtime compute in; None where only opening it shows.

        Raises:
            ArtifactError: The file is missing or damaged.
        """

    def describe(self, path: Path) -> Artifact:
        """Read an artifact's inputs, outputs and operations back from its files.

        Raises:
            ArtifactError: A file is missing or damaged.
        """

    def open_session(
        self, path: Path, *, threads: int, precision: Precision | None = None
    ) -> AbstractContextManager[TimedSession]:
        """Open an artifact for inference on this machine's CPU.

        Args:
            path: The main file.
            threads: Intra-op threads.
            precision: The precision of the target that the artifact was made for, where that is known; some
                runtimes would compute float32 in less.

        Raises:
            ArtifactError: A file is missing, damaged, not an image classifier, or the runtime refuses it.
        """

    def open_any(
        self, path: Path, *, threads: int, precision: Precision | None = None, batch: int | None = None
    ) -> AbstractContextManager[AnySession]:
        """Open a file that need not be an image classifier, to be timed; see `open_session`.

        Args:
            path: The main file.
            threads: Intra-op threads.
            precision: What its target asked for, if known.
            batch: Images of an inference; None for the file's own, which is one where the file leaves it
                free.

        Raises:
            ArtifactError: A file is missing, damaged, has inputs of no fixed size or another batch, or the
                runtime refuses it.
        """

    def write_features(self, path: Path, out: Path) -> bool:
        """Write a copy of an artifact that ends in what its last layer with weights reads.

        Args:
            path: The main file of a classifier.
            out: The main file of the copy, which `open_session` opens.

        Returns:
            Whether there is such a layer, and it reads one value of each channel; else nothing is written.

        Raises:
            ArtifactError: A file is missing or damaged.
            OSError: `out` cannot be written.
        """


class Probes(Protocol):
    """An artifact opened so that it delivers what its layers put out."""

    def infer(self, image: Pixels) -> dict[str, NDArray[np.float32]]:
        """Run one image, uint8 [H, W, 3].

        Returns:
            Outputs by canonical layer, dequantized, [H, W, C] or [C]; layers whose output the runtime never
            has in memory, because it merged them with others, are absent.
        """


@runtime_checkable
class Introspectable(Protocol):
    """A runtime whose artifacts can be read back in terms of the canonical graph.

    A tensor's counterpart is found by its name: every runtime keeps ``<layer>/<operation>`` in some form.
    """

    def read_quantization(self, path: Path, graph: FrozenGraph) -> Quantization:
        """Read back what the artifact quantizes.

        Raises:
            ArtifactError: The file is missing or damaged.
        """

    def probes(self, path: Path, graph: FrozenGraph, *, threads: int) -> AbstractContextManager[Probes]:
        """Open the artifact with the outputs of its layers as its outputs.

        Raises:
            ArtifactError: The file is missing or damaged.
        """


@runtime_checkable
class Compilable(Runtime, Protocol):
    """A runtime whose artifacts are what compilers for NPUs take."""

    def plain(self, path: Path) -> bytes:
        """Return an artifact's file without metadata of edgefx, which belong into what is made of it.

        Raises:
            ArtifactError: The file is missing or damaged.
        """

    def for_microcontrollers(self, path: Path, *, packed: bool) -> bytes:
        """Return an artifact's file as `plain` does, and so that a microcontroller runs it on every image.

        Args:
            path: The file.
            packed: Whether it is to take little flash, for more memory and time.

        Raises:
            ArtifactError: The file is missing or damaged.
        """

    def operators(self, path: Path) -> tuple[Operator, ...]:
        """Return the kinds of operations of an artifact, with the versions of their kernels.

        Raises:
            ArtifactError: The file is missing or damaged.
        """

    def footprint(self, path: Path) -> Footprint:
        """Return what an artifact takes, as it is and packed.

        Raises:
            ArtifactError: The file is missing or damaged.
        """

    def open_reference(self, path: Path) -> AbstractContextManager[Session]:
        """Open an artifact with the runtime's reference kernels, on one thread.

        Raises:
            ArtifactError: As `Runtime.open_session` says.
        """

    def first_difference(self, path: Path, image: Pixels) -> str:
        """Return the first operation whose result differs between fast and reference kernels.

        Args:
            path: An artifact with integer ends.
            image: uint8 [H, W, 3], raw RGB.

        Returns:
            Its layer and its name; "" where there is none.
        """


@runtime_checkable
class Trainable(Protocol):
    """A runtime whose integer kernels training can imitate."""

    def template(self, request: ConversionRequest, progress: Progress) -> QatTemplate:
        """Quantize after training: make what training for quantization starts from.

        Raises:
            ConversionError: A converter refused the graph.
        """

    def read_template(self, template: QatTemplate, graph: FrozenGraph) -> FakeQuantization:
        """Return a template in terms of canonical layers."""
