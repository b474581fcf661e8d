"""Training steps in TensorFlow; `edgefx.qat.train` decides what happens between the epochs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import psutil
import tensorflow as tf
import tf_keras
from numpy.typing import NDArray

from edgefx.models.graph import tf_keras as keras2
from edgefx.models.graph.from_tensorflow import from_tensorflow
from edgefx.protocols import Task
from edgefx.qat import schedule
from edgefx.qat.model import FakeQuantModel, block_outputs, without_head
from edgefx.qat.parameters import FakeQuantization
from edgefx.quantization import QatSettings
from edgefx.scores import by_class
from edgefx.types import FrozenGraph, ImageSet, ModelTask, OutputKind, QatMode

if TYPE_CHECKING:
    Arrays = list[NDArray[Any]]

_PROVEN_ON = 16  # images on which the bridge must equal the canonical graph
_EVALUATED = 32  # images at once
# A bias and the logarithm of a scale move at these multiples of a weight's rate. A bias is counted in steps
# of what the layer puts out; a scale shall move by per mille.
_BIAS_RATE = 1.7  # tuned: ablations qat.trainer.BIAS_RATE
_SCALE_RATE = 0.07  # tuned: ablations qat.trainer.SCALE_RATE
# Adam's memory of squared gradients: a training has some hundred steps, 0.999 would remember them all.
_BETA_2 = 0.99  # tuned: ablations qat.trainer.BETA_2
# Of what the layers put out, while a gradient is computed: measured 7.9 to 11.3 bytes (B0 and V2-B0 on a CPU,
# 16 and 64 images).
_BYTES_PER_VALUE = 8


class DivergedError(Exception):
    """The loss is not finite any more."""


@dataclass(frozen=True, kw_only=True)
class EpochFigures:
    """What the model makes of the validation images; see `edgefx.training.TrainingEpoch`."""

    loss: float
    agreement: float
    accuracy: float | None
    snr_db: float


class Trainer:
    """A model that is trained, its teacher and its optimizers.

    Args:
        graph: The canonical graph.
        images: All of them.
        settings: How to train.
        start: The post-training artifact.
        teacher: The graph to learn from.

    Raises:
        ModelError: The model has no layers, or its tf_keras counterpart is not equal to it.
    """

    def __init__(
        self,
        graph: FrozenGraph,
        images: ImageSet,
        settings: QatSettings,
        *,
        start: FakeQuantization,
        teacher: FrozenGraph,
    ) -> None:
        tf.config.experimental.enable_tensor_float_32_execution(settings.tensor_float32)
        tf_keras.utils.set_random_seed(settings.seed)
        self._settings = settings
        self._images = images
        self.split = schedule.split(images, settings)
        layers = from_tensorflow(graph)
        features = block_outputs(layers) if self._distills and settings.features else ()
        height, width = graph.spec.height, graph.spec.width
        self._student = FakeQuantModel(layers, start, height=height, width=width, features=features)
        self._head, self._task = self._student.head, graph.spec.task
        proven = keras2.to_tf_keras(teacher, images.pixels[:_PROVEN_ON])
        beheaded, _ = without_head(layers)
        names = (beheaded.outputs[0].node, *features)
        outputs = [proven.get_layer(name).output for name in names]
        self._teacher = tf_keras.Model(proven.input, outputs[0] if len(outputs) == 1 else outputs)
        self._ask = tf.function(
            lambda pixels: self._teacher(pixels, training=False), reduce_retracing=True, autograph=False
        )
        self._answer = tf.function(
            lambda pixels: self._student.model(pixels, training=False), autograph=False
        )
        self._known: dict[tuple[int, int, int | None], NDArray[np.float32]] = {}
        student = self._student
        self._groups = [(student.codes, 1.0), (student.biases, _BIAS_RATE), (student.log_scales, _SCALE_RATE)]
        self._groups = [(variables, factor) for variables, factor in self._groups if variables]
        self._optimizers = [_optimizer(settings) for _ in self._groups]
        for optimizer, (variables, _) in zip(self._optimizers, self._groups, strict=True):
            optimizer._create_all_weights(variables)  # noqa: SLF001 - a resumed training fills them first
        self._gradients = tf.function(self._eager_gradients, autograph=False)
        self._apply = tf.function(self._eager_apply, autograph=False)
        wanted = self._teach(self.split.validation, np.zeros(len(self.split.validation), np.int64), None)
        self._wanted = np.asarray(self._compared(wanted))
        self._validation_targets = self._targets(self.split.validation, wanted)
        # The error's share of this is 1 / SNR, whatever the model's scores are like.
        self._power = max(float(np.square(self._wanted).mean()), 1e-12)
        # Years and centimetres count alike; what is the same for all images is not divided by nothing.
        self._spread = 1.0 if images.values is None else np.maximum(images.values.var(axis=0), 1e-6)

    @property
    def _distills(self) -> bool:
        return self._settings.mode is QatMode.DISTILL

    def most_images(self) -> int | None:
        """Return how many images' gradient fits into memory at once, at most; None where that is not known.

        A GPU's allocator raises an error that names the size; on a CPU TensorFlow ends the process, or the
        system does.
        """
        needed = _BYTES_PER_VALUE * self._student.values_per_image
        if not needed or tf.config.list_physical_devices("GPU"):
            return None
        return int(psutil.virtual_memory().available // needed)

    # ---------------------------------------------------------------------------------------------- state

    @property
    def _variables(self) -> list[Any]:
        return [variable for variables, _ in self._groups for variable in variables]

    def variables(self) -> Arrays:
        """Return weights, biases and scales."""
        return [variable.numpy() for variable in self._variables]

    def optimizers(self) -> Arrays:
        """Return the optimizers' variables."""
        return [variable.numpy() for optimizer in self._optimizers for variable in optimizer.weights]

    def assign(self, variables: Arrays, optimizers: Arrays | None = None) -> None:
        """Go back to a state."""
        for variable, value in zip(self._variables, variables, strict=True):
            variable.assign(value)
        if optimizers is not None:
            own = [variable for optimizer in self._optimizers for variable in optimizer.weights]
            for variable, value in zip(own, optimizers, strict=True):
                variable.assign(value)

    def read(self) -> FakeQuantization:
        """Return weights, biases and scales as an artifact stores them."""
        return self._student.read()

    # ----------------------------------------------------------------------------------------------- data

    def _pixels(self, images: NDArray[np.int64], variants: NDArray[np.int64], size: int | None) -> Any:
        seed, pixels = self._settings.seed, self._images.pixels
        batch = np.stack(
            [
                schedule.augmented(pixels[number], int(variant), seed=seed, number=int(number))
                for number, variant in zip(images, variants, strict=True)
            ]
        ).astype(np.float32)
        if size is None:
            return tf.constant(batch)
        # The integer kernels read whole pixels.
        return tf.round(tf.image.resize(batch, (size, size), antialias=True))

    def _teach(
        self, images: NDArray[np.int64], variants: NDArray[np.int64], size: int | None
    ) -> NDArray[np.float32]:
        """Return the teacher's scores, [N, classes]; each variant of an image is asked for once."""
        keys = [(int(image), int(variant), size) for image, variant in zip(images, variants, strict=True)]
        missing = [number for number, key in enumerate(keys) if key not in self._known]
        for first in range(0, len(missing), _EVALUATED):
            places = missing[first : first + _EVALUATED]
            scores = tf.nest.flatten(self._ask(self._pixels(images[places], variants[places], size)))[0]
            self._known |= {keys[place]: row for place, row in zip(places, scores.numpy(), strict=True)}
        return np.stack([self._known[key] for key in keys])

    def _targets(self, images: NDArray[np.int64], scores: NDArray[np.float32]) -> NDArray[np.float32]:
        """What the scores shall be like: the teacher's, the labels, one-hot, or the values that are right."""
        labels, values = self._images.labels, self._images.values
        if self._distills:
            return scores
        if values is not None:
            return values[images]
        assert labels is not None
        if self._task is ModelTask.BINARY:
            return labels[images, None].astype(np.float32)
        return np.eye(scores.shape[1], dtype=np.float32)[labels[images]]

    # -------------------------------------------------------------------------------------------- training

    def epoch(self, number: int, task: Task) -> float:
        """Train on all images once.

        Args:
            number: The epoch's number, from 0.
            task: Counts images.

        Returns:
            Mean loss.

        Raises:
            DivergedError: The loss is not finite.
        """
        settings, training = self._settings, self.split.training
        steps = schedule.steps_per_epoch(len(training), settings)
        step, losses, gathered, gradients = number * steps, [], 0, None
        size = schedule.size_of_epoch(number, settings)
        for batch in schedule.batches(len(training), settings, epoch=number):
            images = training[batch.images]
            targets = self._targets(images, self._teach(images, batch.variants, size))
            loss, new = self._gradients(self._pixels(images, batch.variants, size), tf.constant(targets))
            losses.append(float(loss))
            if not math.isfinite(losses[-1]):
                raise DivergedError
            gradients = new if gradients is None else [a + b for a, b in zip(gradients, new, strict=True)]
            gathered += 1
            if gathered == settings.accumulate:
                self._step(step, steps, gradients, gathered)
                step, gathered, gradients = step + 1, 0, None
            task.advance(len(batch.images))
        if gradients is not None:
            self._step(step, steps, gradients, gathered)
        if not all(np.isfinite(value).all() for value in self.variables()):
            raise DivergedError
        return float(np.mean(losses))

    def _step(self, step: int, steps: int, gradients: Sequence[Any], gathered: int) -> None:
        settings = self._settings
        rate = settings.learning_rate * schedule.rate(step, steps * settings.epochs, settings)
        for optimizer, (_, factor) in zip(self._optimizers, self._groups, strict=True):
            optimizer.learning_rate.assign(rate * factor)
        self._apply([gradient / gathered for gradient in gradients])

    def _eager_gradients(self, pixels: Any, targets: Any) -> Any:
        with tf.GradientTape() as tape:
            outputs = tf.nest.flatten(self._student.model(pixels, training=True))
            loss = self._loss(outputs[0], targets)
            if len(outputs) > 1:
                wanted = tf.nest.flatten(self._teacher(pixels, training=False))
                terms = [
                    tf.reduce_mean(tf.square(got - want)) / (tf.reduce_mean(tf.square(want)) + 1e-12)
                    for got, want in zip(outputs[1:], wanted[1:], strict=True)
                ]
                loss += self._settings.features * tf.add_n(terms) / len(terms)
        gradients = tape.gradient(loss, self._variables, unconnected_gradients="zero")
        return loss, gradients

    def _eager_apply(self, gradients: Sequence[Any]) -> None:
        first = 0
        for optimizer, (variables, _) in zip(self._optimizers, self._groups, strict=True):
            optimizer.apply_gradients(zip(gradients[first : first + len(variables)], variables, strict=True))
            first += len(variables)

    def _loss(self, scores: Any, targets: Any, *, smoothing: float | None = None) -> Any:
        """Return the loss of scores against the teacher's, or against labels.

        Distillation: the error of the scores over their power, 1 / SNR, which is what the divergence of the
        distributions comes to at a high temperature (Hinton et al., "Distilling the knowledge in a neural
        network", 2015). At temperature 1 a sure teacher hardly says anything about most images and very
        much about those between two classes: with that in the loss four epochs brought nothing on B0 (20.4
        dB, rate 0.003), with the blocks' outputs in its place 3 dB (rates of 0.002 and 0.005).
        """
        smoothing = self._settings.label_smoothing if smoothing is None else smoothing
        if self._task is ModelTask.REGRESSION and not self._distills:
            answers = tf.sigmoid(scores) if self._head == "sigmoid" else scores
            return tf.reduce_mean(tf.square(answers - targets) / self._spread)
        if not self._distills:
            cross_entropy = (
                tf_keras.losses.binary_crossentropy
                if self._head == "sigmoid" or self._task in (ModelTask.BINARY, ModelTask.MULTILABEL)
                else tf_keras.losses.categorical_crossentropy
            )
            return tf.reduce_mean(cross_entropy(targets, scores, from_logits=True, label_smoothing=smoothing))
        return tf.reduce_mean(tf.square(self._compared(scores - targets))) / self._power

    def _compared(self, scores: Any) -> Any:
        """Return scores, or errors of scores, without what the head does not see: softmax takes no shift."""
        if self._head == "sigmoid" or not self._task.classifies or scores.shape[1] == 1:
            return scores
        return scores - tf.reduce_mean(scores, axis=1, keepdims=True)

    # ------------------------------------------------------------------------------------------ evaluation

    def evaluate(self) -> EpochFigures:
        """Run the validation images, as they are."""
        numbers = self.split.validation
        parts = []
        for first in range(0, len(numbers), _EVALUATED):
            some = numbers[first : first + _EVALUATED]
            pixels = self._images.pixels[some].astype(np.float32)
            parts.append(tf.nest.flatten(self._answer(pixels))[0].numpy())
        scores = np.concatenate(parts)
        labels = self._images.labels
        # What is behind sigmoid or softmax has the same best class.
        best, wanted = (by_class(one, OutputKind.LOGITS).argmax(axis=1) for one in (scores, self._wanted))
        error = float(np.square(np.asarray(self._compared(scores)) - self._wanted).mean())
        return EpochFigures(
            loss=float(self._loss(tf.constant(scores), tf.constant(self._validation_targets), smoothing=0.0)),
            agreement=float((best == wanted).mean()),
            accuracy=None if labels is None else float((best == labels[numbers]).mean()),
            snr_db=10 * math.log10(self._power / max(error, 1e-12 * self._power)),
        )


def _optimizer(settings: QatSettings) -> Any:
    # These are one operation per variable; the newer ones are some twenty, which for hundreds of variables
    # take longer to trace than the model.
    optimizers = tf_keras.optimizers.legacy
    if settings.optimizer == "sgd":
        return optimizers.SGD(settings.learning_rate, momentum=0.9)
    return optimizers.Adam(settings.learning_rate, beta_2=_BETA_2)
