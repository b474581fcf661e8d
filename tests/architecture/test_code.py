"""Sizes, names, and what comments refer to."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator

import pytest

from tests.architecture.package import ROOT, Module, code_lines, functions, imported_names, modules

MOST_LINES = 500
MOST_CODE_LINES = 60
# Functions that are longer, each with the reason why it is one piece.
LONG: dict[str, str] = {
    "edgefx.api.runs.compile": "a list of options, and nothing else",
    "edgefx.pipeline.evaluate.run": "one pass through the images, with what is opened for it",
}
# Public classes that share a name, and why nobody takes one for the other.
SAME_NAME: dict[str, str] = {
    "Affine": "the operation of a graph, and the Keras layer that trains it",
    "Dense": "the operation of a graph, and the Keras layer that trains it",
    "Swish": "the Keras layer that trains it, and its place in a .tflite",
    "Runtime": "the name of a runtime in the vocabulary, and what a runtime offers",
    # Of two rooms that never meet; each is a good name where it is.
    "Entry": "of the cache, and of a mapping in a recipe",
    "Source": "a model, and a recipe's file",
    "Span": "of pixel values, and of a recipe's text",
}
# Libraries whose private names have no public counterpart; each line says which.
FOREIGN_PRIVATE = {"edgefx.models.graph.flatten", "edgefx.models.precision", "edgefx.qat.trainer",
                   "edgefx.runtimes.onnx.convert"}  # fmt: skip
_REFERENCE = re.compile(r"(?<!`)`(edgefx(?:\.\w+)+)")
_CONTRACT = re.compile(r"DESIGN[:,] contract (\d+)")


def test_files_are_no_longer_than_a_full_room() -> None:
    found = {name: len(module.text.splitlines()) for name, module in modules().items()}
    assert {name: lines for name, lines in found.items() if lines > MOST_LINES} == {}


def test_functions_fit_on_a_screen() -> None:
    found = {
        name: lines
        for module in modules().values()
        for name, node in functions(module)
        if (lines := code_lines(module, node)) > MOST_CODE_LINES
    }
    assert sorted(found) == sorted(LONG), found


def test_a_public_class_name_means_one_thing() -> None:
    places = defaultdict(list)
    for name, module in modules().items():
        for node in module.tree.body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places[node.name].append(name)
    shared = {name: where for name, where in places.items() if len(where) > 1}
    assert sorted(shared) == sorted(SAME_NAME), shared


def test_no_private_name_crosses_a_module() -> None:
    crossing = [f"{module.name}: {use}" for module in modules().values() for use in _private_uses(module)]
    assert crossing == []


def test_private_names_are_used_of_foreign_libraries_only() -> None:
    """Ruff (SLF001) finds the others; this bounds what is excused from it."""
    excused = {name for name, module in modules().items() if re.search(r"noqa:[^\n]*SLF001", module.text)}
    assert excused == FOREIGN_PRIVATE


def test_cores_are_counted_in_one_place() -> None:
    """`edgefx.system.host.cores` knows affinity masks and containers' quotas; Python's counts do not.

    The agent runs on devices, where nothing of edgefx is.
    """
    counting = re.compile(r"\b(?:cpu_count|sched_getaffinity|process_cpu_count)\b")
    assert [name for name, module in modules().items() if counting.search(module.text)] == [
        "edgefx.benchmarking.devices.agent",
        "edgefx.system.host",
    ]


def test_names_of_edgefx_in_comments_exist() -> None:
    dangling = [
        f"{name}: {reference}"
        for name, module in modules().items()
        for reference in _REFERENCE.findall(module.text)
        if not _exists(reference)
    ]
    assert dangling == []


def test_contracts_that_are_referred_to_exist() -> None:
    design = (ROOT.parent / "docs" / "design.md").read_text(encoding="utf-8")
    contracts = set(re.findall(r"^### Contract (\d+): ", design, re.MULTILINE))
    texts = {name: module.text for name, module in modules().items()}
    texts |= {str(path): path.read_text(encoding="utf-8") for path in (ROOT.parent / "tests").rglob("*.py")}
    texts["pyproject.toml"] = (ROOT.parent / "pyproject.toml").read_text(encoding="utf-8")
    named = {name: set(_CONTRACT.findall(text)) for name, text in texts.items()}
    assert {name: found - contracts for name, found in named.items() if found - contracts} == {}
    assert sum(map(bool, named.values())) >= 5


@pytest.mark.parametrize(
    ("reference", "exists"),
    [
        ("edgefx.cache", True),
        ("edgefx.runtimes.load", True),
        ("edgefx.storage.hashes.FileHashes.content", True),
        ("edgefx.storage.hashes.FileHashes.missing", False),
        ("edgefx.runtimes.unload", False),
        ("edgefx.nowhere.load", False),
    ],
)
def test_references_are_resolved(reference: str, exists: bool) -> None:
    assert _exists(reference) is exists


def _private_uses(module: Module) -> Iterator[str]:
    """Yield the private names of another module of edgefx that a module imports, or reaches through one."""
    of_edgefx = {}
    for source, name, local in imported_names(module):
        if name.startswith("_") and not name.startswith("__"):
            yield f"{source}.{name}"
        of_edgefx[local] = f"{source}.{name}" if name else source
    for node in ast.walk(module.tree):
        if (
            isinstance(node, ast.Attribute)
            and isinstance(node.value, ast.Name)
            and node.value.id in of_edgefx
            and node.attr.startswith("_")
            and not node.attr.startswith("__")
        ):
            yield f"{of_edgefx[node.value.id]}.{node.attr}"


def _exists(reference: str) -> bool:
    """Whether a dotted name is a module, or a name that a module or one of its classes defines."""
    known = modules()
    if reference in known:
        return True
    parts = reference.split(".")
    for count in range(len(parts) - 1, 0, -1):
        module = known.get(".".join(parts[:count]))
        if module is not None:
            return _defines(module.tree.body, parts[count:])
    return False


def _defines(body: list[ast.stmt], names: list[str]) -> bool:
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and node.name == names[0]:
            return len(names) == 1 or (isinstance(node, ast.ClassDef) and _defines(node.body, names[1:]))
        if len(names) == 1 and names[0] in _bound(node):
            return True
    return False


def _bound(node: ast.stmt) -> set[str]:
    """Return the names that an assignment or an import of one statement defines."""
    if isinstance(node, ast.Assign):
        return {target.id for target in node.targets if isinstance(target, ast.Name)}
    if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
        return {node.target.id}
    if isinstance(node, ast.Import | ast.ImportFrom):
        return {alias.asname or alias.name for alias in node.names}
    return set()
