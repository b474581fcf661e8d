"""A run's artifacts as a model repository that an inference server reads, with its configuration.

Layouts: https://docs.nvidia.com/deeplearning/triton-inference-server (model repository, model configuration),
https://www.tensorflow.org/tfx/serving/serving_config, and https://docs.openvino.ai (model server, preparing a
model repository). A model that is there already gets a further version; servers take the highest.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from edgefx.bundles.archive import safe_name
from edgefx.bundles.manifest import BundledTarget, Manifest
from edgefx.errors import OutputError, UnknownNameError, UsageError
from edgefx.shipments import ServedModel
from edgefx.storage import temporary
from edgefx.storage.atomic import PREFIX, write_text
from edgefx.storage.disk import explained
from edgefx.storage.serde import dumps
from edgefx.targets import select
from edgefx.types import TensorInfo
from edgefx.vocabulary import Runtime

_LABELS = "labels.txt"
_MOUNT = "/models"  # where the servers' own images expect a repository
_TYPES = {  # of Triton, by ours
    "float32": "TYPE_FP32",
    "float16": "TYPE_FP16",
    "uint8": "TYPE_UINT8",
    "int8": "TYPE_INT8",
    "int16": "TYPE_INT16",
}
_BACKENDS = {Runtime.ONNX: "onnxruntime", Runtime.OPENVINO: "openvino"}


@dataclass(frozen=True, kw_only=True)
class ServingLayout:
    """How a server wants its models.

    Attributes:
        name: As ``--serving`` takes it.
        runtimes: Whose artifacts it serves.
        per_model: Writes what belongs beside the versions of a model: the text by file name.
        for_all: Writes the file that lists all models, from their names; its name and its text.
    """

    name: str
    runtimes: tuple[Runtime, ...]
    per_model: Callable[[str, BundledTarget, Manifest], Mapping[str, str]]
    for_all: Callable[[Sequence[str]], Mapping[str, str]]


def parse(text: str) -> tuple[ServingLayout, Path]:
    """Read ``LAYOUT=DIR``.

    Raises:
        UsageError: It is of another form.
        UnknownNameError: There is no such layout.
    """
    name, equals, folder = text.partition("=")
    if not equals or not folder:
        raise UsageError(
            f"--serving {text}: not of the form LAYOUT=DIR", hint=f"LAYOUT is one of {', '.join(LAYOUTS)}"
        )
    if name not in LAYOUTS:
        raise UnknownNameError("layout", name, LAYOUTS)
    return LAYOUTS[name], Path(folder)


def check(layout: ServingLayout, targets: Sequence[str]) -> None:
    """Check that a server can serve something of what will be bundled.

    Raises:
        UsageError: It cannot.
    """
    if not any(_serves(layout, target) for target in targets):
        runtimes = " and ".join(f"{runtime}-*" for runtime in layout.runtimes)
        raise UsageError(
            f"--serving {layout.name}: it takes {runtimes}; what is bundled is {', '.join(targets)}",
            hint="compile for such a target, or choose another layout",
        )


def write(
    layout: ServingLayout, folder: Path, files: Mapping[str, Path], manifest: Manifest
) -> tuple[ServedModel, ...]:
    """Add the artifacts of a bundle to a model repository; each version is there completely or not at all.

    Args:
        layout: For which server.
        folder: The repository.
        files: The artifacts' files by their names in the bundle.
        manifest: Of the bundle.

    Raises:
        OutputError: The repository cannot be written.
        DiskFullError: No space is left.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        served = tuple(
            _add(layout, folder, files, manifest, target)
            for target in manifest.targets
            if _serves(layout, target.target)
        )
        names = sorted(path.name for path in folder.iterdir() if path.is_dir() and _versions(path))
        for name, text in layout.for_all(names).items():
            write_text(folder / name, text)
    except OSError as error:
        raise explained(error, folder) from error
    return served


def _serves(layout: ServingLayout, target: str) -> bool:
    (row,) = select([target])
    return row.runtime in layout.runtimes and not row.is_compiled


def _add(
    layout: ServingLayout, folder: Path, files: Mapping[str, Path], manifest: Manifest, target: BundledTarget
) -> ServedModel:
    model = folder / f"{safe_name(manifest.model.name)}-{target.target}"
    if model.exists() and not model.is_dir():
        raise OutputError(f"{model}: is a file", hint="choose another folder")
    model.mkdir(exist_ok=True)
    version = max(_versions(model), default=0) + 1
    with temporary.folder(folder, PREFIX) as made:
        whole = made / str(version)
        whole.mkdir()
        for name in target.files:
            shutil.copyfile(files[name], whole / f"model{Path(name).suffix}")
        for name, text in layout.per_model(model.name, target, manifest).items():
            write_text(model / name, text)
        whole.replace(model / str(version))
    return ServedModel(
        layout=layout.name, target=target.target, name=model.name, version=version, path=model / str(version)
    )


def _versions(model: Path) -> list[int]:
    return [int(path.name) for path in model.iterdir() if path.name.isascii() and path.name.isdigit()]


# ---------------------------------------- layouts


def _labels(manifest: Manifest) -> dict[str, str]:
    names = manifest.class_names
    return {_LABELS: "".join(f"{name}\n" for name in names)} if names else {}


def _triton(model: str, target: BundledTarget, manifest: Manifest) -> Mapping[str, str]:
    (row,) = select([target.target])
    labels = _labels(manifest)
    low, high = manifest.pixel_range
    outputs = [one.tensor for one in target.outputs] or [target.output]
    lines = [
        f'name: "{_quoted(model)}"',
        f'backend: "{_BACKENDS[row.runtime]}"',
        "max_batch_size: 0  # the batch is a dimension like the others",
        *_end("input", target.input, ""),
        *chain.from_iterable(
            _end("output", one, _LABELS if labels and one == target.output else "") for one in outputs
        ),
        *_parameter("edgefx_target", target.target),
        *_parameter("edgefx_model_sha256", manifest.model.sha256),
        *_parameter("pixels", f"{manifest.color}, {low:g} to {high:g}"),
    ]
    return {"config.pbtxt": "".join(f"{line}\n" for line in lines), **labels}


def _end(kind: str, tensor: TensorInfo, labels: str) -> Iterator[str]:
    yield f"{kind} ["
    yield "  {"
    yield f'    name: "{_quoted(tensor.name)}"'
    yield f"    data_type: {_TYPES[tensor.dtype]}"
    yield f"    dims: [ {', '.join(str(max(size, -1)) for size in tensor.shape)} ]"
    if labels:
        yield f'    label_filename: "{labels}"'
    yield "  }"
    yield "]"


def _parameter(key: str, value: str) -> Iterator[str]:
    yield f'parameters {{ key: "{key}" value: {{ string_value: "{_quoted(value)}" }} }}'


def _quoted(text: str) -> str:
    """Return text as protobuf's text format has it between quotation marks."""
    return "".join(
        f"\\{byte:03o}" if byte < 0x20 or byte > 0x7E or chr(byte) in "\"'\\" else chr(byte)
        for byte in text.encode()
    )


def _model_config_list(names: Sequence[str]) -> Mapping[str, str]:
    entries = "".join(
        f'  config {{ name: "{_quoted(name)}" base_path: "{_MOUNT}/{_quoted(name)}" '
        'model_platform: "tensorflow" }\n'
        for name in names
    )
    return {"models.config": f"model_config_list {{\n{entries}}}\n"}


def _config_json(names: Sequence[str]) -> Mapping[str, str]:
    entries = [{"config": {"name": name, "base_path": f"{_MOUNT}/{name}"}} for name in names]
    return {"config.json": dumps({"model_config_list": entries})}


LAYOUTS = {
    layout.name: layout
    for layout in (
        ServingLayout(
            name="triton",
            runtimes=(Runtime.ONNX, Runtime.OPENVINO),
            per_model=_triton,
            for_all=lambda _names: {},
        ),
        ServingLayout(
            name="tf-serving",
            runtimes=(Runtime.TFLITE,),
            per_model=lambda _name, _target, manifest: _labels(manifest),
            for_all=_model_config_list,
        ),
        ServingLayout(
            name="openvino",
            runtimes=(Runtime.OPENVINO, Runtime.ONNX, Runtime.TFLITE),
            per_model=lambda _name, _target, manifest: _labels(manifest),
            for_all=_config_json,
        ),
    )
}
