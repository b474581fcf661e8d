"""A first recipe for a model and the image folders that are found on disk."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from edgefx.data.folders import SUFFIXES
from edgefx.errors import UsageError
from edgefx.models.zoo import brings_images, known, recognized
from edgefx.recipe.dump import dump, relative
from edgefx.recipe.yaml_text import resolve

_CALIBRATION = ("calib", "calibration", "train", "training", "images", "photos")
_EVALUATION = ("val", "valid", "validation", "eval", "test")


@dataclass(frozen=True, kw_only=True)
class Found:
    """What a recipe can be made of.

    Attributes:
        model: A name, or the path of a file.
        calibration: Folder of images to calibrate on.
        evaluation: Folder of other images to measure accuracy on.
        labelled: Whether accuracy can be measured: there are sub-folders or a labels.csv.
    """

    model: str
    calibration: Path | None
    evaluation: Path | None
    labelled: bool


def look(model: str, folder: Path | None, evaluation: Path | None = None) -> Found:
    """Look for image folders.

    Args:
        model: A name, or the path of a file or folder.
        folder: Where to look: itself, and what is in it; None looks beside the model and here.
        evaluation: The folder of images to measure accuracy on; `folder`, if it is given too, then is the
            one of the images to calibrate on.

    Raises:
        UsageError: There is no such model or folder, or a folder that is named holds no images.
    """
    path = Path(model)
    recognized(model)
    for named in filter(None, (folder, evaluation)):
        if not named.is_dir():
            raise UsageError(f"{named}: no such folder", hint="check the path")
        if evaluation is not None and not _has_images(named):
            raise UsageError(f"{named}: holds no images", hint=f"images are {', '.join(sorted(SUFFIXES))}")
    places = [folder] if folder else [*([path.parent] if path.exists() else []), Path()]
    if folder is None and brings_images(model):
        places = []  # those of another model may lie about
    if evaluation is None:
        calibration, evaluation = _both(places)
        if calibration is None and folder is not None and _has_images(folder):
            calibration = folder
    else:
        calibration = folder or _first(places, _CALIBRATION, but=evaluation)
    brought = calibration is None and evaluation is None and brings_images(model)
    return Found(
        model=model,
        calibration=calibration,
        evaluation=evaluation,
        labelled=brought or _is_labelled(evaluation or calibration),
    )


def _both(places: list[Path]) -> tuple[Path | None, Path | None]:
    """Return the folders to calibrate on and to measure on, as far as there are any."""
    calibration, evaluation = _first(places, _CALIBRATION), _first(places, _EVALUATION)
    if calibration is None:  # images are images; those that are left of them are measured on
        return evaluation, None
    return calibration, evaluation


def told(found: Found) -> tuple[str, ...]:
    """Return what a user should know of what was found."""
    lines = []
    if found.calibration is not None:
        lines.append(f"calibration images: {found.calibration}")
    elif not brings_images(found.model):
        lines.append("no folder of images to calibrate on was found: the recipe has float targets only")
    if found.evaluation is not None:
        lines.append(f"evaluation images: {found.evaluation}")
    elif found.calibration is not None and found.labelled:
        lines.append("accuracy is measured on what calibration leaves of them")
    return tuple(lines)


def text(found: Found, file: Path) -> str:
    """Return the recipe.

    Args:
        found: From `look`.
        file: Where it is going to be; paths are relative to its folder.
    """
    has_images = found.calibration is not None or brings_images(found.model)
    is_named = known(found.model) is not None
    model = found.model if is_named else _relative(Path(found.model), file)
    parts = [
        _head(file),
        _MODEL + dump({"model": model}),
    ]
    if has_images:
        parts.append(_QUANTIZE_LABELLED if found.labelled else _QUANTIZE)
        parts.append(_TARGETS)
    else:
        parts.append(_FLOAT_TARGETS)
    if found.calibration is not None:
        images = dump({"images": _relative(found.calibration, file)})
        parts.append(f"# Typical images; labels are not needed to calibrate.\ncalibration:\n  {images}")
    if found.evaluation is not None:
        images = dump({"images": _relative(found.evaluation, file)})
        which = "Labelled images" if found.labelled else "Images"
        parts.append(f"# {which} that the model has not seen.\nevaluate:\n  {images}")
    elif found.calibration is not None:
        parts.append(_EVALUATE)
    drop = _DROP if found.labelled and has_images else f"# {_DROP}; needs labelled images"
    parts.append(_GATES.format(drop=drop, size=_size_limit(found.model, is_int8=has_images)))
    parts.append(_REST)
    return "\n".join(parts)


def _head(file: Path) -> str:
    return f"""\
# Check it: edgefx recipe check {file.name}      Run it: edgefx run {file.name}
# Every key: edgefx recipe schema. For an editor, put its output beside this file, and as the first line:
#   # yaml-language-server: $schema=edgefx.schema.json
"""


_MODEL = """\
version: 1

# A name (see: edgefx models), or a path; paths are relative to this file.
"""
_QUANTIZE = """\
quantize:
  method: ptq # post-training quantization
  effort: balanced # fast, balanced or high: time that INT8 accuracy is worth
  # keep_float: [kind:DepthwiseConv2D] # layers to leave in float: names, globs, kinds
  # integer_only: true # for NPUs and MCUs: tflite-int8 only
"""
_QUANTIZE_LABELLED = _QUANTIZE.replace(
    "  # keep_float",
    "  budget: 1pp # top-1 that INT8 may lose: if more, edgefx tries harder, then keeps layers in float\n"
    "  # keep_float",
)
_TARGETS = """\
# See: edgefx targets. A target may have options of its own: {target: tflite-int8, io_dtype: int8}.
targets: [tflite-int8]
"""
_FLOAT_TARGETS = """\
# INT8 needs images: put a folder of about 100 below, and add tflite-int8, onnx-int8 or openvino-int8.
targets: [tflite-float16]
# calibration:
#   images: photos
"""
_EVALUATE = """\
# Accuracy is measured on what calibration leaves of its folder, unless there is another:
# evaluate:
#   images: test
"""
_DROP = "max_drop: 1pp # top-1 lost, in percentage points"
_GATES = """\
# Limits: the exit code is 1 when one is exceeded.
gates:
  {drop}
  # max_p95_ms: 20 # host latency
  {size}
"""
_REST = """\
benchmark: # latency on this machine; null: not at all
  rounds: 100
  # threads: 1
output: edgefx-out # relative to the working folder
"""


_GRAPH_MB = 0.15


def _size_limit(model: str, *, is_int8: bool) -> str:
    """Return a limit on the artifact's size that one grown by half would exceed.

    An INT8 EfficientNet takes 1.2 bytes a parameter, and a quarter to a third of its Keras file. What
    describes its graph takes 0.1 MB besides, which is much of a small artifact.
    """
    share = 1.0 if is_int8 else 2.0  # float16 takes twice as much
    family = known(model)
    if family is not None:
        megabytes = _GRAPH_MB + 1.8 * family.parameters_m * share
        of_what = f"for {family.parameters_m:g} M parameters"
    else:
        path = Path(model)
        files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
        floats = sum(file.stat().st_size for file in files) / 1e6
        megabytes = _GRAPH_MB + 0.45 * floats * share
        of_what = f"for {floats:.3g} MB of {path.name}"
    return f"max_size: {_rounded_up(megabytes)}MB # {of_what}; set it closer after the first run"


def _rounded_up(value: float) -> str:
    """Round up to two digits: 7.29 to 7.3, 12.1 to 13."""
    step = 10 ** (math.floor(math.log10(max(value, 0.01))) - 1)
    return f"{math.ceil(value / step - 1e-9) * step:.6g}"


def _first(places: list[Path], names: tuple[str, ...], *, but: Path | None = None) -> Path | None:
    """Return the first folder of images of one of these names, other than `but`."""
    candidates = [place / name for place in places for name in names]
    return next((one for one in candidates if _has_images(one) and not _same(one, but)), None)


def _same(folder: Path, other: Path | None) -> bool:
    return other is not None and folder.samefile(other)


def _has_images(folder: Path) -> bool:
    """Whether there are images in a folder or in one of its sub-folders."""
    if not folder.is_dir():
        return False
    folders = [folder, *(entry for entry in sorted(folder.iterdir()) if entry.is_dir())]
    return any(entry.suffix.lower() in SUFFIXES for one in folders for entry in one.iterdir())


def _is_labelled(folder: Path | None) -> bool:
    if folder is None:
        return False
    return (folder / "labels.csv").is_file() or any(entry.is_dir() for entry in folder.iterdir())


def _relative(path: Path, file: Path) -> str:
    text = relative(path, file.parent)
    return text if isinstance(resolve(text), str) else f"./{text}"
