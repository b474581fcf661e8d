"""Which layers quantization hurts most: each is quantized alone, all others stay in float."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from edgefx.analysis.simulate import Simulation
from edgefx.evaluation.outputs import difference
from edgefx.protocols import Progress
from edgefx.results import Accuracy, LayerSensitivity
from edgefx.runtimes import introspectable
from edgefx.types import FrozenGraph, ImageSet

if TYPE_CHECKING:
    from edgefx.targets import TargetRow


def rank(
    graph: FrozenGraph, row: TargetRow, artifact_path: Path, images: ImageSet, progress: Progress
) -> tuple[LayerSensitivity, ...]:
    """Rank the layers that an artifact stores in INT8, and that could be kept in float, the worst first.

    What is rounded only because such a layer computes in integers counts as part of it, see `units`.

    Args:
        graph: The canonical graph.
        row: The target that the artifact was made for.
        artifact_path: Its main file; its grids and weights are read back from it.
        images: Images to measure on, as for calibration; labels are not used.
        progress: Counts images, once per layer.

    Raises:
        UsageError: The model has no layers that edgefx can follow.
        ArtifactError: The file cannot be read.
    """
    simulation = Simulation(graph, introspectable(row).read_quantization(artifact_path, graph))
    return measure(simulation, units(simulation), images, progress)


def units(simulation: Simulation) -> dict[str, tuple[str, ...]]:
    """Return the layers with stored weights, each with the layers that are rounded for its sake only.

    These are the activation (swish) behind a layer whose own output is rounded, as in TFLite, and what the
    layer alone reads, such as the product with a squeeze-and-excite gate. The softmax at the end is not: it
    has the output's own grid.
    """
    behind = {
        layer: follower
        for layer in simulation.weighted_layers
        if simulation.is_rounded(layer)
        and (follower := simulation.activation_of(layer)) is not None
        and follower not in simulation.output_layers
    }
    groups = {}
    for layer in simulation.weighted_layers:
        feeder = simulation.feeder_of(layer)
        others = (behind.get(layer), None if feeder in behind.values() else feeder)
        groups[layer] = (layer, *(other for other in others if other is not None))
    return groups


def measure(
    simulation: Simulation,
    groups: Mapping[str, Collection[str]],
    images: ImageSet,
    progress: Progress,
    *,
    floor: float = 0.0,
) -> tuple[LayerSensitivity, ...]:
    """Measure what quantizing each group of layers alone does to the scores, the worst first.

    Args:
        simulation: An artifact, simulated on the canonical graph.
        groups: The layers to quantize together, by the name to report.
        images: Images to measure on.
        progress: Counts images, once per group.
        floor: See `difference`.
    """
    with progress.task("quantizing each layer alone", len(groups) * len(images)) as task:
        base, alone = simulation.alone(images.pixels, groups, advance=task.advance)
    spec = simulation.graph.spec
    found = []
    for layer, scores in alone.items():
        change = difference(base, scores, spec, floor=floor)
        found.append(LayerSensitivity(layer=layer, mean_kl=change.mean_kl, top1_changed=_changed(change)))
    return tuple(sorted(found, key=lambda one: (-one.mean_kl, -one.top1_changed)))


def _changed(change: Accuracy) -> float:
    return 0.0 if change.agreement is None else 1 - change.agreement
