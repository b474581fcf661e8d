"""The memo: recall, else compute and keep; with a real store, and stages that count how often they run."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from edgefx.cache.entry import Key, key
from edgefx.cache.settings import OFF, CacheSettings
from edgefx.errors import ConversionError
from edgefx.pipeline.memo import Memo, NotKeptError, Workspace
from edgefx.pipeline.stages import Computed, KeptFiles, Stage
from edgefx.protocols import SILENT
from edgefx.vocabulary import StageKind


@dataclass(frozen=True)
class Answer:
    value: int


@dataclass
class Work:
    """A stage whose result is a number, with a file that holds it."""

    name: str = "work"
    calls: int = 0
    error: Exception | None = None
    inner: list[Stage[Answer, str]] = field(default_factory=list)
    memo: Memo | None = None
    seconds: float = 0.0
    lasting: bool = True
    clock: str | None = ""

    @property
    def key(self) -> Key:
        return key("test", version=1, name=self.name)

    @property
    def stage(self) -> Stage[Answer, str]:
        return Stage(
            kind=StageKind.CONVERT,
            key=self.key,
            result=Answer,
            compute=self.compute,
            restore=self.restore,
            target="tflite-int8",
            what=self.name,
            clock=self.clock,
        )

    def compute(self) -> Computed[Answer, str]:
        self.calls += 1
        for stage in self.inner:
            assert self.memo is not None
            self.memo.get(stage)
        time.sleep(self.seconds)
        if self.error is not None:
            raise self.error
        return Computed(
            value=Answer(self.calls),
            opened=f"computed {self.calls}",
            files={"a.bin": f"{self.calls}".encode()},
            lasting=self.lasting,
        )

    def restore(self, answer: Answer, files: KeptFiles) -> str:
        assert int(files.read("a.bin")) == answer.value
        return f"restored {answer.value}"


@pytest.fixture
def settings(tmp_path: Path) -> CacheSettings:
    return CacheSettings(folder=tmp_path / "cache")


def memo_of(settings: CacheSettings, tmp_path: Path, *, computes: bool = True) -> Memo:
    workspace = Workspace(scratch=tmp_path, staging=tmp_path / "staging") if computes else None
    return Memo(settings.store(SILENT.warn), SILENT, workspace)


def damage(settings: CacheSettings, name: str) -> None:
    assert settings.folder is not None
    (file,) = settings.folder.rglob(name)
    file.write_bytes(b"damaged")


def test_what_was_computed_is_recalled_by_the_next_run(settings: CacheSettings, tmp_path: Path) -> None:
    work = Work()
    first = memo_of(settings, tmp_path)
    assert [first.get(work.stage), first.get(work.stage)] == [Answer(1), Answer(1)]
    assert first.open(work.stage) == "computed 1"
    assert [(one.stage, one.target) for one in first.timings] == [(StageKind.CONVERT, "")]
    assert first.cached == []

    second = memo_of(settings, tmp_path)
    assert second.get(work.stage) == Answer(1)
    assert second.open(work.stage) == "restored 1"
    assert work.calls == 1
    assert second.timings == []
    (note,) = second.cached
    assert (note.stage, note.target, note.what, note.key) == (
        StageKind.CONVERT, "tflite-int8", "work", work.key.digest,
    )  # fmt: skip


def test_without_a_cache_a_run_computes_once(tmp_path: Path) -> None:
    work = Work()
    memo = memo_of(OFF, tmp_path)
    assert [memo.get(work.stage), memo.peek(work.stage)] == [Answer(1), Answer(1)]
    assert memo_of(OFF, tmp_path).get(work.stage) == Answer(2)


def test_peek_computes_nothing(settings: CacheSettings, tmp_path: Path) -> None:
    work = Work()
    memo = memo_of(settings, tmp_path)
    assert memo.peek(work.stage) is None
    assert work.calls == 0
    memo.get(work.stage)
    assert memo_of(settings, tmp_path).peek(work.stage) == Answer(1)


def test_a_memo_without_a_workspace_cannot_compute(settings: CacheSettings, tmp_path: Path) -> None:
    work, other = Work(), Work(name="other")
    memo_of(settings, tmp_path).get(work.stage)
    looking = memo_of(settings, tmp_path, computes=False)
    assert looking.get(work.stage) == Answer(1)
    with pytest.raises(NotKeptError):
        looking.get(other.stage)
    with pytest.raises(NotKeptError):
        looking.open(work.stage)  # only a computation would want it
    with pytest.raises(NotKeptError), looking.timed(StageKind.LOAD):
        raise AssertionError("nothing is to be loaded")
    assert other.calls == 0
    assert looking.timings == []


def test_a_damaged_file_is_computed_again(settings: CacheSettings, tmp_path: Path) -> None:
    work = Work()
    memo_of(settings, tmp_path).get(work.stage)
    damage(settings, "a.bin")
    memo = memo_of(settings, tmp_path)
    assert memo.get(work.stage) == Answer(1)
    assert len(memo.cached) == 1
    assert memo.open(work.stage) == "computed 2"
    assert memo.get(work.stage) == Answer(2), "the value belongs to the new files"
    assert memo.cached == [], "it did not come from the cache after all"
    assert memo_of(settings, tmp_path).open(work.stage) == "restored 2"


def test_a_payload_that_is_not_understood_is_computed_again(settings: CacheSettings, tmp_path: Path) -> None:
    work = Work()
    warnings: list[str] = []
    settings.store(warnings.append).put(work.key, {"strange": 1})
    memo = Memo(settings.store(warnings.append), SILENT, Workspace(scratch=tmp_path, staging=tmp_path))
    assert memo.get(work.stage) == Answer(1)
    assert "not understood" in warnings[0]
    assert memo_of(settings, tmp_path).get(work.stage) == Answer(1)


def test_forget_and_close(settings: CacheSettings, tmp_path: Path) -> None:
    work = Work()
    memo = memo_of(settings, tmp_path)
    memo.get(work.stage)
    assert memo.close(work.stage) == "computed 1"
    assert memo.close(work.stage) is None
    assert memo.open(work.stage) == "restored 1"
    memo.forget(work.stage)
    assert memo.get(work.stage) == Answer(1), "the entry is as good as before"
    assert len(memo.cached) == 1


def test_what_is_not_lasting_is_not_kept(settings: CacheSettings, tmp_path: Path) -> None:
    work = Work(lasting=False)
    memo = memo_of(settings, tmp_path)
    assert [memo.get(work.stage), memo.get(work.stage)] == [Answer(1), Answer(1)]
    assert memo_of(settings, tmp_path).peek(work.stage) is None


def test_a_failure_is_timed_and_not_tried_again(settings: CacheSettings, tmp_path: Path) -> None:
    work = Work(error=ConversionError("refused"))
    memo = memo_of(settings, tmp_path)
    for _ in range(2):
        with pytest.raises(ConversionError, match="refused"):
            memo.get(work.stage)
    assert work.calls == 1
    assert len(memo.timings) == 1
    assert memo.peek(work.stage) is None


def test_a_stage_is_not_charged_for_those_that_it_asks_for(settings: CacheSettings, tmp_path: Path) -> None:
    memo = memo_of(settings, tmp_path)
    silent = Work(name="silent", seconds=0.1, clock=None)
    inner = Work(name="inner", seconds=0.1, clock="inner", inner=[silent.stage], memo=memo)
    outer = Work(name="outer", seconds=0.1, clock="outer", inner=[inner.stage], memo=memo)
    begun = time.perf_counter()
    memo.get(outer.stage)
    total = time.perf_counter() - begun
    assert [one.target for one in memo.timings] == ["inner", "outer"]
    assert all(one.seconds >= 0.1 for one in memo.timings)
    assert sum(one.seconds for one in memo.timings) <= total - 0.1, "what is not listed is nobody's"


def test_what_another_stage_found_on_its_way_is_kept(settings: CacheSettings, tmp_path: Path) -> None:
    work = Work()
    memo = memo_of(settings, tmp_path)
    memo.keep(work.stage, Computed(value=Answer(7), opened="seven", files={"a.bin": b"7"}))
    assert (memo.get(work.stage), memo.open(work.stage), work.calls) == (Answer(7), "seven", 0)
    assert memo_of(settings, tmp_path).open(work.stage) == "restored 7"


def test_an_entry_with_other_files_than_it_describes_is_computed_again(
    settings: CacheSettings, tmp_path: Path
) -> None:
    work = Work()
    memo_of(settings, tmp_path).get(work.stage)

    def expecting(expected: Mapping[str, str | None]) -> str:
        def restore(answer: Answer, files: KeptFiles) -> str:
            files.copy(tmp_path / "copied", expected)
            return f"copied {answer.value}"

        return memo_of(settings, tmp_path).open(replace(work.stage, restore=restore))

    assert expecting({"a.bin": None}) == "copied 1"
    others: tuple[Mapping[str, str | None], ...] = ({"a.bin": "0" * 64}, {"b.bin": None}, {})
    for number, expected in enumerate(others, start=2):
        assert expecting(expected) == f"computed {number}"
