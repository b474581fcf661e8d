"""Models of keras-hub: folders that its ``save_to_preset`` writes, at hand or on a hub.

A preset holds the configuration of a backbone and, if there is one, of the classifier that stands on it,
their weights in HDF5, and how images are made what the model was trained on. keras-hub's own ``from_preset``
reads foreign formats, too, and loads whatever class the folder names; here the files are judged first, and it
is Keras that loads them. Imports nothing heavy.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgefx.errors import ModelError
from edgefx.models.backend import first_line, import_keras
from edgefx.models.safety.configs import HUB
from edgefx.system.packages import missing, require
from edgefx.vocabulary import Resize

if TYPE_CHECKING:
    from edgefx.models.front import Front

CONFIGS = (BACKBONE, CLASSIFIER, CONVERTER) = ("config.json", "task.json", "image_converter.json")
METADATA = "metadata.json"
WEIGHTS = (BACKBONE_WEIGHTS, CLASSIFIER_WEIGHTS) = ("model.weights.h5", "task.weights.h5")
SHARDS = "model.weights.json"  # where the weights are in several files

_ADDRESS = re.compile(r"(?P<hub>[a-z]+)://(?P<name>.+)")
_HUBS = {"hf": r"[\w.-]+/[\w.-]+", "kaggle": r"[\w.-]+(/[\w.-]+){3,4}"}
_LIKE = "an address is like hf://keras/efficientnet_b0 or kaggle://keras/efficientnet/keras/name"


@dataclass(frozen=True, kw_only=True)
class Preparation:
    """What a preset does to images in front of the model.

    Attributes:
        scale: Of raw pixels, one factor or one per channel.
        offset: What is added then.
        size: Height and width in pixels; None where they are left as they are.
        resize: How an image of another shape is made to fit.
    """

    scale: tuple[float, ...]
    offset: tuple[float, ...]
    size: tuple[int, int] | None
    resize: Resize

    def front(self, *, channels: int, source: str) -> Front:
        """Return it as what stands in front of the model.

        Args:
            channels: Of the model's input.
            source: The model, for messages.

        Raises:
            ModelError: There are figures for another number of channels.
        """
        import numpy as np

        from edgefx.models.front import Front

        if {len(self.scale), len(self.offset)} - {1, channels}:
            raise ModelError(
                f"{source}: its image converter has figures for {max(len(self.scale), len(self.offset))} "
                f"channels, the model takes {channels}",
                hint="say with --pixels what the model was trained on",
            )
        return Front(scale=np.asarray(self.scale), offset=np.asarray(self.offset), grey=channels == 1)

    @property
    def note(self) -> str:
        """What the user should know of it."""
        scale, offset = (",".join(f"{one:.5g}" for one in part) for part in (self.scale, self.offset))
        said = f"the preset's image converter is inside: pixels * {scale} + {offset}"
        if self.size is None:
            return said
        return f"{said}; it resizes as --resize {self.resize} does"


def is_address(model: str) -> bool:
    """Whether a user names a model by its place on a hub."""
    found = _ADDRESS.fullmatch(model)
    return found is not None and found["hub"] in _HUBS


def located(model: str) -> Path:
    """Return where a model lies that a user names by path or address; what is on a hub is downloaded.

    Raises:
        ModelError: It cannot be had.
        MissingDependencyError: keras-hub is absent, which brings what downloads.
    """
    return _downloaded(model) if is_address(model) else Path(model)


def shown(model: str) -> str:
    """Return how reports write what a user names a model by."""
    return model if is_address(model) else str(Path(model))


def name_at(address: str) -> str:
    """Return what a model on a hub is called."""
    parts = [part for part in address.split("/") if not part.isdigit()]  # the last may be a version
    return parts[-1]


@cache
def _downloaded(address: str) -> Path:
    hub, _, name = address.partition("://")
    if not re.fullmatch(_HUBS[hub], name) or ".." in name:
        raise ModelError(f"{address}: no address of a model", hint=_LIKE)
    require(HUB, purpose="a model on a hub")
    try:
        if hub == "hf":
            import huggingface_hub

            files = [*CONFIGS, METADATA, *WEIGHTS, SHARDS]
            return Path(huggingface_hub.snapshot_download(name, allow_patterns=files))
        import kagglehub

        return Path(kagglehub.model_download(name))
    except ImportError as error:
        raise missing(HUB, purpose="a model on a hub", cause=error) from error
    except Exception as error:  # what the two raise depends on what is wrong
        raise ModelError(
            f"{address}: cannot be downloaded: {first_line(error)}",
            hint=f"check the network and the address; {_LIKE}; or download the preset elsewhere and give its "
            "folder",
        ) from error


def load(content: Path, config: dict[str, Any]) -> Any:
    """Load a preset that was judged.

    Args:
        content: Its folder.
        config: Its configurations by the name of their file.

    Returns:
        The classifier, or the backbone where there is none.
    """
    keras = import_keras()
    model = backbone = keras.saving.deserialize_keras_object(config.get(CLASSIFIER) or config[BACKBONE])
    if CLASSIFIER in config:
        backbone = model.backbone
        if (content / CLASSIFIER_WEIGHTS).exists():
            model.load_task_weights(str(content / CLASSIFIER_WEIGHTS))
    backbone.load_weights(str(content / BACKBONE_WEIGHTS))
    return model


def preparation(config: Any, *, source: Path) -> Preparation | None:
    """Read what a preset, or a ``.keras`` file of a keras-hub classifier, does to images; None for nothing.

    Args:
        config: The configurations of a preset by the name of their file, or that of a model.
        source: The model, for messages.

    Raises:
        ModelError: It is more than scaling, or makes no sense.
    """
    if not isinstance(config, dict):
        return None
    classifier = config.get(CLASSIFIER, config)
    found = _inner(_inner(classifier, "preprocessor"), "image_converter")
    if found is None and CLASSIFIER not in config:
        found = config.get(CONVERTER)
    if not isinstance(found, dict) or _package(found) != HUB:
        return None
    said = found.get("config")
    if not isinstance(said, dict) or said.get("data_format", "channels_last") not in (None, "channels_last"):
        raise _senseless(source, "it is for images with their channels first")
    return _read(said, source)


def _read(said: dict[str, Any], source: Path) -> Preparation:
    scale, offset = _numbers(said.get("scale"), 1.0, source), _numbers(said.get("offset"), 0.0, source)
    if "mean" in said and "variance" in said:  # as older presets have it
        mean = _numbers(said["mean"], 0.0, source)
        deviation = [math.sqrt(one) for one in _numbers(said["variance"], 1.0, source) if one > 0]
        if len(deviation) != len(mean) or len(scale) != 1:
            raise _senseless(source, "its variances are not those of channels")
        scale = tuple(scale[0] / one for one in deviation)
        offset = tuple(-m / one for m, one in zip(mean, deviation, strict=True))
    size = said.get("image_size") or (said.get("height"), said.get("width"))
    pair = [one for one in size if type(one) is int] if isinstance(size, list | tuple) else []
    resize = Resize.PAD if said.get("pad_to_aspect_ratio") else Resize.STRETCH
    return Preparation(
        scale=scale,
        offset=offset,
        size=(pair[0], pair[1]) if len(pair) == 2 else None,
        resize=Resize.CROP if said.get("crop_to_aspect_ratio", True) else resize,
    )


def _numbers(value: Any, default: float, source: Path) -> tuple[float, ...]:
    listed = value if isinstance(value, list) else [default if value is None else value]
    if not listed or not all(type(one) in (int, float) and math.isfinite(one) for one in listed):
        raise _senseless(source, f"'{value!r:.60}' is no factor or offset of pixels")
    return tuple(float(one) for one in listed)


def _senseless(source: Path, why: str) -> ModelError:
    return ModelError(
        f"{source}: its image converter cannot be put inside the model: {why}",
        hint="say with --pixels what the model was trained on, of a .keras file without its preprocessor",
    )


def _inner(node: Any, key: str) -> Any:
    config = node.get("config") if isinstance(node, dict) else None
    return config.get(key) if isinstance(config, dict) else None


def _package(node: dict[str, Any]) -> str:
    return str(node.get("module")).partition(".")[0]
