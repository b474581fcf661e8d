"""Figures of this version, kept in a file, and those of another version held against them.

    python -m tests.benchmarks --store before.json       # at the older version
    python -m tests.benchmarks --against before.json     # at the newer one; exit 1 when a figure is worse

Only accuracies and ratios taken within one run are kept, never bare times: a machine's speed differs from day
to day by more than what is looked for. Each figure says by how much it may move before that is called worse.
Another CPU is refused, since the kernels that a runtime has for it decide the ratios; where versions of
packages differ, they are named.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from edgefx.system.host import environment

VERSION = 1


@dataclass(frozen=True)
class Figure:
    """A figure that is kept.

    Attributes:
        value: What was measured.
        tolerance: By how much it may be worse.
        relative: Whether the tolerance is a share of the kept value, else it is in the figure's own unit.
        higher_is_better: Which way is worse.
    """

    value: float
    tolerance: float
    relative: bool = True
    higher_is_better: bool = False

    def __str__(self) -> str:
        return f"{self.value:g}"

    def limit(self) -> float:
        """Return the worst value that a newer version may have, with this one as the kept one."""
        room = self.tolerance * abs(self.value) if self.relative else self.tolerance
        return self.value - room if self.higher_is_better else self.value + room

    def is_worse(self, now: float) -> bool:
        """Whether a newer version's value is worse than this one by more than the tolerance."""
        return now < self.limit() if self.higher_is_better else now > self.limit()


def write(path: Path, figures: Mapping[str, Figure]) -> None:
    """Keep figures, with where and with what they were measured."""
    document = {
        "schema_version": VERSION,
        "created": datetime.now(tz=UTC).isoformat(timespec="seconds"),
        "environment": asdict(environment()),
        "figures": {name: asdict(figure) for name, figure in figures.items()},
    }
    path.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


class StoredError(Exception):
    """A file of figures that cannot be compared with."""


def read(path: Path) -> dict[str, Figure]:
    """Read the figures of another version.

    Raises:
        StoredError: There is no such file, or it was not written by `write`, or on another CPU.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        if document["schema_version"] != VERSION:
            raise StoredError(f"{path}: of version {document['schema_version']}, not {VERSION}")
        figures = {name: Figure(**figure) for name, figure in document["figures"].items()}
        there: dict[str, Any] = document["environment"]
        machine = {name: there[name] for name in ("cpu", "cpu_features", "cores")}
    except OSError as error:
        raise StoredError(f"{path}: {error.strerror}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise StoredError(f"{path}: no figures that --store has written: {error!r}") from error
    here = asdict(environment())
    for name, value in machine.items():
        if value != (list(here[name]) if isinstance(here[name], tuple) else here[name]):
            raise StoredError(f"{path} was measured with {name} {value}, here it is {here[name]}")
    for name in sorted({*there["packages"], *here["packages"]}):
        old, new = there["packages"].get(name, "none"), here["packages"].get(name, "none")
        if old != new:
            print(f"  {name}: {old} then, {new} now")
    return figures


def worse(kept: Mapping[str, Figure], now: Mapping[str, Figure]) -> Iterator[str]:
    """Yield what is worse than it was, in words; a figure that is no longer measured is, too."""
    for name, before in kept.items():
        if name not in now:
            yield f"{name}: was {before}, and is not measured any more"
        elif before.is_worse(now[name].value):
            yield f"{name}: was {before}, is {now[name]}, worse than {before.limit():g}"
