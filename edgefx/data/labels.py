"""What is right for each image, as the model's task needs it: a class, several labels, or quantities.

Classes are read by `edgefx.data.folders`. Several labels and quantities stand in the column ``label`` of
labels.csv, separated by semicolons: ``red;round``, or ``0.52;31``. Standard library only.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path

from edgefx import harmless
from edgefx.data import folders
from edgefx.errors import DataError
from edgefx.types import Dataset, ImageItem, ModelSpec, ModelTask, OutputSpec

_SEPARATOR = ";"
_LABEL = "label"  # the column of labels.csv for a model with one output
_INDEX = re.compile(r"\d{1,5}")
_MOST_LABELS = 10_000

_OF_NO_CLASSES = "where the values are not of classes, say of what: --task embedding or --task regression"


def scan(root: Path, task: ModelTask | None) -> Dataset:
    """List the images under `root` with what the task needs to be measured.

    Args:
        root: The folder.
        task: What the model answers, as far as the user has said so; None and tasks with classes read these.

    Raises:
        DataError: As for `folders.scan`; labels.csv holds something else than the task needs.
    """
    table = root / folders.TABLE
    columns = folders.columns(table) if task is None and table.is_file() else ()
    if columns and _LABEL not in columns:  # for the outputs of a model, which is known later
        return _listed(root, table, columns)
    if task in (ModelTask.REGRESSION, ModelTask.MULTILABEL) and root.is_dir() and table.exists():
        return _of_values(root, table, list(folders.rows(table, may_be_empty=True)), task)
    found = folders.scan(root)
    if task is ModelTask.MULTILABEL and found.labelled:  # a folder's name is the one label of its images
        count = len(found.class_names)
        items = tuple(
            replace(one, label=None, values=tuple(float(place == one.label) for place in range(count)))
            for one in found.items
        )
        return replace(found, items=items)
    return _unlabelled(found) if task in (ModelTask.REGRESSION, ModelTask.FEATURES) else found


def _of_values(root: Path, table: Path, rows: list[tuple[int, str, str]], task: ModelTask) -> Dataset:
    """Return the images of a labels.csv with their quantities, or with 1 for each label and 0 for others."""
    names: tuple[str, ...] = ()
    if task is ModelTask.REGRESSION:
        values = [_quantities(f"{table}, row {number}", label) for number, _, label in rows]
    else:
        names, values = _several(table, rows)
    _check_same_length(table, values)
    paths = folders.listed_files(root, table, [(number, file) for number, file, _ in rows])
    items = tuple(
        ImageItem(path=path, label=None, values=value) for path, value in zip(paths, values, strict=True)
    )
    return Dataset(root=root, items=items, class_names=names, kind="csv")


def by_name(dataset: Dataset, class_names: Sequence[str]) -> Dataset:
    """Number classes that have names by a model's own names of them, whatever the order of the folders.

    Args:
        dataset: From `scan`.
        class_names: The model's, by index, as `harmless.line` leaves them; empty where unknown.

    Returns:
        The data set, whose names are the model's then; the same one where a class is not among these.
    """
    index = {name: place for place, name in reversed(list(enumerate(class_names)))}
    own = [harmless.line(name) for name in dataset.class_names]
    if not own or not dataset.labelled or not set(own) <= set(index):
        return dataset
    places = [index[name] for name in own]
    items = tuple(replace(item, label=places[item.label or 0]) for item in dataset.items)
    return replace(dataset, items=items, class_names=tuple(class_names))


def fit(dataset: Dataset, task: ModelTask, classes: int, *, guessed: bool = False) -> Dataset:
    """Check that what is right fits the model; an unlabelled data set passes.

    Args:
        dataset: From `scan`.
        task: What the model answers.
        classes: Its number of classes, or of values.
        guessed: Whether nothing tells that the values are scores of classes, as no softmax does.

    Raises:
        DataError: It does not: other classes, or more or fewer values than the model gives.
    """
    if dataset.columns:  # says that there is no column "label"
        list(folders.rows(dataset.root / folders.TABLE))
    if task.classifies:
        try:
            return folders.check_labels(dataset, classes)
        except DataError as error:
            if guessed:
                error.hint = f"{error.hint}; {_OF_NO_CLASSES}"
            raise
    if task is ModelTask.EMBEDDING:
        return dataset
    if task is ModelTask.FEATURES:
        return _unlabelled(dataset)
    width = len(dataset.items[0].values) if dataset.items else 0
    if not width:
        return _unlabelled(dataset)
    if task is ModelTask.MULTILABEL and not dataset.class_names and width < classes:
        zeros = (0.0,) * (classes - width)
        items = tuple(replace(item, values=item.values + zeros) for item in dataset.items)
        return replace(dataset, items=items)
    if width != classes:
        what = "labels" if task is ModelTask.MULTILABEL else "quantities"
        raise DataError(
            f"{dataset.root}: labels.csv has {width} {what} for each image, the model gives {classes}",
            hint="give as many, in the order of the model's outputs, separated by semicolons",
            details=folders.first_names(dataset.class_names),
        )
    return dataset


def fit_outputs(dataset: Dataset, spec: ModelSpec) -> Dataset:
    """Put together what is right for each of several outputs; an unlabelled data set passes.

    It stands in columns of labels.csv that are called as the outputs are. Classes of folders, or of the
    column ``label``, are those of the output that the model is described by.

    Args:
        dataset: From `scan`.
        spec: The model.

    Returns:
        The images, labelled by the output that the model is described by. Their values are what is right for
        all outputs, one after the other (`OutputSpec.truths`); NaN where that is not known.

    Raises:
        DataError: A column does not fit its output, or is called as none.
    """
    names = [one.name for one in spec.outputs]
    first = spec.first
    columns = dataset.columns or _beside_label(dataset, spec)
    unknown = [name for name in columns if name not in names]
    if unknown:
        raise DataError(
            f"{dataset.root / folders.TABLE}: no output of the model is called {unknown[0]}",
            hint=f"columns are called as the outputs are: {', '.join(names)}",
        )
    parts: list[list[tuple[float, ...]]] = []
    labelled: Dataset | None = None  # by the output that the model is described by
    for one in spec.outputs:
        own: Dataset | None = None
        if one.name in columns:
            listed = _of_column(dataset, one)
            if one is first:
                listed = by_name(listed, spec.class_names)
            own = _fit_output(listed, one)
        elif one is first and not dataset.columns and _LABEL not in columns and one.truths:
            own = _fit_output(dataset, one)
        if one is first:
            labelled = own
        parts.append(_numbers(own, one, len(dataset.items)))
    if labelled is None:
        labelled = _unlabelled(dataset)
    items = tuple(
        replace(item, values=tuple(chain.from_iterable(row)))
        for item, *row in zip(labelled.items, *parts, strict=True)
    )
    return replace(labelled, items=items, columns=dataset.columns)


def _beside_label(dataset: Dataset, spec: ModelSpec) -> tuple[str, ...]:
    """Return the columns of a labels.csv that has one called ``label``, but for that, which is read already.

    It belongs to the output that the model is described by, unless another is called so.
    """
    if dataset.kind != "csv":
        return ()
    owner = next((one for one in spec.outputs if one.name == _LABEL), spec.first)
    found = folders.columns(dataset.root / folders.TABLE)
    return tuple(name for name in found if name != _LABEL or owner is not spec.first)


def _fit_output(dataset: Dataset, output: OutputSpec) -> Dataset:
    try:
        return fit(dataset, output.task, output.classes)
    except DataError as error:
        raise DataError(
            f"{error.message} (output {output.name}, {output.task})",
            hint=f"{error.hint}; or, if that is not what {output.name} answers, say what: --task"
            f" {output.name}=TASK",
            details=error.details,
        ) from error


def _of_column(dataset: Dataset, output: OutputSpec) -> Dataset:
    """Return the images with what a column of labels.csv says of them."""
    root, table = dataset.root, dataset.root / folders.TABLE
    many = output.task is ModelTask.MULTILABEL
    found = list(folders.rows(table, may_be_empty=many, column=output.name))
    if output.task.classifies or output.task.is_embedding:
        every = folders.of_classes(root, table, found)
    else:
        every = _of_values(root, table, found, output.task)
    known = {item.path: item for item in every.items}
    return replace(every, items=tuple(known[item.path] for item in dataset.items))


def _numbers(dataset: Dataset | None, output: OutputSpec, images: int) -> list[tuple[float, ...]]:
    """Return what is right for an output, NaN where that is not known."""
    if dataset is None or not dataset.known:
        return [(math.nan,) * output.truths] * images
    return [item.values or (float(item.label or 0),) for item in dataset.items]


def _listed(root: Path, table: Path, columns: tuple[str, ...]) -> Dataset:
    """Return the images of a labels.csv; its columns are read when it is known what they are."""
    listed = [(number, file) for number, file, _ in folders.rows(table, column=columns[0], may_be_empty=True)]
    if not listed:
        raise DataError(f"{table}: no rows below the header", hint="give a line for each image")
    items = tuple(ImageItem(path=path, label=None) for path in folders.listed_files(root, table, listed))
    return Dataset(root=root, items=items, class_names=(), kind="csv", columns=columns)


def _unlabelled(dataset: Dataset) -> Dataset:
    items = tuple(replace(item, label=None, values=()) for item in dataset.items)
    return replace(dataset, items=items, class_names=(), kind="flat")


def _quantities(where: str, text: str) -> tuple[float, ...]:
    try:
        found = tuple(float(part) for part in text.split(_SEPARATOR))
    except ValueError as error:
        raise DataError(
            f"{where}: label '{folders.cut(text)}' is no number",
            hint="a regression needs numbers; several outputs are separated by semicolons: 0.5;31",
        ) from error
    if not all(map(math.isfinite, found)):
        raise DataError(f"{where}: label '{folders.cut(text)}' is not finite", hint="leave such images out")
    return found


def _several(
    table: Path, rows: list[tuple[int, str, str]]
) -> tuple[tuple[str, ...], list[tuple[float, ...]]]:
    """Return the labels' names, none where they are indices, and for each image 1 where it has the label."""
    parts = [[part.strip() for part in label.split(_SEPARATOR) if part.strip()] for _, _, label in rows]
    every = sorted({part for one in parts for part in one})
    if not every:
        raise DataError(f"{table}: no image has a label", hint="write them as red;round")
    if all(_INDEX.fullmatch(part) for part in every):
        names: tuple[str, ...] = ()
        place = {part: int(part) for part in every}
    else:
        names = tuple(every)
        place = {part: index for index, part in enumerate(every)}
    width = max(place.values()) + 1
    if width > _MOST_LABELS:
        raise DataError(
            f"{table}: labels up to {width - 1}", hint="label indices count from 0, by the model's outputs"
        )
    values = []
    for one in parts:
        own = {place[part] for part in one}
        values.append(tuple(float(index in own) for index in range(width)))
    return names, values


def _check_same_length(table: Path, values: list[tuple[float, ...]]) -> None:
    lengths = {len(one) for one in values}
    if len(lengths) > 1:
        raise DataError(
            f"{table}: {min(lengths)} to {max(lengths)} numbers in the rows",
            hint="give as many for each image as the model has outputs",
        )
