"""One contract for every target: what `Runtime` promises, tested on real conversions.

A runtime subclasses `TargetContract` and sets `runtime`; each test that takes `row` then runs on every
target of that runtime. Bounds that a runtime cannot meet are overridden there, with the reason.
"""

from __future__ import annotations

import hashlib
import shutil
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import pytest

from edgefx import harmless, runtimes
from edgefx.benchmarking.devices.remote import Remote
from edgefx.errors import ArtifactError, EdgefxError, UsageError
from edgefx.quantization import QuantScheme
from edgefx.runtimes.protocol import ConversionRequest, Runtime
from edgefx.system import cpu
from edgefx.targets import TARGETS, TargetRow
from edgefx.types import ArtifactMetadata, FrozenGraph, ImageSet, IoDtype, Precision
from edgefx.types import Runtime as RuntimeName
from edgefx.vocabulary import Effort, Hardware

from .conftest import NATIVE, RecordedProgress, TinyArtifacts

if TYPE_CHECKING:
    from edgefx.types import Scores


# What a folder may be called, or labels.csv may hold, as an artifact states it.
HOSTILE_NAMES = tuple(
    map(
        harmless.line,
        ("a b", "\u00fc", "x\ny\r\0", '</labels>"&\x1b[31m', "\ud800\uffff", "", " ", "1" * 10**7, "8", "9"),
    )
)


class TargetContract:
    """Subclass it, set `runtime`, and add what is particular to the runtime."""

    runtime: ClassVar[RuntimeName]

    # Largest |dp| against the float graph, by precision.
    max_abs_dp: ClassVar[dict[Precision, float]] = {
        Precision.FLOAT32: 1e-4,
        Precision.FLOAT16: 0.02,
        Precision.INT16X8: 0.1,
    }
    # Smallest share of images with the float graph's class.
    agreement: ClassVar[dict[Precision, float]] = {
        Precision.FLOAT32: 1.0,
        Precision.FLOAT16: 1.0,
        Precision.INT16X8: 0.98,
        Precision.DYNAMIC: 0.95,
        Precision.WEIGHT_INT8: 0.98,
        Precision.INT8: 0.95,
    }
    # Whether --io-dtype also sets the output's type.
    integer_outputs: ClassVar[bool] = True

    # ------------------------------------------------------------------------------------------- helpers

    @pytest.fixture(scope="class")
    def target(self) -> Runtime:
        first = next(row for row in TARGETS.values() if row.runtime is self.runtime)
        return runtimes.load(first)

    @pytest.fixture(scope="class")
    def artifact(self, row: TargetRow, tiny_artifact: TinyArtifacts) -> tuple[Path, ...]:
        """The files of one conversion with the default input type."""
        return tiny_artifact(row.name)

    # --------------------------------------------------------------------------------------------- tests

    def test_check_passes_where_everything_is_installed(self, target: Runtime) -> None:
        target.check()

    def test_writes_its_files_and_nothing_else(self, row: TargetRow, artifact: tuple[Path, ...]) -> None:
        assert artifact[0].name == f"tiny{row.suffix}"
        assert sorted(artifact) == sorted(artifact[0].parent.iterdir())
        assert all(path.stat().st_size > 0 for path in artifact)

    def test_describes_what_was_asked_for(
        self, row: TargetRow, target: Runtime, artifact: tuple[Path, ...], tiny_graph: FrozenGraph
    ) -> None:
        found = target.describe(artifact[0])
        assert [file.path for file in found.files] == list(artifact)
        for file in found.files:
            content = file.path.read_bytes()
            assert file.size_bytes == len(content)
            assert file.sha256 == hashlib.sha256(content).hexdigest()

        (image,), (scores,) = found.inputs, found.outputs
        assert (image.name, image.shape) == ("image", (1, 32, 32, 3))
        assert (scores.name, scores.shape) == ("probabilities", (1, 10))
        assert image.dtype == row.io_dtypes[0]
        assert scores.dtype == (row.io_dtypes[0] if self.integer_outputs else "float32")

        assert sum(op.count for op in found.ops) >= found.compute_int8 + found.compute_float > 50
        if row.precision in (Precision.FLOAT32, Precision.FLOAT16):
            assert found.compute_int8 == 0
            assert not found.int8_macs_share
            assert found.size_bytes > tiny_graph.spec.parameters * 2
        elif row.precision is Precision.WEIGHT_INT8:
            assert (found.compute_int8, found.int8_macs_share) == (0, 0)
            assert found.size_bytes < tiny_graph.spec.parameters * 4
        else:
            assert found.compute_int8 > 0
            assert found.size_bytes < tiny_graph.spec.parameters * 4
        if row.precision is Precision.INT8:
            assert found.int8_macs_share is None or found.int8_macs_share > 0.5

    def test_metadata_change_nothing_but_what_is_said(
        self,
        row: TargetRow,
        target: Runtime,
        artifact: tuple[Path, ...],
        tiny_images: ImageSet,
        tmp_path: Path,
    ) -> None:
        files = [Path(shutil.copy(file, tmp_path / file.name)) for file in artifact]
        before = target.describe(files[0])
        metadata = ArtifactMetadata(
            edgefx="1.2.3",
            target=row.name,
            model="tiny",
            model_sha256="ab" * 32,
            input=before.inputs[0],
            output=before.outputs[0],
            output_kind="probabilities",
            resize="crop",
            class_names=HOSTILE_NAMES,
        )
        assert target.read_metadata(files[0]) is None
        target.embed(files[0], metadata)
        assert sorted(files) == sorted(tmp_path.iterdir())
        assert target.read_metadata(files[0]) == metadata
        after = target.describe(files[0])
        assert replace(after, files=()) == replace(before, files=())
        assert [path.read_bytes() for path in files[1:]] == [path.read_bytes() for path in artifact[1:]]
        scores = []
        for path in (artifact[0], files[0]):
            with target.open_session(path, threads=1, precision=row.precision) as session:
                scores.append(session.infer(tiny_images.pixels[:3]))
        assert scores[0].tobytes() == scores[1].tobytes()
        again = Path(shutil.copytree(artifact[0].parent, tmp_path / "again")) / files[0].name
        target.embed(again, metadata)
        assert again.read_bytes() == files[0].read_bytes(), "the same metadata give the same bytes"

    def test_scores_are_those_of_the_float_graph(
        self,
        row: TargetRow,
        target: Runtime,
        artifact: tuple[Path, ...],
        tiny_images: ImageSet,
        tiny_scores: Scores,
    ) -> None:
        with target.open_session(artifact[0], threads=2, precision=row.precision) as session:
            assert session.input_spec.name == "image"
            assert session.input_spec.dtype == row.io_dtypes[0]
            assert session.precision_ran
            scores = session.infer(tiny_images.pixels)
            alone = session.infer(tiny_images.pixels[7:8])
        assert scores.shape == tiny_scores.shape
        assert scores.dtype == np.float32
        np.testing.assert_allclose(alone[0], scores[7], atol=1e-6)
        np.testing.assert_allclose(scores.sum(axis=1), 1, atol=0.03)
        agreed = float((scores.argmax(axis=1) == tiny_scores.argmax(axis=1)).mean())
        assert agreed >= self.agreement[row.precision]
        if row.precision in self.max_abs_dp:
            assert float(np.abs(scores - tiny_scores).max()) <= self.max_abs_dp[row.precision]
        else:
            assert float(np.abs(scores - tiny_scores).mean()) <= 0.02

    def test_a_device_answers_bit_by_bit_as_this_machine(
        self,
        row: TargetRow,
        target: Runtime,
        artifact: tuple[Path, ...],
        tiny_images: ImageSet,
        device: Remote,
    ) -> None:
        with (
            target.open_session(artifact[0], threads=1, precision=row.precision) as here,
            device.open_session(artifact[0], threads=1, precision=row.precision) as there,
        ):
            assert (
                there.infer(tiny_images.pixels[:5]).tobytes() == here.infer(tiny_images.pixels[:5]).tobytes()
            )
            assert there.precision_ran == here.precision_ran

    def test_input_and_output_types_are_as_asked(  # noqa: PLR0917 - fixtures
        self,
        row: TargetRow,
        target: Runtime,
        tiny_artifact: TinyArtifacts,
        tiny_images: ImageSet,
        tiny_scores: Scores,
        device: Remote,
    ) -> None:
        """With the least effort, as that has no part in it."""
        for io_dtype in row.io_dtypes[1:]:  # the other tests use the first
            out = tiny_artifact(row.name, io_dtype=io_dtype, effort=Effort.FAST)[0]
            found = target.describe(out)
            assert found.inputs[0].dtype == io_dtype
            assert found.outputs[0].dtype == (io_dtype if self.integer_outputs else "float32")
            with target.open_session(out, threads=1, precision=row.precision) as session:
                scores = session.infer(tiny_images.pixels)
            with device.open_session(out, threads=1, precision=row.precision) as there:
                assert there.infer(tiny_images.pixels).tobytes() == scores.tobytes()
            agreed = (scores.argmax(axis=1) == tiny_scores.argmax(axis=1)).mean()
            assert agreed >= self.agreement[row.precision]
        if IoDtype.UINT8 in row.io_dtypes and IoDtype.FLOAT32 in row.io_dtypes and self.integer_outputs:
            ends = {"io_dtype": IoDtype.UINT8, "output_dtype": IoDtype.FLOAT32}
            out = tiny_artifact(row.name, effort=Effort.FAST, **ends)[0]
            found = target.describe(out)
            assert (found.inputs[0].dtype, found.outputs[0].dtype) == ("uint8", "float32")
            with target.open_session(out, threads=1, precision=row.precision) as session:
                scores = session.infer(tiny_images.pixels)
            agreed = (scores.argmax(axis=1) == tiny_scores.argmax(axis=1)).mean()
            assert agreed >= self.agreement[row.precision]

    def test_types_of_the_ends_that_a_target_has_not_are_refused(
        self,
        row: TargetRow,
        target: Runtime,
        tiny_graph: FrozenGraph,
        tiny_calibration: ImageSet,
        tmp_path: Path,
    ) -> None:
        calibration = tiny_calibration if row.needs_calibration else None
        for io_dtype in set(IoDtype) - set(row.io_dtypes):
            scheme = QuantScheme(hardware=NATIVE, precision=row.precision, io_dtype=io_dtype)
            with pytest.raises(UsageError, match=str(io_dtype)):
                target.convert(
                    ConversionRequest(graph=tiny_graph, scheme=scheme, calibration=calibration),
                    tmp_path / f"x{row.suffix}",
                    RecordedProgress(),
                )
            assert not list(tmp_path.iterdir())

    def test_counts_every_calibration_image(
        self, target: Runtime, tiny_graph: FrozenGraph, tiny_calibration: ImageSet, tmp_path: Path
    ) -> None:
        row = TARGETS[f"{self.runtime}-int8"]
        progress = RecordedProgress()
        scheme = QuantScheme(
            hardware=NATIVE, precision=row.precision, io_dtype=row.io_dtypes[0], effort=Effort.FAST
        )
        request = ConversionRequest(graph=tiny_graph, scheme=scheme, calibration=tiny_calibration)
        target.convert(request, tmp_path / f"a{row.suffix}", progress)
        assert max(progress.steps.values(), default=0) >= len(tiny_calibration)

    def test_integers_need_calibration_images(
        self, row: TargetRow, target: Runtime, tiny_graph: FrozenGraph, tmp_path: Path
    ) -> None:
        if not row.needs_calibration:
            pytest.skip("needs no calibration images")
        scheme = QuantScheme(hardware=NATIVE, precision=row.precision, io_dtype=row.io_dtypes[0])
        with pytest.raises(UsageError, match="calibration") as caught:
            target.convert(
                ConversionRequest(graph=tiny_graph, scheme=scheme),
                tmp_path / f"x{row.suffix}",
                RecordedProgress(),
            )
        assert caught.value.hint
        assert not list(tmp_path.iterdir())

    def test_an_output_folder_that_is_none_is_an_error(
        self, target: Runtime, tiny_graph: FrozenGraph, tmp_path: Path
    ) -> None:
        row = TARGETS[f"{self.runtime}-float32"]
        scheme = QuantScheme(hardware=NATIVE, precision=row.precision, io_dtype=row.io_dtypes[0])
        blocker = tmp_path / "file"
        blocker.write_text("not a folder")
        with pytest.raises(EdgefxError, match="file"):
            target.convert(
                ConversionRequest(graph=tiny_graph, scheme=scheme),
                blocker / f"x{row.suffix}",
                RecordedProgress(),
            )
        assert list(tmp_path.iterdir()) == [blocker]

    def test_an_artifact_says_what_cpu_it_is_laid_out_for(
        self,
        target: Runtime,
        tiny_graph: FrozenGraph,
        tiny_calibration: ImageSet,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        row = TARGETS[f"{self.runtime}-int8"]

        def detect() -> Hardware:
            raise AssertionError("a conversion asked what this machine is")

        monkeypatch.setattr(cpu, "detect", detect)
        for hardware, words in (
            (Hardware.X86_VNNI, "laid out for x86-64+vnni"),
            (Hardware.ARM_DOTPROD, "laid out for aarch64+dotprod, whose speed was never measured"),
        ):
            scheme = QuantScheme(
                hardware=hardware,
                precision=row.precision,
                io_dtype=row.io_dtypes[0],
                effort=Effort.FAST,
            )
            out = tmp_path / f"{hardware}{row.suffix}"
            request = ConversionRequest(graph=tiny_graph, scheme=scheme, calibration=tiny_calibration)
            target.convert(request, out, RecordedProgress())
            assert (words in target.describe(out).notes) == row.follows_hardware

    def test_a_layer_to_keep_in_float_must_exist(
        self, target: Runtime, tiny_graph: FrozenGraph, tiny_calibration: ImageSet, tmp_path: Path
    ) -> None:
        row = TARGETS[f"{self.runtime}-int8"]
        scheme = QuantScheme(
            hardware=NATIVE,
            precision=row.precision,
            io_dtype=row.io_dtypes[0],
            keep_float=frozenset({"stem_konv"}),
        )
        request = ConversionRequest(graph=tiny_graph, scheme=scheme, calibration=tiny_calibration)
        with pytest.raises(UsageError, match="unknown layer 'stem_konv'") as caught:
            target.convert(request, tmp_path / f"x{row.suffix}", RecordedProgress())
        assert "did you mean stem_conv" in caught.value.hint
        assert list(tmp_path.iterdir()) == []

    def test_a_damaged_graph_is_an_error_and_leaves_nothing(
        self, target: Runtime, tiny_graph: FrozenGraph, tmp_path: Path
    ) -> None:
        row = TARGETS[f"{self.runtime}-float32"]
        scheme = QuantScheme(hardware=NATIVE, precision=row.precision, io_dtype=row.io_dtypes[0])
        work, out = tmp_path / "work", tmp_path / "out"
        work.mkdir()
        out.mkdir()
        damaged = work / "graph.pb"
        damaged.write_bytes(tiny_graph.path.read_bytes()[:-1000] + b"\xff" * 1000)
        broken = FrozenGraph(path=damaged, spec=tiny_graph.spec, layers=tiny_graph.layers, workdir=work)
        with pytest.raises(EdgefxError):
            target.convert(
                ConversionRequest(graph=broken, scheme=scheme), out / f"x{row.suffix}", RecordedProgress()
            )
        assert not list(out.iterdir())

    def test_a_file_that_cannot_be_read_is_an_error(
        self, target: Runtime, artifact: tuple[Path, ...], tmp_path: Path
    ) -> None:
        content = artifact[0].read_bytes()
        cases = {
            "missing": None,
            "empty": b"",
            "text": b"this is not a model\n" * 50,
            "half": content[: len(content) // 2],
            "tenth": content[: len(content) // 10],
        }
        for case, bad in cases.items():
            damaged = tmp_path / case / artifact[0].name
            damaged.parent.mkdir()
            for file in artifact[1:]:
                (damaged.parent / file.name).write_bytes(file.read_bytes())
            if bad is not None:
                damaged.write_bytes(bad)
            with pytest.raises(ArtifactError, match=f"{case}.tiny"):
                target.describe(damaged)
            with pytest.raises(ArtifactError, match=f"{case}.tiny"), target.open_session(damaged, threads=1):
                pass
