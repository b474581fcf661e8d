"""The options of `edgefx compile`, on the command line and in Python -> the recipe that they stand for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edgefx.errors import UsageError


def document(
    model: str,
    *,
    targets: tuple[str, ...] = (),
    calib: Path | None = None,
    samples: int | None = None,
    evaluation: Path | None = None,
    eval_limit: int | None = None,
    no_eval: bool = False,
    no_benchmark: bool = False,
    weights: str | None = None,
    classes: int | None = None,
    input_size: int | None = None,
    resize: str = "stretch",
    skip_bad_images: bool = False,
    threads: int | None = None,
    rounds: int = 100,
    max_drop: str | None = None,
    max_p95_ms: str | None = None,
    max_size: str | None = None,
    min_images: int | None = None,
    on_inconclusive: str | None = None,
    effort: str = "balanced",
    integer_only: bool = False,
    qat: str | None = None,
    train: Path | None = None,
    epochs: int | None = None,
    batch_size: int | None = None,
    learning_rate: float | None = None,
    **same: Any,
) -> dict[str, Any]:
    """Return the recipe that options stand for, as `edgefx.recipe.load.parse` takes it.

    The options have the names that the command line gives its parameters; `same` are keys that a recipe names
    alike.

    Raises:
        UsageError: Options that contradict each other, or that say nothing without another one.
    """
    if samples is not None and calib is None and model != "digits":
        raise UsageError("--samples says how many images of --calib to use", hint="give --calib DIR")
    if no_eval and (evaluation or eval_limit or max_drop):
        raise UsageError("--no-eval contradicts --eval, --eval-limit and --max-drop", hint="leave one out")
    if no_benchmark and max_p95_ms:
        raise UsageError("--no-benchmark contradicts --max-p95-ms", hint="leave one out")
    quantize: dict[str, Any] = {"method": "ptq", "effort": effort, "integer_only": integer_only}
    given = _given(train=train, epochs=epochs, batch_size=batch_size, learning_rate=learning_rate)
    if qat:
        quantize |= {"method": "qat", "mode": qat, **given}
    elif given:
        flag = f"--{next(iter(given)).replace('_', '-')}"
        raise UsageError(f"{flag} is for training", hint="say how with --qat distill or --qat supervised")
    else:
        quantize["budget"] = max_drop
    limits = _given(max_drop=max_drop, max_p95_ms=max_p95_ms, max_size=max_size)
    judging = _given(min_images=min_images, on_inconclusive=on_inconclusive)
    return {
        "version": 1,
        "model": {"source": model, "weights": weights, "classes": classes, "input_size": input_size},
        "quantize": quantize,
        "targets": targets,
        "calibration": {"images": calib, "samples": samples} if calib or samples else None,
        "evaluate": None if no_eval else {"images": evaluation, "limit": eval_limit},
        "data": {"resize": resize, "skip_bad_images": skip_bad_images},
        "benchmark": None if no_benchmark else {"threads": threads, "rounds": rounds},
        "gates": limits | judging,
        **same,
    }


def _given(**options: Any) -> dict[str, Any]:
    """Leave out what was not given, and has a default."""
    return {name: value for name, value in options.items() if value is not None}
