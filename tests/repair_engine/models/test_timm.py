"""`timm:NAME`: timm's networks as architectures, where timm is installed."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from repair_engine.errors import BadInput
from repair_engine.models import formats
from repair_engine.models.architectures import Architecture
from repair_engine.network import Network, stored_constants
from repair_engine.network.write_back import write_back


def test_without_timm_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(BadInput, match="timm, which is not installed"):
        Architecture("timm:resnet10t", 3).build("meta")


@pytest.fixture
def timm():
    return pytest.importorskip("timm")


# name, input channels
MODELS = [
    pytest.param("resnet10t", 3, id="resnet"),
    pytest.param("mobilenetv3_small_050", 1, id="mobilenet, greyscale"),
    pytest.param("densenet121", 3, id="densenet", marks=pytest.mark.slow),
]


@pytest.mark.parametrize(("name", "channels"), MODELS)
def test_masked_is_written(timm, name: str, channels: int, tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = timm.create_model(name, num_classes=5, in_chans=channels).eval().requires_grad_(False)
    for part in module.modules():
        if isinstance(part, torch.nn.BatchNorm2d):
            part.running_mean.normal_(0, 0.1)
            part.running_var.uniform_(0.5, 2)
            part.bias.normal_(0, 0.2)
    save_file({k: v.contiguous() for k, v in module.state_dict().items()}, tmp_path / "m.safetensors")
    checkpoint = formats.read(tmp_path / "m.safetensors", Architecture(f"timm:{name}", 5))
    assert checkpoint.in_channels == channels
    images = torch.randn(3, channels, 64, 64)
    plain = checkpoint.module()
    with torch.inference_mode():
        assert torch.equal(plain(images), module(images))
    network = Network.capture(plain, images[:2], checkpoint.dtypes)
    convolutions = [part for part in module.modules() if isinstance(part, torch.nn.Conv2d)]
    assert network.n_filters == sum(part.out_channels for part in convolutions), network.not_players
    network.constants, biases = stored_constants(network, network.mean_outputs([images]), checkpoint.dtypes)
    players = [int(network.offsets[i]) + (5 * i) % s.channels for i, s in enumerate(network.sites)]
    coalition = np.ones((1, network.n_filters), bool)
    coalition[0, players] = False
    formats.write(
        checkpoint.edited(write_back(checkpoint.tensors, network, biases, players)), tmp_path / "r.safetensors"
    )
    written = formats.read(tmp_path / "r.safetensors", checkpoint.architecture).module()
    with torch.inference_mode():
        logits = written(images)
    torch.testing.assert_close(network.masked_logits(images, coalition)[0], logits, rtol=1e-4, atol=1e-5)


def test_what_would_load_a_file_is_refused(timm) -> None:
    for name in ("timm:hf-hub:someone/model", "timm:local-dir:/tmp", "timm:resnet10"):
        with pytest.raises(BadInput, match="timm has no model"):
            Architecture(name, 3).build("meta")
    for option in ("checkpoint_path", "pretrained", "pretrained_cfg"):
        with pytest.raises(BadInput, match=f"option {option} of timm loads files"):
            Architecture("timm:resnet10t", 3, {option: "x"}).build("meta")
