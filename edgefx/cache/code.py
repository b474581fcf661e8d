"""The code that a result depends on: some modules and all that they import from edgefx, directly or not.

Nothing is imported to find out. Imports inside functions count; modules that are imported by a name made at
run time (`edgefx.runtimes.load`) do not, and must be given.
"""

from __future__ import annotations

import hashlib
import re
from functools import cache
from pathlib import Path

from edgefx.version import __version__

_PACKAGE = Path(__file__).resolve().parents[1]
_IMPORT = re.compile(
    r"^[ \t]*(?:from[ \t]+(edgefx[\w.]*)[ \t]+import[ \t]*(\([^)]*\)|[^\n#]*)|import[ \t]+(edgefx[\w.]*))",
    re.MULTILINE,
)


@cache
def code(*modules: str, alone: tuple[str, ...] = ()) -> str:
    """Hash the sources of some modules, and of every module of edgefx that they import.

    Args:
        modules: Dotted names. A package stands for its ``__init__`` alone.
        alone: Modules that are hashed without what they import.

    Returns:
        A SHA-256 in hexadecimal digits, which edgefx's version enters too.
    """
    total = hashlib.sha256(__version__.encode())
    for name in sorted(closure(*modules).union(alone)):
        total.update(f"{name}\0".encode())
        total.update(_source(name).read_bytes())
    return total.hexdigest()


def closure(*modules: str) -> frozenset[str]:
    """Return the names of some modules, and of every module of edgefx that they import.

    Raises:
        ModuleNotFoundError: One of `modules` does not exist.
    """
    found: set[str] = set()
    waiting = list(modules)
    while waiting:
        name = waiting.pop()
        if name not in found:
            if not _exists(name):
                raise ModuleNotFoundError(name, name=name)
            found.add(name)
            waiting.extend(_imports(name))
    return frozenset(found)


@cache
def _imports(name: str) -> frozenset[str]:
    """Return the modules of edgefx that one module imports, with the packages that they lie in."""
    found: set[str] = set()
    for module, names, plain in _IMPORT.findall(_source(name).read_text(encoding="utf-8")):
        found |= _with_packages(module or plain)
        for part in re.findall(r"(\w+)(?:[ \t]+as[ \t]+\w+)?", names):
            if _exists(f"{module}.{part}"):
                found.add(f"{module}.{part}")
    return frozenset(found - {"edgefx"})


def _with_packages(name: str) -> set[str]:
    parts = name.split(".")
    return {".".join(parts[:count]) for count in range(1, len(parts) + 1)}


@cache
def _exists(name: str) -> bool:
    return _source(name).is_file()


def _source(name: str) -> Path:
    """Return where the source of a module is, or would be."""
    path = _PACKAGE.joinpath(*name.split(".")[1:])
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
