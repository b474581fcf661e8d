"""What is measured of models that do more than choose a class. Standard library only, as `edgefx.results`."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class TaskFigures:
    """What is measured of models that do more than choose a class; None where it was not, or has no meaning.

    Attributes:
        auc: Binary: area under the ROC curve.
        auc_drop_pp: 100 * (the float model's - `auc`).
        f1: Binary, multilabel: harmonic mean of precision and recall at the threshold of 0.5.
        balanced_accuracy: Binary: mean of the shares right of either class.
        mean_average_precision: Multilabel: mean of the labels' average precisions.
        map_drop_pp: 100 * (the float model's - `mean_average_precision`).
        mae: Regression: mean absolute error against what is right, in its unit.
        baseline_mae: The float model's.
        rmse: Regression: root of the mean squared error against what is right.
        r2: Regression: share of the variance that is explained.
        r2_drop: The float model's less `r2`.
        relative_error: Values: root mean square of the differences from the float model's values, over these
            values' standard deviation.
        max_error: Values: the largest difference from the float model's.
        cosine: Embeddings, features: mean cosine of the angle to the float model's vector.
    """

    auc: float | None = None
    auc_drop_pp: float | None = None
    f1: float | None = None
    balanced_accuracy: float | None = None
    mean_average_precision: float | None = None
    map_drop_pp: float | None = None
    mae: float | None = None
    baseline_mae: float | None = None
    rmse: float | None = None
    r2: float | None = None
    r2_drop: float | None = None
    relative_error: float | None = None
    max_error: float | None = None
    cosine: float | None = None
