"""Tiny networks with one peculiarity each: what is a player, and masked = really written weights."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations

from repair_engine.errors import BadInput, NoPlayers
from repair_engine.network import Network, stored_constants
from repair_engine.network.write_back import write_back

CLASSES, CHANNELS, WIDTH = 3, 3, 4


class Net(nn.Module):
    """One convolution (or what is given) → what is given → a second, plain convolution → logits."""

    def __init__(self, first: nn.Module, then: nn.Module | None = None, act: nn.Module | None = None) -> None:
        super().__init__()
        self.first, self.then, self.act = first, then or nn.Identity(), act or nn.Identity()
        self.plain = nn.Conv2d(WIDTH, 5, 3, padding=1)
        self.head = nn.Linear(5, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.act(self.then(self.first(x)))
        return self.head(torch.relu(self.plain(x)).mean((2, 3)))


def conv(**options: object) -> nn.Conv2d:
    return nn.Conv2d(CHANNELS, WIDTH, 3, padding=1, **options)  # type: ignore[arg-type]


class Auxiliary(nn.Module):
    """A second convolution that only training runs, as the auxiliary heads of GoogLeNet and Inception."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.aux = conv(), conv()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(x) + (self.aux(x) if self.training else 0.0)


class ByHand(nn.Module):
    """A convolution that is called by F.conv2d, its weight a parameter or a buffer."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        kernel, bias = torch.randn(WIDTH, CHANNELS, 3, 3) / 4, torch.randn(WIDTH) / 4
        if kind == "parameter":
            self.kernel, self.shift = nn.Parameter(kernel), nn.Parameter(bias)
        else:
            self.register_buffer("kernel", kernel, persistent=kind == "buffer")
            self.register_buffer("shift", bias, persistent=kind == "buffer")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.conv2d(x, self.kernel, self.shift, padding=1)


class Twice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.up = nn.Conv2d(WIDTH, WIDTH, 3, padding=1), nn.Conv2d(CHANNELS, WIDTH, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(torch.relu(self.conv(self.up(x))))


class Tied(nn.Module):
    """Two convolutions with one weight under two names: an edit of one of them would be of both."""

    def __init__(self) -> None:
        super().__init__()
        self.up = nn.Conv2d(CHANNELS, WIDTH, 1)
        self.a, self.b = nn.Conv2d(WIDTH, WIDTH, 3, padding=1), nn.Conv2d(WIDTH, WIDTH, 3, padding=1)
        self.b.weight = self.a.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.b(torch.relu(self.a(self.up(x))))


class SharedNorm(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = conv(bias=False), nn.Conv2d(WIDTH, WIDTH, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(WIDTH)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(self.b(torch.relu(self.norm(self.a(x)))))


class Residual(nn.Module):
    """The branch's site is its own output, before the sum; the stem's output is used twice."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.branch = conv(), nn.Conv2d(WIDTH, WIDTH, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(WIDTH)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        return torch.relu(x + self.norm(self.branch(torch.relu(x))))


class Dense(nn.Module):
    """Norm before convolution: outputs join by concatenation, and every later norm reads all of them."""

    def __init__(self, steps: int = 2, pool: nn.Module | None = None) -> None:
        super().__init__()
        self.up = nn.Conv2d(CHANNELS, 2, 3, padding=1, bias=False)
        self.norms = nn.ModuleList(nn.BatchNorm2d(2 + 2 * i) for i in range(steps))
        self.convs = nn.ModuleList(nn.Conv2d(2 + 2 * i, 2, 3, padding=1, bias=False) for i in range(steps))
        self.norm, self.down = nn.BatchNorm2d(2 + 2 * steps), nn.Conv2d(2 + 2 * steps, WIDTH, 1, bias=False)
        self.pool, self.last_norm = pool or nn.AvgPool2d(2), nn.BatchNorm2d(WIDTH)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.up(x)
        for norm, conv in zip(self.norms, self.convs):
            x = torch.cat([conv(torch.relu(norm(x))), x], dim=1)
        return torch.relu(self.last_norm(self.pool(self.down(torch.relu(self.norm(x))))))


class PreActivation(nn.Module):
    """Branches without norms of their own end in sums; two of them and their sum's pooling reach the same norm."""

    def __init__(self) -> None:
        super().__init__()
        self.up, self.a, self.b = (
            nn.Conv2d(c, WIDTH, 3, padding=1, bias=False) for c in (CHANNELS, WIDTH, WIDTH)
        )  # fmt: skip
        self.norm_a, self.norm_b, self.norm = (nn.BatchNorm2d(WIDTH) for _ in range(3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.up(x)
        x = x + self.a(torch.relu(self.norm_a(x)))
        x = x + self.b(torch.relu(self.norm_b(x)))
        return torch.relu(self.norm(x + nn.functional.max_pool2d(x, 3, 1, 1)))


def random(module: nn.Module, seed: int = 0) -> nn.Module:
    """Random weights and norms that are not the identity."""
    torch.manual_seed(seed)
    with torch.no_grad():
        for name, value in module.named_parameters():
            value.copy_(torch.randn_like(value) / 2 + ("norm" in name or "then" in name) * ("weight" in name))
        for part in module.modules():
            if isinstance(part, nn.BatchNorm2d) and part.running_mean is not None:
                part.running_mean.normal_(0, 0.3)
                part.running_var.uniform_(0.5, 2)
    return module.eval().requires_grad_(False)


def captured(
    module: nn.Module, dtype: torch.dtype = torch.float32, device: str = "cpu"
) -> tuple[Network, torch.Tensor, dict, torch.Tensor]:
    images = torch.randn(6, CHANNELS, 6, 6, generator=torch.Generator().manual_seed(1)).to(device)
    state = {k: v.clone().to(dtype) if v.is_floating_point() else v.clone() for k, v in module.state_dict().items()}
    module.load_state_dict({k: v.float() if v.is_floating_point() else v for k, v in state.items()})
    network = Network.capture(module, images[:2])
    means = network.mean_outputs([images])
    constants, biases = stored_constants(network, means, {k: v.dtype for k, v in state.items()})
    network.constants = constants.to(device)
    rounding = float(torch.finfo(dtype).eps) * 4
    torch.testing.assert_close(constants.double(), means, rtol=rounding, atol=rounding)
    return network, images, state, biases


def check_written(module: nn.Module, dtype: torch.dtype = torch.float32, device: str = "cpu") -> Network:
    """Every filter alone, and half of all at once."""
    network, images, state, biases = captured(module, dtype, device)
    rng = np.random.default_rng(0)
    some = [int(p) for p in rng.permutation(network.n_filters)[: network.n_filters // 2]]
    for players in [*([p] for p in range(network.n_filters)), some]:
        coalition = np.ones((1, network.n_filters), bool)
        coalition[0, players] = False
        masked = network.masked_logits(images, coalition)[0]
        written = write_back(state, network, biases, players)
        assert {k: (v.shape, v.dtype) for k, v in written.items()} == {k: (v.shape, v.dtype) for k, v in state.items()}
        module.load_state_dict({k: v.float() if v.is_floating_point() else v for k, v in written.items()})
        with torch.inference_mode():
            logits = module(images)
        # the captured network shares the module's tensors, so they are put back before it runs again
        module.load_state_dict({k: v.float() if v.is_floating_point() else v for k, v in state.items()})
        torch.testing.assert_close(masked, logits, rtol=1e-5, atol=2e-5)
    return network


PLAYERS: list = [
    ("bias alone", lambda: Net(conv()), ["first", "plain"]),
    # weight = g · v / |v|: a gain of 0 is a row of 0
    ("weight norm", lambda: Net(parametrizations.weight_norm(conv())), ["first", "plain"]),
    ("batch norm", lambda: Net(conv(bias=False), nn.BatchNorm2d(WIDTH), nn.ReLU()), ["first", "plain"]),
    ("bias and batch norm", lambda: Net(conv(), nn.BatchNorm2d(WIDTH), nn.ReLU()), ["first", "plain"]),
    ("group norm", lambda: Net(conv(bias=False), nn.GroupNorm(2, WIDTH), nn.SiLU()), ["first", "plain"]),
    ("bias and group norm", lambda: Net(conv(), nn.GroupNorm(1, WIDTH), nn.ReLU()), ["first", "plain"]),
    ("grouped", lambda: Net(nn.Sequential(conv(), nn.Conv2d(4, 4, 3, groups=2))), ["first.0", "first.1", "plain"]),
    ("depthwise", lambda: Net(nn.Sequential(conv(), nn.Conv2d(4, 4, 3, groups=4))), ["first.0", "first.1", "plain"]),
    ("reflected borders", lambda: Net(conv(padding_mode="reflect"), act=nn.ReLU()), ["first", "plain"]),
    ("same padding", lambda: Net(nn.Conv2d(CHANNELS, WIDTH, 3, padding="same"), act=nn.ReLU()), ["first", "plain"]),
    ("dropout between", lambda: Net(conv(), nn.Dropout(), nn.ReLU()), ["first", "plain"]),
    ("residual", lambda: Net(Residual()), ["first.stem", "first.branch", "plain"]),
    ("F.conv2d of parameters", lambda: Net(ByHand("parameter"), act=nn.ReLU()), ["first.kernel", "plain"]),
    ("F.conv2d of buffers", lambda: Net(ByHand("buffer"), act=nn.ReLU()), ["first.kernel", "plain"]),
    ("instance norm behind", lambda: Net(conv(), nn.InstanceNorm2d(WIDTH, affine=True), nn.ReLU()), ["first", "plain"]),
    ("in place", lambda: Net(conv(), nn.BatchNorm2d(WIDTH), nn.ReLU(inplace=True)), ["first", "plain"]),
    ("norm before convolution", lambda: Net(Dense()),
     ["first.up", "first.convs.0", "first.convs.1", "first.down", "plain"]),
    ("sums before norms", lambda: Net(PreActivation()), ["first.up", "first.a", "first.b", "plain"]),
    ("PReLU", lambda: Net(conv(), act=nn.PReLU()), ["first", "plain"]),
]  # fmt: skip


@pytest.mark.parametrize(("make", "sites"), [pytest.param(m, s, id=i) for i, m, s in PLAYERS])
def test_players(make: Callable[[], nn.Module], sites: list[str]) -> None:
    network = check_written(random(make()))
    assert [site.name for site in network.sites] == sites
    assert network.not_players == ()


ACTIVATIONS = [
    nn.SiLU(), nn.GELU(), nn.GELU("tanh"), nn.Hardswish(), nn.Mish(), nn.Sigmoid(), nn.Hardsigmoid(), nn.Tanh(),
    nn.LeakyReLU(0.1), nn.ELU(), nn.SELU(), nn.CELU(), nn.Hardtanh(), nn.ReLU6(), nn.Softplus(),
]  # fmt: skip


@pytest.mark.parametrize("act", ACTIVATIONS, ids=lambda a: str(a).split("(")[0])
def test_activations_lie_before_the_site(act: nn.Module) -> None:
    network = check_written(random(Net(conv(), nn.BatchNorm2d(WIDTH), act)))
    assert network.sites[0].activation.name != "identity"


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("act", [nn.ReLU(), nn.SiLU(), nn.Sigmoid()], ids=["relu", "silu", "sigmoid"])
def test_half_precision_checkpoints(act: nn.Module, dtype: torch.dtype) -> None:
    """The constant is what the stored bias gives: masked = written to float32 rounding."""
    check_written(random(Net(conv(), nn.BatchNorm2d(WIDTH), act)), dtype)


def test_rounded_running_means_have_no_common_constant() -> None:
    """In half precision several norms would round m apart: the filters are left out, and that is said."""
    module = random(Net(Dense()))
    dtypes = dict.fromkeys(module.state_dict(), torch.float16)
    network = Network.capture(module, torch.zeros(2, CHANNELS, 6, 6), dtypes)
    assert [s.name for s in network.sites] == ["plain"]
    assert all("half precision" in p.reason for p in network.not_players)


def logits_of_a_convolution() -> nn.Module:
    return nn.Sequential(conv(), nn.ReLU(), nn.Conv2d(WIDTH, CLASSES, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten())


class Tapped(Dense):
    """What the concatenation holds also leaves by another way than a batch norm."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x) + self.up(x).mean()


NOT_PLAYERS: list = [
    ("no bias, no norm", lambda: Net(conv(bias=False), act=nn.ReLU()), "first", "neither a bias nor a norm"),
    ("mean over padding", lambda: Net(Dense(pool=nn.AvgPool2d(3, 2, 1))), "first.down", "goes into avg_pool2d"),
    ("group norm behind a pooling", lambda: Net(Dense(pool=nn.Sequential(nn.MaxPool2d(2), nn.GroupNorm(2, WIDTH)))),
     "first.down", "goes into group_norm"),
    ("called twice and absorbed", lambda: Net(Tapped()), "first.up", "more than once"),
    ("affine=False", lambda: Net(conv(bias=False), nn.BatchNorm2d(WIDTH, affine=False)), "first", "affine=False"),
    ("called twice", lambda: Net(Twice()), "first.conv", "more than once"),
    ("tied", lambda: Net(Tied()), None, "more than once"),
    ("shared norm", lambda: Net(SharedNorm()), "first.a", "called more than once"),
    ("spectral norm", lambda: Net(parametrizations.spectral_norm(conv())), None, "parametrization"),
    ("not in the state dict", lambda: Net(ByHand("constant")), None, "state dict"),
    ("logits", logits_of_a_convolution, "2", "logits"),
    ("run in training only", lambda: Net(Auxiliary()), "first.aux", "training only"),
    ("transposed", lambda: Net(nn.Sequential(conv(), nn.ConvTranspose2d(4, 4, 2))), "first.1", "transposed"),
]  # fmt: skip


@pytest.mark.parametrize(("make", "name", "reason"), [pytest.param(m, n, r, id=i) for i, m, n, r in NOT_PLAYERS])
def test_not_players(make: Callable[[], nn.Module], name: str | None, reason: str) -> None:
    """It is said why, and the rest still works."""
    network = check_written(random(make()))
    found = {p.name: p for p in network.not_players}
    assert name is None or name in found
    assert any(reason in p.reason for p in found.values()), found
    assert not {p.name for p in network.not_players} & {s.name for s in network.sites}


def test_a_single_logit() -> None:
    for last in (nn.Linear(5, 1), nn.Sequential(nn.Linear(5, 1), nn.Flatten(0))):
        net = Net(conv(), act=nn.ReLU())
        net.head = last  # type: ignore[assignment]
        network = captured(random(net))[0]
        assert network.classes == 1
        logits = network.masked_logits(torch.zeros(2, CHANNELS, 6, 6), np.ones((3, network.n_filters), bool))
        assert logits.shape == (3, 2, 1)


def test_networks_that_cannot_be_valued() -> None:
    with pytest.raises(NoPlayers, match="neither a bias nor a norm"):
        captured(random(nn.Sequential(conv(bias=False), nn.Flatten(), nn.Linear(WIDTH * 36, CLASSES))))
    with pytest.raises(NoPlayers, match="no convolutions"):
        captured(random(nn.Sequential(nn.Flatten(), nn.Linear(CHANNELS * 36, CLASSES))))
    with pytest.raises(BadInput, match="logits"):
        captured(random(nn.Sequential(conv())))


@pytest.mark.parametrize(
    "norm", [nn.BatchNorm2d(WIDTH, affine=affine, track_running_stats=False) for affine in (True, False)]
)
def test_a_norm_that_mixes_the_images_of_a_batch_is_refused(norm: nn.Module) -> None:
    """Without running statistics an image's logits depend on its neighbours in the batch."""
    with pytest.raises(BadInput, match="images of a batch"):
        captured(random(Net(conv(), norm, nn.ReLU())))


def test_images_that_are_too_small_get_one_clear_line(capfd: pytest.CaptureFixture[str]) -> None:
    """torch.export's own log of the failed pooling, a traceback of thirty lines, does not come before it."""
    module = Net(conv(), nn.MaxPool2d(3)).eval()
    with pytest.raises(BadInput, match=r"takes no images of 3 × 2 pixels and 3 channels: .*too small") as refused:
        Network.capture(module, torch.zeros(2, CHANNELS, 2, 3))
    assert "--resize, --crop" in refused.value.mend
    assert capfd.readouterr().err == ""
