"""Result cards: what one artifact did on one device, as a small file to be committed and compared.

A card has no clock time but the day it was made, no path, and nothing of other targets, so that its text
changes only where the result does.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from edgefx.errors import UsageError
from edgefx.harmless import line
from edgefx.metrics import Figures
from edgefx.provenance import lock as locks
from edgefx.provenance import records
from edgefx.provenance.lock import LockedTarget
from edgefx.results import Accuracy, ComparedAnswers, DeviceResult, Environment, Latency
from edgefx.targets import TARGETS
from edgefx.verdicts import on_device
from edgefx.vocabulary import HOST, Hardware

if TYPE_CHECKING:
    from edgefx.provenance.lock import Lock

SUFFIX = records.CARD_SUFFIX
VERSION = 1
_MOST_BYTES = 10**6  # a thousand lines; a card has a hundred
_HINT = f"give a file that edgefx device card has written, or a folder of such files, *{SUFFIX}"


@dataclass(frozen=True, kw_only=True)
class ResultCard:
    """One artifact on one device.

    Attributes:
        card_version: Changes when a field changes its meaning or goes away.
        created: The day on which it was measured, ISO 8601, UTC.
        edgefx: The version that measured it.
        model: What was compiled: the zoo name, or the file's name.
        target: The target.
        device: What the user calls the device; "host" is the machine that edgefx ran on.
        cpu: The CPU's model, with the board's name where it has one.
        machine: The architecture.
        cores: The cores that may be used.
        os: The operating system.
        hardware: The class of the CPU.
        packages: Versions of the runtime and of what feeds it, there; of a phone, the tool that measured.
        content: SHA-256 of each of the artifact's files, without their metadata: the same weights and
            operations have the same ones.
        size_bytes: The size of the files together.
        accuracy: Against the float Keras model; None where it was not measured, and so is `latency`.
        latency: Medians and their intervals among others; no histogram.
        answers: Whether a few images get the same scores there as on the machine that compiled; None of that
            machine itself.
    """

    card_version: int
    created: str
    edgefx: str
    model: str
    target: str
    device: str
    cpu: str
    machine: str
    cores: int
    os: str
    hardware: Hardware | None
    packages: Mapping[str, str]
    content: tuple[str, ...]
    size_bytes: int | None
    accuracy: Accuracy | None
    latency: Latency | None
    answers: ComparedAnswers | None = None

    @property
    def name(self) -> str:
        """What reports call it: the target, with its device."""
        return on_device(self.target, "" if self.device == HOST else self.device)

    @property
    def figures(self) -> Figures:
        """What was measured."""
        return Figures(size_bytes=self.size_bytes, accuracy=self.accuracy, latency=self.latency)

    @property
    def file_name(self) -> str:
        """What its file is called."""
        words = (self.model, self.target, self.device)
        return "-".join(re.sub(r"[^A-Za-z0-9._]+", "-", word).strip("-.") for word in words) + SUFFIX


def of_run(report: Path) -> tuple[ResultCard, ...]:
    """Make the cards of a run: one for each artifact on each device, and here, where something was measured.

    Args:
        report: The run's output folder, or a file in it.

    Raises:
        UsageError: There is no report, or it is none that this edgefx reads; or nothing was measured.
    """
    from edgefx.storage.serde import from_json

    folder = report if report.is_dir() else report.parent
    lock = locks.read(folder)
    file = folder / "report.json"
    with records.refused(file, what="report", hint="give a run's folder"):
        document = records.load(file, what="report", version=records.REPORT_VERSION)
        devices = [from_json(DeviceResult, device) for device in document.get("devices", ())]
        here = from_json(Environment, document["environment"])
    cards = tuple(_cards(lock, devices, here))
    if not cards:
        raise UsageError(
            f"{report}: nothing was measured of its artifacts", hint="run it again with a benchmark"
        )
    return cards


def _cards(lock: Lock, devices: list[DeviceResult], here: Environment) -> Iterator[ResultCard]:
    for target in lock.targets:
        if target.latency is not None:
            yield _card(lock, target, here)
    for device in devices:
        for found in device.targets:
            target_here = lock.target(found.target)
            if device.environment is None or target_here is None or found.latency is None:
                continue
            yield replace(
                _card(lock, target_here, device.environment),
                device=device.device,
                hardware=device.hardware,
                accuracy=found.accuracy,
                latency=replace(found.latency, histogram=None),
                answers=found.answers,
            )


def _card(lock: Lock, target: LockedTarget, there: Environment) -> ResultCard:
    """Return the card of a target on this machine, with what is known of the one that it ran on."""
    row = TARGETS.get(target.target)
    wanted = ("numpy", *(row.run_by if row else ()), "tflite-runtime", "benchmark_model")
    return ResultCard(
        card_version=VERSION,
        created=lock.created[:10],
        edgefx=there.edgefx,
        model=Path(lock.model.source.partition(" ")[0]).name,
        target=target.target,
        device=HOST,
        cpu=there.cpu,
        machine=there.machine,
        cores=there.cores,
        os=there.os,
        hardware=None,
        packages={name: there.packages[name] for name in wanted if name in there.packages},
        content=target.content or tuple(file.sha256 for file in target.files),
        size_bytes=target.size_bytes,
        accuracy=target.accuracy,
        latency=target.latency and replace(target.latency, histogram=None),
    )


def write(card: ResultCard, folder: Path) -> Path:
    """Write a card into a folder, which is made; returns the file.

    Raises:
        OutputError: The folder cannot be written.
    """
    from edgefx.storage.atomic import write_text
    from edgefx.storage.disk import explained
    from edgefx.storage.serde import dumps

    file = folder / card.file_name
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_text(file, dumps(card))
    except OSError as error:
        raise explained(error, folder) from error
    return file


def are_named(path: Path) -> bool:
    """Whether a path is a card, or a folder of cards and of no run."""
    if path.is_dir():
        return not (path / locks.NAME).exists() and any(path.glob(f"*{SUFFIX}"))
    return path.name.endswith(SUFFIX)


def read(path: Path) -> tuple[ResultCard, ...]:
    """Read a card, or all cards of a folder.

    Raises:
        UsageError: There is none, or it is not one that this edgefx reads; or two are of the same model,
            target and device.
    """
    files = sorted(path.glob(f"*{SUFFIX}")) if path.is_dir() else [path]
    found = {}
    for file in files:
        card = _read(file)
        key = card.model, card.target, card.device
        if key in found:
            raise UsageError(
                f"{file}: another card of {path} is of {card.name} of {line(card.model)}, too", hint=_HINT
            )
        found[key] = card
    return tuple(found.values())


def _read(file: Path) -> ResultCard:
    from edgefx.storage.serde import from_json

    with records.refused(file, what="card", hint=_HINT):
        document = records.load(
            file, what="card", version=VERSION, most_bytes=_MOST_BYTES, key="card_version"
        )
        return from_json(ResultCard, document)
