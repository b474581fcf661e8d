"""Builds a form with sane weights, and saves it as users do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgefx.models.front import front
from edgefx.models.hints import Hints
from edgefx.units import parse_tasks

from . import fitting
from .bodies import SIZE

if TYPE_CHECKING:
    from edgefx.types import ImageSet

    from .table import Form


def hints_of(form: Form) -> Hints:
    """Return what the user says of the form."""
    return Hints(task=parse_tasks(form.task) if form.task else None, **form.hints)


def save(form: Form, folder: Path, images: Callable[[int, int], ImageSet], *, fitted: int = 48) -> Path:
    """Build a form, fit it to images, and save it.

    Args:
        form: Of `table.FORMS`.
        folder: Where it is saved.
        images: Gets height and width in pixels, and returns labelled images.
        fitted: On so many of them normalizations are fitted.

    Returns:
        What a user would give edgefx.
    """
    import keras
    import tf_keras

    library = tf_keras if form.legacy else keras
    keras.utils.clear_session()
    library.utils.set_random_seed(0)
    model = form.build(library)
    if not form.refused:
        _train(form, library, model, images, fitted)
    if form.saved.startswith("."):
        path = folder / f"model{form.saved}"
        model.save(path)
        return path
    path = folder / "saved"
    if form.saved == "export":
        model.export(str(path), verbose=False)
    else:
        model.save(path)
    return path


def _train(form: Form, library: Any, model: Any, images: Callable[[int, int], ImageSet], fitted: int) -> None:
    height, width, channels = (size or SIZE for size in model.input_shape[1:])
    seen = images(height, width)
    assert seen.labels is not None
    pixels = front(form.hints.get("pixels"), channels=channels).prepared(seen.pixels)
    fitting.settle(model, pixels[:: max(1, len(pixels) // fitted)][:fitted])
    if form.last:
        targets = fitting.targets_of(form.fitted, seen.labels, seen.pixels)
        fitting.fit(library, model, form.last, pixels, np.asarray(targets))
