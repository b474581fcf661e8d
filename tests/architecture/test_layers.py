"""Who may import whom: the contracts of pyproject.toml, and no circles between modules.

Imports inside functions count, as do those for type checkers only.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import grimp

from tests.architecture.package import ROOT, modules

PYPROJECT = ROOT.parent / "pyproject.toml"


def test_the_contracts_of_pyproject_hold() -> None:
    """In a process of its own: the console of import-linter would outlive what pytest captures here."""
    command = [str(Path(sys.executable).with_name("lint-imports")), "--config", str(PYPROJECT), "--no-cache"]
    ran = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT.parent)
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_no_modules_import_each_other() -> None:
    graph = grimp.build_graph("edgefx", cache_dir=None)
    imports = {name: sorted(graph.find_modules_directly_imported_by(name)) for name in graph.modules}
    assert _circles(imports) == set()


def test_circles_are_found() -> None:
    imports = {"a": ["b"], "b": ["c", "d"], "c": ["a"], "d": ["e"], "e": [], "f": ["f"]}
    assert _circles(imports) == {frozenset("abc")}


def test_the_graph_has_every_module() -> None:
    graph = grimp.build_graph("edgefx", cache_dir=None)
    assert graph.modules == set(modules())
    assert Path(ROOT / "__init__.py").is_file()


def _circles(imports: dict[str, list[str]]) -> set[frozenset[str]]:
    """Return the sets of modules each of which reaches all others of its set."""
    reached = {name: _reached(name, imports) for name in imports}
    sets = {
        frozenset(other for other in others if name in reached[other]) | {name}
        for name, others in reached.items()
    }
    return {one for one in sets if len(one) > 1}


def _reached(start: str, imports: dict[str, list[str]]) -> set[str]:
    found: set[str] = set()
    waiting = [start]
    while waiting:
        for name in imports[waiting.pop()]:
            if name not in found:
                found.add(name)
                waiting.append(name)
    return found
