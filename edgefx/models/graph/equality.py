"""How far two computations of one function may be apart in float32.

Two float32 programs of one classifier that sum in another order differ by some 1e-6 of a probability, and by
more where logits are large or the network is deep: 1.1e-5 was measured on a Teachable Machine model, of which
TensorFlow's own ``.tflite`` differs from Keras by 2.1e-5, and 6.2e-5 on an EfficientNet as a SavedModel. One
kernel of the embedded model that is 1 % too large makes 2.3e-2.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from edgefx.scores import by_class
from edgefx.types import OutputKind

if TYPE_CHECKING:
    from edgefx.types import ModelSpec, Scores

USUAL = 1e-5  # of a probability: what is above is worth a word
ALLOWED = 1e-4  # likewise: what is above is another function


@dataclass(frozen=True, kw_only=True)
class Discrepancy:
    """What lies between two computations on the same images.

    Attributes:
        max_abs_dp: Largest absolute difference of a probability, or of a value over the largest value; NaN
            where one of them gives NaN.
        top1_changed: Images whose best class is another one.
        images: Compared.
    """

    max_abs_dp: float
    top1_changed: int
    images: int

    @property
    def is_usual(self) -> bool:
        """Whether it is what the order of sums explains without a further word."""
        return self.max_abs_dp <= USUAL

    @property
    def is_allowed(self) -> bool:
        """Whether both are the same function: probabilities within `ALLOWED`, and the same best classes.

        Within `USUAL` classes may change: two of them are then equal as far as float32 can tell.
        """
        return self.is_usual or (self.max_abs_dp <= ALLOWED and not self.top1_changed)

    def __str__(self) -> str:
        """As it stands in messages."""
        text = f"max |Δp| = {self.max_abs_dp:.2g}"
        if self.top1_changed:
            text += f", another best class on {self.top1_changed} of {self.images} images"
        return text


def of_model(want: Scores, got: Scores, spec: ModelSpec) -> Discrepancy:
    """Compare two computations of a model.

    Args:
        want: The scores to compare with, float32 [N, columns].
        got: The scores to judge, float32 [N, columns].
        spec: The model. Of several outputs, that which differs most decides.
    """
    if not spec.outputs:
        return difference(want, got, spec.output)
    found = [difference(want[:, place], got[:, place], one.output) for one, place in spec.parts]
    largest = [one.max_abs_dp for one in found]
    return Discrepancy(
        max_abs_dp=float(np.max(largest)),
        top1_changed=max(one.top1_changed for one in found),
        images=len(want),
    )


def difference(want: Scores, got: Scores, output: OutputKind) -> Discrepancy:
    """Compare two computations of one output.

    Args:
        want: The scores to compare with, float32 [N, classes].
        got: The scores to judge, float32 [N, classes].
        output: What both are. Values are taken over the largest of them: float32 promises no more.
    """
    if output is OutputKind.VALUES:
        scale = float(np.max(np.abs(want), initial=0.0)) or 1.0
        return Discrepancy(
            max_abs_dp=float(np.max(np.abs(want - got), initial=0.0)) / scale,
            top1_changed=0,
            images=len(want),
        )
    want, got = by_class(want, output), by_class(got, output)
    changed = int((want.argmax(1) != got.argmax(1)).sum())
    if output is OutputKind.LOGITS:
        want, got = _softmax(want), _softmax(got)
    return Discrepancy(
        max_abs_dp=float(np.max(np.abs(want - got), initial=0.0)), top1_changed=changed, images=len(want)
    )


def _softmax(logits: Scores) -> Scores:
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    probabilities: Scores = (exponentials / exponentials.sum(axis=1, keepdims=True)).astype(np.float32)
    return probabilities
