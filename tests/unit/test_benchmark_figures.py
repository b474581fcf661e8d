"""`python -m tests.benchmarks --store` and `--against`: what is kept, and what counts as worse."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.benchmarks import __main__ as benchmarks
from tests.benchmarks import stored
from tests.benchmarks.stored import Figure

LATENCY = Figure(0.8, 0.1)
DROP = Figure(0.2, 0.3, relative=False)
AGREEMENT = Figure(0.99, 0.003, relative=False, higher_is_better=True)


@pytest.mark.parametrize(
    ("kept", "now", "is_worse"),
    [
        (LATENCY, 0.87, False),
        (LATENCY, 0.89, True),
        (LATENCY, 0.1, False),
        (DROP, 0.49, False),
        (DROP, 0.51, True),
        (Figure(-0.5, 0.3, relative=False), -0.1, True),
        (AGREEMENT, 0.988, False),
        (AGREEMENT, 0.986, True),
        (AGREEMENT, 1.0, False),
    ],
)
def test_worse_is_beyond_the_tolerance_in_the_bad_direction(kept: Figure, now: float, is_worse: bool) -> None:
    assert kept.is_worse(now) is is_worse


def test_what_is_no_longer_measured_is_worse() -> None:
    assert list(stored.worse({"a": LATENCY}, {})) == ["a: was 0.8, and is not measured any more"]
    assert list(stored.worse({"a": LATENCY}, {"a": Figure(1.0, 0.1)})) == [
        "a: was 0.8, is 1, worse than 0.88"
    ]


def test_figures_come_back_as_they_were(tmp_path: Path) -> None:
    figures = {"startup: x": LATENCY, "targets: y": AGREEMENT}
    stored.write(tmp_path / "kept.json", figures)
    assert stored.read(tmp_path / "kept.json") == figures
    document = json.loads((tmp_path / "kept.json").read_text())
    assert document["environment"]["cpu"]
    assert document["environment"]["packages"]["numpy"]


def test_another_cpu_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "kept.json"
    stored.write(path, {"x": LATENCY})
    document = json.loads(path.read_text())
    document["environment"]["cpu"] = "an abacus"
    path.write_text(json.dumps(document))
    with pytest.raises(stored.StoredError, match="measured with cpu an abacus, here it is"):
        stored.read(path)


@pytest.mark.parametrize("text", ["", "[]", '{"schema_version": 9}', '{"schema_version": 1, "figures": {}}'])
def test_a_file_that_is_not_ours_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "kept.json"
    path.write_text(text)
    with pytest.raises(stored.StoredError, match=r"kept\.json"):
        stored.read(path)
    with pytest.raises(stored.StoredError, match="No such file"):
        stored.read(tmp_path / "nothing.json")


def test_exit_codes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rows: dict[str, object] = {"ratio": Figure(1.0, 0.1), "ms": 12.3}
    asked: list[list[str]] = []

    def measured(options: list[str]) -> dict[str, object]:
        asked.append(options)
        return rows

    monkeypatch.setattr(benchmarks, "import_module", lambda _: SimpleNamespace(main=measured))
    path = str(tmp_path / "kept.json")
    assert benchmarks.main(["startup", "--rounds", "3", "--store", path]) == 0
    assert asked == [["--rounds", "3"]]
    assert list(stored.read(Path(path))) == ["startup: ratio"]
    assert benchmarks.main(["startup", "--against", path]) == 0
    rows["ratio"] = Figure(1.2, 0.1)
    assert benchmarks.main(["startup", "--against", path]) == 1
    assert "worse: startup: ratio: was 1, is 1.2, worse than 1.1" in capsys.readouterr().out
    # What another benchmark has kept is not missed by this one.
    assert benchmarks.main(["throughput", "--against", path]) == 0
    assert benchmarks.main(["startup", "--against", str(tmp_path / "none.json")]) == 2
    assert "none.json" in capsys.readouterr().err


def test_artifacts_keeps_its_own_option(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[str]] = []
    monkeypatch.setattr(benchmarks, "import_module", lambda _: SimpleNamespace(main=asked.append))
    assert benchmarks.main(["artifacts", "--against", "before.json"]) == 0
    assert asked == [["--against", "before.json"]]
