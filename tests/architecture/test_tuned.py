"""Every tuned constant says so, and names the command that shows what other values would do."""

from __future__ import annotations

import ast
import re

import pytest

from edgefx.quantize.histogram import Consumer
from edgefx.vocabulary import Effort
from tests.architecture.package import functions, modules
from tests.benchmarks.ablations import REGISTRY, Ablation
from tests.benchmarks.ablations import main as ablations

# A line of its own above the constant's, or the end of the constant's line.
_MARK = re.compile(r"#.*\btuned: ablations ([\w.]+)")
_CONSTANT = re.compile(r"^(\w+)(?:: [^=]+)? = ")


def marked() -> dict[str, str]:
    """Return the constants that are marked, as ``module:NAME``, with the name of the ablation in the mark."""
    found = {}
    for name, module in modules().items():
        lines = module.text.splitlines()
        for number, line in enumerate(lines):
            mark = _MARK.search(line)
            if mark is not None:
                constant = next(filter(None, map(_CONSTANT.match, lines[number : number + 2])), None)
                assert constant is not None, f"{name}, line {number + 1}: marks no constant"
                found[f"{name}:{constant[1]}"] = mark[1]
    return found


def test_what_is_marked_is_registered_and_what_is_registered_is_marked() -> None:
    assert marked() == {one.constant: one.name for one in REGISTRY}


def test_names_are_distinct() -> None:
    assert len({one.name for one in REGISTRY}) == len(REGISTRY)


@pytest.mark.parametrize("one", REGISTRY, ids=lambda one: one.name)
def test_the_present_value_is_among_those_tried(one: Ablation) -> None:
    if one.command:
        assert one.values == (), "what is about time has a benchmark of its own, and no values here"
        assert one.command.startswith("python -m tests.benchmarks ")
    else:
        assert value(one) in one.values
        assert len(one.values) > 1


def value(one: Ablation) -> object:
    """Return what a constant is, by its source: some of their modules import TensorFlow."""
    module, _, constant = one.constant.partition(":")
    for node in modules()[module].tree.body:
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        if any(isinstance(target, ast.Name) and target.id == constant for target in targets):
            assert isinstance(node, ast.Assign | ast.AnnAssign)
            assert node.value is not None
            return eval(ast.unparse(node.value), {"Consumer": Consumer, "Effort": Effort})  # noqa: S307 - our own
    raise AssertionError(f"there is no {one.constant}")


def test_a_tuned_constant_is_read_where_it_is_used() -> None:
    """A default argument or another constant would keep the value that a constant had at import."""
    tuned = {one.constant for one in REGISTRY}
    frozen = [
        f"{function}: {node.id}"
        for name, module in modules().items()
        for function, definition in functions(module)
        for default in (*definition.args.defaults, *filter(None, definition.args.kw_defaults))
        for node in ast.walk(default)
        if isinstance(node, ast.Name) and f"{name}:{node.id}" in tuned
    ]
    assert frozen == []


def test_the_list_names_all_of_them(capsys: pytest.CaptureFixture[str]) -> None:
    ablations(["--list"])
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == [
        one.name for one in REGISTRY
    ]
