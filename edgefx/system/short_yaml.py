"""Small YAML files that are no recipes: a hardware profile, the names of devices."""

from __future__ import annotations

import yaml

MOST_BYTES = 1 << 16


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
        events = list(yaml.parse(content, Loader=yaml.SafeLoader))
        document = None if _aliases(events) else yaml.safe_load(content)
    except (yaml.YAMLError, RecursionError, ValueError) as error:  # ValueError: of a date or a long number
        reason = "nested too deeply" if isinstance(error, RecursionError) else str(error).splitlines()[0]
        raise ValueError(reason) from error
    if _aliases(events):
        raise ValueError("it has an alias (*name)")
    return document


def _aliases(events: list[yaml.Event]) -> bool:
    return any(isinstance(event, yaml.AliasEvent) for event in events)
