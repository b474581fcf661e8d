"""Documents that edgefx writes, held against the committed JSON Schemas."""

from __future__ import annotations

import json
from typing import Any

import jsonschema  # type: ignore[import-untyped]

from edgefx.report.schemas import DOCUMENTS


def violations(name: str, document: object) -> list[str]:
    """Say where a document is not as its committed schema has it; a key that the schema lacks counts too.

    Args:
        name: The schema's file name.
        document: The parsed document.
    """
    (path,) = (path for path in DOCUMENTS if path.name == name)
    schema = _closed(json.loads(path.read_text(encoding="utf-8")))
    found = jsonschema.Draft202012Validator(schema).iter_errors(document)
    return [f"{error.json_path}: {error.message[:200]}" for error in found]


def _closed(schema: Any) -> Any:
    """Forbid further keys wherever some are named."""
    if isinstance(schema, list):
        return [_closed(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    made = {key: _closed(value) for key, value in schema.items()}
    return made | {"additionalProperties": False} if isinstance(made.get("properties"), dict) else made
