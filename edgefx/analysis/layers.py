"""The figures of every canonical layer in an artifact, for `edgefx debug`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from edgefx.analysis.diagnosis import LayerFigures
from edgefx.analysis.figures import GridUse, Noise, snr_db
from edgefx.protocols import Progress
from edgefx.quantization import QuantParams
from edgefx.results import LayerSensitivity

if TYPE_CHECKING:
    from edgefx.analysis.simulate import Simulation
    from edgefx.runtimes.protocol import Probes
    from edgefx.types import Pixels

_CONVERTED_DB = 40.0  # a float layer that differs by more than this was changed by the converter


def layer_figures(
    simulation: Simulation,
    tapped: Probes,
    pixels: Pixels,
    alone: tuple[LayerSensitivity, ...],
    progress: Progress,
) -> tuple[LayerFigures, ...]:
    """Look at every layer's values, image by image; those first that alone do most damage.

    Args:
        simulation: The artifact, simulated on the canonical graph.
        tapped: The artifact, opened so that it delivers what its layers put out.
        pixels: Raw RGB uint8 [N, H, W, 3].
        alone: What each quantized layer does alone.
        progress: Counts images.
    """
    grids = {layer: _shown_grid(simulation, layer) for layer in simulation.layers}
    image = simulation.graph.input_name
    sources = {image: image, **{operation: layer for layer, operation in simulation.outputs.items()}}
    uses = {
        layer: GridUse(grid)
        for layer, grid in grids.items()
        if grid is not None and grid.tensor in sources and not grid.dynamic
    }
    noises: dict[str, Noise] = {}
    with progress.task("looking at each layer's values", len(pixels)) as task:
        for number, true in simulation.values(pixels):
            found = tapped.infer(pixels[number])
            for layer, value in true.items():
                if layer in found and found[layer].size == value.size:
                    noises.setdefault(layer, Noise()).add(value, found[layer])
            true[image] = pixels[number].astype(np.float32)
            for use in uses.values():
                use.add(true[sources[use.grid.tensor]])
            task.advance()
    effects = {one.layer: one for one in alone}
    rows = [
        _figures(
            simulation,
            info.name,
            info.kind,
            noise=noises.get(info.name),
            use=uses.get(info.name),
            effect=effects.get(info.name),
        )
        for info in simulation.graph.layers
    ]
    return tuple(sorted(rows, key=lambda row: -(row.alone_mean_kl or 0.0)))


def _shown_grid(simulation: Simulation, layer: str) -> QuantParams | None:
    """The grid of a layer's output, else that of its input or of a tensor inside it."""
    own = simulation.grids_of(layer)
    output = simulation.outputs[layer]
    return next((grid for grid in own if grid.tensor == output), own[0] if own else None)


def _figures(
    simulation: Simulation,
    layer: str,
    kind: str,
    *,
    noise: Noise | None,
    use: GridUse | None,
    effect: LayerSensitivity | None,
) -> LayerFigures:
    grid, stored = _shown_grid(simulation, layer), simulation.stored(layer)
    owned = ["weights"] if stored is not None else []
    if grid is not None:
        owned.append("output" if grid.tensor.split("/", 1)[0] == layer else "input")
    return LayerFigures(
        layer=layer,
        kind=kind,
        quantized="+".join(owned),
        sqnr_db=None if noise is None else noise.db,
        weights_sqnr_db=None if stored is None else snr_db(simulation.kernel(layer), stored.kernel),
        low=None if grid is None or grid.dynamic else float(grid.low.min()),
        high=None if grid is None or grid.dynamic else float(grid.high.max()),
        seen_low=None if use is None else use.seen[0],
        seen_high=None if use is None else use.seen[1],
        saturated=None if use is None else use.saturated,
        levels_used=None if use is None else use.levels_used,
        alone_mean_kl=None if effect is None else effect.mean_kl,
        alone_top1_changed=None if effect is None else effect.top1_changed,
    )


def first_changed(simulation: Simulation, tapped: Probes, pixels: Pixels) -> str | None:
    """The first layer whose values in the float artifact are not those of the graph."""
    for number, true in simulation.values(pixels):
        found = tapped.infer(pixels[number])
        for info in simulation.graph.layers:
            if info.name in found and found[info.name].size == true[info.name].size:
                ratio = snr_db(true[info.name], found[info.name])
                if ratio is not None and ratio < _CONVERTED_DB:
                    return info.name
    return None
