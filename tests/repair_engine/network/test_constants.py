"""`--constant bn_beta`: batch norm's β is what an ablated filter keeps, as in the authors' code."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from repair_engine.network import Network, stored_constants
from repair_engine.network.write_back import write_back
from repair_engine.verbs.running import players_text
from tests.repair_engine.network.test_small_networks import CHANNELS, WIDTH, Net, conv, random
from tests.repair_engine.tiny import Sabotaged, World, call, rows_of


@pytest.mark.parametrize("act", [nn.ReLU(), nn.SiLU(), nn.Identity()], ids=lambda a: type(a).__name__)
def test_the_constant_is_the_activation_of_beta_and_gamma_is_all_that_is_written(act: nn.Module) -> None:
    module = random(Net(conv(bias=False), nn.BatchNorm2d(WIDTH), act))
    images = torch.randn(5, CHANNELS, 6, 6, generator=torch.Generator().manual_seed(2))
    network = Network.capture(module, images[:2])
    state = {k: v.clone() for k, v in module.state_dict().items()}
    means = network.mean_outputs([images])
    dtypes = {k: v.dtype for k, v in state.items()}
    network.constants, biases = stored_constants(network, means, dtypes, state)
    assert torch.equal(network.constants[:WIDTH], act(state["then.bias"]))
    torch.testing.assert_close(network.constants[WIDTH:].double(), means[WIDTH:])  # no batch norm there: the mean
    for player in range(network.n_filters):
        coalition = np.ones((1, network.n_filters), bool)
        coalition[0, player] = False
        masked = network.masked_logits(images, coalition)[0]
        written = write_back(state, network, biases, [player], "bn_beta")
        changed = {k for k in state if not torch.equal(state[k], written[k])}
        assert changed == ({"then.weight"} if player < WIDTH else {"plain.weight", "plain.bias"})
        module.load_state_dict(written)
        with torch.inference_mode():
            logits = module(images)
        module.load_state_dict(state)
        torch.testing.assert_close(masked, logits, rtol=1e-5, atol=1e-5)


@pytest.mark.usefixtures("quick")
def test_documents_say_which_constant_each_filter_has(sabotaged: World, tmp_path: Path) -> None:
    argv = sabotaged.argv("evaluate", "--json", "--constant", "bn_beta", ablate="branch:1,stem:0")
    document = call(argv).document
    branch, stem = document["ablated"]
    state = load_file(sabotaged.model)
    assert branch["constant_from"] == "bn_beta"
    assert branch["constant"] == pytest.approx(max(float(state["bn.bias"][1]), 0.0))
    assert stem["constant_from"] == "mean"
    assert any("6 of 9 filters have no batch norm" in w for w in document["warnings"])


@pytest.mark.usefixtures("quick")
def test_a_repair_with_bn_beta_predicts_what_its_file_predicts(sabotaged: World, tmp_path: Path) -> None:
    out = tmp_path / "out"
    result = call(
        sabotaged.argv(
            "repair", "--json", "--constant", "bn_beta", metric="subgroup-recall:ground", budget="6000", out=str(out)
        )
    )
    assert result.code == 0, result.err
    run = result.document["run"]
    assert (run["ablation"], run["constants"]) == ("bn_beta", {"mean": 6, "bn_beta": 3})
    assert {row["constant_from"] for row in result.document["culprits"]} <= {"mean", "bn_beta"}
    page = (out / "report.html").read_text()
    assert "3 filters by β, 6 by their mean" in page
    net = Sabotaged()
    net.load_state_dict(load_file(out / "repaired.safetensors"))
    with torch.inference_mode():
        predicted = net.eval()(sabotaged.images.tensor()).argmax(1)
    rows = rows_of(out / "predictions.csv")
    assert [row["predicted_after"] for row in rows] == [("ant", "bee", "cat")[i] for i in predicted]


def test_another_constant_is_refused(sabotaged: World) -> None:
    result = call(sabotaged.argv("repair", "--constant", "zero"))
    assert result.code == 2
    assert "bn_beta" in result.err


def test_half_precision_keeps_its_own_beta(tmp_path: Path) -> None:
    """β is taken as stored: nothing is solved or rounded."""
    module = random(Net(conv(bias=False), nn.BatchNorm2d(WIDTH), nn.SiLU()))
    half = {k: v.half() if v.is_floating_point() else v for k, v in module.state_dict().items()}
    save_file(half, tmp_path / "half.safetensors")
    stored = load_file(tmp_path / "half.safetensors")
    network = Network.capture(module, torch.zeros(2, CHANNELS, 6, 6))
    dtypes = {k: v.dtype for k, v in stored.items()}
    constants, biases = stored_constants(network, torch.zeros(network.n_filters).double(), dtypes, stored)
    assert torch.equal(biases[:WIDTH], stored["then.bias"].double())
    assert torch.equal(constants[:WIDTH], nn.functional.silu(stored["then.bias"].float()))


@pytest.mark.usefixtures("quick")
def test_a_run_begins_with_what_are_players_and_what_are_not(sabotaged: World, tmp_path: Path) -> None:
    result = call(sabotaged.argv("score", budget="2000"))
    assert "9 filters at 4 sites are players (" in result.err
    assert "; every convolution's filters are." in result.err
    module = random(Net(conv(bias=False), act=nn.ReLU()))
    text = players_text(Network.capture(module, torch.zeros(2, CHANNELS, 6, 6)))
    first, second = text.splitlines()
    assert first.startswith("5 filters at 1 sites are players (")
    assert first.endswith("1 convolution has none (channels in brackets):")
    assert re.match(rf"  \S+ \({WIDTH}\): it has neither a bias nor a norm", second)


def test_it_is_said_before_anything_costly(sabotaged: World, tmp_path: Path) -> None:
    """An attack that cannot succeed stops the run; what are players has been said by then."""
    argv = sabotaged.argv("score", "--epsilon", "0.0", metric="attack-success", budget="2000")
    result = call(argv)
    assert result.code == 2
    assert "filters at 4 sites are players" not in result.err  # refused before the model is read
    result = call(sabotaged.argv("score", "--epsilon", "0.0000001", metric="attack-success", budget="2000"))
    assert result.code == 2
    assert "filters at 4 sites are players" in result.err
