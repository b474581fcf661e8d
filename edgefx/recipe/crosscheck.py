"""What a recipe's keys say together: contradictions that no single key shows. Nothing heavy is imported."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from edgefx.metrics import METRICS, Origin
from edgefx.recipe.tree import Diagnostic, Entry, Map, Node, Scalar, Sequence, Span, at
from edgefx.targets import INTEGER_ONLY, TARGETS, TargetRow

# Keys that limit a figure, and what must be done to know it.
_LIMITED = {row.gate: row.origin for row in METRICS.values() if row.gate} | {"budget": Origin.ACCURACY}
_SELF_CONTAINED = "digits"  # the model that brings its own images


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
        self.found: list[Diagnostic] = []
        self._has_model = has_model
        self._tree = tree
        self._folders = folders
        self._wanted = list(_wanted(tree.get("targets")))
        self._rows = [row for name, row in TARGETS.items() if any(name in one.names for one in self._wanted)]

    def check(self) -> list[Diagnostic]:
        """Return what is wrong."""
        self._check_quantization()
        self._check_training()
        for row in self._rows:
            self._check_target(row)
        if self._has_model:
            self._check_images()
        self._check_gates()
        self._check_model()
        return self.found

    # ---------------------------------------- quantization

    def _check_quantization(self) -> None:
        for section in self._option_sections():
            integer_only, keep = section.get("integer_only"), section.entries.get("keep_float")
            if keep and _is_true(integer_only) and not _is_empty(keep.value):
                self._say("keep_float contradicts integer_only", keep.key, "leave one of them out")

    def _check_training(self) -> None:
        quantize = self._tree.entries.get("quantize")
        if quantize is None or self._method != "qat" or not isinstance(quantize.value, Map):
            return
        section = quantize.value
        method = section.entries["method"].value.span
        train = section.entries.get("train")
        if train is None or _is_null(train.value):
            self._say("method qat needs training images", method, "train: photos/train")
        smoothing = section.entries.get("label_smoothing")
        mode = section.get("mode")
        supervised = isinstance(mode, Scalar) and mode.text == "supervised"
        if smoothing and not supervised and isinstance(smoothing.value, Scalar) and smoothing.value.value:
            self._say(
                "label_smoothing is for mode supervised; mode distill learns from scores, not labels",
                smoothing.key,
                "take it out, or write mode: supervised",
            )
        self._check_apart("quantize.train", "evaluate.images", "trained")
        evaluate = self._tree.entries.get("evaluate")
        measured = evaluate is None or not _is_null(evaluate.value)
        if measured and _is_null(at(self._tree, "evaluate", "images")):
            # What calibration leaves of its folder is measured on.
            self._check_apart("quantize.train", "calibration.images", "trained")

    def _check_target(self, row: TargetRow) -> None:
        span = next(one.span for one in self._wanted if row.name in one.names)
        if self._method == "none" and row.needs_calibration:
            self._say(f"method none makes float artifacts, not {row.name}", span, "write method: ptq")
            return
        integer_only = self._option(row, "integer_only")
        if _is_true(integer_only) and row.name not in INTEGER_ONLY:
            assert integer_only is not None
            hint = f"fully integer artifacts: {', '.join(INTEGER_ONLY)}"
            self._say(f"{row.name} always holds float operations", integer_only.span, hint)
        ranges = self._option(row, "ranges")
        if isinstance(ranges, Scalar) and row.ranges and ranges.text not in row.ranges and _known(ranges):
            hint = f"possible: {', '.join(row.ranges)}; an item of 'targets' may say so for it alone"
            self._say(f"{row.name} cannot be given ranges by {ranges.text}", ranges.span, hint)
        ends = self._option(row, "io_dtype") or self._tree.get("io_dtype")
        if isinstance(ends, Scalar) and ends.text in ("uint8", "int8") and ends.text not in row.io_dtypes:
            hint = "integer input and output exist for the int8 targets; say it for these alone"
            self._say(f"{row.name} cannot have {ends.text} input and output", ends.span, hint)

    # ---------------------------------------- images

    def _check_images(self) -> None:
        calibration = self._tree.get("calibration")
        images = at(calibration, "images")
        samples = calibration.entries.get("samples") if isinstance(calibration, Map) else None
        if self._source == _SELF_CONTAINED or not _is_null(images):
            self._check_apart("calibration.images", "evaluate.images", "calibrated")
            return
        needing = [one for one in self._wanted if any(TARGETS[name].needs_calibration for name in one.names)]
        if needing and self._method != "none":
            names = [row.name for row in self._rows if row.needs_calibration]
            self._say(
                f"{', '.join(names)} need{'s'[: len(names) < 2]} calibration images to set activation ranges",
                needing[0].span,
                "calibration: {images: photos/}, about 100 typical ones; labels are not needed",
            )
        if samples:
            self._say("samples says how many of calibration.images to use", samples.key, "images: photos/")

    def _check_apart(self, one: str, other: str, what: str) -> None:
        """Refuse that accuracy is measured on the images that the artifact was made with."""
        first, second = self._folders.get(one), self._folders.get(other)
        node = at(self._tree, *other.split("."))
        hint = "give other images as evaluate.images"
        if one == "calibration.images":
            hint += ", or leave it out: what calibration leaves of its folder is measured on"
        if first is None or second is None or node is None:
            return
        if first.resolve() == second.resolve():
            self._say(
                f"accuracy would be measured on the images {what} on: {one} is the same folder",
                node.span,
                hint,
            )

    # ---------------------------------------- gates, model

    def _check_gates(self) -> None:
        evaluate = self._tree.entries.get("evaluate")
        benchmark = self._tree.entries.get("benchmark")
        unmeasured = self._unmeasured(evaluate)
        for key, entry in self._limits():
            if _is_null(entry.value):
                continue
            origin = _LIMITED[key]
            if origin is Origin.ACCURACY and unmeasured:
                self._say(f"{key} needs accuracy, which is not measured: {unmeasured}", entry.key, _EVALUATE)
            if origin is Origin.LATENCY and benchmark and _is_null(benchmark.value):
                self._say(
                    f"{key} needs latency, which is not measured: benchmark is null",
                    entry.key,
                    "take 'benchmark' out to measure it",
                )

    def _unmeasured(self, evaluate: Entry | None) -> str:
        """Say why accuracy is not measured; "" when it is."""
        if evaluate and _is_null(evaluate.value):
            return "evaluate is null"
        given = (at(self._tree, "calibration", "images"), at(self._tree, "evaluate", "images"))
        if self._source == _SELF_CONTAINED or not all(_is_null(node) for node in given):
            return ""
        return "there are no images"

    def _limits(self) -> Iterator[tuple[str, Entry]]:
        """Yield all budgets and gates, by key."""
        sections = [self._tree.get("gates"), self._tree.get("quantize")]
        for one in self._wanted:
            sections += [one.section, at(one.section, "gates")]
        for section in sections:
            if isinstance(section, Map):
                yield from ((key, entry) for key, entry in section.entries.items() if key in _LIMITED)

    def _check_model(self) -> None:
        from edgefx.models.zoo import FAMILIES

        model = self._tree.get("model")
        if not isinstance(model, Map) or not self._source or self._source.lower() in FAMILIES:
            return
        for key in ("weights", "classes"):
            entry = model.entries.get(key)
            if entry and not _is_null(entry.value):
                self._say(f"{key} is for models by name; a file has its own", entry.key, "take it out")

    # ---------------------------------------- small help

    @property
    def _source(self) -> str:
        model = self._tree.get("model")
        source = at(model, "source") if isinstance(model, Map) else model
        return source.text if isinstance(source, Scalar) and not source.broken else ""

    @property
    def _method(self) -> str:
        method = at(self._tree, "quantize", "method")
        return method.text if isinstance(method, Scalar) else "ptq"

    def _option(self, row: TargetRow, key: str) -> Node | None:
        """Return what is said for one target: the last item of targets that says it, or quantize."""
        for one in reversed(self._wanted):
            node = one.section.get(key) if one.section and row.name in one.names else None
            if node is not None and not _is_null(node):
                return node
        return at(self._tree, "quantize", key)

    def _option_sections(self) -> Iterator[Map]:
        """Yield the sections of options: the general one, and each target's with what it inherits."""
        general = self._tree.get("quantize")
        inherited = general if isinstance(general, Map) else Map({}, self._tree.span)
        yield inherited
        for one in self._wanted:
            if one.section and {"integer_only", "keep_float"} & one.section.entries.keys():
                yield Map({**inherited.entries, **one.section.entries}, one.span)

    def _say(self, message: str, span: Span, hint: str = "") -> None:
        self.found.append(Diagnostic(message, span, hint))


_EVALUATE = "give images, as evaluate: {images: photos/test}, with a sub-folder per class or labels.csv"


def _wanted(targets: Node | None) -> Iterator[_Wanted]:
    items = targets.items if isinstance(targets, Sequence) else (targets,)
    for item in items:
        pattern = item.get("target") if isinstance(item, Map) else item
        if isinstance(pattern, Scalar):
            parts = [part.strip().lower() for part in pattern.text.split(",")]
            names = frozenset(name for part in parts for name in fnmatch.filter(TARGETS, part))
            yield _Wanted(names, pattern.span, item if isinstance(item, Map) else None)


def _known(ranges: Scalar) -> bool:
    from edgefx.vocabulary import Ranges

    return ranges.text in set(Ranges)


def _is_null(node: Node | None) -> bool:
    return node is None or (isinstance(node, Scalar) and node.value is None and not node.broken)


def _is_true(node: Node | None) -> bool:
    return isinstance(node, Scalar) and node.value is True


def _is_empty(node: Node) -> bool:
    return _is_null(node) or (isinstance(node, Sequence) and not node.items)
