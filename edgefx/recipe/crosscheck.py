"""What a recipe's keys say together: the rules of `edgefx.recipe.rules`, each mistake with its place.

Nothing heavy is imported.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING

from edgefx.errors import UsageError
from edgefx.models import scaling
from edgefx.models.zoo import brings_images
from edgefx.npus import NpuOptions
from edgefx.quantization import UNCOMPRESSED, WeightCompression
from edgefx.recipe import rules
from edgefx.recipe.conditions import of_device
from edgefx.recipe.options import IN_FILE
from edgefx.recipe.requests import Problem, Request, TargetRequest
from edgefx.recipe.tree import Diagnostic, Entry, Map, Node, Scalar, Sequence, Span, at
from edgefx.targets import ALL, TargetRow, matching
from edgefx.units import parse_prune

_NPU = tuple(f"npu.{field.name}" for field in fields(NpuOptions))

if TYPE_CHECKING:
    from edgefx.verdicts import Gate


@dataclass(frozen=True)
class _Wanted:
    """What one item of ``targets`` says."""

    names: frozenset[str]
    span: Span
    section: Map | None


class CrossChecker:
    """Looks for contradictions in a tree.

    Args:
        tree: Each of its keys may still be wrong alone; what is, is passed over here.
        folders: The image folders by dotted key, as far as they exist.
        has_model: Whether there is a model: which images are needed depends on it.
    """

    def __init__(self, tree: Map, folders: dict[str, Path], *, has_model: bool) -> None:
        self._has_model = has_model
        self._tree = tree
        self._folders = folders
        self._wanted = list(_wanted(tree.get("targets")))

    def check(self) -> list[Diagnostic]:
        """Return what is wrong."""
        request = self._request()
        found = [
            Diagnostic(IN_FILE.filled(problem.message), span, IN_FILE.filled(problem.hint))
            for span, problem in rules.merged(rules.problems(request), self._span)
        ]
        return [*found, *self._measured_on_what_made_it(request)]

    # ---------------------------------------- what is said

    def _request(self) -> Request:
        def given(*path: str) -> bool:
            return not _is_null(at(self._tree, *path))

        smoothing = at(self._tree, "quantize", "label_smoothing")
        return Request(
            model=self._source if self._has_model else "",
            targets=tuple(
                self._of_target(row)
                for name, row in ALL.items()
                if any(name in one.names for one in self._wanted)
            ),
            method=self._text("quantize.method") or "ptq",
            mode=self._text("quantize.mode") or "distill",
            trains=given("quantize", "train"),
            smooths=isinstance(smoothing, Scalar) and bool(smoothing.value),
            calibrates=given("calibration", "images"),
            samples=given("calibration", "samples"),
            evaluates="evaluate" not in self._tree.entries or given("evaluate"),
            evaluation=given("evaluate", "images"),
            benchmarks="benchmark" not in self._tree.entries or given("benchmark"),
            prices=given("benchmark", "price_per_hour"),
            explains=self._text("report.explain") not in ("", "0"),
            for_zoo=tuple(key for key in ("model.weights", "model.classes") if given(*key.split("."))),
            scaling=self._scaling(),
            input_size=self._text("model.input_size") or None,
            devices=tuple(one.text for one in _scalars(at(self._tree, "benchmark", "devices"))),
            device_gates=self._device_gates(),
        )

    def _scaling(self) -> dict[str, float]:
        said = {key: at(self._tree, "model", key) for key in scaling.KEYS}
        return {
            key: float(node.value)
            for key, node in said.items()
            if isinstance(node, Scalar) and isinstance(node.value, int | float)
        }

    def _device_gates(self) -> dict[str, list[Gate]]:
        node = at(self._tree, "gates", "devices")
        found: dict[str, list[Gate]] = {}
        for scope, entry in node.entries.items() if isinstance(node, Map) else ():
            for condition in _scalars(entry.value):
                with contextlib.suppress(UsageError):  # which is said where it stands
                    found.setdefault(scope, []).append(of_device(scope, condition.text))
        return found

    def _of_target(self, row: TargetRow) -> TargetRequest:
        def text(key: str) -> str | None:
            entry = self._entry(key, row.name)
            return entry.value.text if entry and isinstance(entry.value, Scalar) else None

        integer_only, keeps = (
            self._entry(f"quantize.{key}", row.name) for key in ("integer_only", "keep_float")
        )
        npu = ((key, self._entry(key, row.name)) for key in _NPU)
        said = {
            key: self._entry(key, row.name, null_counts=True) for key in (*rules.LIMITED, *rules.COMPRESSION)
        }

        channels = _channels(said["quantize.prune"])

        def given(keys: Iterable[str]) -> tuple[str, ...]:
            return tuple(key for key in keys if (entry := said[key]) and not _is_null(entry.value))

        return TargetRequest(
            row=row,
            io_dtype=text("io_dtype"),
            ends=text("ends") or "scores",
            ranges=text("quantize.ranges") or "auto",
            keeps_float=keeps is not None and not _is_empty(keeps.value),
            integer_only=row.is_compiled or (integer_only is not None and _is_true(integer_only.value)),
            compression=tuple(
                key for key in given(rules.COMPRESSION) if key != "quantize.prune" or not channels
            ),
            channels=channels,
            limits=given(rules.LIMITED),
            npu_options=tuple(key for key, entry in npu if entry and not _is_null(entry.value)),
        )

    def _entry(self, key: str, target: str, *, null_counts: bool = False) -> Entry | None:
        """Return what is said for one target: the last item of targets that says it, or the whole recipe.

        Args:
            key: The recipe's key; an item of targets has that of ``quantize`` directly.
            target: The target; "" for none.
            null_counts: Whether an item says something with null: that there is none.
        """
        for one in reversed(self._wanted):
            entry = _entry_at(one.section, key.removeprefix("quantize.")) if target in one.names else None
            if entry and (null_counts or not _is_null(entry.value)):
                return entry
        return _entry_at(self._tree, key)

    def _text(self, key: str) -> str:
        node = at(self._tree, *key.split("."))
        return node.text if isinstance(node, Scalar) else ""

    @property
    def _source(self) -> str:
        model = self._tree.get("model")
        source = at(model, "source") if isinstance(model, Map) else model
        return source.text if isinstance(source, Scalar) and not source.broken else ""

    # ---------------------------------------- where

    def _span(self, problem: Problem) -> Span:
        entry = self._entry(problem.key, problem.target) if problem.key != "targets" else None
        if entry is not None and problem.item and isinstance(entry.value, Map):
            return entry.value.entries[problem.item].key
        if entry is not None:
            return entry.key if problem.at_key else entry.value.span
        spans = (one.span for one in self._wanted if problem.target in one.names)
        return next(spans, self._tree.span)

    # ---------------------------------------- folders

    def _measured_on_what_made_it(self, request: Request) -> Iterator[Diagnostic]:
        """Refuse that accuracy is measured on the images that the artifact was made with."""
        if request.is_trained:
            yield from self._apart("quantize.train", "evaluate.images", "trained")
            if request.evaluates and not request.evaluation:
                # What calibration leaves of its folder is measured on.
                yield from self._apart("quantize.train", "calibration.images", "trained")
        if request.calibrates or brings_images(request.model):
            yield from self._apart("calibration.images", "evaluate.images", "calibrated")

    def _apart(self, one: str, other: str, what: str) -> Iterator[Diagnostic]:
        first, second = self._folders.get(one), self._folders.get(other)
        node = at(self._tree, *other.split("."))
        if first is None or second is None or node is None or first.resolve() != second.resolve():
            return
        hint = "give other images as evaluate.images"
        if one == "calibration.images":
            hint += ", or leave it out: what calibration leaves of its folder is measured on"
        message = f"accuracy would be measured on the images {what} on: {one} is the same folder"
        yield Diagnostic(message, node.span, hint)


def _wanted(targets: Node | None) -> Iterator[_Wanted]:
    items = targets.items if isinstance(targets, Sequence) else (targets,)
    for item in items:
        pattern = item.get("target") if isinstance(item, Map) else item
        if isinstance(pattern, Scalar):
            names = frozenset(name for part in pattern.text.split(",") for name in matching(part))
            yield _Wanted(names, pattern.span, item if isinstance(item, Map) else None)


def _entry_at(section: Map | None, key: str) -> Entry | None:
    """Return a dotted key of a section with its value, or None."""
    *above, last = key.split(".")
    node = at(section, *above)
    return node.entries.get(last) if isinstance(node, Map) else None


def _scalars(node: Node | None) -> Iterator[Scalar]:
    """Yield a value, or those of a list."""
    items = node.items if isinstance(node, Sequence) else (node,)
    return (item for item in items if isinstance(item, Scalar) and not item.broken)


def _channels(entry: Entry | None) -> WeightCompression:
    """Return what is said of channels; nothing where what is said cannot be read, which is said elsewhere."""
    if entry is not None and isinstance(entry.value, Scalar) and not _is_null(entry.value):
        with contextlib.suppress(UsageError):
            return parse_prune(entry.value.text).of_graph
    return UNCOMPRESSED


def _is_null(node: Node | None) -> bool:
    return node is None or (isinstance(node, Scalar) and node.value is None and not node.broken)


def _is_true(node: Node | None) -> bool:
    return isinstance(node, Scalar) and node.value is True


def _is_empty(node: Node) -> bool:
    return _is_null(node) or (isinstance(node, Sequence) and not node.items)
