"""Two runs compared by their lock files: which inputs changed, and what that did. Standard library only."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from edgefx.errors import ExitCode, UsageError
from edgefx.evaluation.statistics import paired_drop_ci
from edgefx.metrics import METRICS, Origin
from edgefx.notebook import Shown
from edgefx.provenance import lock as locks
from edgefx.provenance import matrices, predictions
from edgefx.provenance.lock import Lock, LockedImages, LockedTarget
from edgefx.provenance.predictions import Predictions
from edgefx.verdicts import Verdict

# Keys of a recipe that say where results go, not what they are.
_NO_INPUT = ("output", "report")
_NAMED = 5  # files or images that are named; the rest is counted


@dataclass(frozen=True, kw_only=True)
class Change:
    """An input that differs between two runs.

    Attributes:
        kind: "recipe", "model", "images", "version", "machine" or "hardware".
        name: Which one.
        before: In the first run; "" when it was not there.
        after: In the second run, likewise.
    """

    kind: str
    name: str
    before: str
    after: str


@dataclass(frozen=True, kw_only=True)
class Flip:
    """An image that two artifacts classify differently; classes are indices."""

    image: str
    label: int | None
    before: int
    after: int


@dataclass(frozen=True, kw_only=True)
class Flips:
    """Two artifacts compared image by image.

    Attributes:
        images: How many images both were measured on.
        left_out: Images that only one run has, or whose file has changed.
        lost: Right before and wrong after; None when unlabelled.
        gained: Wrong before and right after; None when unlabelled.
        drop_pp: 100 * (lost - gained) / images; None when unlabelled.
        drop_ci95_pp: 95 % confidence interval of `drop_pp` (paired), low then high.
        flipped: Every image whose best class changed.
    """

    images: int
    left_out: int
    lost: int | None
    gained: int | None
    drop_pp: float | None
    drop_ci95_pp: tuple[float, float] | None
    flipped: tuple[Flip, ...]


@dataclass(frozen=True, kw_only=True)
class TargetDiff:
    """One target in two runs.

    Attributes:
        target: Its name.
        before: Its metrics in the first run, by id, None for what was not measured; None when it is not part
            of the run. Those of one of several outputs are called as in a gate: "quality.mae".
        after: In the second run, likewise.
        identical: Whether the artifacts are the same bytes, but for what their metadata say.
        flips: Image by image; None where either run has no predictions for it.
    """

    target: str
    before: Mapping[str, float | None] | None
    after: Mapping[str, float | None] | None
    identical: bool
    flips: Flips | None


@dataclass(frozen=True, kw_only=True)
class Regression:
    """One target's metric, held against a tolerance.

    Attributes:
        target: Its name.
        metric: The metric's id.
        limit: The tolerance as it was given.
        verdict: FAIL: worse by more, beyond chance. INCONCLUSIVE: not known, or by more but within chance.
        reason: The figures, in words.
        tolerated: Whether an INCONCLUSIVE verdict does not fail the command.
    """

    target: str
    metric: str
    limit: str
    verdict: Verdict
    reason: str
    tolerated: bool = False

    @property
    def failed(self) -> bool:
        """Whether the exit code is 1 because of it."""
        return self.verdict is Verdict.FAIL or (self.verdict is Verdict.INCONCLUSIVE and not self.tolerated)


@dataclass(frozen=True, kw_only=True)
class RunDiff(Shown):
    """Two runs: `edgefx diff`.

    Attributes:
        before: Where the first run is.
        after: Where the second run is.
        changes: Inputs that differ.
        targets: The targets, those of both runs first, in the first run's order; in a matrix named
            ``run/target``.
        notes: Why something could not be compared.
        class_names: By index, where both runs name the classes alike; else empty.
        regressions: What was asked about: see `edgefx.provenance.regressions`.
    """

    before: Path
    after: Path
    changes: tuple[Change, ...]
    targets: tuple[TargetDiff, ...]
    notes: tuple[str, ...] = ()
    class_names: tuple[str, ...] = ()
    regressions: tuple[Regression, ...] = ()

    @property
    def exit_code(self) -> ExitCode:
        """GATE_FAILED where something got worse than was allowed, or that cannot be told."""
        return ExitCode.GATE_FAILED if any(one.failed for one in self.regressions) else ExitCode.OK


def diff(before: Path, after: Path) -> RunDiff:
    """Compare two runs, or the runs of two matrices, each with that of the same combination.

    Args:
        before: The first run's output folder, or a file in it (the lock file or report.json).
        after: The second run's, given in the same way.

    Raises:
        UsageError: There is no lock file; or one is a matrix and the other is not, or they share no run.
        DataError: Predictions or a lock file that are damaged.
    """
    first, second = matrices.runs(before), matrices.runs(after)
    if not first and not second:
        return _diff_of_runs(before, after)
    if not first or not second:
        single = before if second else after
        _lock_file(single)
        raise UsageError(
            f"{single} is one run, and {after if second else before} the runs of a matrix",
            hint=f"give one of its folders: {next(iter((first or second).values()))}",
        )
    found = {name: _diff_of_runs(first[name], second[name]) for name in first if name in second}
    if not found:
        raise UsageError(
            f"{before} and {after} share no run: {', '.join(first)}; {', '.join(second)}",
            hint="compare matrices of the same axes, or give one folder of each",
        )
    changes: dict[Change, list[str]] = {}
    for name, one in found.items():
        for change in one.changes:
            changes.setdefault(change, []).append(name)
    class_names = {one.class_names for one in found.values()}
    return RunDiff(
        before=before,
        after=after,
        changes=tuple(
            change if len(runs) == len(found) else replace(change, name=f"{change.name} ({', '.join(runs)})")
            for change, runs in changes.items()
        ),
        targets=(
            *(
                replace(target, target=f"{name}/{target.target}")
                for name, one in found.items()
                for target in one.targets
            ),
            *_of_one_matrix(first, second, is_before=True),
            *_of_one_matrix(second, first, is_before=False),
        ),
        notes=tuple(f"{name}: {note}" for name, one in found.items() for note in one.notes),
        class_names=class_names.pop() if len(class_names) == 1 else (),
    )


def _of_one_matrix(
    own: Mapping[str, Path], other: Mapping[str, Path], *, is_before: bool
) -> Iterator[TargetDiff]:
    """Yield the targets of the runs that only one of two matrices has."""
    for name, folder in own.items():
        if name not in other:
            for target in locks.read(folder).targets:
                yield TargetDiff(
                    target=f"{name}/{target.target}",
                    before=_figures(target) if is_before else None,
                    after=None if is_before else _figures(target),
                    identical=False,
                    flips=None,
                )


def _is_of_one_run(target: TargetDiff) -> bool:
    return target.before is None or target.after is None


def _diff_of_runs(before: Path, after: Path) -> RunDiff:
    one, other = locks.read(_lock_file(before)), locks.read(_lock_file(after))
    answers = [_predictions(before), _predictions(after)]
    notes = [
        f"{path}: {_unpaired(lock)}, so that images cannot be compared one by one"
        for path, lock, found in zip((before, after), (one, other), answers, strict=True)
        if found is None
    ]
    if one.model.content != other.model.content:
        notes.append("the models differ: this compares two models, and not two compilations of one")
    results = (*one.targets, *other.targets, *one.devices, *other.devices)
    names = dict.fromkeys(target.target for target in results)
    return RunDiff(
        before=before,
        after=after,
        changes=input_changes(one, other),
        targets=tuple(
            sorted((_target_diff(name, one, other, *answers) for name in names), key=_is_of_one_run)
        ),
        notes=tuple(notes),
        class_names=_class_names(*answers),
    )


def _unpaired(lock: Lock) -> str:
    """Say why a run has no class of each image."""
    if any((_figures(target) or {}).get("relative_error") is not None for target in lock.targets):
        return "the model answers with values, of which the lock file has the task's figures"
    return f"no {predictions.NAME} beside the lock file"


def _class_names(before: Predictions | None, after: Predictions | None) -> tuple[str, ...]:
    if before is None or after is None or before.class_names != after.class_names:
        return ()
    return before.class_names


def input_changes(before: Lock, after: Lock) -> tuple[Change, ...]:
    """Return the inputs that differ between two runs: recipe, model, images, versions, machine, profile."""
    return tuple(
        Change(kind=kind, name=name, before=old, after=new)
        for kind, pairs in (
            ("recipe", _recipe_pairs(before, after)),
            ("model", _model_pairs(before, after)),
            ("images", _images_pairs(before, after)),
            ("version", _version_pairs(before, after)),
            ("machine", _machine_pairs(before, after)),
            ("hardware", [("profile", _measured(before), _measured(after))]),
        )
        for name, old, new in pairs
        if old != new
    )


def _measured(lock: Lock) -> str:
    return "" if lock.profile is None else f"{lock.profile.cpu}, {lock.profile.sha256[:12]}"


def flips(before: Predictions, after: Predictions, target: str, *, changed: frozenset[str]) -> Flips | None:
    """Compare a target's answers image by image; None when a run has none, or they share no image.

    Args:
        before: The answers of the first run.
        after: The answers of the second run.
        target: The target.
        changed: Images whose files differ between the runs; they are left out.
    """
    if target not in before.targets or target not in after.targets:
        return None
    old, new = before.targets[target], after.targets[target]
    # Each may have been measured on a sample.
    place = {image: number for number, image in enumerate(after.images) if new[number] is not None}
    answered = {image: number for number, image in enumerate(before.images) if old[number] is not None}
    shared = [
        (number, place[image])
        for image, number in answered.items()
        if image in place and image not in changed
    ]
    if not shared:
        return None
    found = tuple(
        Flip(
            image=before.images[first],
            label=before.labels[first] if before.labels else None,
            before=one,
            after=other,
        )
        for first, second in shared
        if (one := old[first]) is not None and (other := new[second]) is not None and one != other
    )
    left_out = len({*answered, *place}) - len(shared)
    if before.labels is None or after.labels is None:
        return Flips(
            images=len(shared),
            left_out=left_out,
            lost=None,
            gained=None,
            drop_pp=None,
            drop_ci95_pp=None,
            flipped=found,
        )
    lost = sum(one.before == one.label for one in found)
    gained = sum(one.after == one.label for one in found)
    return Flips(
        images=len(shared),
        left_out=left_out,
        lost=lost,
        gained=gained,
        drop_pp=100 * (lost - gained) / len(shared),
        drop_ci95_pp=paired_drop_ci(lost, gained, len(shared)),
        flipped=found,
    )


# -------------------------------------------------------------------------------------------------- inputs

Pair = tuple[str, str, str]


def _recipe_pairs(before: Lock, after: Lock) -> Iterator[Pair]:
    old, new = dict(_flat(before.recipe)), dict(_flat(after.recipe))
    for name in dict.fromkeys((*old, *new)):
        if name.partition(".")[0] in _NO_INPUT or _within(name, old.keys() ^ new.keys()):
            continue
        yield name, _value(old, name), _value(new, name)
    if before.threads != after.threads:
        yield "threads", str(before.threads), str(after.threads)


def _value(values: Mapping[str, str], name: str) -> str:
    """Return what a recipe says; "given" for a section, "" where it says nothing."""
    return values.get(name, "given" if any(_within(key, {name}) for key in values) else "")


def _within(name: str, sections: Iterable[str]) -> bool:
    """Whether a key belongs to one of some sections."""
    return any(name.startswith((f"{section}.", f"{section}[")) for section in sections)


def _flat(value: object, path: str = "") -> Iterator[tuple[str, str]]:
    """Yield every key of a document, dotted, with its value as text."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _flat(inner, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from _flat(inner, f"{path}[{number}]")
    else:
        yield path, "none" if value is None else str(value)


def _model_pairs(before: Lock, after: Lock) -> Iterator[Pair]:
    yield "content", before.model.content, after.model.content
    yield "canonical graph", before.model.graph_sha256, after.model.graph_sha256


def _images_pairs(before: Lock, after: Lock) -> Iterator[Pair]:
    for role in ("calibration", "training", "evaluation"):
        old, new = before.images(role), after.images(role)
        if old is None or new is None:
            yield role, f"{len(old.files)} images" if old else "", f"{len(new.files)} images" if new else ""
            continue
        if old.sha256 == new.sha256:
            continue
        files, other = _hashes(old), _hashes(new)
        gone, come = files.keys() - other.keys(), other.keys() - files.keys()
        changed = {name for name in files.keys() & other.keys() if files[name] != other[name]}
        if gone:
            yield f"{role}: removed", _listed(gone), ""
        if come:
            yield f"{role}: added", "", _listed(come)
        if changed:
            yield f"{role}: content", _listed(changed), "changed"
        if not (gone or come or changed):
            yield f"{role}: order, labels, input size or resize mode", old.sha256[:12], new.sha256[:12]


def _version_pairs(before: Lock, after: Lock) -> Iterator[Pair]:
    old, new = before.environment, after.environment
    yield "edgefx", old.edgefx, new.edgefx
    yield "python", old.python, new.python
    for name in sorted({*old.packages, *new.packages}):
        yield name, old.packages.get(name, ""), new.packages.get(name, "")


def _machine_pairs(before: Lock, after: Lock) -> Iterator[Pair]:
    old, new = before.environment, after.environment
    yield "os", old.os, new.os
    yield "architecture", old.machine, new.machine
    yield "cpu", old.cpu, new.cpu
    yield "cpu features", ", ".join(old.cpu_features), ", ".join(new.cpu_features)
    yield "cores", str(old.cores), str(new.cores)


def _hashes(images: LockedImages) -> dict[str, str]:
    return {file.path: file.sha256 for file in images.files}


def _listed(names: Iterable[str]) -> str:
    ordered: Sequence[str] = sorted(names)
    more = len(ordered) - _NAMED
    return ", ".join(ordered[:_NAMED]) + (f", + {more} more" if more > 0 else "")


# ------------------------------------------------------------------------------------------------- targets


def _target_diff(
    name: str, before: Lock, after: Lock, old: Predictions | None, new: Predictions | None
) -> TargetDiff:
    one, other = before.target(name), after.target(name)
    changed = frozenset[str]()
    first, second = before.images("evaluation"), after.images("evaluation")
    if first and second:
        files, others = _hashes(first), _hashes(second)
        changed = frozenset(path for path in files.keys() & others.keys() if files[path] != others[path])
    return TargetDiff(
        target=name,
        before=_figures(one),
        after=_figures(other),
        identical=one is not None and other is not None and same_content(one, other),
        flips=flips(old, new, name, changed=changed) if old and new else None,
    )


def same_content(one: LockedTarget, other: LockedTarget) -> bool:
    """Whether two artifacts are the same weights and operations, whatever their metadata say."""
    if one.content and other.content:
        return one.content == other.content
    return bool(one.files) and [file.sha256 for file in one.files] == [file.sha256 for file in other.files]


def _figures(target: LockedTarget | None) -> dict[str, float | None] | None:
    if target is None:
        return None
    figures = target.figures
    found = {row.id: row.value(figures) for row in METRICS.values()}
    for one in target.accuracy.outputs if target.accuracy is not None else ():
        own = figures.of_output(one.name)
        found |= {
            f"{one.name}.{row.id}": row.value(own)
            for row in METRICS.values()
            if row.origin is Origin.ACCURACY and row.measures(one.task)
        }
    return found


def _lock_file(path: Path) -> Path:
    """Return the lock file of a run, given its folder or any file in it.

    Raises:
        UsageError: There is none.
    """
    folder = path if path.is_dir() else path.parent
    for candidate in (path, folder / locks.NAME):
        if candidate.is_file() and candidate.name != "report.json":
            return candidate
    raise UsageError(
        f"{path}: no run of edgefx: there is no {locks.NAME}",
        hint="give the output folder of a run or of a matrix, or a file in it",
    )


def _predictions(path: Path) -> Predictions | None:
    file = _lock_file(path).parent / predictions.NAME
    return predictions.read(file) if file.is_file() else None
