"""Small YAML files that are no recipes: a hardware profile, the names of devices."""

from __future__ import annotations

import yaml

MOST_BYTES = 1 << 16
_DEEPEST = 20


def parse(content: bytes) -> object:
    """Return what a file holds: mappings, lists and plain values.

    Args:
        content: The file; longer ones are refused, as are aliases, which may stand for terabytes.

    Raises:
        ValueError: It is no such file; the text is one line that says why.
    """
    if len(content) > MOST_BYTES:
        raise ValueError(f"larger than {MOST_BYTES // 1024} KiB")
    try:
        _check(content)
        return yaml.safe_load(content)
    except (yaml.YAMLError, ValueError) as error:  # ValueError: of a date or a long number
        raise ValueError(str(error).splitlines()[0]) from error


def _check(content: bytes) -> None:
    """Refuse what may take PyYAML minutes or gigabytes, at the first sign of it."""
    depth = 0
    for event in yaml.parse(content, Loader=yaml.SafeLoader):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > _DEEPEST:
            raise ValueError("nested too deeply")
        is_alias = isinstance(event, yaml.AliasEvent)
        if is_alias:
            raise ValueError("it has an alias (*name)")
