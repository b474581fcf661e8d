"""Train the embedded `digits` model and write its weights into the package.

A small EfficientNet (`edgefx.models.efficientnet`) on the training part of scikit-learn's handwritten digits
(`make_digits.split`); the held-out part only measures. The pixels go through edgefx's own decoder and resize,
as they do at inference: 8 x 8 grey, stretched to 32 x 32 RGB.

Run it from the checkout: ``python calibration/train_digits.py`` (a few minutes on two cores). Seeds are fixed
and operations deterministic: a second run on one machine gives the same weights.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np
from make_digits import split
from numpy.typing import NDArray
from PIL import Image

from edgefx.data.pixels import fit, to_rgb
from edgefx.models import zoo
from edgefx.types import Resize

SIZE = 32
EPOCHS = 60
BATCH = 32
LEARNING_RATE = 4e-3
WEIGHT_DECAY = 1e-2
LABEL_SMOOTHING = 0.05
SEED = 0
REQUIRED_TOP1 = 0.97
LARGEST_FILE = 10**6  # bytes


def pixels(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return grey [N, 8, 8] as RGB [N, 32, 32, 3], decoded and resized as at inference."""
    fitted = (
        fit(to_rgb(Image.fromarray(image)), height=SIZE, width=SIZE, resize=Resize.STRETCH)
        for image in images
    )
    return np.stack([np.asarray(image) for image in fitted])


def augmentation(keras: Any) -> Any:
    """Small shifts, rotations and zooms; what moves in is background (black)."""
    layers, fill = keras.layers, {"fill_mode": "constant", "fill_value": 0.0}
    return keras.Sequential(
        [
            layers.RandomTranslation(0.1, 0.1, seed=SEED, **fill),
            layers.RandomRotation(0.04, seed=SEED + 1, **fill),  # in turns: 14 degrees
            layers.RandomZoom(0.12, 0.12, seed=SEED + 2, **fill),
        ]
    )


def train(images: NDArray[np.uint8], labels: NDArray[np.int64], *, epochs: int) -> Any:
    """Return the trained Keras model."""
    import keras
    import tensorflow as tf

    tf.config.experimental.enable_op_determinism()
    model = zoo.build("digits", weights=zoo.RANDOM, seed=SEED)
    steps = -(-len(images) // BATCH)
    schedule = keras.optimizers.schedules.CosineDecay(
        0.0, (epochs - 3) * steps, warmup_target=LEARNING_RATE, warmup_steps=3 * steps
    )
    trained = keras.Sequential([augmentation(keras), model])
    trained.compile(
        optimizer=keras.optimizers.AdamW(schedule, weight_decay=WEIGHT_DECAY),
        loss=keras.losses.CategoricalCrossentropy(label_smoothing=LABEL_SMOOTHING),
    )
    targets = np.eye(10, dtype=np.float32)[labels]
    trained.fit(images.astype(np.float32), targets, batch_size=BATCH, epochs=epochs, verbose=2)
    return model


def main() -> None:
    """Train, measure on the held-out images, and write the weights if they are good enough."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    parser.add_argument("--output", type=Path, default=zoo.DIGITS_WEIGHTS)
    arguments = parser.parse_args()
    started = time.perf_counter()
    train_images, train_labels, val_images, val_labels = split()
    model = train(pixels(train_images), train_labels, epochs=arguments.epochs)
    scores = model.predict(pixels(val_images).astype(np.float32), batch_size=64, verbose=0)
    top1 = float((scores.argmax(axis=1) == val_labels).mean())
    print(f"{model.count_params()} parameters; held-out top-1 {top1:.2%} of {len(val_labels)} images")
    if top1 < REQUIRED_TOP1:
        raise SystemExit(f"below the required {REQUIRED_TOP1:.0%}: nothing written")
    partial = arguments.output.with_name("partial.weights.h5")
    model.save_weights(partial)
    size = partial.stat().st_size
    if size > LARGEST_FILE:
        partial.unlink()
        raise SystemExit(f"the weights take {size} bytes, more than {LARGEST_FILE}: nothing written")
    partial.replace(arguments.output)
    print(f"{arguments.output}: {size} bytes, {time.perf_counter() - started:.0f} s")


if __name__ == "__main__":
    main()
