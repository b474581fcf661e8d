"""What fuzzing has found stays mended, and fuzzing finds what it looks for."""

from __future__ import annotations

import io
import json
import random
import shutil
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest

from edgefx.errors import DataError
from tests.benchmarks.fuzz import Limits, Worker, _sleeps, fuzz
from tests.fuzzing import loaders, mutations, worker

FOUND = [
    pytest.param(name, folder, id=f"{name}-{folder.name}")
    for name in loaders.LOADERS
    if not loaders.LOADERS[name].imports_tensorflow
    for folder in sorted((loaders.CORPUS / name).glob("*"))
]
PLENTY = Limits(seconds=30.0, memory_mb=2000.0)


@pytest.mark.parametrize(("name", "folder"), FOUND)
def test_past_findings_are_read_or_refused(name: str, folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "input")
    outcome = worker.examine(loaders.LOADERS[name].load, tmp_path / "input")["outcome"]
    assert outcome in ("refused", "read")  # a damaged cache entry is none, which is no error


def test_the_corpus_is_small_and_of_known_loaders() -> None:
    files = [path for path in loaders.CORPUS.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 200_000
    assert {path.name for path in loaders.CORPUS.iterdir()} <= set(loaders.LOADERS)
    assert FOUND


# --------------------------------------------------------------------------------------------- the engine


def test_only_errors_of_edgefx_are_right(tmp_path: Path) -> None:
    def refuse(_folder: Path) -> None:
        raise DataError("no")

    def stumble(_folder: Path) -> None:
        raise KeyError("x")

    assert worker.examine(lambda _folder: None, tmp_path) == {"outcome": "read"}
    assert worker.examine(refuse, tmp_path)["outcome"] == "refused"
    found = worker.examine(stumble, tmp_path)
    assert (found["outcome"], found["kind"]) == ("finding", "KeyError")
    assert "test_fuzz_corpus.py" in found["where"]
    assert "Traceback" in found["text"]


def test_a_minute_of_nothing_reads_the_valid_files(tmp_path: Path) -> None:
    outcome = fuzz("labels", minutes=0.0, seed=0, limits=PLENTY, out=tmp_path / "findings")
    assert outcome.tried >= 5
    assert outcome.kept >= 3
    assert outcome.steps
    assert not outcome.findings
    assert not (tmp_path / "findings").exists()


def test_memory_is_watched(tmp_path: Path) -> None:
    limits = Limits(seconds=30.0, memory_mb=1.0)
    outcome = fuzz("labels", minutes=0.0, seed=0, limits=limits, out=tmp_path / "findings")
    assert list(outcome.findings) == ["more than 1 MB in native code"]
    (folder,) = (tmp_path / "findings").iterdir()
    assert (folder / "input" / "labels.csv").is_file()
    assert (folder / "finding.txt").read_text().startswith("more than 1 MB")


_LEAKING = """
import json, os, sys
from pathlib import Path
leaked = []
for number, line in enumerate(sys.stdin):
    grown = int(Path(line.strip(), "megabytes").read_text())
    leaked.append(b"x" * (grown * 1_000_000))
    print(json.dumps({"outcome": "read", "steps": [number], "process": os.getpid()}), flush=True)
"""


def test_what_earlier_inputs_leaked_is_not_a_finding_of_the_next(tmp_path: Path) -> None:
    worker = Worker([sys.executable, "-c", _LEAKING], tmp_path)
    limits = Limits(seconds=30.0, memory_mb=300.0)

    def read(megabytes: int) -> dict[str, object]:
        return worker.read({"megabytes": str(megabytes).encode()}, limits)

    try:
        first, second = read(100), read(60)
        assert first["process"] == second["process"]
        again = read(250)  # too much after the other two, not alone
        assert again["outcome"] == "read"
        assert again["process"] != first["process"]
        renewed = read(1)  # its process was three quarters full
        assert renewed["process"] != again["process"]
        assert read(400)["outcome"] == "finding"
    finally:
        worker.close()


@pytest.mark.parametrize(("program", "sleeps"), [("time.sleep(60)", True), ("\nwhile True: pass", False)])
def test_who_waits_for_the_cpu_does_not_sleep(program: str, sleeps: bool) -> None:
    command = [sys.executable, "-c", f"import time; print(flush=True); {program}"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        seen = []
        for _ in range(50):
            time.sleep(0.01)
            seen.append(_sleeps(process))
        process.kill()
    assert (sum(seen) > 25) is sleeps


def test_changes_repeat_and_keep_the_structure_where_they_can() -> None:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as made:
        made.writestr("config.json", json.dumps({"a": [1, 2, {"b": "c"}], "d": None}))
        made.writestr("metadata.json", "{}")
    inputs = [
        {"m.keras": archive.getvalue()},
        {"labels.csv": b"file,label\na.png,0\n"},
        {"m.onnx": bytes([8, 7, 18, 4, 8, 1, 16, 2, 26, 1, 65])},
    ]
    for files in inputs:
        first, again = (
            [mutations.mutated(files, inputs, random.Random(seed)) for seed in range(200)] for _ in range(2)
        )
        assert first == again
        assert sum(one != files for one in first) > 150
    archives = [mutations.mutated(inputs[0], inputs, random.Random(seed))["m.keras"] for seed in range(200)]
    assert sum(zipfile.is_zipfile(io.BytesIO(content)) for content in archives) > 120
    fields = mutations.changed_protobuf(inputs[2]["m.onnx"], random.Random(3))
    assert mutations._fields(fields)
