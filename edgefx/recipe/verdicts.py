"""What is wrong with recipes, as data: `edgefx recipe check`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from edgefx.errors import Block, UsageError
from edgefx.recipe.compose import setting
from edgefx.recipe.load import check, find, parse
from edgefx.recipe.tree import Diagnostic, RecipeError


@dataclass(frozen=True, kw_only=True)
class RecipeProblem:
    """One mistake, as `edgefx recipe check --json` tells it; `line` and `column` count from 1."""

    file: str
    line: int | None
    column: int | None
    message: str
    hint: str


@dataclass(frozen=True, kw_only=True)
class RecipeVerdict:
    """What `edgefx recipe check` found in one recipe."""

    recipe: str
    valid: bool
    runs: int
    problems: tuple[RecipeProblem, ...]


def judge(
    name: str, settings: Iterable[str] = (), *, targets: Sequence[str] = ()
) -> tuple[RecipeVerdict, UsageError | None]:
    """Look for the mistakes of one recipe.

    Args:
        name: The recipe's path, or the name of a shipped one.
        settings: Values that replace the recipe's, as ``--set`` takes them.
        targets: Globs that replace the recipe's targets.

    Returns:
        The verdict, and the error that shows the mistakes in their places; None where there are none.
    """
    try:
        runs = check(find(name), [setting(one) for one in settings], targets=targets)
        for one in runs:
            parse(one.document, where=name)
    except UsageError as error:
        return RecipeVerdict(recipe=name, valid=False, runs=0, problems=_problems(name, error)), error
    return RecipeVerdict(recipe=name, valid=True, runs=len(runs), problems=()), None


def _problems(name: str, error: UsageError) -> tuple[RecipeProblem, ...]:
    if isinstance(error, RecipeError):
        return tuple(map(_problem, error.diagnostics))
    return (RecipeProblem(file=name, line=None, column=None, message=error.message, hint=error.hint),)


def _problem(diagnostic: Diagnostic) -> RecipeProblem:
    span = diagnostic.span
    line, column = span.source.position(span.start) if span and span.source.is_file else (None, None)
    return RecipeProblem(
        file=span.source.name if span else "",
        line=line,
        column=column,
        message=diagnostic.message,
        hint=diagnostic.hint,
    )


def blocks(errors: Iterable[UsageError]) -> list[str]:
    """Return the mistakes of several recipes as one list of details."""
    found: list[str] = []
    for error in errors:
        if isinstance(error, RecipeError):
            found += [Block.of(one.lines()) for one in error.diagnostics]
        else:
            found.append(Block.of([error.message, *([f"hint: {error.hint}"] if error.hint else [])]))
    return found
