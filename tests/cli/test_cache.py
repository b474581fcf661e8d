"""`edgefx cache`, and messages of the commands that read runs."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from edgefx.cache.entry import key
from edgefx.cache.settings import from_environment
from tests.cli.conftest import Edgefx


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of three entries; one was last used ten days ago."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("EDGEFX_CACHE_DIR", str(folder))
    monkeypatch.setenv("EDGEFX_CACHE_SIZE", "1GB")
    store = from_environment().store(print)
    for number in range(3):
        entry = store.put(
            key("convert" if number else "images", version=1, number=number), {}, {"a": b"x" * 1000}
        )
        assert entry is not None
        if number == 2:
            then = time.time() - 10 * 86400
            os.utime(entry.folder / "manifest.json", (then, then))
    return folder


def test_info(edgefx: Edgefx, cache: Path) -> None:
    found = json.loads(edgefx("cache", "info", "--json").out)
    assert found["folder"] == str(cache)
    assert found["entries"] == 3
    assert found["size_bytes"] > 3000
    assert found["limit_bytes"] == 10**9
    assert [(stage["stage"], stage["entries"]) for stage in found["stages"]] == [
        ("convert", 2),
        ("images", 1),
    ]
    assert "3 entries" in edgefx("cache", "info").out


def test_clean_by_age_and_all(edgefx: Edgefx, cache: Path) -> None:
    assert json.loads(edgefx("cache", "clean", "--older-than", "9d", "--json").out)["removed"] == 1
    assert "removed 2 entries" in edgefx("cache", "clean", "--all").out
    assert json.loads(edgefx("cache", "info", "--json").out)["entries"] == 0
    assert not list(cache.rglob("manifest.json"))


@pytest.mark.usefixtures("cache")
@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), "--older-than AGE or --all"),
        (("--all", "--older-than", "3d"), "--all"),
        (("--older-than", "3 years"), "not an age"),
    ],
)
def test_clean_must_be_told_what(edgefx: Edgefx, arguments: tuple[str, ...], says: str) -> None:
    outcome = edgefx("cache", "clean", *arguments)
    assert outcome.code == 2
    assert says in outcome.err
    assert json.loads(edgefx("cache", "info", "--json").out)["entries"] == 3


def test_a_cache_that_is_off_or_empty(
    edgefx: Edgefx, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGEFX_CACHE_DIR", str(tmp_path / "none"))
    monkeypatch.setenv("EDGEFX_CACHE_SIZE", "0")
    assert "off" in edgefx("cache", "info").out
    assert edgefx("cache", "clean", "--all").code == 0
    monkeypatch.setenv("EDGEFX_CACHE_SIZE", "1GB")
    assert json.loads(edgefx("cache", "info", "--json").out)["entries"] == 0
    assert not (tmp_path / "none").exists(), "looking makes nothing"
    monkeypatch.setenv("EDGEFX_CACHE_SIZE", "1 furlong")
    outcome = edgefx("cache", "info")
    assert outcome.code == 2
    assert "EDGEFX_CACHE_SIZE" in outcome.err


def test_commands_that_read_runs_refuse_other_files(edgefx: Edgefx, tmp_path: Path) -> None:
    (tmp_path / "edgefx.lock.json").write_text("{}")
    for arguments in (("diff", str(tmp_path), str(tmp_path)), ("reproduce", str(tmp_path))):
        outcome = edgefx(*arguments)
        assert outcome.code == 2, outcome.err
        assert "no lock file" in outcome.err
    outcome = edgefx("diff", str(tmp_path), str(tmp_path), "--report", "x.html")
    assert outcome.code == 2
    assert ".md or .json" in outcome.err
