"""State dicts are read as PyTorch writes them, and hostile ones are refused before they do anything."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edgefx.errors import ModelError
from edgefx.models.pytorch import layout, state
from tests.pytorch_files import archive, checkpoint, safetensors, tensor

_VALUES = np.arange(6, dtype=np.float32).reshape(2, 3)


def _read(path: Path) -> state.State:
    return state.read(path, source=path)


def test_safetensors_of_every_float_become_float32(tmp_path: Path) -> None:
    upper_half = (_VALUES.view(np.uint32) >> 16).astype(np.uint16)  # bfloat16 of small whole numbers is exact
    arrays: dict[str, NDArray[Any]] = {"a": _VALUES, "b": _VALUES.astype(np.float16), "c": upper_half}
    arrays["n"] = np.array(7, np.int64)
    found = _read(safetensors(tmp_path / "w.safetensors", arrays))
    for name in "abc":
        assert found[name].dtype == np.float32
        np.testing.assert_array_equal(found[name], _VALUES)
    assert found["n"].shape == ()


@pytest.mark.parametrize("wrapped", ["", "state_dict", "model"])
def test_checkpoints_of_torch_save_are_read_without_pytorch(tmp_path: Path, wrapped: str) -> None:
    found = _read(checkpoint(tmp_path / "w.pth", {"module.a": _VALUES, "module.b": _VALUES}, wrapped=wrapped))
    assert set(found) == {"a", "b"}  # DataParallel's prefix is taken off
    np.testing.assert_array_equal(found["a"], _VALUES)


def _state_of(opcodes: bytes) -> bytes:
    return b"\x80\x02}X\x01\x00\x00\x00a" + opcodes + b"s."


def test_strides_and_offsets_are_followed(tmp_path: Path) -> None:
    pickled = _state_of(tensor("0", 6, (2, 2), (1, 3), offset=1))
    found = _read(archive(tmp_path / "w.pth", pickled, {"0": _VALUES.tobytes()}))
    np.testing.assert_array_equal(found["a"], [[1, 4], [2, 5]])


@pytest.mark.parametrize(
    "asked", [b"cos\nsystem\n", b"cbuiltins\neval\n", b"ctorch\nload\n", b"ctorch._utils\n_import\n"]
)
def test_a_pickle_that_asks_for_anything_else_is_refused(tmp_path: Path, asked: bytes) -> None:
    mark = tmp_path / "ran"
    pickled = b"\x80\x02" + asked + f"(S'touch {mark}'\ntR.".encode()
    with pytest.raises(ModelError, match="its pickle asks for"):
        _read(archive(tmp_path / "w.pth", pickled, {}))
    assert not mark.exists()


@pytest.mark.parametrize(
    ("shape", "strides", "offset"),
    [((2, 3), (3, 1), 1), ((2, 2), (5, 1), 0), ((1 << 40,), (0,), 0), ((2,), (-1,), 1), ((-1,), (1,), 0)],
)
def test_a_tensor_that_its_storage_does_not_hold_is_refused(
    tmp_path: Path, shape: tuple[int, ...], strides: tuple[int, ...], offset: int
) -> None:
    pickled = _state_of(tensor("0", 6, shape, strides, offset=offset))
    with pytest.raises(ModelError, match=r"no PyTorch weights|damaged"):
        _read(archive(tmp_path / "w.pth", pickled, {"0": _VALUES.tobytes()}))


def test_a_compressed_checkpoint_is_refused(tmp_path: Path) -> None:
    path = archive(tmp_path / "w.pth", _state_of(tensor("0", 6, (6,))), {"0": bytes(24)}, compressed=True)
    with pytest.raises(ModelError, match="compressed"):
        _read(path)


@pytest.mark.parametrize(
    "entry",
    [
        {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 28]},
        {"dtype": "F32", "shape": [2, 3], "data_offsets": [8, 32]},
        {"dtype": "F32", "shape": [1 << 40], "data_offsets": [0, 24]},
        {"dtype": "F32", "shape": [-6], "data_offsets": [0, 24]},
        {"dtype": "F99", "shape": [6], "data_offsets": [0, 24]},
        {"shape": [6]},
        7,
    ],
)
def test_a_header_that_does_not_fit_the_file_is_refused(tmp_path: Path, entry: Any) -> None:
    text = json.dumps({"a": entry}).encode()
    path = tmp_path / "w.safetensors"
    path.write_bytes(len(text).to_bytes(8, "little") + text + bytes(24))
    with pytest.raises(ModelError):
        _read(path)


@pytest.mark.parametrize("content", [b"", b"\x80\x02}.", b"\xff" * 64, b"\x02\0\0\0\0\0\0\0{}"])
def test_what_is_no_state_dict_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "w.pth"
    path.write_bytes(content)
    with pytest.raises(ModelError):
        _read(path)


def _model(*names: str) -> Any:
    return SimpleNamespace(layers=[SimpleNamespace(name=name) for name in names])


_SEPARABLE = ("dwconv", "bn", "se_reduce", "se_expand", "project_conv", "project_bn")


def _names(library: str) -> dict[str, str]:
    blocks = [f"block1a_{part}" for part in _SEPARABLE]
    blocks += [f"block2b_{part}" for part in ("expand_conv", "expand_bn", *_SEPARABLE)]
    blocks += [f"block3a_{part}" for part in ("expand_conv", "expand_bn", "project_conv", "project_bn")]
    blocks += ["block4a_project_conv", "block4a_project_bn"]
    return {entry.layer: entry.prefix for entry in layout.named(_model(*blocks), library)}


def test_names_of_timm() -> None:
    found = _names("timm")
    assert (found["stem_conv"], found["top_bn"]) == ("conv_stem", "bn2")
    assert found["block1a_dwconv"] == "blocks.0.0.conv_dw"
    assert found["block1a_project_conv"] == "blocks.0.0.conv_pw"
    assert found["block1a_project_bn"] == "blocks.0.0.bn2"
    assert found["block2b_expand_conv"] == "blocks.1.1.conv_pw"
    assert found["block2b_se_reduce"] == "blocks.1.1.se.conv_reduce"
    assert found["block2b_project_conv"] == "blocks.1.1.conv_pwl"
    assert found["block2b_project_bn"] == "blocks.1.1.bn3"
    assert found["block3a_expand_conv"] == "blocks.2.0.conv_exp"
    assert found["block3a_project_conv"] == "blocks.2.0.conv_pwl"
    assert found["block4a_project_conv"] == "blocks.3.0.conv"


def test_names_of_torchvision() -> None:
    found = _names("torchvision")
    assert found["block1a_dwconv"] == "features.1.0.block.0.0"
    assert found["block1a_se_expand"] == "features.1.0.block.1.fc2"
    assert found["block1a_project_bn"] == "features.1.0.block.2.1"
    assert found["block2b_se_reduce"] == "features.2.1.block.2.fc1"
    assert found["block2b_project_conv"] == "features.2.1.block.3.0"
    assert found["block3a_project_conv"] == "features.3.0.block.1.0"
    assert found["block4a_project_conv"] == "features.4.0.block.0.0"
    assert found["top_conv"] == "features.5.0"
    assert found["predictions"] == "classifier.1"


@pytest.mark.parametrize(
    ("name", "config", "symmetric", "mean"),
    [
        ("tf_efficientnet_b0.safetensors", None, False, 0.485),
        ("efficientnet_b0.ra_in1k.safetensors", None, True, 0.485),
        ("tf_efficientnet_lite0.safetensors", None, False, 0.5),
        ("model.safetensors", {"architecture": "tf_efficientnet_b0"}, False, 0.485),
        (
            "model.safetensors",
            {"architecture": "efficientnet_b1", "pretrained_cfg": {"mean": [0.5] * 3, "std": [0.5] * 3}},
            True,
            0.5,
        ),
    ],
)
def test_the_name_says_what_the_weights_were_trained_with(
    tmp_path: Path, name: str, config: Any, symmetric: bool, mean: float
) -> None:
    if config is not None:
        (tmp_path / "config.json").write_text(json.dumps(config))
    found = layout.source_of(tmp_path / name, {"conv_stem.weight": None}, family="b0")
    assert found.symmetric is symmetric
    assert found.epsilon == (1e-5 if symmetric else 1e-3)
    assert found.mean[0] == mean


def test_weights_of_timm_without_a_name_are_asked_about(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="nothing says whether") as caught:
        layout.source_of(tmp_path / "weights.safetensors", {"conv_stem.weight": None}, family="b0")
    assert "tf_efficientnet_b0" in caught.value.hint


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"neither timm.s nor torchvision.s"):
        layout.source_of(tmp_path / "resnet50.pth", {"conv1.weight": None}, family="b0")
