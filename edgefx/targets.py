"""The table of targets, and how to get at a runtime's module without importing the others.

To add a target: one row here, one package of `edgefx.runtimes` whose module `runtime` offers ``RUNTIME``, one
subclass of the contract test. Listing the table imports nothing heavy.

`TARGETS` are those of the runtimes. `COMPILED` are those that a compiler makes of one of them, a row for each
row of `edgefx.npus`.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from edgefx.errors import ArtifactError, UnknownNameError
from edgefx.npus import NPUS, NpuRow
from edgefx.vocabulary import IoDtype, Precision, Ranges, Runtime, TargetKind


@dataclass(frozen=True, kw_only=True)
class TargetRow:
    """One row of the table: everything that can be said of a target without importing its runtime."""

    runtime: Runtime
    precision: Precision
    module: str
    suffix: str
    packages: tuple[str, ...]
    engine: tuple[str, ...]  # what running an artifact imports; importing is not part of a cold start
    converted_by: tuple[str, ...]  # distributions whose versions decide what an artifact is
    run_by: tuple[str, ...]  # distributions whose versions decide what an artifact answers, and how fast
    summary: str
    io_dtypes: tuple[IoDtype, ...] = (IoDtype.FLOAT32,)  # allowed; the first is the default
    follows_hardware: bool = False  # whether the artifact depends on the class of CPU it is for
    slow_kernels: bool = False  # whether the runtime computes it on reference kernels, some 30 times slower
    kind: TargetKind = TargetKind.RUNTIME
    chip: str = ""  # what a compiler makes it for; its own name, then
    compiler: str = ""  # the module of that compiler
    environment: str = ""  # the compiler's, where it has one of its own: what edgefx setup takes
    compiled_suffix: str = ""  # of what it makes; none where that is a file as before
    compiled_by: str = ""  # the package that it imports; none where it has an environment of its own

    @property
    def is_placed(self) -> bool:
        """Whether the class of CPU, or what was measured of it, decides which operations are in INT8."""
        return self.follows_hardware and self.precision is Precision.INT8  # others leave nothing in float

    @property
    def name(self) -> str:
        """`<runtime>-<precision>`, or the chip."""
        return self.chip or self.source

    @property
    def source(self) -> str:
        """The target that a compiler starts from; for others, the target itself."""
        return f"{self.runtime}-{self.precision}"

    @property
    def measured_as(self) -> str:
        """The target whose answers are measured: for what nothing here opens, that which is compiled."""
        return self.source if self.kind in (TargetKind.NPU, TargetKind.NATIVE) else self.name

    @property
    def is_compiled(self) -> bool:
        """Whether a compiler makes it of the artifact of `source`."""
        return bool(self.chip)

    @property
    def engine_packages(self) -> tuple[str, ...]:
        """Import names of the packages that running an artifact takes, without what conversion takes."""
        return tuple(dict.fromkeys(module.partition(".")[0] for module in self.engine))

    @property
    def needs_calibration(self) -> bool:
        """Whether activation ranges must come from images."""
        return self.precision in (Precision.INT8, Precision.INT16X8)

    @property
    def integer_only(self) -> bool:
        """Whether it can compute without any float operation between its ends.

        ONNX and OpenVINO keep the image's conversion and the scores in float, whatever the layers in between.
        """
        return self.runtime is Runtime.TFLITE and self.needs_calibration

    @property
    def compresses_weights(self) -> bool:
        """Whether its weights can be clustered and pruned: what file, flash and download are small by."""
        return self.runtime is Runtime.TFLITE and self.precision is Precision.INT8

    @property
    def ranges(self) -> tuple[Ranges, ...]:
        """The ways of choosing activation ranges that its conversion can be given; none without ranges."""
        if not self.needs_calibration:
            return ()
        return tuple(Ranges) if self.precision is Precision.INT8 else (Ranges.AUTO, Ranges.MIN_MAX)


_LAID_OUT = {
    (Runtime.ONNX, Precision.DYNAMIC),
    (Runtime.ONNX, Precision.INT8),
    (Runtime.OPENVINO, Precision.INT8),
}
_INTEGER_IO = (IoDtype.UINT8, IoDtype.INT8, IoDtype.FLOAT32)
_FLOAT_IO = (IoDtype.FLOAT32, IoDtype.UINT8, IoDtype.INT8)


def _row(
    runtime: Runtime, precision: Precision, summary: str, io_dtypes: tuple[IoDtype, ...] = (IoDtype.FLOAT32,)
) -> TargetRow:
    suffix, engine, packages, run_by = {
        Runtime.TFLITE: (
            ".tflite",
            ("ai_edge_litert.interpreter", "ai_edge_litert.schema_py_generated"),
            ("tensorflow", "ai_edge_litert", "ai_edge_quantizer"),
            ("ai-edge-litert",),
        ),
        Runtime.ONNX: (
            ".onnx",
            ("onnxruntime", "onnx"),
            ("tensorflow", "tf2onnx", "onnx", "onnxruntime"),
            ("onnx", "onnxruntime"),
        ),
        Runtime.OPENVINO: (".xml", ("openvino",), ("tensorflow", "openvino"), ("openvino",)),
    }[runtime]
    # High effort optimizes the weights of a Keras model that is made of the graph.
    optimizer = ("keras", "tf-keras") if (runtime, precision) == (Runtime.TFLITE, Precision.INT8) else ()
    return TargetRow(
        runtime=runtime,
        precision=precision,
        module=f"edgefx.runtimes.{runtime}",
        suffix=suffix,
        packages=packages,
        engine=engine,
        converted_by=(*(name.replace("_", "-") for name in packages), "numpy", *optimizer),
        run_by=run_by,
        summary=summary,
        io_dtypes=io_dtypes,
        follows_hardware=(runtime, precision) in _LAID_OUT,
        slow_kernels=(runtime, precision) == (Runtime.TFLITE, Precision.INT16X8),
    )


TARGETS: dict[str, TargetRow] = {
    row.name: row
    for row in (
        _row(Runtime.TFLITE, Precision.FLOAT32, "LiteRT, float32"),
        _row(Runtime.TFLITE, Precision.FLOAT16, "LiteRT, float16 weights, computes in float32"),
        _row(Runtime.TFLITE, Precision.DYNAMIC, "LiteRT, INT8 weights, activations quantized at run time"),
        _row(Runtime.TFLITE, Precision.WEIGHT_INT8, "LiteRT, INT8 weights, computes in float32"),
        _row(Runtime.TFLITE, Precision.INT8, "LiteRT, fully integer, for CPUs, NPUs and MCUs", _INTEGER_IO),
        _row(Runtime.TFLITE, Precision.INT16X8, "LiteRT, INT8 weights, INT16 activations"),
        _row(Runtime.ONNX, Precision.FLOAT32, "ONNX Runtime, float32"),
        _row(Runtime.ONNX, Precision.FLOAT16, "ONNX Runtime, float16"),
        _row(
            Runtime.ONNX, Precision.DYNAMIC, "ONNX Runtime, INT8 weights, activations quantized at run time"
        ),
        _row(Runtime.ONNX, Precision.WEIGHT_INT8, "ONNX Runtime, INT8 weights, computes in float32"),
        _row(Runtime.ONNX, Precision.INT8, "ONNX Runtime, QDQ with calibrated ranges", _FLOAT_IO),
        _row(Runtime.OPENVINO, Precision.FLOAT32, "OpenVINO IR, float32"),
        _row(Runtime.OPENVINO, Precision.FLOAT16, "OpenVINO IR, float16 weights"),
        _row(Runtime.OPENVINO, Precision.WEIGHT_INT8, "OpenVINO IR, INT8 weights, computes in float"),
        _row(Runtime.OPENVINO, Precision.INT8, "OpenVINO IR, INT8 where it pays, float elsewhere", _FLOAT_IO),
    )
}


def _compiled(npu: NpuRow) -> TargetRow:
    source = TARGETS["tflite-int8"]
    return replace(
        source,
        kind=TargetKind.NPU,
        chip=npu.name,
        compiler=npu.compiler,
        compiled_by=npu.package,
        packages=(*source.packages, npu.package),
        # What leaves no conversion to the CPU.
        io_dtypes=(IoDtype.INT8, IoDtype.UINT8),
        summary=f"{source.name} for Arm {npu.family.replace('_', '-')}, {npu.macs_per_cycle} MACs per cycle",
    )


_TFLM = replace(
    TARGETS["tflite-int8"],
    kind=TargetKind.MCU,
    chip="tflm-int8",
    compiler="edgefx.compilers.tflm",
    compiled_by="tflite_micro",
    packages=(*TARGETS["tflite-int8"].packages, "tflite_micro"),
    io_dtypes=(IoDtype.INT8, IoDtype.UINT8),
    slow_kernels=True,
    summary="TFLM, for MCUs, with the sources to build it in",
)


def _iree(cpu: str, what: str) -> TargetRow:
    return replace(
        TARGETS["tflite-int8"],
        kind=TargetKind.NATIVE,
        chip=f"iree-{cpu}",
        environment="iree",
        compiled_suffix=".vmfb",
        compiler="edgefx.compilers.iree",
        io_dtypes=(IoDtype.INT8,),
        summary=f"machine code for {what}, by IREE: set it up with edgefx setup iree",
    )


_IREE = (
    _iree("x86-64", "x86-64 with AVX2"),
    _iree("aarch64", "64-bit Arm"),
    _iree("riscv64", "64-bit RISC-V"),
)

COMPILED: dict[str, TargetRow] = {
    _TFLM.name: _TFLM,
    **{row.name: row for row in _IREE},
    **{name: _compiled(npu) for name, npu in NPUS.items()},
}
ALL: dict[str, TargetRow] = {**TARGETS, **COMPILED}


def matching(pattern: str) -> list[str]:
    """Return the names that one name or glob stands for, in table order; none where it matches none.

    A glob that matches targets of runtimes means these alone: ``*`` asks for no compiler.
    """
    pattern = pattern.strip().lower()
    return fnmatch.filter(TARGETS, pattern) or fnmatch.filter(COMPILED, pattern)


def why_unknown(pattern: str) -> str:
    """Return what to know of a name that is none: precisions that a runtime has and another one does not."""
    if pattern.lower().startswith("tflm-"):
        return "(microcontrollers compute on integers: of float, float16 and dynamic there are no kernels)"
    return "(list them with: edgefx targets)"


def select(patterns: Iterable[str]) -> tuple[TargetRow, ...]:
    """Resolve names, comma lists and globs to table rows, in table order, without repeats.

    Raises:
        UnknownNameError: A name or a glob that matches no target.
    """
    wanted: set[str] = set()
    for pattern in (part.strip() for text in patterns for part in text.split(",")):
        if not pattern:
            continue
        matches = matching(pattern)
        if not matches:
            raise UnknownNameError("target", pattern, ALL, hint=why_unknown(pattern))
        wanted.update(matches)
    return tuple(row for name, row in ALL.items() if name in wanted)


def row_for_artifact(path: Path) -> TargetRow:
    """Return the first row of the runtime that reads `path`, by its suffix.

    Raises:
        ArtifactError: No runtime reads such a file.
    """
    for row in TARGETS.values():
        if path.suffix == row.suffix:
            return row
    raise ArtifactError(
        f"{path}: not an artifact edgefx can open", hint="expected a .tflite, .onnx or OpenVINO .xml file"
    )
