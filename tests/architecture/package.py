"""The sources of edgefx as the tests of this folder read them: parsed, never imported."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import edgefx

ROOT = Path(edgefx.__file__).resolve().parent
Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Module:
    """One source file: its dotted name, its text, and its syntax tree."""

    name: str
    path: Path
    text: str
    tree: ast.Module

    @property
    def is_package(self) -> bool:
        return self.path.name == "__init__.py"


@cache
def modules() -> dict[str, Module]:
    """Parse every module of the package, by its dotted name."""
    found = {}
    for path in sorted(ROOT.rglob("*.py")):
        parts = path.relative_to(ROOT.parent).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        text = path.read_text(encoding="utf-8")
        found[name] = Module(name, path, text, ast.parse(text))
    return found


def functions(module: Module) -> Iterator[tuple[str, Function]]:
    """Yield the functions and methods of a module with their qualified names, nested ones too."""
    yield from _functions(module.tree, module.name)


def _functions(node: ast.AST, prefix: str) -> Iterator[tuple[str, Function]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, Function):
            yield f"{prefix}.{child.name}", child
        inner = f"{prefix}.{child.name}" if isinstance(child, Function | ast.ClassDef) else prefix
        yield from _functions(child, inner)


def code_lines(module: Module, node: Function) -> int:
    """Count the lines of a function that are neither blank nor comments nor docstrings."""
    lines = _lines_of_code(module.name)
    assert node.end_lineno is not None
    return sum(1 for number in range(node.lineno, node.end_lineno + 1) if number in lines)


@cache
def _lines_of_code(name: str) -> frozenset[int]:
    """Return the numbers of the lines that are neither blank nor comments nor docstrings."""
    module = modules()[name]
    silent: set[int] = set()
    for node in ast.walk(module.tree):
        if isinstance(node, Function | ast.ClassDef) and ast.get_docstring(node) is not None:
            docstring = node.body[0]
            silent |= set(range(docstring.lineno, (docstring.end_lineno or docstring.lineno) + 1))
    return frozenset(
        number
        for number, line in enumerate(module.text.splitlines(), 1)
        if number not in silent and line.strip() and not line.strip().startswith("#")
    )


def imported_names(module: Module) -> tuple[tuple[str, str, str], ...]:
    """Return what a module imports from edgefx, inside functions too: (module, name, the name it has here).

    For ``import edgefx.x`` and for ``from edgefx.x import y`` where y is a module, the name is "".
    """
    return _imported_names(module.name)


@cache
def _imported_names(name: str) -> tuple[tuple[str, str, str], ...]:
    return tuple(_imports(modules()[name]))


def _imports(module: Module) -> Iterator[tuple[str, str, str]]:
    known = modules()
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.partition(".")[0] == "edgefx":
                    yield alias.name, "", alias.asname or alias.name.partition(".")[0]
        elif isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "edgefx":
            assert node.module is not None
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                if inner in known:
                    yield inner, "", alias.asname or alias.name
                else:
                    yield node.module, alias.name, alias.asname or alias.name
