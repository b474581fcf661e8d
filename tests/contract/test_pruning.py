"""Channels removed of real graphs: consistently, in the multiples asked for, and with little lost."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from numpy.typing import NDArray

from edgefx.errors import ModelError
from edgefx.models.graph import ir
from edgefx.models.graph.freeze import GraphRunner, count_macs, read
from edgefx.models.graph.from_tensorflow import from_tensorflow
from edgefx.models.graph.ir import Graph, Node
from edgefx.pruning import blocks, prune
from edgefx.pruning.prune import Pruned
from edgefx.types import FrozenGraph, ImageSet

from .conftest import RecordedProgress
from .models_zoo import images, save_case

if TYPE_CHECKING:
    from edgefx.types import Scores


def pruned(
    graph: FrozenGraph, pixels: NDArray[np.uint8], out: Path, share: float, multiple: int = 8
) -> Pruned:
    return prune.prune(
        graph, pixels, share=share, multiple=multiple, seed=0, workdir=out, progress=RecordedProgress()
    )


def found(graph: FrozenGraph) -> tuple[blocks.MBConvBlock, ...]:
    return blocks.find(from_tensorflow(graph), {layer.name: layer for layer in graph.layers})


@pytest.fixture(scope="module")
def narrow(
    tiny_graph: FrozenGraph, tiny_calibration: ImageSet, tmp_path_factory: pytest.TempPathFactory
) -> Pruned:
    return pruned(tiny_graph, tiny_calibration.pixels, tmp_path_factory.mktemp("narrow"), 0.15)


def snr_db(graph: FrozenGraph, pixels: NDArray[np.uint8], want: Scores) -> float:
    got = GraphRunner(graph.path, outputs=graph.output_names).infer(pixels)
    return float(10 * np.log10(np.square(want).mean() / np.square(want - got).mean()))


def test_a_share_of_the_weights_is_gone_and_the_classes_are_the_same(
    narrow: Pruned, tiny_graph: FrozenGraph, tiny_images: ImageSet, tiny_scores: Scores
) -> None:
    before = sum(layer.parameters for layer in tiny_graph.layers)
    after = sum(layer.parameters for layer in narrow.graph.layers)
    assert 0.15 <= 1 - after / before < 0.25
    assert [layer.name for layer in narrow.graph.layers] == [layer.name for layer in tiny_graph.layers]
    scores = GraphRunner(narrow.graph.path, outputs=narrow.graph.output_names).infer(tiny_images.pixels)
    assert (scores.argmax(1) == tiny_scores.argmax(1)).mean() > 0.95
    for block in narrow.blocks:
        assert block.after % 8 == 0
        assert 0.25 * block.before <= block.after < block.before
        assert 0 < block.loss < 1


def test_what_is_said_of_the_layers_is_true_of_the_graph(narrow: Pruned) -> None:
    layers = {node.name: node for node in from_tensorflow(narrow.graph).nodes}
    for info in narrow.graph.layers:
        op = layers[info.name].op
        if isinstance(op, ir.Conv | ir.DepthwiseConv | ir.Dense):
            size = op.kernel.size + (0 if op.bias is None else op.bias.size)
            assert info.parameters == size, info.name
            outputs = op.kernel.shape[2] if isinstance(op, ir.DepthwiseConv) else op.kernel.shape[-1]
            assert info.output_shape[-1] == outputs, info.name
            if info.name in narrow.graph.spreads:
                assert len(narrow.graph.spreads[info.name].mean) == outputs
    assert narrow.graph.spec.macs == count_macs(read(narrow.graph.path))


def test_fitting_the_blocks_is_what_keeps_the_answers(  # noqa: PLR0917
    narrow: Pruned,
    tiny_graph: FrozenGraph,
    tiny_calibration: ImageSet,
    tiny_images: ImageSet,
    tiny_scores: Scores,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("edgefx.pruning.refit.Refitting.fit", lambda *_: {})
    cut = pruned(tiny_graph, tiny_calibration.pixels, tmp_path, 0.15)
    assert cut.blocks == narrow.blocks
    fitted = snr_db(narrow.graph, tiny_images.pixels, tiny_scores)
    assert fitted > snr_db(cut.graph, tiny_images.pixels, tiny_scores) + 3


def test_the_same_images_give_the_same_graph(
    narrow: Pruned, tiny_graph: FrozenGraph, tiny_calibration: ImageSet, tmp_path: Path
) -> None:
    again = pruned(tiny_graph, tiny_calibration.pixels, tmp_path, 0.15)
    assert again.blocks == narrow.blocks
    assert again.graph.path.read_bytes() == narrow.graph.path.read_bytes()


def test_fused_blocks_have_channels_too(tmp_path: Path) -> None:
    from edgefx.models.graph.canonical import canonicalize
    from edgefx.models.load import load

    graph = canonicalize(load(str(save_case("v2", tmp_path))), tmp_path / "work")
    fused = [block for block in found(graph) if not block.depthwise]
    assert fused
    made = pruned(graph, images(count=16), tmp_path / "out", 0.05, multiple=4)
    assert made.blocks


def test_every_block_of_an_efficientnet_is_found(tiny_graph: FrozenGraph) -> None:
    expanding = [layer.name for layer in tiny_graph.layers if layer.name.endswith("expand_conv")]
    seen = found(tiny_graph)
    assert [block.expand for block in seen] == expanding
    assert all(block.depthwise and block.reduce and block.excite for block in seen)
    first = seen[0]
    assert first.inner[0] == first.expand
    assert set(first.cut_outputs) <= set(first.inner)


def test_a_block_whose_channels_something_else_reads_is_left_alone(tiny_graph: FrozenGraph) -> None:
    layers, infos = from_tensorflow(tiny_graph), {layer.name: layer for layer in tiny_graph.layers}
    everything = blocks.find(layers, infos)
    shared = everything[1]
    tap = Node(name="tap", kind="Tap", inputs=(ir.Ref(shared.depthwise),), op=ir.Activation("relu"))
    tapped = Graph(nodes=[*layers.nodes, tap], outputs=(*layers.outputs, ir.Ref("tap")))
    assert blocks.find(tapped, infos) == tuple(block for block in everything if block is not shared)


def test_without_such_blocks_it_is_refused(
    block_graph: FrozenGraph, tiny_calibration: ImageSet, tmp_path: Path
) -> None:
    with pytest.raises(ModelError, match="no block whose expansion channels") as caught:
        pruned(block_graph, tiny_calibration.pixels, tmp_path, 0.1)
    assert "MBConv" in caught.value.hint
    with pytest.raises(ModelError, match="no layers whose channels"):
        pruned(replace(block_graph, layers=()), tiny_calibration.pixels, tmp_path, 0.1)


def test_more_than_there_is_is_refused_with_what_there_is(
    tiny_graph: FrozenGraph, tiny_calibration: ImageSet, tmp_path: Path
) -> None:
    with pytest.raises(ModelError, match="at most, in multiples of 8") as caught:
        pruned(tiny_graph, tiny_calibration.pixels, tmp_path, 0.95)
    assert "--prune channels:" in caught.value.hint
