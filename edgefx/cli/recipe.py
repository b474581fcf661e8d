"""`edgefx recipe`: list, show, check and write recipes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import click

from edgefx.cli import completion
from edgefx.cli.context import App, pass_app
from edgefx.cli.group import LazyGroup
from edgefx.cli.options import json_option, recipe_options

_HERE = "edgefx.cli.recipe"
_COMMANDS = {
    "list": (f"{_HERE}:list_command", "List the recipes that come with edgefx."),
    "show": (f"{_HERE}:show_command", "Print a recipe in full: every key, and every run of its matrix."),
    "check": (f"{_HERE}:check_command", "Look for mistakes in recipes without running anything."),
    "schema": (f"{_HERE}:schema_command", "Print the JSON Schema of recipes, for editors."),
    "init": (f"{_HERE}:init_command", "Write a recipe to begin with, for a model and a folder of images."),
}


@click.group(
    cls=LazyGroup,
    commands_table=_COMMANDS,
    epilog="""\b
Examples:
  edgefx recipe list --json
  edgefx recipe check my-recipe.yaml
  edgefx recipe show b0-everywhere --set calibration.images=photos/
  edgefx recipe init model.keras photos/
""",
)
def command() -> None:
    """List, show, check and write recipes: files that say what the options of `edgefx compile` say.

    A recipe is given by its path, or by its name if it comes with edgefx.
    """


# ---------------------------------------------------------------------------------------------------- list


@dataclass(frozen=True, kw_only=True)
class RecipeListing:
    """One row of `edgefx recipe list`."""

    recipe: str
    summary: str
    path: Path


@click.command(epilog="Example: edgefx recipe list --json")
@json_option
@pass_app
def list_command(app: App, as_json: bool) -> None:
    """List the recipes that come with edgefx."""
    from edgefx.recipe.load import shipped

    rows = [RecipeListing(recipe=name, summary=_summary(path), path=path) for name, path in shipped().items()]
    if as_json:
        app.write_json(rows)
        return
    from edgefx.report.terminal import table as new_table

    table = new_table("recipe", "what it does", left=("what it does",))
    table.columns[0].no_wrap = True
    for row in rows:
        table.add_row(row.recipe, row.summary)
    app.print(table)
    app.note("run one with: edgefx run NAME; copy one with: edgefx recipe show NAME --as-written > my.yaml")


def _summary(path: Path) -> str:
    """Return the first sentence of the comment that a shipped recipe begins with."""
    lines = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            break
        if "$schema=" not in line:
            lines.append(line.lstrip("# "))
    return " ".join(lines).partition(". ")[0].removesuffix(".")


# ---------------------------------------------------------------------------------------------------- show


@click.command(epilog="Example: edgefx recipe show digits-demo --set quantize.effort=high --json")
@click.argument("recipe", shell_complete=completion.recipes)
@recipe_options
@click.option(
    "--as-written",
    is_flag=True,
    help="Print the file itself, with its comments and without defaults: a copy.",
)
@json_option
@pass_app
def show_command(
    app: App,
    recipe: str,
    *,
    targets: tuple[str, ...],
    settings: tuple[str, ...],
    as_written: bool,
    as_json: bool,
) -> None:
    """Print RECIPE as it is carried out.

    The recipe it extends is merged in, variables are replaced, and defaults and --set are filled in. A recipe
    with a matrix gives one YAML document for each run.
    """
    if as_written:
        from edgefx.recipe.load import find

        if targets or settings or as_json:
            raise click.UsageError(
                "--as-written prints the file itself: leave --target, --set and --json out"
            )
        app.write(find(recipe).read_text(encoding="utf-8").rstrip("\n"))
        return
    from edgefx.recipe.compose import setting
    from edgefx.recipe.dump import to_document, to_yaml
    from edgefx.recipe.load import find, load_runs

    runs = load_runs(find(recipe), [setting(one) for one in settings], targets=targets)
    if as_json:
        documents = [{"name": one.name, "recipe": to_document(one.recipe, everything=True)} for one in runs]
        app.write_json(documents)
        return
    texts = []
    for one in runs:
        head = f"# run {one.name}\n" if one.name else ""
        texts.append(head + to_yaml(one.recipe, everything=True))
    app.write("---\n".join(texts))


# --------------------------------------------------------------------------------------------------- check


@click.command(
    epilog="""\b
Examples:
  edgefx recipe check my-recipe.yaml
  edgefx recipe check *.yaml --json
"""
)
@click.argument("recipes", nargs=-1, required=True, shell_complete=completion.recipes)
@recipe_options
@json_option
@pass_app
def check_command(
    app: App, recipes: tuple[str, ...], targets: tuple[str, ...], settings: tuple[str, ...], as_json: bool
) -> int:
    """Look for mistakes in RECIPES, all at once: wrong keys and values, contradictions, missing files.

    The exit code is 2 when there is a mistake. Images and models are not opened.
    """
    from edgefx.errors import ExitCode, UsageError
    from edgefx.recipe import verdicts

    found = [verdicts.judge(name, settings, targets=targets) for name in recipes]
    failed = [error for _, error in found if error is not None]
    if as_json:
        app.write_json([verdict for verdict, _ in found])
        return int(ExitCode.USAGE if failed else ExitCode.OK)
    for verdict, _ in found:
        if verdict.valid:
            app.write(f"{verdict.recipe}: {_count(verdict.runs)}")
    if len(failed) == 1:
        raise failed[0]
    if failed:
        raise UsageError(
            f"{len(failed)} of {len(recipes)} recipes have mistakes", details=verdicts.blocks(failed)
        )
    return int(ExitCode.OK)


def _count(runs: int) -> str:
    return "no mistakes" if runs == 1 else f"no mistakes in {runs} runs"


# ------------------------------------------------------------------------------------------- schema, init


@click.command(
    epilog="""\b
Examples:
  edgefx recipe schema > edgefx.schema.json
  edgefx recipe schema --json
and as the first line of a recipe:
  # yaml-language-server: $schema=edgefx.schema.json
"""
)
@json_option
@pass_app
def schema_command(app: App, as_json: bool) -> None:  # noqa: ARG001 - the schema is JSON anyway
    """Print the JSON Schema of recipes, with which editors complete and check them."""
    from edgefx.recipe.check import schema_file

    app.write(schema_file().read_text(encoding="utf-8"))


@click.command(
    epilog="""\b
Examples:
  edgefx recipe init model.keras train/ test/
  edgefx recipe init model.keras --calib train/ --eval test/
  edgefx recipe init b0 --output b0.yaml
"""
)
@click.argument("model", shell_complete=completion.models)
@click.argument("folder", required=False, type=click.Path(path_type=Path))
@click.argument("evaluation", required=False, type=click.Path(path_type=Path))
@click.option(
    "--calib", type=click.Path(path_type=Path), metavar="DIR", help="The same as FOLDER, as `compile` has it."
)
@click.option(
    "--eval",
    "measured_on",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="The same as EVALUATION, as `compile` has it; may stand alone.",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    default=Path("recipe.yaml"),
    show_default=True,
    metavar="FILE",
    help="The recipe to write.",
)
@click.option("--force", is_flag=True, help="Replace the file if it exists.")
@json_option
@pass_app
def init_command(
    app: App,
    *,
    model: str,
    folder: Path | None,
    evaluation: Path | None,
    calib: Path | None,
    measured_on: Path | None,
    output: Path,
    force: bool,
    as_json: bool,
) -> None:
    """Write a commented recipe for MODEL, a name or a path, and the images in FOLDER.

    Accuracy is measured on the images in EVALUATION, if that is given. Without FOLDER, folders called train,
    calib, val, test, images or photos are looked for beside the model and in the working folder.
    """
    from edgefx.recipe import init
    from edgefx.recipe.load import load_runs

    folder = _one_of(folder, "FOLDER", calib, "--calib")
    evaluation = _one_of(evaluation, "EVALUATION", measured_on, "--eval")
    found = init.look(model, folder, evaluation)
    new_file(output, init.text(found, output), force=force)
    load_runs(output)  # what was written is what can be run
    if as_json:
        app.write_json({"recipe": output, "found": found})
        return
    app.write(f"wrote {output}")
    for line in init.told(found):
        app.note(line)
    app.note(f"run it with: edgefx run {output}")


def _one_of(argument: Path | None, name: str, option: Path | None, flag: str) -> Path | None:
    if argument is not None and option is not None:
        raise click.UsageError(f"{name} and {flag} are the same folder: give one of them")
    return option if argument is None else argument


def new_file(path: Path, text: str, *, force: bool) -> None:
    """Write a file that a user is going to edit: completely or not at all, and never over another.

    Raises:
        UsageError: It exists, or cannot be written.
    """
    from edgefx.errors import OutputError, UsageError
    from edgefx.storage.atomic import write_text

    if path.exists() and not force:
        raise UsageError(f"{path}: exists already", hint="give another name, or remove it first")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, text)
    except OSError as error:
        raise OutputError(f"{path}: cannot be written: {error.strerror}", hint="give another name") from error
