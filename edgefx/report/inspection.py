"""The results of `edgefx inspect`, and how they are shown."""

from __future__ import annotations

from collections import Counter

from rich.console import Console
from rich.table import Table
from rich.text import Text

from edgefx.report.terminal import Facts, table
from edgefx.report.text import answers, count, percent, significant, size
from edgefx.types import Artifact, ArtifactMetadata, ForeignMetadata, ModelSpec, OutputMetadata, TensorInfo
from edgefx.views import ArtifactInspection, ModelInspection
from edgefx.vocabulary import ScoreFunction

_NAMED = 10  # classes that are named; the rest is counted


def render_artifact(inspection: ArtifactInspection, console: Console) -> None:
    """Print what an artifact is made of."""
    artifact = inspection.artifact
    computing = artifact.compute_int8 + artifact.compute_float
    rows: list[tuple[str, str | Text]] = [
        ("size", f"{size(artifact.size_bytes)} ({artifact.size_bytes} bytes)"),
        *((f"file {file.path.name}", f"sha256 {file.sha256}") for file in artifact.files),
        *(("input", _tensor(info)) for info in artifact.inputs),
        *(("output", _tensor(info)) for info in artifact.outputs),
        ("computing ops", f"{computing}: {artifact.compute_int8} integer, {artifact.compute_float} float"),
    ]
    if artifact.int8_macs_share is not None:
        share = percent(artifact.int8_macs_share, 1)
        rows.append(("int8 MACs", f"{share} of all multiply-accumulates have 8-bit weights and activations"))
    if artifact.opset is not None:
        rows.append(("opset", str(artifact.opset)))
    if inspection.metadata is not None:
        rows += _metadata(inspection.metadata)
    if inspection.foreign is not None:
        rows += _foreign(inspection.foreign)
    rows += [("note", note) for note in artifact.notes]
    console.print(Text(str(artifact.path), style="bold"))
    console.print(Facts(rows), highlight=False)
    console.print()
    console.print(_ops(artifact), highlight=False)


def _metadata(metadata: ArtifactMetadata) -> list[tuple[str, str | Text]]:
    low, high = metadata.pixel_range
    resized = f", resized with {metadata.resize}" if metadata.resize else ""
    rows: list[tuple[str, str | Text]] = [
        ("pixels", f"{metadata.color}, values {low:g} to {high:g}{resized}"),
        *(_output(one, metadata) for one in metadata.outputs),
        *([] if metadata.outputs else [("classes", _classes(metadata))]),
        *_left_off(metadata),
        ("made by", f"edgefx {metadata.edgefx} for {metadata.target}"),
        ("made from", f"{metadata.model}, sha256 {metadata.model_sha256}"),
    ]
    return rows


def _classes(metadata: ArtifactMetadata) -> str:
    return f"{metadata.output.shape[-1]}, {metadata.output_kind}{_names(metadata.class_names)}"


def _output(output: OutputMetadata, metadata: ArtifactMetadata) -> tuple[str, str | Text]:
    names = _names(metadata.class_names) if output.tensor.name == metadata.output.name else ""
    return output.tensor.name, f"{output.task}, {output.output_kind}{names}"


def _left_off(metadata: ArtifactMetadata) -> list[tuple[str, str | Text]]:
    function = ScoreFunction.of(metadata.output.name)
    return (
        []
        if function is None
        else [("scores", f"the {function} of the output, to be computed by its reader")]
    )


def _foreign(stated: ForeignMetadata) -> list[tuple[str, str | Text]]:
    rows: list[tuple[str, str | Text]] = []
    if stated.mean:
        mean, deviation = (", ".join(f"{one:g}" for one in end) for end in (stated.mean, stated.deviation))
        rows.append(("pixels", f"less {mean}, over {deviation}, says the file"))
    if stated.class_names:
        rows.append(("classes", f"{len(stated.class_names)}{_names(stated.class_names)}, says the file"))
    return [*rows, ("made by", "another tool")]


def _names(class_names: tuple[str, ...]) -> str:
    """Return the first class names, to follow their number; nothing where they are unknown."""
    if not class_names:
        return ""
    return f": {', '.join(class_names[:_NAMED])}{', ...' if len(class_names) > _NAMED else ''}"


def _ops(artifact: Artifact) -> Table:
    """Return the histogram: a row per operation, a column per element type of what it computes."""
    counts: dict[str, Counter[str]] = {}
    types: Counter[str] = Counter()
    for entry in artifact.ops:
        counts.setdefault(entry.op, Counter())[entry.dtype] += entry.count
        types[entry.dtype] += entry.count
    order = [dtype for dtype, _ in types.most_common()]
    result = table("operation", *order, "all")
    for op, row in sorted(counts.items(), key=lambda item: (-item[1].total(), item[0])):
        result.add_row(op, *(str(row[dtype] or "-") for dtype in order), str(row.total()))
    result.add_section()
    result.add_row("all", *(str(types[dtype]) for dtype in order), str(types.total()))
    return result


def _tensor(info: TensorInfo) -> str:
    text = f"{info.name} {info.dtype} {list(info.shape)}"
    if info.scale is not None:
        text += f", scale {significant(info.scale, 6)}, zero point {info.zero_point}"
    return text


def render_model(inspection: ModelInspection, console: Console, *, every_layer: bool) -> None:
    """Print what a model is made of.

    Args:
        inspection: The model.
        console: Where to.
        every_layer: A row for each layer instead of each kind of layer.
    """
    model = inspection.model
    low, high = model.pixel_range
    rows: list[tuple[str, str | Text]] = [
        ("loaded from", model.source),
        ("input", f"RGB image {model.height}x{model.width}, values {low:g} to {high:g}"),
        *(("output", f"{one.name}: {one.output}, {answers(one)}") for one in model.outputs),
        *([] if model.outputs else [("output", _answer(model))]),
        ("parameters", f"{count(model.parameters)} ({model.parameters})"),
        ("MACs", f"{count(model.macs)} per image"),
        ("sha256", model.sha256),
        *(("note", note) for note in inspection.notes),
    ]
    console.print(Text(model.name, style="bold"))
    console.print(Facts(rows), highlight=False)
    if inspection.layers:
        console.print()
        console.print(_layers(inspection) if every_layer else _kinds(inspection), highlight=False)


def _answer(model: ModelSpec) -> str:
    return f"{model.output}, {answers(model)}{_names(model.class_names)}"


def _layers(inspection: ModelInspection) -> Table:
    result = table("layer", "kind", "output", "parameters", "MACs", left=("kind",))
    for layer in inspection.layers:
        shape = "x".join(str(length) for length in layer.output_shape[1:])
        result.add_row(layer.name, layer.kind, shape, str(layer.parameters), count(layer.macs))
    return result


def _kinds(inspection: ModelInspection) -> Table:
    """Return a summary by kind of layer, of the canonical graph."""
    layers, parameters, macs = Counter[str](), Counter[str](), Counter[str]()
    for layer in inspection.layers:
        layers[layer.kind] += 1
        parameters[layer.kind] += layer.parameters
        macs[layer.kind] += layer.macs
    result = table("kind of layer", "layers", "parameters", "MACs", "share of MACs")
    total = macs.total() or 1
    for kind in sorted(layers, key=lambda kind: (-macs[kind], -layers[kind])):
        share = percent(macs[kind] / total, 1) if macs[kind] else "-"
        result.add_row(kind, str(layers[kind]), str(parameters[kind]), count(macs[kind]), share)
    return result
