"""What the contract suites share: one small trained model, its canonical graph, and images for it."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from edgefx import runtimes
from edgefx.benchmarking.devices.link import BOOTSTRAP
from edgefx.benchmarking.devices.remote import Remote
from edgefx.quantization import QuantScheme
from edgefx.runtimes.protocol import ConversionRequest
from edgefx.system import cpu
from edgefx.targets import TARGETS, TargetRow
from edgefx.types import FrozenGraph, ImageSet, Resize
from tests import sharing

if TYPE_CHECKING:
    from edgefx.types import Scores


NATIVE = cpu.detect()  # artifacts are run here, so they are laid out for this CPU


@dataclass
class RecordedProgress:
    """A `Progress` that remembers what it was told."""

    steps: dict[str, int] = field(default_factory=dict)
    messages: list[str] = field(default_factory=list)

    @contextmanager
    def task(self, label: str, total: int | None = None) -> Iterator[RecordedTask]:
        del total
        yield RecordedTask(self.steps, label)

    def note(self, message: str) -> None:
        self.messages.append(message)

    def warn(self, message: str) -> None:
        self.messages.append(message)


@dataclass
class RecordedTask:
    steps: dict[str, int]
    label: str

    def advance(self, steps: int = 1) -> None:
        self.steps[self.label] = self.steps.get(self.label, 0) + steps


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run each test of a `TargetContract` that asks for `row` on every target of the class's runtime."""
    runtime = getattr(metafunc.cls, "runtime", None)
    if runtime is not None and "row" in metafunc.fixturenames:
        rows = [row for row in TARGETS.values() if row.runtime is runtime]
        metafunc.parametrize("row", rows, ids=[row.name for row in rows], scope="class")


@pytest.fixture
def progress() -> RecordedProgress:
    return RecordedProgress()


@pytest.fixture(scope="session")
def device(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Remote]:
    """A device that is another process of this machine, which knows nothing of edgefx but what it is sent."""
    command = [sys.executable, "-c", BOOTSTRAP]
    folder = str(tmp_path_factory.mktemp("device"))
    with Remote("pipe", command, explain=lambda _code, _lines: None, folder=folder) as connected:
        yield connected


@pytest.fixture(scope="session")
def tiny_graph(tmp_path_factory: pytest.TempPathFactory) -> FrozenGraph:
    """The canonical graph of the embedded `digits` EfficientNet: 32 x 32 pixels, 10 classes, trained."""
    from edgefx.models.graph.canonical import canonicalize
    from edgefx.models.load import load

    return canonicalize(load("digits"), tmp_path_factory.mktemp("tiny-graph"))


class TinyArtifacts:
    """Artifacts of the embedded `digits`, each converted once for all processes; no test changes them."""

    def __init__(self, graph: FrozenGraph, images: ImageSet, folder: Path) -> None:
        self._graph, self._images, self._folder = graph, images, folder

    def __call__(self, target: str, **options: Any) -> tuple[Path, ...]:
        """Return the files of a target, in a folder of their own; options are those of `QuantScheme`."""
        row = TARGETS[target]
        options.setdefault("io_dtype", row.io_dtypes[0])
        key = repr((target, sorted(options.items())))
        folder = self._folder / hashlib.sha256(key.encode()).hexdigest()[:16]
        folder.mkdir(exist_ok=True)
        with sharing.locked(folder):
            kept = folder / "names.json"
            if not kept.exists():
                files = self._converted(row, options, folder / "files")
                kept.write_text(json.dumps([file.name for file in files]))
        return tuple(folder / "files" / name for name in json.loads(kept.read_text()))

    def _converted(self, row: TargetRow, options: dict[str, Any], folder: Path) -> tuple[Path, ...]:
        folder.mkdir(exist_ok=True)
        scheme = QuantScheme(hardware=NATIVE, precision=row.precision, **options)
        calibration = self._images if row.needs_calibration else None
        request = ConversionRequest(graph=self._graph, scheme=scheme, calibration=calibration)
        return runtimes.load(row).convert(request, folder / f"tiny{row.suffix}", RecordedProgress())


@pytest.fixture(scope="session")
def tiny_artifact(
    tiny_graph: FrozenGraph, tiny_calibration: ImageSet, tmp_path_factory: pytest.TempPathFactory
) -> TinyArtifacts:
    return TinyArtifacts(tiny_graph, tiny_calibration, sharing.folder(tmp_path_factory, "artifacts"))


@pytest.fixture(scope="session")
def block_graph(tmp_path_factory: pytest.TempPathFactory) -> FrozenGraph:
    """The canonical graph of a stem and one block: for what TensorFlow traces for long on a real one."""
    from edgefx.models.graph.canonical import canonicalize
    from edgefx.models.load import load

    from .models_zoo import save_case

    folder = tmp_path_factory.mktemp("block-graph")
    return canonicalize(load(str(save_case("one block", folder))), folder / "work")


def _images(folder: Path, *, every: int) -> ImageSet:
    import numpy as np
    from PIL import Image

    paths = tuple(sorted(folder.glob("*/*.png"))[::every])
    images = [Image.open(path).convert("RGB").resize((32, 32), Image.Resampling.BILINEAR) for path in paths]
    return ImageSet(
        pixels=np.stack([np.asarray(image) for image in images]),
        labels=np.array([int(path.parent.name) for path in paths]),
        paths=paths,
        sha256=f"{folder.name}-{len(paths)}",
        resize=Resize.STRETCH,
    )


@pytest.fixture(scope="session")
def tiny_calibration() -> ImageSet:
    """50 training images of digits, all classes."""
    from edgefx.data.digits import calibration_folder

    return _images(calibration_folder(), every=2)


@pytest.fixture(scope="session")
def tiny_images() -> ImageSet:
    """90 held-out images of digits, all classes."""
    from edgefx.data.digits import evaluation_folder

    return _images(evaluation_folder(), every=4)


@pytest.fixture(scope="session")
def tiny_scores(tiny_graph: FrozenGraph, tiny_images: ImageSet) -> Scores:
    """The float graph's probabilities of `tiny_images`, by TensorFlow."""
    from edgefx.models.graph.freeze import GraphRunner

    return GraphRunner(tiny_graph.path, outputs=tiny_graph.output_names).infer(tiny_images.pixels)
