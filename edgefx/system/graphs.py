"""What TensorFlow raises while it runs the operations of somebody's model."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from edgefx.errors import ModelError

_PREAMBLE = ("Graph execution error", "Detected at node", "<stack traces", "[[{{node", "(0) ", "(1) ")


@contextmanager
def running(source: str) -> Iterator[None]:
    """Run a model, or a graph made of it, inside: where an operation fails, the model is to blame.

    Args:
        source: The model, for the message.

    Raises:
        ModelError: An operation failed, for another reason than want of memory.
    """
    import tensorflow as tf

    try:
        yield
    except tf.errors.ResourceExhaustedError:
        raise
    except tf.errors.OpError as error:
        lines = (line.strip() for line in (error.message or "").splitlines())
        said = next((line for line in lines if line and not line.startswith(_PREAMBLE)), type(error).__name__)
        raise ModelError(
            f"{source}: it fails on the images: {said[:300]}",
            hint="run it on one of the images in TensorFlow: the model itself must work",
        ) from error
