"""What edgefx reads back of what it has written, and the small files that users write.

Seeds and readers of `tests.fuzzing.loaders`.
"""

from __future__ import annotations

import io
import json
import math
import os
from contextlib import suppress
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

from edgefx.report import write_report
from edgefx.report.console import PlainConsole
from edgefx.results import RunReport
from edgefx.types import ArtifactFile
from edgefx.verdicts import Gate

from .mutations import Files, read


def lock(folder: Path) -> list[Files]:
    from tests.unit.test_comparison import a_lock, answers, saved

    made = saved(folder / "saved", a_lock(), answers(0, 0, 1, 0))
    return [{path.name: path.read_bytes() for path in made.iterdir()}]


def load_lock(folder: Path) -> object:
    from edgefx.provenance import comparison, lock, reproduction
    from edgefx.provenance.comparison import diff
    from edgefx.report.comparison import render_diff
    from edgefx.report.console import PlainConsole

    one = lock.read(folder)
    reproduction.compare(one, one, path=folder, output=folder)
    comparison.input_changes(one, one)
    render_diff(diff(folder, folder), PlainConsole(file=io.StringIO(), width=80))
    return lock.recipe(one, folder / "edgefx.lock.json")


def report(folder: Path) -> list[Files]:
    """A run's report on three artifacts."""
    write_report(_run(folder), folder)
    return [{"report.json": (folder / "report.json").read_bytes()}]


def load_report(folder: Path) -> object:
    """Put the artifacts into a bundle; what was written must be one."""
    from edgefx.bundles import check, make

    _run(folder)
    return check.run(make.run(folder, folder / "made.zip").path)


def _run(folder: Path) -> RunReport:
    """Write small artifacts, and return the report on them."""
    from tests.unit.report_samples import report as sample

    results = []
    for result in sample():
        assert result.artifact is not None
        path = folder / result.artifact.path.name
        content = path.name.encode()
        path.write_bytes(content)
        described = ArtifactFile(path=path, size_bytes=len(content), sha256=sha256(content).hexdigest())
        results.append(replace(result, artifact=replace(result.artifact, files=(described,))))
    return replace(sample(), targets=tuple(results))


def runs(folder: Path) -> list[Files]:
    """Output folders: of a run with and without labels, of one that failed, and of a matrix."""
    from edgefx.report import matrix
    from edgefx.views import MatrixReport, MatrixRun, RunError
    from tests.cli.test_gate import a_run
    from tests.unit.report_samples import report as sample
    from tests.unit.report_samples import with_failure

    found = []
    for name, made in (("a", sample()), ("b", sample(labelled=False)), ("c", with_failure(sample()))):
        made_in = a_run(folder / name, wrong=3, made=made)
        answers = json.loads((made_in / "predictions.json").read_bytes())
        few = slice(50)
        answers = {
            **answers,
            "images": answers["images"][few],
            "labels": answers["labels"][few] if name == "a" else None,
            "baseline": answers["baseline"][few],
            "targets": {key: value[few] for key, value in answers["targets"].items()},
        }
        (made_in / "predictions.json").write_text(json.dumps(answers))
        found.append(read(made_in))
    error = RunError(exit_code=4, message="no", hint="", details=())
    whole = MatrixReport(
        schema_version=1,
        recipe="r",
        command="c",
        runs=(
            MatrixRun(name="a", output=folder / "a", report=sample()),
            MatrixRun(name="b", output=folder / "b", report=None, error=error),
        ),
    )
    matrix.write(whole, folder)
    return [*found, {"matrix.json": (folder / "matrix.json").read_bytes()}]


def load_runs(folder: Path) -> object:
    """Judge a run against itself, and write the verdicts in every format."""
    from edgefx.provenance import gating
    from edgefx.report import formats
    from edgefx.vocabulary import REPORT_FORMATS

    alone = gating.judge([folder], [], calibrate=True)
    for name in REPORT_FORMATS:
        formats.dumps(alone, name)
    conditions = [Gate(metric=metric, limit=1.0) for metric in ("drop_pp", "agreement", "p95_ms")]
    return gating.judge([folder], conditions, against=folder, fail_on=["drop_pp=0.5pp", "size_bytes=5%"])


def bundle(folder: Path) -> list[Files]:
    """A bundle as it is, and its members."""
    import zipfile

    from edgefx.bundles import make

    (folder / "run").mkdir()
    write_report(_run(folder / "run"), folder / "run")
    path = make.run(folder / "run").path
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    return [{"bundle": path.read_bytes()}, members]


def load_bundle(folder: Path) -> object:
    """Check a bundle; members are packed first, with the right checksums."""
    from edgefx.bundles import archive, check
    from edgefx.bundles.manifest import SUMS
    from edgefx.report.bundle import render_verified

    path = folder / "bundle"
    if not path.is_file():
        members = read(folder)
        members[SUMS] = "".join(
            f"{sha256(content).hexdigest()}  {name}\n"
            for name, content in sorted(members.items())
            if name != SUMS
        ).encode()
        archive.write(path, dict(members))
    render_verified(check.run(path), PlainConsole(file=io.StringIO(), width=80))
    return None


def rollout(folder: Path) -> list[Files]:
    """A rollout, and the manifests of its two bundles."""
    manifest = bundle(folder)[1]["manifest.json"]
    plan = (
        b"version: 1\nname: a\ntarget: tflite-int8\nbundle: new.zip\nrollback: old.zip\ncompare: 5%\n"
        b"stages: [{share: 1%, hours: 24}, {share: 0.5, hours: 2}, {share: 100%}]\n"
        b"gates: [p95_ms <= 20, 'tflite-*: agreement >= 98%']\n"
    )
    return [{"rollout.yaml": plan, "new.json": manifest, "old.json": manifest}]


def load_rollout(folder: Path) -> object:
    """Check a rollout of two bundles that hold nothing but manifests."""
    from edgefx.bundles import archive, rollout
    from edgefx.bundles.manifest import NAME, SUMS
    from edgefx.report.rollout import render_rollout

    for name in ("new", "old"):
        content = (folder / f"{name}.json").read_bytes()
        with suppress(ValueError, TypeError, RecursionError):
            content = json.dumps({**json.loads(content), "schema_version": 1, "files": []}).encode()
        sums = f"{sha256(content).hexdigest()}  {NAME}\n".encode()
        archive.write(folder / f"{name}.zip", {NAME: content, SUMS: sums})
    found = rollout.run(folder / "rollout.yaml")
    render_rollout(found, PlainConsole(file=io.StringIO(), width=80))
    assert 0 < found.stages[0].share <= found.stages[-1].share == 1
    return found.exit_code


def cache(folder: Path) -> list[Files]:
    from edgefx.cache.store import Store

    store = Store(folder, limit_bytes=10**9, warn=lambda _message: None)
    entry = store.put(_cache_key(), {"share": 0.5, "names": ["a"]}, {"a.bin": b"content"})
    assert entry is not None
    return [{path.name: path.read_bytes() for path in entry.folder.iterdir()}]


def _cache_key() -> Any:
    from edgefx.cache.entry import key

    return key("convert", version=1, target="tflite-int8")


def load_cache(folder: Path) -> object:
    """Put the input in the place of an entry, its checksum made right where there is one."""
    import hashlib

    from edgefx.cache.entry import canonical
    from edgefx.cache.store import Store

    told: list[str] = []
    store = Store(folder / "cache", limit_bytes=10**9, warn=told.append)
    kept = store.put(_cache_key(), {}, {})
    assert kept is not None
    for path in [one for one in folder.iterdir() if one.is_file()]:
        content = path.read_bytes()
        if path.name == "manifest.json" and len(content) % 4:  # else as it is
            try:
                document = json.loads(content)
                document.pop("checksum", None)
                checksum = hashlib.sha256(canonical(document).encode()).hexdigest()
                content = canonical({**document, "checksum": checksum}).encode()
            except (ValueError, TypeError, AttributeError, RecursionError):
                pass
        (kept.folder / path.name).write_bytes(content)
    entry = store.get(_cache_key())
    if entry is not None:
        (folder / "copies").mkdir()
        store.copy(entry, folder / "copies")
        for file in entry.files:
            store.read(entry, file.name)
    store.usages()
    outside = {path.name for path in folder.iterdir()} - {"cache", "copies", "manifest.json", "a.bin"}
    assert not outside, f"written outside: {outside}"
    return store.trim()


def devices(_folder: Path) -> list[Files]:
    """`devices.yaml`."""
    text = "a: ssh://pi@a\nb: {address: 'ssh://b:22', python: ~/p, dir: /d, threads: 2, notes: 5}\n"
    nested = "one: &one\n  address: ssh://[::1]:2222\n  notes: |\n    two\n    lines\ntwo:\n  <<: *one\n"
    return [{"devices.yaml": text.encode()}, {"devices.yaml": nested.encode()}]


def load_devices(folder: Path) -> object:
    """List them, and read their addresses."""
    from edgefx.benchmarking.devices import book
    from edgefx.benchmarking.devices.ssh import Address
    from edgefx.report.device import render_list

    os.environ[book.VARIABLE] = str(folder / "devices.yaml")
    found = tuple(book.devices().values())
    render_list(found, "devices.yaml", PlainConsole(file=io.StringIO(), width=80))
    return [Address.parse(one.address) for one in found]


def conditions(_folder: Path) -> list[Files]:
    """Gates and tolerances, one a line."""
    gates = ("tflite-*: drop_pp <= 0.5", "size_bytes <= 6 MiB", "*-int8,onnx-*: agreement >= 98%")
    limits = ("drop_pp=0.5pp", "size_bytes=5%", "p95_ms=10%")
    return [{"gates.txt": f"{gate}\n{limit}".encode()} for gate, limit in zip(gates, limits, strict=True)]


def load_conditions(folder: Path) -> object:
    """Read each line as a gate and as a tolerance; nothing but finite limits comes of it."""
    from edgefx.errors import EdgefxError
    from edgefx.provenance import regressions
    from edgefx.recipe.conditions import parse

    for text in (folder / "gates.txt").read_bytes().decode(errors="surrogateescape").splitlines():
        with suppress(EdgefxError):
            assert math.isfinite(parse(text).limit), text
        with suppress(EdgefxError):
            assert math.isfinite(regressions.parse(text).most), text
    return None


def metadata(_folder: Path) -> list[Files]:
    """What artifacts say of themselves."""
    from edgefx.runtimes import metadata as documents
    from tests.unit.test_artifact_metadata import METADATA

    small = replace(METADATA, class_names=("a", "b", "c"))
    return [
        {"m.json": documents.dumps(one).encode()} for one in (small, replace(small, output_kind="logits"))
    ]


def load_metadata(folder: Path) -> object:
    """Read them back, and show them."""
    from edgefx.report.inspection import render_artifact
    from edgefx.runtimes import metadata as documents
    from edgefx.views import ArtifactInspection
    from tests.unit.report_samples import artifact

    found = documents.loads((folder / "m.json").read_bytes(), folder / "m.json")
    assert all(name.isprintable() for name in found.class_names)
    documents.dumps(found)
    described = artifact("tflite-int8", size_bytes=1, compute_int8=1)
    console = PlainConsole(file=io.StringIO(), width=80)
    render_artifact(ArtifactInspection(artifact=described, metadata=found), console)
    return found


def cards(folder: Path) -> list[Files]:
    from edgefx.provenance import cards
    from tests.unit.test_cards import CARD

    cards.write(CARD, folder / "cards")
    return [read(folder / "cards")]


def load_cards(folder: Path) -> object:
    """Compare cards, show the comparison, and judge them by gates."""
    from edgefx.provenance import differences, gating
    from edgefx.recipe.conditions import parse
    from edgefx.report.comparison import render_diff

    render_diff(differences.diff(folder, folder), PlainConsole(file=io.StringIO(), width=80))
    return gating.judge([folder], [parse("p50_ms <= 20"), parse("drop_pp <= 1")])


def power(_folder: Path) -> list[Files]:
    rows = [f"{100 + number / 10},{4 + number % 3}" for number in range(40)]
    dated = [f"2026-01-01T00:00:0{number // 10}.{number % 10}Z,5" for number in range(40)]
    return [
        {"power.csv": "\n".join(["time,watts", *rows, ""]).encode()},
        {
            "power.csv": "\r\n".join(
                ["watts,Time", *(",".join(row.split(",")[::-1]) for row in dated), ""]
            ).encode()
        },
    ]


def load_power(folder: Path) -> object:
    from edgefx.benchmarking import power_log

    power_log._LEAST_WAIT_S = 0.0
    return power_log.PowerLog(folder / "power.csv").joules(100.5, 103.5)
