"""`edgefx report`: write the report of a finished run again, as a page or in any other format."""

from __future__ import annotations

from pathlib import Path

import click

from edgefx.cli.annotations import annotate
from edgefx.cli.context import App, pass_app
from edgefx.cli.options import json_option, log_to_option, report_option
from edgefx.harmless import visible


@click.command(
    epilog="""\b
Examples:
  edgefx report build/ --open
  edgefx report build/ --report page.html --report junit=junit.xml
  edgefx report build/ --cards
  MLFLOW_TRACKING_URI=sqlite:///mlflow.db edgefx report build/ --log-to mlflow
"""
)
@click.argument("run", metavar="OUT", type=click.Path(path_type=Path))
@report_option
@click.option("--open", "opens", is_flag=True, help="Show the page in a browser.")
@click.option(
    "--no-pictures",
    is_flag=True,
    help="Leave the small pictures of evaluation images out of the page, say because they are private.",
)
@log_to_option
@click.option(
    "--cards", is_flag=True, help="Also write a model card beside each artifact, ARTIFACT.MODEL_CARD.md."
)
@json_option
@pass_app
def command(
    app: App,
    *,
    run: Path,
    report_files: tuple[Path, ...],
    opens: bool,
    no_pictures: bool,
    cards: bool,
    log_to: str | None,
    as_json: bool,
) -> int:
    """Write the report of a finished run, whose output folder is OUT: nothing is run.

    Without --report, the page is written to report.html in OUT. A page is one file that needs no other and
    loads nothing; pictures are those evaluation images that are still where they were, unchanged.
    """
    import webbrowser

    from edgefx.report import destination
    from edgefx.report.again import write_again
    from edgefx.views import WrittenReports

    destinations = [destination(path) for path in report_files]
    pages = [one.path for one in destinations if one.format == "html" and one.path is not None]
    if not report_files or (opens and not pages):
        page = (run if run.is_dir() else run.parent) / "report.html"
        report_files, pages = (*report_files, page), [page]
    found = write_again(run, report_files, pictures=not no_pictures)
    annotate(app, found, report_files)
    files = tuple(where.path for where in map(destination, report_files) if where.path is not None)
    if cards:
        from edgefx.bundles import make

        files += make.cards(run if run.is_dir() else run.parent)
    logged = None
    if log_to:
        from edgefx.bundles import tracking

        with app.native_log():
            logged = tracking.log(run if run.is_dir() else run.parent)
    if as_json:
        app.write_json(WrittenReports(files=files, logged=logged))
    else:
        for path in files:
            app.write(visible(str(path)))
        if logged is not None:
            app.write(f"{logged.uri}: experiment {logged.experiment}, run {logged.run_id}")
    if opens and not webbrowser.open(pages[0].resolve().as_uri()):
        app.warn(f"no browser could be started: open {pages[0]}")
    return 0
