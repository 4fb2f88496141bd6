"""Where on the image tokens lie: a patch that changes moves the response of its own cell alone."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn
from torchvision.models import SwinTransformer, VisionTransformer

from repair_engine.network import Network, Responses, grids
from tests.repair_engine import hf_tiny

PATCH = 4


class Logits(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.inner(pixel_values=x).logits


class Tokens(nn.Module):
    """Patches cut out by reshaping, four registers behind them, [B, H, W, C] in between; the image is not square."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.registers = nn.Linear(3 * PATCH**2, 8), nn.Parameter(torch.randn(1, 4, 8))
        self.first, self.second, self.third = nn.Linear(8, 6), nn.Linear(6, 8), nn.Linear(8, 6)
        self.norm, self.out = nn.LayerNorm(8), nn.Linear(6, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        rows, columns = x.shape[2] // PATCH, x.shape[3] // PATCH
        cut = x.unflatten(3, (columns, PATCH)).unflatten(2, (rows, PATCH))  # [B, 3, rows, 4, columns, 4]
        grid = self.embed(cut.permute(0, 2, 4, 1, 3, 5).flatten(3))
        grid = grid + self.second(torch.relu(self.first(grid)))
        tokens = torch.cat([grid.flatten(1, 2), self.registers.expand(x.shape[0], -1, -1)], 1)
        return self.out(torch.nn.functional.gelu(self.third(self.norm(tokens))).mean(1))


def vit() -> nn.Module:
    return VisionTransformer(32, PATCH, num_layers=2, num_heads=2, hidden_dim=8, mlp_dim=12, num_classes=3)


def swin() -> nn.Module:
    """Windows of 3 × 3 on 12 × 8 tokens: shifted, and padded to nine columns."""
    return SwinTransformer([PATCH, PATCH], 8, [2, 2], [2, 2], [3, 3], num_classes=3)


CASES: dict[str, tuple[Callable[[], nn.Module], tuple[int, int]]] = {
    "vit": (vit, (32, 32)),
    "swin": (swin, (48, 32)),
    "hf swin": (lambda: Logits(hf_tiny.classifier("swin")), (32, 32)),
    "hf deit": (lambda: Logits(hf_tiny.classifier("deit")), (32, 32)),
    "tokens": (Tokens, (16, 24)),
}


def captured(name: str) -> tuple[Network, torch.Tensor]:
    """Attention puts out nothing, so that every token stays what its patch says."""
    make, (height, width) = CASES[name]
    torch.manual_seed(0)
    module = make().eval().requires_grad_(False)
    for key, value in module.named_parameters():
        value.copy_(torch.randn_like(value) * 0.3)
        if key.endswith(("out_proj.weight", "o_proj.weight", "attn.proj.weight", "output.dense.weight")):
            value.zero_()
    images = torch.rand(2, 3, height, width)
    return Network.capture(module, images), images


@pytest.mark.parametrize("name", CASES)
def test_a_changed_patch_moves_its_own_cell(name: str) -> None:
    network, images = captured(name)
    responses, found = Responses(network), grids(network, images)
    checked = set()
    for site, (one, grid) in enumerate(zip(network.sites, found, strict=True)):
        assert grid is not None, one.name
        side = images.shape[2] // grid.height
        assert side * grid.width == images.shape[3]
        for row, column in ((0, 0), (1, grid.width - 1), (grid.height - 1, 1)):
            changed = images.clone()
            changed[:, :, row * side : (row + 1) * side, column * side : (column + 1) * side] += 0.5
            before, after = (responses.maps(x, site) for x in (images, changed))
            assert before.shape[2:] == (grid.height, grid.width)
            moved = (after - before).abs().amax((0, 1)) > 1e-5
            expected = torch.zeros_like(moved)
            expected[row, column] = True
            assert torch.equal(moved, expected), (one.name, row, column)
        checked.add((one.kind, grid.left_out))
    assert {kind for kind, _ in checked} == {s.kind for s in network.sites}


@pytest.mark.parametrize(
    ("name", "left_out"), [("vit", {0, 1}), ("hf deit", {0, 2}), ("tokens", {0, 4}), ("swin", {0, 12})]
)
def test_what_is_no_patch_is_left_out(name: str, left_out: set[int]) -> None:
    """The class token, DeiT's two, registers, what windows are padded with."""
    network, images = captured(name)
    assert {grid.left_out for grid in grids(network, images) if grid is not None} == left_out


def test_tokens_that_mix_all_positions_have_no_places() -> None:
    class Mixing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.across, self.along, self.out = nn.Linear(16, 10), nn.Linear(10, 6), nn.Linear(6, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            mixed = torch.relu(self.across(x.flatten(2)))  # [B, 3, 10]: of all pixels
            return self.out(torch.relu(self.along(mixed)).mean(1))

    network = Network.capture(Mixing().eval(), torch.rand(2, 3, 4, 4))
    assert [s.kind for s in network.sites] == ["hidden", "hidden"]
    assert grids(network, torch.rand(1, 3, 4, 4)) == [None, None]
    assert Responses(network).maps(torch.rand(2, 3, 4, 4), 0).shape == (2, 10, 3, 1)
