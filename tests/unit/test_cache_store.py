"""The store: what is half-written is never read, damage is found, room is made, and trouble costs no run."""

from __future__ import annotations

import errno
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from edgefx.cache import settings
from edgefx.cache.entry import Entry, Key, key
from edgefx.cache.store import Store
from edgefx.errors import UsageError
from edgefx.storage import places

ROOM = 10**9


class Told(list[str]):
    """Warnings."""

    def __call__(self, message: str) -> None:
        self.append(message)


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
def store(tmp_path: Path, told: Told) -> Store:
    return Store(tmp_path / "cache", limit_bytes=ROOM, warn=told)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "artifact.bin"
    path.write_bytes(bytes(range(256)) * 1000)
    return path


def a_key(number: int = 0) -> Key:
    return key("convert", version=1, number=number, target="tflite-int8")


def put(store: Store, number: int, file: Path) -> Entry:
    entry = store.put(a_key(number), {"number": number, "share": 0.1}, {"artifact.bin": file})
    assert entry is not None
    return entry


def leftovers(store: Store) -> list[Path]:
    assert store._folder is not None
    return list((store._folder / "temporary").iterdir())


def test_what_was_put_comes_back(store: Store, file: Path, tmp_path: Path, told: Told) -> None:
    assert store.get(a_key()) is None
    written = put(store, 0, file)
    entry = store.get(a_key())
    assert entry == written
    assert entry.payload == {"number": 0, "share": 0.1}
    assert store.copy(entry, tmp_path / "out")
    assert (tmp_path / "out" / "artifact.bin").read_bytes() == file.read_bytes()
    assert store.read(entry, "artifact.bin") == file.read_bytes()
    assert not leftovers(store)
    assert not told


def test_every_part_of_a_key_counts() -> None:
    keys = [
        key("convert", version=1, graph="ab", seed=0),
        key("convert", version=2, graph="ab", seed=0),
        key("convert", version=1, graph="ab", seed=1),
        key("evaluate", version=1, graph="ab", seed=0),
    ]
    assert len({one.digest for one in keys}) == 4
    assert key("a", version=1, x=1, y=2).digest == key("a", version=1, y=2, x=1).digest
    assert key("a", version=1, x=[1, 2]).parts == {"version": 1, "x": [1, 2]}
    with pytest.raises(ValueError, match="JSON"):
        key("a", version=1, x=float("nan"))


def test_a_store_that_is_off_keeps_nothing(told: Told, file: Path) -> None:
    store = settings.OFF.store(told)
    assert store.put(a_key(), {}, {"artifact.bin": file}) is None
    assert store.get(a_key()) is None
    assert not store.usages()
    assert not told


# -------------------------------------------------------------------------------------------------- damage


@pytest.mark.parametrize("how", ["flip", "truncate", "remove"])
def test_a_damaged_file_is_found_removed_and_told_of(
    store: Store, file: Path, tmp_path: Path, told: Told, how: str
) -> None:
    entry = put(store, 0, file)
    path = entry.folder / "artifact.bin"
    content = bytearray(path.read_bytes())
    content[1000] ^= 1
    if how == "flip":
        path.write_bytes(content)
    elif how == "truncate":
        path.write_bytes(content[:500])
    else:
        path.unlink()
    assert not store.copy(entry, tmp_path / "out")
    assert not (tmp_path / "out" / "artifact.bin").exists()
    assert store.get(a_key()) is None
    assert not entry.folder.exists()
    assert entry.short_key in told[0]
    assert "computed again" in told[0]
    put(store, 0, file)
    assert store.get(a_key()) is not None


@pytest.mark.parametrize("how", ["flip", "truncate", "empty", "other", "checksum"])
def test_a_damaged_manifest_is_never_believed(store: Store, file: Path, told: Told, how: str) -> None:
    manifest = put(store, 0, file).folder / "manifest.json"
    text = manifest.read_text()
    edited = {
        "flip": text.replace('"share":0.1', '"share":0.2'),
        "truncate": text[: len(text) // 2],
        "empty": "",
        "other": "[]",
        "checksum": json.dumps({**json.loads(text), "checksum": 0}),
    }[how]
    assert edited != text
    manifest.write_text(edited)
    assert store.get(a_key()) is None
    assert "manifest is damaged" in told[0]
    assert not manifest.parent.exists()


def test_an_entry_under_another_key_is_not_believed(store: Store, file: Path, told: Told) -> None:
    here = put(store, 0, file).folder
    there = store._entry_folder(a_key(1).digest)
    there.parent.mkdir(exist_ok=True)
    here.rename(there)
    assert store.get(a_key(1)) is None
    assert "another key" in told[0]


def test_read_of_a_damaged_file(store: Store, file: Path, told: Told) -> None:
    entry = put(store, 0, file)
    (entry.folder / "artifact.bin").write_bytes(b"x")
    assert store.read(entry, "artifact.bin") is None
    assert told
    assert store.get(a_key()) is None


# --------------------------------------------------------------------------------------------------- room


def test_the_least_recently_used_go_first(tmp_path: Path, told: Told, file: Path) -> None:
    size = file.stat().st_size
    store = Store(tmp_path / "cache", limit_bytes=int(3.5 * size), warn=told)
    now = time.time()
    for number in range(3):
        entry = put(store, number, file)
        os.utime(entry.folder / "manifest.json", (now - 100 + number, now - 100 + number))
    assert store.get(a_key(0)) is not None  # used: now the youngest
    put(store, 3, file)
    store.trim()
    assert [store.get(a_key(number)) is not None for number in range(4)] == [True, False, True, True]
    assert sum(usage.size_bytes for usage in store.usages()) <= 3.5 * size
    assert not told


def test_room_is_made_while_writing(tmp_path: Path, told: Told, file: Path) -> None:
    size = file.stat().st_size
    store = Store(tmp_path / "cache", limit_bytes=4 * size, warn=told)
    for number in range(12):
        put(store, number, file)
        assert sum(usage.size_bytes for usage in store.usages()) <= 4 * size
    assert store.get(a_key(11)) is not None


def test_an_entry_larger_than_the_limit_is_not_kept(tmp_path: Path, told: Told, file: Path) -> None:
    store = Store(tmp_path / "cache", limit_bytes=100, warn=told)
    assert store.put(a_key(), {}, {"artifact.bin": file}) is None
    assert "larger than the cache may grow" in told[0]
    assert not store.usages()


def test_clean_by_age(store: Store, file: Path) -> None:
    old, new = put(store, 0, file), put(store, 1, file)
    then = time.time() - 1000
    os.utime(old.folder / "manifest.json", (then, then))
    removed, size = store.clean(unused_for_s=500)
    assert (removed, size > file.stat().st_size) == (1, True)
    assert not old.folder.exists()
    assert new.folder.exists()
    assert store.clean()[0] == 1
    assert not store.usages()


# ------------------------------------------------------------------------------------------------ trouble


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_cache_is_read(store: Store, file: Path, told: Told, tmp_path: Path) -> None:
    entry = put(store, 0, file)
    folders = [tmp_path / "cache", *(path for path in (tmp_path / "cache").rglob("*") if path.is_dir())]
    for folder in folders:
        folder.chmod(0o500)
    try:
        assert store.get(a_key()) is not None
        assert store.copy(entry, tmp_path / "out")
        assert store.put(a_key(1), {}, {"artifact.bin": file}) is None
        assert store.put(a_key(2), {}, {"artifact.bin": file}) is None
    finally:
        for folder in folders:
            folder.chmod(0o700)
    (said,) = told
    assert "cannot be written" in said


def test_a_cache_that_cannot_be_made_costs_a_warning(tmp_path: Path, told: Told, file: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    store = Store(tmp_path / "file" / "cache", limit_bytes=ROOM, warn=told)
    for number in range(3):
        assert store.get(a_key(number)) is None
        assert store.put(a_key(number), {}, {"artifact.bin": file}) is None
    assert sum("cannot be written" in line for line in told) == 1
    store.close()


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "edgefx cache clean"),
        (OSError(errno.EROFS, "Read-only file system"), "Read-only"),
    ],
)
def test_a_disk_that_fails_while_writing_costs_a_warning(
    store: Store, file: Path, monkeypatch: pytest.MonkeyPatch, error: OSError, says: str
) -> None:
    told = store._warn = Told()
    monkeypatch.setattr("edgefx.cache.store._copy", lambda *_: (_ for _ in ()).throw(error))
    assert store.put(a_key(), {}, {"artifact.bin": file}) is None
    assert store.put(a_key(1), {}, {"artifact.bin": file}) is None
    (said,) = told
    assert says in said
    assert not leftovers(store)
    assert store.get(a_key()) is None


# ------------------------------------------------------------------------------------- processes and kills

_WRITER = """
import os, sys
from pathlib import Path
from edgefx.cache.entry import key
from edgefx.cache.store import Store
folder, source, first, last = sys.argv[1:]
store = Store(Path(folder), limit_bytes=10**9, warn=lambda text: print("warning", text, flush=True))
print("ready", flush=True)
sys.stdin.readline()
for number in range(int(first), int(last)):
    wanted = key("convert", version=1, number=number, target="tflite-int8")
    entry = store.get(wanted)
    if entry is None:
        store.put(wanted, {"number": number}, {name: Path(source) for name in "abcd"})
        entry = store.get(wanted)
    assert entry is not None and store.copy(entry, Path(folder) / f"out-{os.getpid()}")
    print(number, flush=True)
"""


def writer(folder: Path, source: Path, first: int, last: int) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", _WRITER, str(folder), str(source), str(first), str(last)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def start(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("go\n")
    process.stdin.flush()


def test_two_processes_at_once(tmp_path: Path, store: Store, file: Path, told: Told) -> None:
    both = [writer(tmp_path / "cache", file, 0, 60) for _ in range(2)]
    for process in both:
        start(process)
    for process in both:
        out, _ = process.communicate(timeout=60)
        assert process.returncode == 0, out
        assert "warning" not in out
    entries = [store.get(a_key(number)) for number in range(60)]
    assert all(entry is not None and store.copy(entry, tmp_path / "out") for entry in entries)
    assert len(store.usages()) == 60
    assert not leftovers(store)
    assert not told


def test_kills_leave_whole_entries_or_none(tmp_path: Path, store: Store, file: Path, told: Told) -> None:
    random_ = random.Random(0)
    whole = 0
    for _ in range(15):
        process = writer(tmp_path / "cache", file, whole, 10_000)
        start(process)
        assert process.stdout is not None
        for _ in range(random_.randrange(3)):  # some entries are finished, however slow the machine is
            process.stdout.readline()
        time.sleep(random_.uniform(0.0, 0.02))
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=10)
        while (entry := store.get(a_key(whole))) is not None:  # they are written in order
            assert store.copy(entry, tmp_path / "out")
            whole += 1
    assert whole > 8, "some entries were finished between the kills"
    assert not told, "no reader ever saw a damaged entry"
    store.trim()
    assert not leftovers(store), "what the killed writers left is swept"


# ----------------------------------------------------------------------------------------------- settings


def test_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("EDGEFX_CACHE_DIR", str(tmp_path / "here"))
    monkeypatch.delenv("EDGEFX_CACHE_SIZE", raising=False)
    assert settings.from_environment() == settings.CacheSettings(folder=tmp_path / "here")
    monkeypatch.setenv("EDGEFX_CACHE_SIZE", "2GB")
    assert settings.from_environment().limit_bytes == 2 * 10**9
    monkeypatch.setenv("EDGEFX_CACHE_SIZE", "0")
    assert settings.from_environment() == settings.OFF
    monkeypatch.setenv("EDGEFX_CACHE_SIZE", "much")
    with pytest.raises(UsageError, match="EDGEFX_CACHE_SIZE"):
        settings.from_environment()


def test_the_platform_has_a_place_for_caches(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("EDGEFX_CACHE_DIR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(sys, "platform", "linux")
    assert places.cache_folder() == tmp_path / "edgefx"
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert places.cache_folder() == tmp_path / "Library" / "Caches" / "edgefx"


def test_a_user_without_a_home_folder_is_told(monkeypatch: pytest.MonkeyPatch, told: Told) -> None:
    def no_home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    for name in ("EDGEFX_CACHE_DIR", "EDGEFX_CACHE_SIZE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Path, "home", no_home)
    found = settings.from_environment()
    assert found.folder is None
    assert found.store(told).get(a_key()) is None
    assert "EDGEFX_CACHE_DIR" in told[0]
