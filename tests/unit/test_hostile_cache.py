"""Hostile cache entries write nothing outside their folder, and a full disk costs no good entry."""

from __future__ import annotations

import errno
import hashlib
import json
import os
from pathlib import Path

import pytest

from edgefx.cache.entry import Entry, Key, canonical, key
from edgefx.cache.names import is_plain
from edgefx.cache.store import Store

_KEY = key("convert", version=1, target="tflite-int8")


def store_in(folder: Path, told: list[str]) -> Store:
    return Store(folder / "cache", limit_bytes=10**9, warn=told.append)


def put(store: Store, wanted: Key = _KEY) -> Entry:
    entry = store.put(wanted, {"share": 0.5}, {"artifact.bin": b"content"})
    assert entry is not None
    return entry


def rewrite(entry: Entry, **changes: object) -> None:
    """Change a manifest and give it the checksum that belongs to it."""
    path = entry.folder / "manifest.json"
    document = {**json.loads(path.read_text()), **changes}
    del document["checksum"]
    checksum = hashlib.sha256(canonical(document).encode()).hexdigest()
    path.write_text(canonical({**document, "checksum": checksum}))


@pytest.mark.parametrize(
    "name",
    [
        "../../../x",
        "/etc/x",
        "a/b",
        "..",
        ".",
        "",
        "a\\b",
        "c:x",
        "a\0b",
        "x" * 256,
        "\ud800",
        7,
        None,
        ["a"],
    ],
)
def test_a_name_that_leads_out_makes_the_entry_damaged(tmp_path: Path, name: object) -> None:
    told: list[str] = []
    store = store_in(tmp_path, told)
    entry = put(store)
    sha256 = hashlib.sha256(b"content").hexdigest()
    rewrite(entry, files=[{"name": name, "size_bytes": 7, "sha256": sha256}])
    before = sorted(tmp_path.rglob("*"))
    assert store.get(_KEY) is None
    assert "manifest is damaged" in told[0]
    assert set(tmp_path.rglob("*")) <= set(before)
    assert not entry.folder.exists()


def test_plain_names() -> None:
    assert all(map(is_plain, ("b0-int8.onnx", "a b.bin", "é.xml", "[x].bin", "...", "-")))


@pytest.mark.parametrize("changes", [{"files": [7]}, {"files": 7}, {"files": [{"name": "a"}]}])
def test_another_form_is_damage_too(tmp_path: Path, changes: dict[str, object]) -> None:
    told: list[str] = []
    store = store_in(tmp_path, told)
    rewrite(put(store), **changes)
    assert store.get(_KEY) is None
    assert told


def test_deep_nesting_is_damage(tmp_path: Path) -> None:
    told: list[str] = []
    store = store_in(tmp_path, told)
    entry = put(store)
    (entry.folder / "manifest.json").write_text("[" * 100_000 + "]" * 100_000)
    assert [usage.stage for usage in store.usages()] == ["damaged"]
    assert store.get(_KEY) is None
    assert "manifest is damaged" in told[0]


def test_a_manifest_that_is_a_pipe_does_not_block(tmp_path: Path) -> None:
    told: list[str] = []
    store = store_in(tmp_path, told)
    manifest = put(store).folder / "manifest.json"
    manifest.unlink()
    os.mkfifo(manifest)
    assert store.get(_KEY) is None
    assert "a named pipe" in told[0]
    assert store.usages()[0].stage == "damaged"


def test_files_that_are_not_in_the_entry(tmp_path: Path) -> None:
    told: list[str] = []
    store = store_in(tmp_path, told)
    assert store.read(put(store), "other.bin") is None
    assert not store.copy(put(store), tmp_path / "out", needed=("artifact.bin", "other.bin"))
    assert "other.bin is missing" in told[0]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_limit_on_file_sizes_costs_no_entry(tmp_path: Path) -> None:
    """As under ``ulimit -f``."""
    import resource
    import signal

    told: list[str] = []
    store = store_in(tmp_path, told)
    entry = store.put(_KEY, {}, {"artifact.bin": bytes(1_000_000)})
    assert entry is not None
    child = os.fork()
    if child == 0:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
        try:
            store.copy(entry, tmp_path / "out")
        except OSError as error:  # `copyfile` names the source, whichever side failed
            right = error.errno == errno.EFBIG and error.filename == str(tmp_path / "out" / "artifact.bin")
            os._exit(0 if right else 1)
        os._exit(2)
    assert os.waitpid(child, 0)[1] == 0
    assert store.copy(entry, tmp_path / "out")
