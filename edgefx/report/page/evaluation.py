"""The page of `edgefx evaluate`: what was measured, and which parts of changed images answers rest on."""

from __future__ import annotations

from edgefx.report import page
from edgefx.report.evaluation import facts
from edgefx.report.page import changed_images
from edgefx.report.page.run import Finding
from edgefx.report.page.thumbnails import Thumbnails, folder_of
from edgefx.views import Evaluation


def dumps(result: Evaluation) -> str:
    """Return the page."""
    shown: dict[str, object] = {"cards": [], "small": False}
    if result.model is not None:
        root = folder_of({result.data.role: result.data.root})
        pictures = Thumbnails(root, result.model, result.data.resize)
        made = changed_images.of_explanations(result.explanations, result.model, pictures)
        shown = changed_images.context(made, result.model, result.explanations)
    return page.write(
        "evaluation.html",
        title=result.artifact.name,
        subtitle=str(result.artifact),
        findings=[
            Finding(word="doubtful", tone="warn", text=doubt.reason, remedy=doubt.advice)
            for doubt in result.doubts
        ],
        facts=[(label, str(text)) for label, text in facts(result)],
        asked=result.model is not None,
        **shown,
    )
