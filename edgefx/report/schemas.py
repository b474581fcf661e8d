"""The JSON Schemas of ``report.json`` and ``edgefx.lock.json``, made of the types of the results.

Fields come from the types and their meaning from the "Attributes" of the docstrings, so that a schema cannot
say anything else than the code. The schemas are committed beside the code that writes the documents; after a
change of a type, ``python -m edgefx.report.schemas`` writes them anew.
"""

from __future__ import annotations

import inspect
import json
import re
from dataclasses import fields
from pathlib import Path
from typing import Any, get_type_hints

from pydantic import TypeAdapter
from pydantic.json_schema import GenerateJsonSchema

from edgefx.provenance.lock import Lock
from edgefx.results import RunReport
from edgefx.storage.serde import COMPUTED

_PACKAGE = Path(__file__).resolve().parents[1]
# The committed file, what the document is, and its type.
DOCUMENTS: dict[Path, tuple[str, type[Any]]] = {
    _PACKAGE / "report" / "report.schema.json": ("report.json of edgefx", RunReport),
    _PACKAGE / "provenance" / "lock.schema.json": ("edgefx.lock.json", Lock),
}
_DIALECT = "https://json-schema.org/draft/2020-12/schema"
_ATTRIBUTE = re.compile(r"^(\w+): (.*)$")


def json_schema(kind: type[Any], *, title: str) -> dict[str, Any]:
    """Return the JSON Schema of what `edgefx.storage.serde.dumps` makes of a dataclass.

    Every key is required, since a document always has all of them, but for those that are left out where they
    are empty. Further keys are allowed: a later version may add some without changing `schema_version`.

    Args:
        kind: The dataclass.
        title: What the document is.
    """
    made = TypeAdapter(kind).json_schema(mode="serialization", schema_generator=_Generator)
    return {"$schema": _DIALECT, **_tidy(made), "title": title}


def text(schema: dict[str, Any]) -> str:
    """Return a schema as the text of its file."""
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def described(kind: type[Any]) -> tuple[str, dict[str, str]]:
    """Return what a dataclass's docstring says of the class, and of each of its fields."""
    head, _, tail = (inspect.getdoc(kind) or "").partition("\nAttributes:\n")
    said: dict[str, str] = {}
    name = ""
    for line in tail.splitlines():
        begins = _ATTRIBUTE.match(line.removeprefix("    "))
        if begins:
            name = begins[1]
            said[name] = begins[2]
        elif name and line.strip():
            said[name] += f" {line.strip()}"
    unknown = set(said) - {field.name for field in fields(kind)}
    assert not unknown, f"{kind.__name__} has no {unknown}"
    return " ".join(head.split()), said


class _Generator(GenerateJsonSchema):
    """Pydantic's generator, with the properties that a document has too, and the words of the docstrings."""

    def dataclass_schema(self, schema: Any) -> dict[str, Any]:
        made = super().dataclass_schema(schema)
        kind = schema["cls"]
        made["description"], said = described(kind)
        for name in COMPUTED:
            computed = getattr(kind, name, None)
            if isinstance(computed, property):
                answer = get_type_hints(computed.fget)["return"]
                made["properties"][name] = self.generate_inner(TypeAdapter(answer).core_schema)
                said[name] = (inspect.getdoc(computed) or "").splitlines()[0]
        sparse = {field.name for field in fields(kind) if field.metadata.get("sparse")}
        made["required"] = [name for name in made["properties"] if name not in sparse]
        for name, value in made["properties"].items():
            value.pop("default", None)
            if name in said:
                value["description"] = said[name]
        return made


def _tidy(schema: Any) -> Any:
    """Leave out titles, which repeat the names; write "a type or null" in short, and null for None."""
    if isinstance(schema, list):
        return [_tidy(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    made = {key: _tidy(value) for key, value in schema.items() if key != "title" or isinstance(value, dict)}
    choices = made.get("anyOf", [])
    if len(choices) == 2 and choices[1] == {"type": "null"} and isinstance(choices[0].get("type"), str):
        del made["anyOf"]
        made |= choices[0] | {"type": [choices[0]["type"], "null"]}
    if isinstance(made.get("description"), str):
        words = " ".join(made["description"].replace("``", "`").split())
        made["description"] = re.sub(r"\bNone\b", "null", words)
    return made


def _write() -> None:
    """Write every committed schema, that of recipes included."""
    from edgefx.recipe import schema as recipes
    from edgefx.recipe.check import schema_file

    for path, (title, kind) in DOCUMENTS.items():
        path.write_text(text(json_schema(kind, title=title)), encoding="utf-8")
    schema_file().write_text(text(recipes.json_schema()), encoding="utf-8")


if __name__ == "__main__":
    _write()
