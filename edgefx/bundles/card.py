"""``MODEL_CARD.md``: what a run measured, in words. Nothing in it is a guess; what is not known is said."""

from __future__ import annotations

from collections.abc import Iterator

from edgefx.bundles.manifest import Manifest
from edgefx.report import markdown
from edgefx.report.markdown_text import item, paragraph
from edgefx.report.text import answers
from edgefx.results import RunReport
from edgefx.types import ModelSpec, OutputSpec, TensorInfo

_UNKNOWN = (
    "Not known to edgefx, and not stated here: what the model is meant for, what it was trained on, its"
    " licence, and how it fails outside of the evaluation images."
)
_NAMED = 20  # classes that are listed; labels.txt has all


def text(manifest: Manifest, report: RunReport) -> str:
    """Return the card.

    Args:
        manifest: What is in the bundle.
        report: The run's report on the targets that are in it.
    """
    return "\n".join(
        [
            *_head(manifest, report.model),
            "",
            "## Measured",
            "",
            markdown.dumps(report),
            paragraph(_UNKNOWN),
            "",
        ]
    )


def _head(manifest: Manifest, spec: ModelSpec) -> Iterator[str]:
    model, (low, high) = manifest.model, manifest.pixel_range
    what = "an image classifier" if spec.task.classifies and not spec.outputs else "a model of images"
    yield "# Model card"
    yield ""
    yield paragraph(
        f"{model.name}: {what}, compiled by edgefx {manifest.edgefx} on {manifest.created}."
        " Every figure below was measured by that run, but for those that are called estimates."
    )
    yield ""
    yield item("model", f"SHA-256 {model.sha256}")
    yield item(
        "input", f"{manifest.color}, {model.height} x {model.width} pixels, values {low:g} to {high:g}"
    )
    for one in spec.outputs or (spec,):
        names = _classes(manifest.class_names, one) if spec.first in (None, one) else ""
        named = f"output {one.name}" if spec.outputs else "output"
        yield item(named, f"{one.output}, {answers(one)}{names}")
    for target in manifest.targets:
        laid_out = f"; laid out for {target.hardware}" if target.hardware else ""
        outputs = [one.tensor for one in target.outputs] or [target.output]
        ends = "; ".join([f"input {_tensor(target.input)}", *(f"output {_tensor(one)}" for one in outputs)])
        yield item(target.target, f"{', '.join(target.files)}; {ends}{laid_out}")
    for images in manifest.data:
        yield item(
            f"{images.role} images",
            f"{images.images}, resized with {images.resize}, fingerprint {images.sha256}",
        )


def _classes(names: tuple[str, ...], model: ModelSpec | OutputSpec) -> str:
    if not names:
        return "; their names are not known" if model.task.classifies else ""
    return f": {', '.join(names[:_NAMED])}{', ...' if len(names) > _NAMED else ''}"


def _tensor(info: TensorInfo) -> str:
    quantized = f", scale {info.scale:.9g}, zero point {info.zero_point}" if info.scale is not None else ""
    return f"{info.name} {info.dtype} {list(info.shape)}{quantized}"
