"""The table of forms."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from . import bodies, endings, fronts, heads
from .bodies import application, net
from .endings import pooled
from .fitting import CLASSES
from .heads import around, dense

CUSTOMS = Path(__file__).with_name("customs.py")


@dataclass(frozen=True, kw_only=True, eq=False)
class Form:
    """One form of model.

    Attributes:
        name: In the table.
        build: Gets Keras 3 or tf_keras, and returns the model, whose weights are random.
        saved: How it is saved: a suffix, "SavedModel" or "export" (Keras 3's own SavedModel).
        legacy: Whether it is one of tf_keras.
        last: The layer that is fitted to the labels; "" where none is.
        task: What the user says that it answers; "" leaves it to edgefx.
        fitted: What the last layer is fitted to: a task.
        hints: What else the user says, as of `edgefx.models.hints.Hints`.
        input_size: What the user says of it.
        refused: Part of the message by which loading it is refused.
    """

    name: str
    build: Callable[[Any], Any]
    saved: str = ".keras"
    legacy: bool = False
    last: str = "head"
    task: str = ""
    fitted: str = "classification"
    hints: dict[str, Any] = field(default_factory=dict)
    input_size: str | None = None
    refused: str = ""


def _zoo(name: str) -> Form:
    def build(keras: Any) -> Any:
        from edgefx.models import zoo

        del keras
        return zoo.build(name, weights="random", classes=CLASSES, input_size=64)

    return Form(name=name, build=build, last="predictions")


def _of(name: str, front: Any = None, head: Any = None, **options: Any) -> Form:
    return Form(name=name, build=around(front, head), **options)


ZOO = tuple(
    _zoo(name)
    for name in (
        "b0",
        "b1",
        "v2-b0",
        "v2-b1",
        "lite0",
        "lite1",
        "edgetpu-s",
        "b0:phi=-0.5",
        "lite0:width=0.5,depth=0.5",
    )
)

HEADS = (
    _of("functional: trunk, pooling, dropout, softmax"),
    Form(name="Sequential over EfficientNet", build=heads.sequential),
    Form(name="Sequential in Sequential, augmented", build=heads.sequential_twice),
    _of("augmentation in front", heads.augmented),
    _of("Rescaling in front of a trunk that rescales", heads.rescaled),
    _of("preprocess by arithmetic", heads.called),
    _of("preprocess in a Lambda", heads.lambda_, refused="Lambda"),
    Form(name="Resizing in front, 40 x 36 to 32 x 32", build=around(heads.resized, size=(40, 36))),
    Form(name="EfficientNet of tf_keras, HDF5", build=around(), saved=".h5", legacy=True),
    Form(
        name="Sequential in Sequential of tf_keras, HDF5",
        build=heads.sequential_twice,
        saved=".h5",
        legacy=True,
    ),
    Form(name="Sequential of Keras 3, HDF5", build=heads.sequential, saved=".h5"),
    Form(name="SavedModel of tf_keras", build=heads.sequential, saved="SavedModel", legacy=True),
    Form(name="SavedModel exported by Keras 3", build=around(), saved="export"),
    Form(name="subclassed Model, exported", build=heads.subclassed, saved="export", last=""),
    Form(
        name="subclassed Model, --custom-objects",
        build=heads.subclassed,
        last="",
        hints={"custom_objects": CUSTOMS},
    ),
    Form(name="custom layer, --custom-objects", build=heads.custom_layer, hints={"custom_objects": CUSTOMS}),
    Form(name="custom layer without its code", build=heads.custom_layer, refused="--custom-objects"),
    Form(name="mixed_float16", build=fronts.of_policy("mixed_float16")),
    Form(name="grey input, repeated", build=around(heads.grey_repeated, channels=1)),
    Form(name="grey input, convolved to three", build=around(heads.grey_convolved, channels=1)),
    Form(name="sizes None, --input-size 32", build=around(size=(None, None)), input_size="32"),
    Form(name="sizes None without a size", build=around(size=(None, None)), refused="--input-size"),
    Form(name="not square, 32 x 48", build=around(size=(32, 48))),
    _of("scaled outside, --pixels 0..1", hints={"pixels": "0..1"}),
    _of("logits", head=dense(5, None)),
    _of("one sigmoid", head=dense(1, "sigmoid"), fitted="binary"),
    _of("one logit, --task binary", head=dense(1, None), fitted="binary", task="binary"),
    _of("one value, no task said", head=dense(1, None), fitted="binary", refused="--task"),
    _of(
        "several sigmoids, --task multilabel",
        head=dense(3, "sigmoid"),
        fitted="multilabel",
        task="multilabel",
    ),
    _of("two quantities, --task regression", head=dense(2, None), fitted="regression", task="regression"),
    _of("embedding of length 1", head=heads.embedded, last="", task="embedding"),
    _of("features, include_top=False", head=heads.nothing, last=""),
    _of("class and vector, --head head", head=heads.class_and_vector, hints={"head": "head"}),
    _of("class and quality in one file", head=heads.class_and_quality, task="quality=regression"),
    _of("class and embedding in one file", head=heads.class_and_embedding, task="embedding=embedding"),
    Form(name="feature maps of three scales in one file", build=heads.pyramid, last=""),
    _of("BatchNormalization behind the last layer", head=heads.normalized_after),
    _of("all kinds of dropout", head=heads.dropouts),
    _of("two branches, mean and maximum", head=heads.two_branches),
    _of("two branches, averaged", head=heads.averaged),
    _of("Flatten, hidden layer, LeakyReLU", head=heads.deep),
    _of("head of convolutions only", head=heads.convolved),
    _of("attention pooling", head=heads.pooled_by_attention),
    Form(name="one trunk called twice", build=heads.twins),
)

BLOCKS = tuple(
    Form(name=f"net of: {name}", build=net(block))
    for name, block in (
        ("ReLU", bodies.activated("relu")),
        ("swish", bodies.activated("swish")),
        ("hard-swish", bodies.activated("hard_silu")),
        ("GELU", bodies.activated("gelu")),
        ("tanh", bodies.activated("tanh")),
        ("ELU", bodies.activated("elu")),
        ("SELU", bodies.activated("selu")),
        ("mish", bodies.activated("mish")),
        ("softplus", bodies.activated("softplus")),
        ("PReLU", bodies.activated(lambda keras: keras.layers.PReLU(shared_axes=[1, 2]))),
        ("LeakyReLU", bodies.activated(lambda keras: keras.layers.LeakyReLU())),
        ("depthwise convolutions", bodies.depthwise),
        ("dilated convolutions", bodies.dilated),
        ("grouped convolutions", bodies.grouped),
        ("channel shuffle", bodies.shuffled),
        ("transposed convolutions, UpSampling", bodies.hourglass),
        ("LayerNormalization", bodies.normalized("LayerNormalization")),
        ("GroupNormalization", bodies.normalized("GroupNormalization", groups=4)),
        ("SE, hard-sigmoid", bodies.excited(bodies.squeezed("hard_sigmoid"))),
        ("SE, of maxima", bodies.excited(bodies.squeezed("sigmoid", pool="GlobalMaxPooling2D"))),
        ("SE, tanh", bodies.excited(bodies.squeezed("tanh"))),
        ("ECA", bodies.excited(bodies.along_channels)),
        ("spatial attention", bodies.excited(bodies.positions)),
        ("self-attention", bodies.attentive),
        ("hard-swish by arithmetic", bodies.activated(bodies.written_hard_swish)),
        ("BatchNormalization in parts", bodies.half_normalized),
        ("Inception modules", bodies.inception),
        ("Xception modules", bodies.xception),
        ("NASNet cells", bodies.nasnet),
        ("RegNet blocks", bodies.regnet),
    )
)

NETS = (
    Form(name="MobileNet, half as wide", build=application("MobileNet", alpha=0.5)),
    Form(name="MobileNetV2, half as wide", build=application("MobileNetV2", alpha=0.5)),
    Form(name="MobileNetV3-Small", build=application("MobileNetV3Small")),
    Form(name="MobileNetV3-Large", build=application("MobileNetV3Large")),
    Form(name="ResNet50, a quarter as wide", build=bodies.resnet),
    Form(name="ResNet50V2, a quarter as wide", build=lambda keras: bodies.resnet(keras, preact=True)),
    Form(name="ConvNeXt-Tiny, a quarter as wide", build=bodies.convnext),
    Form(name="DenseNet, 12 blocks", build=bodies.densenet),
    Form(name="VGG16, an eighth as wide", build=bodies.vgg),
)

FRONTS = (
    Form(name="ZeroPadding2D in front, 28 to 32", build=around(fronts.by("ZeroPadding2D", 2), size=(28, 28))),
    Form(name="Cropping2D in front, 36 to 32", build=around(fronts.by("Cropping2D", 2), size=(36, 36))),
    Form(
        name="CenterCrop in front, 40 to 32",
        build=around(fronts.by("CenterCrop", bodies.SIZE, bodies.SIZE), size=(40, 40)),
    ),
    Form(
        name="Resizing by nearest neighbours, 48 to 32",
        build=around(fronts.by("Resizing", bodies.SIZE, bodies.SIZE, interpolation="nearest"), size=(48, 48)),
    ),
    _of("augmentation of more kinds in front", fronts.shaken),
    Form(
        name="net of: ReLU, adapted Normalization in front",
        build=net(bodies.activated("relu"), front=fronts.adapted),
    ),
    Form(name="TimeDistributed over one frame", build=fronts.one_frame),
    Form(name="clips of two frames", build=fronts.clip, last="", refused="not a model of images"),
    Form(name="image and metadata", build=fronts.with_metadata, last="", refused="has 2 inputs"),
    Form(name="channels first", build=fronts.channels_first, last="", refused="channels first?"),
    Form(name="input of uint8", build=fronts.of_input(dtype="uint8")),
    Form(
        name="input of a name with spaces and accents", build=fronts.of_input(name="photo d'\u00e9t\u00e9 1")
    ),
    Form(name="input named input:0", build=fronts.of_input(name="input:0")),
    Form(name="float16 throughout", build=fronts.of_policy("float16")),
    Form(name="mixed_bfloat16", build=fronts.of_policy("mixed_bfloat16")),
    Form(
        name="mixed_float16, scores in float32",
        build=fronts.of_policy("mixed_float16", fronts.scores_in_float32),
    ),
)

ENDINGS = (
    _of("2 classes", head=endings.classes(2)),
    _of("1000 classes", head=endings.classes(1000)),
    _of("softmax with a temperature", head=pooled(endings.tempered)),
    _of("softmax by arithmetic", head=pooled(endings.written_out)),
    _of("log-softmax", head=pooled(endings.log_softmax)),
    _of("scaled cosines, as ArcFace", head=pooled(endings.cosines)),
    _of("argmax", head=pooled(endings.argmax), last="", refused="argmax"),
    _of("argmax with the dimension kept", head=pooled(endings.argmax_kept), last="", refused="argmax"),
    _of(
        "sigmoid times a hundred, --task regression",
        head=pooled(endings.hundredths),
        fitted="binary",
        task="regression",
    ),
    _of("softplus, --task regression", head=pooled(endings.softplus), fitted="regression", task="regression"),
    _of("tanh, --task regression", head=pooled(endings.angles), fitted="regression", task="regression"),
    _of("residual dense blocks, LayerNormalization", head=pooled(endings.residual)),
    _of("SpectralNormalization around a dense layer", head=pooled(endings.spectral)),
    _of("EinsumDense", head=pooled(endings.einsum)),
    _of("Multiply, Minimum, Maximum, Subtract, Average", head=pooled(endings.merged)),
    _of("Monte Carlo dropout", head=pooled(endings.monte_carlo)),
    _of("multi-head attention in the head", head=endings.attended),
    _of("GRU over positions", head=endings.recurrent(unroll=False)),
    _of("GRU over positions, unrolled", head=endings.recurrent(unroll=True)),
    _of("separable convolutions in the head", head=endings.separable),
    _of("Permute and Reshape in the head", head=endings.along_positions),
    _of("dense layers on a map", head=endings.dense_on_map),
    _of("average over a window, Flatten", head=endings.pooled_by_window),
    _of("mask of a segmenter", head=endings.upsampled, last=""),
    _of("CBAM and a clip in the head", head=endings.attended_twice),
    _of("keras.ops for layers", head=endings.operations),
    Form(
        name="tf.nn for layers, tf_keras, HDF5",
        build=around(head=endings.functions),
        saved=".h5",
        legacy=True,
    ),
    _of("one dense layer for two poolings", head=endings.shared),
    Form(name="mean of two EfficientNets", build=endings.ensemble),
    _of("values per position", head=endings.boxes, last="", refused="[N, length]"),
)

FORMS = (*ZOO, *HEADS, *FRONTS, *ENDINGS, *BLOCKS, *NETS)
