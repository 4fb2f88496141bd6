"""Hidden units and attention heads of tiny networks: what is a player, and masked = really written weights."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import parametrizations

from repair_engine.errors import BadInput, NoPlayers
from repair_engine.network import Network, Responses, stored_constants
from repair_engine.network.write_back import write_back
from tests.repair_engine.network.small_units import (
    CHANNELS,
    CLASSES,
    SIDE,
    WIDTH,
    Beit,
    Channels,
    Flat,
    Fused,
    Gated,
    Half,
    Mha,
    Mixer,
    Mlp,
    Normed,
    QuickGelu,
    Separate,
    Tied,
    Tokens,
    TokensFirst,
)
from tests.repair_engine.network.test_network_families import reuse_equals_full
from tests.repair_engine.network.test_small_networks import captured, check_written, random

UNITS: list = [
    ("tokens", lambda: Tokens(Mlp(nn.GELU())), {"middle.fc1": 5}),
    ("norm behind", lambda: Tokens(Mlp(nn.ReLU(), norm=nn.LayerNorm(5))), {"middle.fc1": 5}),
    ("channels last", lambda: Channels(Mlp(nn.Hardswish())), {"middle.fc1": 5}),
    ("flat", lambda: Flat(nn.Sequential(nn.Linear(8, 6), nn.ReLU(True), nn.Dropout(), nn.Linear(6, 8), nn.SiLU())),
     {"middle.0": 6, "middle.3": 8}),
    ("batch norm", lambda: Flat(nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8), nn.ReLU())), {"middle.0": 8}),
    ("batch norm of flattened tokens", lambda: Tokens(Normed(nn.Hardswish())), {"middle.fc1": 5}),
    ("no bias", lambda: Tokens(Mlp(nn.GELU(), bias=False)), {"middle.fc1": 5}),
    ("no bias, not 0 at 0", lambda: Tokens(Mlp(nn.Sigmoid(), bias=False)), {"middle.fc1": 5}),
    ("over tokens", lambda: Tokens(Mixer()), {"middle.fc1": 6}),
    ("weight norm", lambda: Flat(nn.Sequential(parametrizations.weight_norm(nn.Linear(8, 8)), nn.ReLU())),
     {"middle.0": 8}),
    ("half of a fused one", lambda: Tokens(Half()), {"middle.both": 3}),
    ("swiglu", lambda: Tokens(Gated(False)), {"middle.w1": 5}),
    ("swiglu, fused", lambda: Tokens(Gated(True)), {"middle.w12": 5}),
    ("swiglu, no bias", lambda: Tokens(Gated(True, bias=False)), {"middle.w12": 5}),
    ("swiglu, two without bias", lambda: Tokens(Gated(False, bias=False)), {"middle.w1": 5}),
    ("geglu and a norm", lambda: Tokens(Gated(True, act=F.gelu, norm=True)), {"middle.w12": 5}),
    ("glu", lambda: Tokens(Gated(True, act=torch.sigmoid)), {"middle.w12": 5}),
    ("torch's attention", lambda: Tokens(Mha()), {"middle.attn": 2}),
    ("torch's, tokens first", lambda: Tokens(Mha(False)), {"middle.attn": 2}),
    ("torch's, with its weights", lambda: Tokens(Mha(weights=True)), {"middle.attn": 2}),
    ("fused", lambda: Tokens(Fused()), {"middle.qkv": 2}),
    ("fused, by hand", lambda: Tokens(Fused("by hand")), {"middle.qkv": 2}),
    ("fused, einsum", lambda: Tokens(Fused("einsum")), {"middle.qkv": 2}),
    ("fused by head", lambda: Tokens(Fused(by_head=True)), {"middle.qkv": 2}),
    ("shifted windows", lambda: Tokens(Fused("by hand", windows=2)), {"middle.qkv": 2}),
    ("fused, no bias", lambda: Tokens(Fused(bias=False)), {"middle.qkv": 2}),
    ("windows, no bias", lambda: Tokens(Fused("by hand", bias=False, windows=2, by_head=True)), {"middle.qkv": 2}),
    ("own projections", lambda: Tokens(Separate()), {"middle.v": 2}),
    ("the class token alone", lambda: Tokens(Separate(token_alone=True, bias=False)), {"middle.v": 2}),
    ("shared values", lambda: Tokens(Separate(groups=1)), {"middle.v": 1}),
    ("a bias in parts", lambda: Tokens(Beit()), {"middle.qkv": 2}),
]  # fmt: skip


@pytest.mark.device
@pytest.mark.parametrize(("make", "sites"), [pytest.param(m, s, id=i) for i, m, s in UNITS])
def test_units(make: Callable[[], nn.Module], sites: dict[str, int], torch_device: str) -> None:
    network = check_written(random(make()), device=torch_device)
    assert {s.name: s.channels for s in network.sites if s.kind != "filter"} == sites
    images = torch.randn(3, CHANNELS, SIDE, SIDE, generator=torch.Generator().manual_seed(2))
    reuse_equals_full(network, images.to(torch_device))


@pytest.mark.parametrize("make", [pytest.param(m, id=i) for i, m, _ in UNITS])
def test_means_norms_and_soft_masks(make: Callable[[], nn.Module]) -> None:
    """Against the unit's outputs, taken one image and one position at a time."""
    network, images, _, _ = captured(random(make()))
    rng = np.random.default_rng(3)
    coalitions = rng.random((len(images), network.n_filters)) < 0.6
    with torch.no_grad():
        soft = network.soft_logits(images, torch.from_numpy(coalitions).float())
    alone = torch.cat([network.masked_logits(images[[i]], row[None])[0] for i, row in enumerate(coalitions)])
    torch.testing.assert_close(soft, alone, rtol=1e-4, atol=1e-5)
    norms = network.response_norms(images)
    each = sum(network.response_norms(image[None]) for image in images)
    torch.testing.assert_close(norms, each, rtol=1e-6, atol=1e-6)
    assert norms.shape == (network.n_filters,)
    assert network.mean_outputs([images]).shape == network.constants.shape
    for site, one in enumerate(network.sites):
        assert Responses(network).maps(images, site).shape[:2] == (len(images), one.channels)
    for player in range(network.n_filters):
        assert network.player(network.filter_id(player)) == player


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("make", [lambda: Tokens(Mlp(nn.GELU())), lambda: Tokens(Gated(True)), lambda: Tokens(Fused())],
                         ids=["gelu", "swiglu", "heads"])  # fmt: skip
def test_half_precision(make: Callable[[], nn.Module], dtype: torch.dtype) -> None:
    check_written(random(make()), dtype)


NOT_UNITS: list = [
    ("no activation", lambda: Tokens(nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.LayerNorm(WIDTH))),
     "middle.0", "no activation follows it"),
    ("queries and keys", lambda: Tokens(Separate()), "middle.q", "no activation follows it"),
    ("tied", Tied, "head", "tied"),  # torch.export has one of the names
    ("also used beside", lambda: Tokens(nn.Sequential(nn.Linear(WIDTH, WIDTH), QuickGelu())),
     "middle.0", "used beside its activation"),
    ("token after token", lambda: Tokens(TokensFirst()), "middle.fc1", "share a dimension"),
    ("no bias and a norm", lambda: Tokens(Mlp(nn.ReLU(), bias=False, norm=nn.LayerNorm(5))),
     "middle.fc1", "no bias to carry the mean, and no linear layer alone reads it"),
    ("no bias anywhere", lambda: Tokens(Fused(bias=False, out_bias=False)),
     "middle.qkv", "no bias to carry the mean, and middle.proj"),
    ("spectral norm", lambda: Flat(nn.Sequential(parametrizations.spectral_norm(nn.Linear(8, 8)), nn.ReLU())),
     "middle.0.parametrizations.weight.original", "parametrization"),
    ("batch norm over tokens", lambda: Tokens(Normed(nn.ReLU(), turned=True)), "middle.fc1", "another dimension"),
    ("beside its batch norm", lambda: Tokens(Normed(nn.ReLU(), beside=True)), "middle.fc1", "beside its batch norm"),
    ("batch norm without weights",
     lambda: Flat(nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8, affine=False), nn.ReLU())),
     "middle.0", "affine=False"),
]  # fmt: skip


@pytest.mark.parametrize(("make", "name", "reason"), [pytest.param(m, n, r, id=i) for i, m, n, r in NOT_UNITS])
def test_not_units(make: Callable[[], nn.Module], name: str, reason: str) -> None:
    """It is said why, and the rest still works."""
    network = check_written(random(make()))
    found = {p.name: p for p in network.not_players}
    assert name in found, found
    assert reason in found[name].reason
    assert found[name].kind in ("hidden", "head")
    assert name not in {s.name for s in network.sites}


def test_half_precision_that_would_be_taken_up() -> None:
    module = random(Tokens(Fused(bias=False)))
    network = Network.capture(
        module, torch.zeros(2, CHANNELS, SIDE, SIDE), dict.fromkeys(module.state_dict(), torch.float16)
    )
    assert [p.name for p in network.not_players if "half precision" in p.reason] == ["middle.qkv"]


class Both(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attn, self.mlp = Fused(), Mlp(nn.GELU())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.mlp(x + self.attn(x))


@pytest.mark.parametrize(("units", "kinds"), [
    ("filters", ["filter"]), ("hidden", ["hidden"]), ("heads", ["head"]), ("all", ["filter", "head", "hidden"]),
])  # fmt: skip
def test_kinds(units: str, kinds: list[str]) -> None:
    module = random(Tokens(Both()))
    network = Network.capture(module, torch.zeros(2, CHANNELS, SIDE, SIDE), units=units)
    assert [s.kind for s in network.sites] == kinds
    assert sorted(network.coverage.kinds) == sorted(kinds)
    names = {"filter": "stem:7", "hidden": "middle.mlp.fc1:4", "head": "middle.attn.qkv:head1"}
    ids = [network.filter_id(player) for player in range(network.n_filters)]
    assert {network.kind(p) for p in range(network.n_filters)} == set(kinds)
    assert all((name in ids) == (kind in kinds) for kind, name in names.items())
    size = {"filter": 8 * (3 * 9 + 1), "hidden": 5 * (8 + 1), "head": 8 * (8 + 1)}
    assert dict(network.coverage.kinds) == {kind: size[kind] for kind in kinds}


def test_a_network_without_units() -> None:
    classifier = random(nn.Sequential(nn.Flatten(), nn.Linear(CHANNELS * SIDE**2, CLASSES)))
    for units in ("all", "hidden", "heads", "filters"):
        with pytest.raises(NoPlayers, match="no convolutions, hidden units or heads"):
            Network.capture(classifier, torch.zeros(2, CHANNELS, SIDE, SIDE), units=units)
    module = random(nn.Sequential(nn.Flatten(), nn.Linear(CHANNELS * SIDE**2, 4), nn.ReLU(), nn.Linear(4, CLASSES)))
    assert check_written(module).n_filters == 4


class Random(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.dropout(x, 0.5)  # whatever the mode


def test_dropout_that_eval_does_not_stop() -> None:
    with pytest.raises(BadInput, match="random in eval mode") as refused:
        Network.capture(Tokens(Random()), torch.zeros(2, CHANNELS, SIDE, SIDE))
    assert "self.training" in refused.value.mend


@pytest.mark.parametrize("fixed", [
    pytest.param(lambda x, rows: rows.expand(len(x), -1, -1), id="len of the images"),
    pytest.param(lambda x, rows: rows.repeat(2, 1, 1), id="repeated twice"),
    pytest.param(lambda x, rows: rows.expand(2, -1, -1), id="expanded to two"),
])  # fmt: skip
def test_a_fixed_batch_size(fixed: Callable) -> None:
    class Fixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.token = nn.Parameter(torch.zeros(1, 1, WIDTH))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.cat([fixed(x, self.token), x], 1)[:, 1:]

    with pytest.raises(BadInput, match="cannot be captured") as refused:
        Network.capture(Tokens(Fixed()), torch.zeros(2, CHANNELS, SIDE, SIDE))
    assert "fixed batch size" in refused.value.mend
    assert "x.shape[0]" in refused.value.mend


def test_what_a_layer_takes_up_is_lost_where_its_own_unit_is_ablated() -> None:
    """One bias takes up another unit's constant and is set itself, in whichever order they are named."""
    module = random(nn.Sequential(
        nn.Flatten(), nn.Linear(CHANNELS * SIDE**2, 4, bias=False), nn.ReLU(), nn.Linear(4, 4), nn.ReLU(),
        nn.Linear(4, CLASSES),
    ))  # fmt: skip
    network, images, state, biases = captured(module)
    coalition = np.ones((1, network.n_filters), bool)
    players = [5, 1, 6, 0]
    coalition[0, players] = False
    masked = network.masked_logits(images, coalition)[0]
    for order in (players, players[::-1]):
        module.load_state_dict(write_back(state, network, biases, order))
        torch.testing.assert_close(masked, module(images), rtol=1e-5, atol=2e-5)
        module.load_state_dict(state)


def test_constants_are_means_over_images_and_positions() -> None:
    module = random(Tokens(Fused("by hand", windows=2)))
    images = torch.randn(6, CHANNELS, SIDE, SIDE, generator=torch.Generator().manual_seed(1))
    found: list[torch.Tensor] = []
    module.middle.qkv.register_forward_hook(lambda _m, _i, out: found.append(out[..., 2 * WIDTH :]))
    module(images)
    network = Network.capture(module, images[:2], units="heads")
    expected = found[0].double().mean((0, 1))
    torch.testing.assert_close(network.mean_outputs([images[:2], images[2:]]), expected, rtol=1e-6, atol=1e-7)
    dtypes = {k: v.dtype for k, v in module.state_dict().items()}
    network.constants = stored_constants(network, expected, dtypes)[0]
    assert network.constant(1) == pytest.approx(float(expected[4:].mean()))
