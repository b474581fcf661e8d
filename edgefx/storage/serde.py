"""Results as JSON: the same typed objects, written so that the text depends on nothing but the result."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar, cast

from edgefx.harmless import json_text

if TYPE_CHECKING:
    from pydantic import TypeAdapter

T = TypeVar("T")
_MOST_DIGITS = 20  # of 2**64, and more than any size or count
COMPUTED = ("verdict", "exit_code")  # properties that are part of a document: readers should not derive them
Json: TypeAlias = bool | int | float | str | list["Json"] | dict[str, "Json"] | None


def dumps(result: object, *, root: Path | None = None) -> str:
    """Return `result` (a dataclass, or a list or mapping of them) as one JSON document ending in a newline.

    Keys are in the order of the fields. A number that is not finite becomes null: JSON has no NaN.

    Args:
        result: What to write.
        root: Paths inside this folder are written relative to it.
    """
    document = to_json(result, root=root.resolve() if root is not None else None)
    return json_text(json.dumps(document, indent=2, allow_nan=False, ensure_ascii=False)) + "\n"


def to_json(value: object, *, root: Path | None = None) -> Json:  # noqa: PLR0911 - one line per kind of value
    """Convert dataclasses, enums, paths, mappings and sequences to what JSON has.

    The properties in `COMPUTED` are part of the document.

    Raises:
        TypeError: There is no JSON for such a value.
    """
    if value is None or (isinstance(value, (bool, str)) and not isinstance(value, Enum)):
        return value
    if isinstance(value, Enum):
        return to_json(value.value, root=root)
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, Path):
        return _path(value, root)
    if is_dataclass(value) and not isinstance(value, type):
        document = {
            field.name: to_json(item, root=root)
            for field in fields(value)
            if (item := getattr(value, field.name)) or not field.metadata.get("sparse")
        }
        for name in COMPUTED:
            if isinstance(getattr(type(value), name, None), property):
                document[name] = to_json(getattr(value, name), root=root)
        return document
    if isinstance(value, Mapping):
        return {str(key): to_json(item, root=root) for key, item in value.items()}
    if isinstance(value, (set, frozenset)):
        return [to_json(item, root=root) for item in sorted(value)]
    if isinstance(value, (list, tuple)):
        return [to_json(item, root=root) for item in value]
    if hasattr(value, "item"):  # a NumPy scalar
        return to_json(value.item(), root=root)
    raise TypeError(f"no JSON for {type(value).__name__}")


def loads(text: str | bytes) -> Any:
    """Parse a JSON document that may come from anywhere.

    Raises:
        ValueError: It is none, is nested too deeply, or holds a number that no float can.
    """
    try:
        return json.loads(text, parse_int=_integer, parse_float=_float, parse_constant=_float)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def _integer(digits: str) -> int:
    if len(digits) > _MOST_DIGITS:
        raise ValueError(f"a number of {len(digits)} digits")
    return int(digits)


def _float(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise ValueError(f"{digits:.20} is no finite number")
    return number


def from_json(kind: type[T], document: object) -> T:
    """Convert what `to_json` gave back to a dataclass; keys that it does not know are left out.

    Raises:
        ValueError: The document is not of this kind.
    """
    adapter: TypeAdapter[T] = _adapter(cast("Any", kind))
    return adapter.validate_python(document)


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    from pydantic import TypeAdapter

    return TypeAdapter(kind)


def _path(path: Path, root: Path | None) -> str:
    if root is not None and path.resolve().is_relative_to(root):
        return path.resolve().relative_to(root).as_posix()
    return str(path)
