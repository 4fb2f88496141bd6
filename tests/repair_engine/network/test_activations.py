"""act(b) = m solved for b: the right-hand root, finite where the activation saturates."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from repair_engine.network.activations import Activation, describe, is_activation

aten = torch.ops.aten

ROWS = [  # operator, arguments, the function in torch.nn.functional, means to reach
    pytest.param(None, (), lambda x: x, (-3.0, 0.0, 7.5), id="identity"),
    pytest.param(aten.relu.default, (), F.relu, (0.0, 0.3, 90.0), id="relu"),
    pytest.param(aten.leaky_relu.default, (0.01,), F.leaky_relu, (-5.0, -0.2, 0.0, 80.0), id="leaky_relu"),
    pytest.param(aten.elu.default, (), F.elu, (-0.99, -0.2, 0.0, 80.0), id="elu"),
    pytest.param(aten.elu.default, (1.0, 2.0), lambda x: 2 * F.elu(x), (-1.9, 0.0, 80.0), id="scaled elu"),
    pytest.param(aten.sigmoid.default, (), torch.sigmoid, (1e-9, 0.2, 0.5, 0.999), id="sigmoid"),
    pytest.param(aten.tanh.default, (), torch.tanh, (-0.999, 0.0, 0.5), id="tanh"),
    pytest.param(aten.softplus.default, (), F.softplus, (1e-6, 0.5, 60.0), id="softplus"),
    pytest.param(aten.hardsigmoid.default, (), F.hardsigmoid, (0.0, 0.4, 1.0), id="hardsigmoid"),
    pytest.param(aten.hardtanh.default, (0.0, 6.0), F.relu6, (0.0, 2.5, 6.0), id="relu6"),
    pytest.param(aten.hardtanh.default, (), F.hardtanh, (-1.0, 0.1, 1.0), id="hardtanh"),
    pytest.param(aten.silu.default, (), F.silu, (-0.27, -0.1, 0.0, 0.4, 60.0), id="silu"),
    pytest.param(aten.gelu.default, (), F.gelu, (-0.16, -0.1, 0.0, 0.4, 60.0), id="gelu"),
    pytest.param(aten.hardswish.default, (), F.hardswish, (-0.37, -0.1, 0.0, 0.4, 60.0), id="hardswish"),
    pytest.param(aten.mish.default, (), F.mish, (-0.3, -0.1, 0.0, 0.4, 60.0), id="mish"),
]


@pytest.mark.parametrize(("op", "args", "function", "means"), ROWS)
def test_solved(op, args, function, means) -> None:
    mean = torch.tensor(means, dtype=torch.float64)
    bias = Activation(op, args).solve(mean)
    assert bias.dtype == torch.float64
    assert torch.isfinite(bias.half()).all()  # also where the checkpoint stores float16
    torch.testing.assert_close(function(bias), mean, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    ("op", "function"),
    [(aten.silu.default, F.silu), (aten.gelu.default, F.gelu), (aten.hardswish.default, F.hardswish)],
    ids=["silu", "gelu", "hardswish"],
)
def test_of_two_roots_the_right_hand_one(op, function) -> None:
    """At the root the activation rises, though values further left reach the same mean."""
    mean = torch.tensor([-0.1, -0.05], dtype=torch.float64)
    bias = Activation(op).solve(mean)
    assert (function(bias + 1e-3) > mean).all()
    left = torch.linspace(-12, float(bias.min()) - 0.5, 4000, dtype=torch.float64)
    assert float(function(left).max()) > -0.05  # the other root is there


@pytest.mark.parametrize(
    ("op", "mean"),
    [
        (aten.sigmoid.default, 1.0),
        (aten.sigmoid.default, 0.0),
        (aten.tanh.default, -1.0),
        (aten.silu.default, -0.9),
        (aten.elu.default, -1.0),
    ],
)
def test_a_mean_out_of_reach_gives_the_nearest_finite_bias(op, mean: float) -> None:
    activation = Activation(op)
    bias = activation.solve(torch.tensor([mean], dtype=torch.float64))
    assert torch.isfinite(bias.half()).all()
    grid = torch.linspace(-40, 40, 8001, dtype=torch.float64)
    nearest = (activation(grid) - mean).abs().min()
    assert float((activation(bias) - mean).abs()) <= float(nearest) + 1e-6


def test_what_counts_as_an_activation() -> None:
    assert is_activation(aten.silu.default)
    assert not is_activation(aten.add.Tensor)
    assert not is_activation(aten.softmax.int)


def test_descriptions() -> None:
    assert describe(Activation()) == "identity"
    assert describe(Activation(aten.hardtanh.default, (0.0, 6.0))) == "hardtanh(0, 6)"
