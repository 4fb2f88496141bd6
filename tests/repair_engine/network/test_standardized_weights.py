"""Weight-standardized convolutions: players through their gain (or their weight), in torch and as exported."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from repair_engine.errors import BadInput
from repair_engine.models import formats
from repair_engine.models.architectures import Architecture
from repair_engine.models.formats.convert import parse
from repair_engine.network import Network, stored_constants
from repair_engine.network.write_back import edits_of, write_back
from tests.repair_engine.onnx.test_onnx_families import check_written
from tests.repair_engine.onnx_models import EXPORTERS, export

layers = pytest.importorskip(
    "timm.layers", reason="timm is not installed: its standardized convolutions are not tested"
)
REGISTER = {name: f"{__name__}:{name}" for name in ("gained", "plain", "normed")}


class Net(nn.Module):
    def __init__(self, *parts: nn.Module, num_classes: int = 3) -> None:
        super().__init__()
        self.body = nn.Sequential(*parts)
        self.fc = nn.Linear(6, num_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(self.body(x).mean((2, 3)))


def gained(num_classes: int = 3) -> nn.Module:
    """As nf_*: a gain for each row, and a bias."""
    conv = layers.ScaledStdConv2d
    return Net(conv(3, 5, 3, padding=1), nn.SiLU(), conv(5, 6, 3, padding=1), nn.ReLU(), num_classes=num_classes)


def plain(num_classes: int = 3) -> nn.Module:
    """Without a gain, with a bias."""
    conv = layers.StdConv2d
    return Net(
        conv(3, 5, 3, padding=1, bias=True), nn.ReLU(), conv(5, 6, 3, padding=1, bias=True), nn.ReLU(),
        num_classes=num_classes,
    )  # fmt: skip


def normed(num_classes: int = 3) -> nn.Module:
    """As BiT: no bias; the first convolution has a batch norm of its own, the second goes into a group norm's sum."""
    conv = layers.StdConv2d
    return Net(
        conv(3, 5, 3, padding=1), nn.BatchNorm2d(5), nn.ReLU(), conv(5, 6, 3, padding=1), nn.MaxPool2d(2),
        nn.GroupNorm(2, 6), nn.ReLU(), num_classes=num_classes,
    )  # fmt: skip


def made(name: str) -> nn.Module:
    torch.manual_seed(0)
    module = globals()[name]().eval().requires_grad_(False)
    for key, value in module.named_parameters():
        if key.endswith(("gain", "bias")):
            value += 0.2 * torch.randn_like(value)
    return module


# name, its filters, the tensor whose row goes to zero
NETS = [("gained", 11, "body.0.gain"), ("plain", 11, "body.0.weight"), ("normed", 5, "body.0.weight")]


@pytest.mark.parametrize(("name", "filters", "zeroed"), NETS)
def test_masked_is_written(name: str, filters: int, zeroed: str, tmp_path: Path) -> None:
    torch.save(made(name).state_dict(), tmp_path / "m.pth")
    architecture = Architecture(name, 3, register=REGISTER)
    checkpoint = parse(tmp_path / "m.pth", architecture, None, "m.pth")
    images = torch.randn(4, 3, 12, 12, generator=torch.Generator().manual_seed(1))
    network = Network.capture(checkpoint.module(), images[:2], checkpoint.dtypes)
    assert network.n_filters == filters, network.not_players
    network.constants, biases = stored_constants(network, network.mean_outputs([images]), checkpoint.dtypes)
    assert zeroed in [edit.key for edit in edits_of(network, checkpoint.tensors, biases, 0)]
    for first in (0, 1):
        players = list(range(first, filters, 2))
        coalition = np.ones((1, filters), dtype=bool)
        coalition[0, players] = False
        masked = network.masked_logits(images, coalition)[0]
        edited = checkpoint.edited(write_back(checkpoint.tensors, network, biases, players))
        formats.write(edited, tmp_path / "out.pth")
        module = parse(tmp_path / "out.pth", architecture, None, "out.pth").module()
        with torch.inference_mode():
            torch.testing.assert_close(masked, module(images), rtol=0, atol=1e-5)
    if name == "normed":
        assert [one.name for one in network.not_players] == ["body.3"]
        assert "its weights are standardized, it has neither a bias" in network.not_players[0].reason


@pytest.mark.parametrize("exporter", EXPORTERS)
@pytest.mark.parametrize("name", ["gained", "plain"])
def test_masked_is_written_as_exported(name: str, exporter: str, tmp_path: Path) -> None:
    images = torch.randn(3, 3, 12, 12, generator=torch.Generator().manual_seed(1))
    path = export(made(name), tmp_path / "m.onnx", images[:2], exporter)
    checkpoint = parse(path, Architecture("onnx", 0), None, path.name)
    network = Network.capture(checkpoint.module(), images[:2], checkpoint.dtypes)
    assert network.n_filters == 11, network.not_players
    check_written(checkpoint, network, path, images, tmp_path, parts=2)


class Mixed(nn.Module):
    """A weight whose rows depend on each other: no row of a parameter is a row of it."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 6, 3)
        self.weight = nn.Parameter(torch.randn(6, 6, 3, 3))
        self.fc = nn.Linear(6, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        weight = self.weight - self.weight.mean(0, keepdim=True)
        x = nn.functional.conv2d(self.first(x).relu(), weight, torch.zeros(6)).relu()
        return self.fc(x.mean((2, 3)))


def test_a_weight_whose_rows_are_mixed_has_no_players() -> None:
    torch.manual_seed(0)
    network = Network.capture(Mixed().eval(), torch.randn(2, 3, 8, 8))
    assert [site.name for site in network.sites] == ["first"]
    assert "its weight is computed" in network.not_players[0].reason


def test_batch_statistics_of_images_are_still_refused() -> None:
    module = nn.Sequential(
        nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6, track_running_stats=False), nn.Flatten(), nn.Linear(216, 3)
    )
    with pytest.raises(BadInput, match="without running statistics mixes"):
        Network.capture(module.eval(), torch.randn(2, 3, 8, 8))


@pytest.mark.slow
@pytest.mark.parametrize(("name", "filters", "sites"), [("nf_resnet26", 15424, 29), ("resnetv2_50x1_bit", 7552, 32)])
def test_networks_of_timm(name: str, filters: int, sites: int) -> None:
    import timm

    network = Network.capture(timm.create_model(name, num_classes=4).eval(), torch.randn(2, 3, 64, 64))
    assert (network.n_filters, len(network.sites)) == (filters, sites)
    assert all(
        one.reason.startswith(("its weights are standardized", "its channels are the logits"))
        for one in network.not_players
    )
