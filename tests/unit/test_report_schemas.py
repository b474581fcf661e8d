"""The committed JSON Schemas of report.json and edgefx.lock.json."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest

from edgefx.report.schemas import DOCUMENTS, described, json_schema, text
from edgefx.results import CachedStage, DropUnit, LayerSensitivity, MaxDrop, RunReport
from edgefx.storage.serde import dumps
from edgefx.training import TrainingEffect, TrainingEpoch, TrainingResult
from edgefx.types import Effort, QatMode, StageKind
from edgefx.vocabulary import Hardware
from tests.documents import violations
from tests.unit.report_samples import OUT, report, with_failure, with_search
from tests.unit.test_comparison import a_lock


def _reports() -> Iterator[RunReport]:
    yield report()
    yield report(labelled=False)
    yield with_failure(report())
    searched = with_search(report(), limit=MaxDrop(value=0.5, unit=DropUnit.PERCENT), gap=0.2)
    ranked = (LayerSensitivity(layer="stem", mean_kl=0.1, top1_changed=0.02),)
    yield replace(
        searched,
        targets=tuple(
            replace(one, search=replace(one.search, ranked=ranked) if one.search else None)
            for one in searched.targets
        ),
    )
    epoch = TrainingEpoch(
        number=0,
        loss=None,
        validation_loss=0.1,
        agreement=0.9,
        accuracy=None,
        snr_db=20.0,
        images_per_s=None,
        seconds=1.5,
    )
    yield replace(
        report(),
        targets=tuple(
            replace(
                one,
                training=TrainingEffect(loss_before=0.2, loss_after=0.1, images=20),
                hardware=Hardware.X86_VNNI,
                effort=Effort.HIGH,
            )
            for one in report().targets
        ),
        training=TrainingResult(
            mode=QatMode.DISTILL,
            images=80,
            validated=20,
            epochs=(epoch,),
            best=0,
            stopped="",
            summary="it did not help",
            seconds=3.0,
        ),
        cached=(
            CachedStage(
                stage=StageKind.CONVERT, target="onnx-int8", what="", key="ab" * 32, created="2026-01-01"
            ),
        ),
    )


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_the_committed_schema_is_that_of_the_code(path: Path) -> None:
    title, kind = DOCUMENTS[path]
    made = text(json_schema(kind, title=title))
    assert path.read_text(encoding="utf-8") == made, "write it anew: python -m edgefx.report.schemas"
    jsonschema.Draft202012Validator.check_schema(json.loads(made))


@pytest.mark.parametrize("one", _reports())
def test_reports_are_as_their_schema_says(one: RunReport) -> None:
    assert violations("report.schema.json", json.loads(dumps(one, root=OUT))) == []


@pytest.mark.parametrize("one", [a_lock(), a_lock(data=(), targets=())])
def test_locks_are_as_their_schema_says(one: Any) -> None:
    assert violations("lock.schema.json", json.loads(dumps(one))) == []


def test_a_document_that_is_not_one_is_refused() -> None:
    document = json.loads(dumps(report()))
    assert violations("report.schema.json", {**document, "seed": "0"}) == [
        "$.seed: '0' is not of type 'integer'"
    ]
    del document["exit_code"]
    assert violations("report.schema.json", {**document, "exti_code": 0}) != []
    document = json.loads(dumps(a_lock()))
    document["targets"][0]["size_bytes"] = "1 kB"
    assert [found.partition(":")[0] for found in violations("lock.schema.json", document)] == [
        "$.targets[0].size_bytes"
    ]


@dataclass
class _Sample:
    """What it is.

    More of it.

    Attributes:
        first: One line.
        second: Two lines: the second
            of them.
    """

    first: int
    second: int


def test_words_come_from_the_docstring() -> None:
    assert described(_Sample) == (
        "What it is. More of it.",
        {"first": "One line.", "second": "Two lines: the second of them."},
    )
