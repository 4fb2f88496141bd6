"""One row per architecture family × property: counts, masked = written, prefix reuse = full forward."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torchvision
from torch import nn

from repair_engine.network import Network, Trail, flipped_logits, stored_constants
from repair_engine.network.write_back import write_back

# name, options, image side, filters that are players (and hidden units, heads)
FAMILIES = [
    pytest.param("squeezenet1_0", {}, 64, 2976, id="squeezenet"),
    pytest.param("resnet18", {}, 48, 4800, id="resnet"),
    pytest.param("mobilenet_v2", {}, 48, 17056, id="mobilenet"),
    pytest.param("mobilenet_v3_small", {}, 48, (8944, 1024), id="mobilenet_v3"),
    pytest.param("efficientnet_b0", {}, 48, 30348, id="efficientnet"),
    pytest.param("shufflenet_v2_x0_5", {}, 48, 3976, id="shufflenet"),
    pytest.param("inception_v3", {"init_weights": False}, 80, 17216, id="inception", marks=pytest.mark.slow),
    pytest.param("googlenet", {"init_weights": False}, 64, 7280, id="googlenet", marks=pytest.mark.slow),
    pytest.param("vgg11_bn", {}, 32, (2752, 8192), id="vgg", marks=pytest.mark.slow),
    pytest.param("densenet121", {}, 48, 10240, id="densenet", marks=pytest.mark.slow),
    pytest.param("regnet_y_400mf", {}, 48, 18784, id="regnet", marks=pytest.mark.slow),
    pytest.param("convnext_tiny", {}, 48, (8064, 26496), id="convnext", marks=pytest.mark.slow),
    pytest.param("alexnet", {}, 64, (1152, 8192), id="alexnet", marks=pytest.mark.slow),
    pytest.param("vit_b_16", {"image_size": 32}, 32, (768, 36864, 144), id="vit", marks=pytest.mark.slow),
    pytest.param("swin_t", {}, 64, (96, 17664, 138), id="swin", marks=pytest.mark.slow),
    pytest.param("swin_v2_t", {}, 64, (96, 17664, 138), id="swin_v2", marks=pytest.mark.slow),
]
BATCH = 3
ROUNDING = {"cpu": 1e-5, "cuda": 1e-4}  # of the largest logit; cuDNN may choose Winograd's convolutions


def random_module(name: str, options: dict, seed: int = 0) -> nn.Module:
    """A network whose batch norms are not the identity, so that every edit shows."""
    torch.manual_seed(seed)
    module = torchvision.models.get_model(name, weights=None, **options).eval()
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.running_mean.normal_(0, 0.1)
            part.running_var.uniform_(0.5, 2)
            part.weight.data.uniform_(0.5, 1.5)
            part.bias.data.normal_(0, 0.2)
    return module.requires_grad_(False)


@pytest.mark.device
@pytest.mark.parametrize(("name", "options", "side", "filters"), FAMILIES)
def test_family(name: str, options: dict, side: int, filters: int | tuple[int, ...], torch_device: str) -> None:
    module = random_module(name, options)
    images = torch.randn(BATCH, 3, side, side, generator=torch.Generator().manual_seed(1)).to(torch_device)
    state = {key: value.clone() for key, value in module.state_dict().items()}
    network = Network.capture(module, images[:2])
    counts = [sum(s.channels for s in network.sites if s.kind == kind) for kind in ("filter", "hidden", "head")]
    expected = (filters,) if isinstance(filters, int) else filters
    assert counts == [*expected, 0, 0][:3]
    with torch.inference_mode():
        _assert_rounding(network.logits(images), module(images))
    dtypes = {key: value.dtype for key, value in state.items()}
    means = network.mean_outputs([images])
    constants, biases = stored_constants(network, means, dtypes)
    network.constants = constants.to(torch_device)
    np.testing.assert_allclose(constants.double(), means, rtol=1e-4, atol=1e-5)

    _masked_equals_written(network, module, state, biases, images)
    reuse_equals_full(network, images)


def _assert_rounding(logits, expected) -> None:
    """Equal up to float32 rounding, which grows with the depth and the size of what is summed."""
    scale = float(expected.abs().max())
    torch.testing.assert_close(logits, expected, rtol=0, atol=ROUNDING[logits.device.type] * max(scale, 1e-3))


def _masked_equals_written(network, module, state, biases, images) -> None:
    """Every site at once, in three coalitions that each ablate one filter of every third site."""
    for offset in range(3):
        players = [
            int(network.offsets[i]) + (7 * i) % s.channels for i, s in enumerate(network.sites) if i % 3 == offset
        ]
        coalition = np.ones((1, network.n_filters), dtype=bool)
        coalition[0, players] = False
        masked = network.masked_logits(images, coalition)[0]
        written = write_back(state, network, biases, players)
        assert list(written) == list(state)
        assert all(written[k].shape == state[k].shape and written[k].dtype == state[k].dtype for k in state)
        module.load_state_dict(written)
        with torch.inference_mode():
            logits = module(images)
        module.load_state_dict(state)
        assert not torch.equal(masked, network.logits(images))
        _assert_rounding(masked, logits)


def reuse_equals_full(network, images) -> None:
    rng = np.random.default_rng(0)
    removed = rng.permutation(network.n_filters)[: network.n_filters // 20 + 6]
    coalitions = np.ones((6, network.n_filters), dtype=bool)
    for k in range(1, 6):
        coalitions[k:, removed[: k * len(removed) // 5]] = False
    alone = torch.cat([network.masked_logits(images, row[None]) for row in coalitions])
    torch.testing.assert_close(network.masked_logits(images, coalitions), alone, rtol=1e-4, atol=1e-5)
    for memory in (1 << 40, 200_000, 0):  # all states kept, a few, none
        trail = Trail(network, images, memory)
        for row, expected in zip(coalitions, alone):
            assert torch.equal(trail.logits(row), expected)  # identical shapes give identical bits
    players = np.sort(rng.choice(network.n_filters, min(12, network.n_filters), replace=False))
    out = torch.full((len(players), BATCH, network.classes), float("nan"), device=images.device)

    def keep(rows, logits):
        out[torch.from_numpy(rows)] = logits

    own = coalitions[[3, 1, 5]][:BATCH]  # each image under its own coalition
    for rows_of in (coalitions[3][None], own):
        out.fill_(float("nan"))
        base = flipped_logits(network, images, rows_of, players, 4 * BATCH, keep)
        for image in range(BATCH):
            row = rows_of[image % len(rows_of)]
            alone_here = network.masked_logits(images, np.array([row]))[0, image]
            torch.testing.assert_close(base[image], alone_here, rtol=1e-4, atol=1e-5)
        for k, player in enumerate(players):
            flipped = rows_of.copy()
            flipped[:, player] ^= True
            expected = torch.stack(
                [network.masked_logits(images, flipped[[i % len(flipped)]])[0, i] for i in range(BATCH)]
            )
            torch.testing.assert_close(out[k], expected, rtol=1e-4, atol=1e-5)
