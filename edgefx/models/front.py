"""What is put in front of a model so that it takes raw RGB pixels, as every artifact does.

Many models were trained on pixels that the training script had scaled, or on grey images. The scaling belongs
to the model: in front of it, it is one operation, of which little is left after folding.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from edgefx.errors import UsageError
from edgefx.models.graph.ir import IMAGE, Affine, Conv, Graph, Node, Op, Pad, Ref

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edgefx.types import Pixels

IMAGENET = "imagenet"
_BGR = "bgr"
# What `preprocess_input` of Keras' ResNet50 and VGG does to pixels, in its mode "caffe".
_CAFFE, _OF_CAFFE = "caffe", "bgr:mean=103.939,116.779,123.68/std=1"
_NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)"
_RANGE = re.compile(rf"({_NUMBER})\.\.({_NUMBER})")
_MOMENTS = re.compile(
    rf"mean=(?P<mean>{_NUMBER}(?:,{_NUMBER}){{0,2}})/std=(?P<std>{_NUMBER}(?:,{_NUMBER}){{0,2}})"
)
_LARGEST = 65536.0  # of a scaled pixel; more is a slip of the pen
# Of ImageNet's training images, per channel, where pixels are in [0, 1].
_MEAN, _DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
# ITU-R BT.601, as Pillow's convert("L") and tf.image.rgb_to_grayscale weigh them.
_LUMA = (0.299, 0.587, 0.114)


@dataclass(frozen=True, eq=False)
class Front:
    """Maps raw RGB to what the model was trained on: to grey or BGR if need be, then ``x * scale + offset``.

    Attributes:
        scale: Per channel, in the model's order, float64 [3] or [1].
        offset: Likewise.
        grey: Whether the model takes one channel.
        bgr: Whether its first channel is blue, and its last one red.
    """

    scale: NDArray[np.float64]
    offset: NDArray[np.float64]
    grey: bool
    bgr: bool = False

    @property
    def is_needed(self) -> bool:
        """Whether anything changes."""
        return self.grey or self.bgr or bool(np.any(self.scale != 1) or np.any(self.offset != 0))

    def apply(self, image: Any) -> Any:
        """Return the model's input of raw RGB, float32 [N, H, W, 3], on TensorFlow tensors."""
        import tensorflow as tf

        if self.grey:
            image = tf.tensordot(image, tf.constant(_LUMA, tf.float32, (3, 1)), axes=1)
        if self.bgr:
            image = tf.reverse(image, [-1])
        if np.any(self.scale != 1):
            image = image * tf.constant(self.scale, tf.float32)
        if np.any(self.offset):
            image = image + tf.constant(self.offset, tf.float32)
        return image

    def prepared(self, batch: Pixels) -> NDArray[np.float32]:
        """Return the model's inputs of raw RGB images, uint8 [N, H, W, 3], as float32 [N, H, W, channels]."""
        image = batch.astype(np.float32)
        if self.grey:
            image = image @ np.asarray(_LUMA, np.float32)[:, None]
        if self.bgr:
            image = image[..., ::-1]
        found: NDArray[np.float32] = image * self.scale.astype(np.float32) + self.offset.astype(np.float32)
        return found

    def prepend(self, graph: Graph) -> None:
        """Put it in front of a graph whose image is the model's input.

        The order of colours costs nothing where a convolution can read them in the other one.
        """
        made: list[Node] = []
        source = Ref(IMAGE)
        taken = {node.name for node in graph.nodes}

        def add(name: str, kind: str, op: Conv | Affine) -> None:
            nonlocal source
            while name in taken:
                name += "_"
            made.append(Node(name=name, kind=kind, inputs=(source,), op=op))
            source = Ref(name)

        if self.grey:
            kernel = np.asarray(_LUMA, np.float32).reshape(1, 1, 3, 1)
            add("grey", "Conv2D", Conv(kernel, None, (1, 1), (1, 1), "VALID"))
        if np.any(self.scale != 1) or np.any(self.offset):
            scale, offset = np.broadcast_arrays(self.scale, self.offset)
            order = -1 if self.bgr else 1
            add("pixels", "Rescaling", Affine(scale[::order], offset[::order]))
        if self.bgr and not _reversed(graph):
            exchange = np.eye(3, dtype=np.float32)[::-1].reshape(1, 1, 3, 3)
            add("bgr", "Conv2D", Conv(exchange, None, (1, 1), (1, 1), "VALID"))
        for index, node in enumerate(graph.nodes):
            inputs = tuple(source if ref == Ref(IMAGE) else ref for ref in node.inputs)
            graph.nodes[index] = Node(name=node.name, kind=node.kind, inputs=inputs, op=node.op)
        graph.nodes[:0] = made


def _reversed(graph: Graph) -> bool:
    """Let the first convolution take RGB where it took BGR; False where something else reads the image."""
    name, replaced = IMAGE, dict[int, Op]()
    while True:
        readers = [at for at, node in enumerate(graph.nodes) if Ref(name) in node.inputs]
        if len(readers) != 1 or graph.consumers()[name] != 1:
            return False
        node = graph.nodes[readers[0]]
        op = node.op
        if isinstance(op, Affine):
            replaced[readers[0]] = replace(op, scale=op.scale[::-1], offset=op.offset[::-1])
        elif isinstance(op, Conv) and op.kernel.shape[2] == len(_LUMA):
            replaced[readers[0]] = replace(op, kernel=np.ascontiguousarray(op.kernel[:, :, ::-1]))
            break
        elif not isinstance(op, Pad):
            return False
        name = node.name
    for at, op in replaced.items():
        graph.nodes[at] = replace(graph.nodes[at], op=op)
    return True


def front(pixels: str | None, *, channels: int) -> Front:
    """Read what a user says of the pixels that a model was trained on.

    Args:
        pixels: ``LOW..HIGH``: what black and white were; ``mean=M,M,M/std=S,S,S``: what was taken off raw
            pixels and what they were divided by then, one number or one per channel; "imagenet": in [0, 1],
            less ImageNet's mean, over its standard deviation; ``bgr:`` in front of a range or of ``mean=``:
            blue comes first; "caffe": BGR less its mean; None: raw, 0..255.
        channels: Of the model's input: 3, or 1 for grey images.

    Raises:
        UsageError: It is neither, or does not go with grey images.
    """
    scale, offset = np.ones(1), np.zeros(1)
    said = _OF_CAFFE if pixels == _CAFFE else pixels
    order, _, rest = (said or "").partition(":")
    bgr = order == _BGR
    if bgr and channels == 1:
        raise UsageError(
            f"--pixels {pixels}: the model takes grey images, which have no order of colours",
            hint="give what black and white were: --pixels 0..1",
        )
    said = (rest or None) if bgr else said
    if said == IMAGENET:
        if channels == 1:
            raise UsageError(
                "--pixels imagenet: the model takes grey images, and ImageNet's figures are those of three"
                " channels",
                hint="give what black and white were: --pixels 0..1",
            )
        scale = 1 / (255 * np.asarray(_DEVIATION))
        offset = -np.asarray(_MEAN) / np.asarray(_DEVIATION)
        if bgr:
            scale, offset = scale[::-1], offset[::-1]
    elif said is not None and (match := _MOMENTS.fullmatch(said.strip())):
        mean, deviation = (
            np.array([float(one) for one in text.split(",")]) for text in match.group("mean", "std")
        )
        if (deviation <= 0).any() or {len(mean), len(deviation)} - {1, channels}:
            raise UsageError(
                f"--pixels {pixels}: one number or {channels} are needed for each, deviations above 0",
                hint="such as mean=127.5/std=127.5, of pixels from 0 to 255",
            )
        scale, offset = 1 / deviation, -mean / deviation
    elif said is not None:
        low, high = span(said)
        scale, offset = np.array([(high - low) / 255]), np.array([low])
    return Front(scale=scale, offset=offset, grey=channels == 1, bgr=bgr)


def span(pixels: str) -> tuple[float, float]:
    """Read ``LOW..HIGH``.

    Raises:
        UsageError: It is something else, or the numbers make no range.
    """
    match = _RANGE.fullmatch(pixels.strip())
    if match is None:
        raise UsageError(
            f"--pixels {pixels}: neither a range nor '{IMAGENET}'",
            hint="say what black and white were in training, such as 0..1, -1..1 or 0..255, or"
            " mean=127.5/std=127.5; bgr: in front where blue came first, or caffe",
        )
    low, high = float(match[1]), float(match[2])
    if not -_LARGEST <= low < high <= _LARGEST:
        raise UsageError(
            f"--pixels {pixels}: the first number must be less than the second, and both of a pixel's size",
            hint="say what black and white were in training, such as 0..1 or -1..1",
        )
    return low, high
