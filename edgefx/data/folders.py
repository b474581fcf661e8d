"""List the images of a folder and their labels. Standard library only: nothing is decoded here.

Three layouts, in this order of precedence: a ``labels.csv``, a sub-folder per class, a flat folder.
"""

from __future__ import annotations

import csv
import hashlib
import io
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from edgefx.errors import DataError
from edgefx.storage.regular import open_regular, read_bytes
from edgefx.types import Dataset, ImageItem, Resize

SUFFIXES = frozenset({".bmp", ".gif", ".jfif", ".jpe", ".jpeg", ".jpg", ".png", ".webp"})
INTERPOLATION = "bilinear (antialiased, Pillow)"
MAX_FILE_BYTES = 300 * 10**6  # of an image; larger than any that is small enough to be decoded
TABLE = "labels.csv"
SHOWN = 10  # how many names an error lists before it says "+ n more"

_SHOWN_SIGNS = 40
_IMAGENET_CLASSES = 1000
_WNID = re.compile(r"n\d{8}")
_INTEGER = re.compile(r"[+-]?\d{1,9}")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_LABELS_BYTES = 256 * 10**6  # ImageNet's 1.3 million rows take 40 MB
_HEADER_BYTES = 1 << 16
_SPLIT_NAMES = {"calib", "calibration", "eval", "test", "train", "training", "val", "valid", "validation"}
_LAYOUTS = (
    "give a folder with a sub-folder per class, a folder with labels.csv (columns file,label), "
    "or a folder of JPEG, PNG, WebP or BMP files"
)


def scan(root: Path) -> Dataset:
    """List the images under `root`.

    Sub-folders are classes in sorted order, as `keras.utils.image_dataset_from_directory` numbers them,
    empty ones included. Hidden files and files that are no images are left out; a file without a suffix
    counts when its first bytes are an image's.

    Some of ImageNet's wnids (``n########``) are numbered in sorted order too, for they may be all that a
    model was trained on; `check_labels` gives them their ImageNet index when the model has 1000 classes.

    Args:
        root: The folder.

    Raises:
        DataError: The folder is missing, no folder, unreadable, empty or without images; labels.csv is
            malformed or names missing files.
    """
    if not root.exists():
        raise DataError(f"{root}: no such folder", hint=_LAYOUTS)
    if not root.is_dir():
        raise DataError(f"{root}: is a file, a folder of images is needed", hint=_LAYOUTS)
    table = root / TABLE
    if table.exists():
        return _from_table(root, table)
    return _from_folders(root)


def check_labels(dataset: Dataset, classes: int) -> Dataset:
    """Check that every label is one of the model's classes; an unlabelled data set passes.

    Args:
        dataset: From `scan`.
        classes: The model's number of classes.

    Returns:
        The data set with labels that fit the model: the same one, but for fewer than 1000 ImageNet wnids
        and a model of 1000 classes, which get their ImageNet index.

    Raises:
        DataError: Another number of classes than the model's, a label outside 0..classes-1, or a wnid that
            is not ImageNet's.
    """
    if not dataset.labelled:
        return dataset
    names = dataset.class_names
    if names and len(names) != classes:
        if classes != _IMAGENET_CLASSES or not all(_WNID.fullmatch(name) for name in names):
            raise _class_count_error(dataset, classes)
        dataset = _with_imagenet_index(dataset)
    outside = [item for item in dataset.items if item.label is not None and item.label >= classes]
    if outside:
        highest = max(item.label or 0 for item in outside)
        raise DataError(
            f"{dataset.root}: labels up to {highest}, but the model has {classes} classes "
            f"(0 to {classes - 1})",
            hint="labels.csv must hold this model's class indices, counted from 0",
            details=first_names(f"{item.path.name}: {item.label}" for item in outside),
        )
    return dataset


def fingerprint(dataset: Dataset, *, height: int, width: int, resize: Resize) -> str:
    """Hash what decoding `dataset` would give, without decoding: equal to `ImageSet.sha256`.

    Covers the files' bytes, their order and labels, the size, the resize mode and the interpolation. A file
    that cannot be read counts as such.
    """
    return combine(
        (digest(item.path) for item in dataset.items), dataset, height=height, width=width, resize=resize
    )


def digest(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, or "unreadable"."""
    try:
        return hashlib.sha256(read_bytes(path, limit_bytes=MAX_FILE_BYTES)).hexdigest()
    except OSError:
        return "unreadable"  # decoding names the file and the reason


def combine(digests: Iterable[str], dataset: Dataset, *, height: int, width: int, resize: Resize) -> str:
    """Combine the files' digests (in order) with all else that determines the tensors and labels."""
    total = hashlib.sha256(f"{height}x{width} {resize} {INTERPOLATION}\n".encode())
    for value, item in zip(digests, dataset.items, strict=True):
        right = item.values or item.label
        total.update(f"{value} {right}\n".encode())
    return total.hexdigest()


def first_names(lines: Iterable[str]) -> tuple[str, ...]:
    """Return the first `SHOWN` lines, and "+ n more" when there are more."""
    everything = list(lines)
    more = len(everything) - SHOWN
    return (*everything[:SHOWN], f"+ {more} more") if more > 0 else tuple(everything)


# ---------------------------------------------------------------------------------------- folders and flat


def _from_folders(root: Path) -> Dataset:
    try:
        entries = sorted(entry.name for entry in root.iterdir() if not entry.name.startswith("."))
    except OSError as error:
        raise DataError(f"{root}: cannot be read: {error.strerror}", hint="check its permissions") from error
    folders = [name for name in entries if (root / name).is_dir()]
    is_folder = set(folders)
    loose = [root / name for name in entries if name not in is_folder and _is_image(root / name)]
    files = {name: _walk(root / name) for name in folders}
    nested = sum(len(paths) for paths in files.values())
    if loose and nested:
        raise DataError(
            f"{root}: holds both loose images ({len(loose)}) and sub-folders with images ({nested})",
            hint="it must be either flat or a sub-folder per class: move one kind elsewhere",
        )
    if loose:
        return Dataset(
            root=root,
            items=tuple(ImageItem(path=path, label=None) for path in loose),
            class_names=(),
            kind="flat",
        )
    if not nested:
        seen = Counter(Path(name).suffix.lower() or name for name in entries if name not in folders)
        kinds = ", ".join(f"{suffix} x {count}" for suffix, count in sorted(seen.items()))
        what = "no image in it" if entries else "the folder is empty"
        raise DataError(f"{root}: {what}" + (f" (found: {kinds})" if kinds else ""), hint=_LAYOUTS)
    items = tuple(
        ImageItem(path=path, label=index) for index, name in enumerate(folders) for path in files[name]
    )
    return Dataset(root=root, items=items, class_names=tuple(folders), kind="folders")


def cut(text: str) -> str:
    """Shorten what nobody needs to see whole."""
    return text if len(text) <= _SHOWN_SIGNS else f"{text[:_SHOWN_SIGNS]}..."


def _walk(folder: Path) -> list[Path]:
    """List the images below `folder`, sorted, hidden files and folders left out."""

    def stop(error: OSError) -> None:
        raise DataError(
            f"{error.filename}: cannot be read: {error.strerror}", hint="check its permissions"
        ) from error

    found = []
    for parent, folders, files in os.walk(folder, onerror=stop):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [Path(parent, name) for name in files if not name.startswith(".")]
    return sorted(path for path in found if _is_image(path))


def _is_image(path: Path) -> bool:
    suffix = path.suffix.lower()
    return suffix in SUFFIXES or (not suffix and path.is_file() and _starts_like_image(path))


def _starts_like_image(path: Path) -> bool:
    try:
        with open_regular(path) as file:
            head = file.read(12)
    except OSError:
        return False  # no suffix says that it is an image, and its content cannot
    return head.startswith((b"\xff\xd8\xff", b"\x89PNG\r\n", b"BM", b"GIF8")) or (
        head[:4] == b"RIFF" and head[8:] == b"WEBP"
    )


# -------------------------------------------------------------------------------------------------- labels


def _class_count_error(dataset: Dataset, classes: int) -> DataError:
    names = dataset.class_names
    used = {item.label for item in dataset.items}
    empty = [name for index, name in enumerate(names) if index not in used]
    if dataset.kind == "csv":
        what, hint = "class names in labels.csv", "name every class of the model, or write class indices"
    else:
        what, hint = (
            "sub-folders",
            "give a sub-folder per class of the model, or labels.csv with class indices",
        )
        if {name.lower() for name in names} <= _SPLIT_NAMES:
            hint = f"these look like splits, not classes: give {dataset.root / names[-1]}"
    return DataError(
        f"{dataset.root}: {len(names)} classes ({what}), but the model has {classes}",
        hint=hint,
        details=first_names(f"{name}: no images" for name in empty),
    )


def _with_imagenet_index(dataset: Dataset) -> Dataset:
    """Renumber wnids by ImageNet index, the rank among the 1000 sorted wnids of ILSVRC 2012.

    Raises:
        DataError: A wnid that is not among them.
    """
    wnids = tuple(Path(__file__).with_name("imagenet_wnids.txt").read_text(encoding="ascii").split())
    index = {wnid: position for position, wnid in enumerate(wnids)}
    wanted = dataset.class_names
    unknown = [wnid for wnid in wanted if wnid not in index]
    if unknown:
        raise DataError(
            f"{dataset.root}: {len(unknown)} of {len(wanted)} wnids are not among ImageNet's "
            f"{_IMAGENET_CLASSES} classes",
            hint="write a labels.csv (file,label) with this model's class indices",
            details=first_names(unknown),
        )
    items = tuple(replace(item, label=index[wanted[item.label or 0]]) for item in dataset.items)
    return replace(dataset, items=items, class_names=wnids)


def _from_table(root: Path, table: Path) -> Dataset:
    return of_classes(root, table, list(rows(table)))


def of_classes(root: Path, table: Path, found: Sequence[tuple[int, str, str]]) -> Dataset:
    """Return the images of a labels.csv with their classes.

    Args:
        root: The folder that it lies in.
        table: The labels.csv.
        found: Its `rows`, whose labels are class indices or names.

    Raises:
        DataError: They are neither, or files are missing.
    """
    if not found:
        raise DataError(f"{table}: no rows below the header", hint="give a line file,label for each image")
    numeric = [bool(_INTEGER.fullmatch(label)) for _, _, label in found]
    for (number, _, label), is_index in zip(found, numeric, strict=True):
        # As class names, numbers would be sorted as text: 1.0, 10.0, 2.0.
        if not is_index and _NUMBER.fullmatch(label):
            raise DataError(
                f"{table}, row {number}: label '{cut(label)}' is a number, but no class index",
                hint="write class indices as whole numbers from 0: 3, not 3.0",
            )
    if any(numeric) and not all(numeric):
        number, _, label = found[numeric.index(not numeric[0])]
        raise DataError(
            f"{table}, row {number}: label '{label}' mixes class indices and class names",
            hint="use either indices or names in the whole column",
        )
    names: tuple[str, ...] = ()
    if all(numeric):
        labels = [int(label) for _, _, label in found]
        for (number, file, _), value in zip(found, labels, strict=True):
            if value < 0:
                raise DataError(
                    f"{table}, row {number}: negative label {value} for '{file}'",
                    hint="class indices count from 0",
                )
    else:
        names = tuple(sorted({label for _, _, label in found}))
        index = {name: position for position, name in enumerate(names)}
        labels = [index[label] for _, _, label in found]
    paths = listed_files(root, table, [(number, file) for number, file, _ in found])
    items = tuple(ImageItem(path=path, label=label) for path, label in zip(paths, labels, strict=True))
    return Dataset(root=root, items=items, class_names=names, kind="csv")


def columns(table: Path) -> tuple[str, ...]:
    """Return the columns of a labels.csv beside ``file``; none where it has no such column or is no table."""
    try:
        with open_regular(table) as stream:
            line = stream.readline(_HEADER_BYTES).decode("utf-8-sig")
        header = [name.strip() for name in next(csv.reader([line], strict=True), ())]
    except (OSError, csv.Error, UnicodeDecodeError):
        return ()  # reading it says what is wrong
    others = tuple(name for name in header if name and name != "file")
    return others if "file" in header else ()


def listed_files(root: Path, table: Path, listed: Sequence[tuple[int, str]]) -> list[Path]:
    """Return the paths of the files that a labels.csv names.

    Args:
        root: The folder that it lies in.
        table: The labels.csv, for messages.
        listed: Row number and name of each.

    Raises:
        DataError: Paths are absolute, or there are no such files.
    """
    absolute = [f"row {number}: {file}" for number, file in listed if Path(file).is_absolute()]
    if absolute:
        raise DataError(
            f"{table}: {len(absolute)} of {len(listed)} paths in it are absolute",
            hint=f"write them relative to {root}",
            details=first_names(absolute),
        )
    missing = [f"row {number}: {file}" for number, file in listed if not _is_file(root / file)]
    if missing:
        raise DataError(
            f"{table}: {len(missing)} of {len(listed)} files it names are missing",
            hint=f"paths are relative to {root}",
            details=first_names(missing),
        )
    return [root / file for _, file in listed]


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # such as a name that is too long
        return False


def rows(table: Path, *, may_be_empty: bool = False, column: str = "label") -> Iterator[tuple[int, str, str]]:
    """Yield (row number as an editor shows it, file, label) of a labels.csv.

    Args:
        table: The file.
        may_be_empty: Whether an image may have no label.
        column: The column that the labels stand in.

    Raises:
        DataError: It cannot be read, is no such table, or names an image twice.
    """
    first_row: dict[str, int] = {}
    try:
        text = read_bytes(table, limit_bytes=_LABELS_BYTES).decode("utf-8-sig")
        with io.StringIO(text, newline="") as file:
            reader = csv.DictReader(file, strict=True)
            reader.fieldnames = header = [name.strip() for name in reader.fieldnames or ()]
            if not {"file", column} <= set(header):
                raise DataError(
                    f"{table}, row 1: the columns file and {column} are needed, "
                    f"found: {', '.join(header) or 'nothing'}",
                    hint=f"the first line must be: file,{column} (separated by a comma)",
                )
            for row in reader:
                name, label = ((row[key] or "").strip() for key in ("file", column))
                where = f"{table}, row {reader.line_num}"
                if not name or not (label or may_be_empty):
                    raise DataError(
                        f"{where}: no {column if name else 'file'}", hint=f"expected file,{column}"
                    )
                if name in first_row:
                    raise DataError(
                        f"{where}: '{name}' is already in row {first_row[name]}",
                        hint="each image once: a repeated image would count twice",
                    )
                first_row[name] = reader.line_num
                yield reader.line_num, name, label
    except OSError as error:
        raise DataError(
            f"{table}: cannot be read: {error.strerror}",
            hint="expected a text file with the columns file,label",
        ) from error
    except (csv.Error, UnicodeDecodeError) as error:
        raise DataError(
            f"{table}: not readable as CSV: {error}", hint="expected UTF-8 text with the columns file,label"
        ) from error
