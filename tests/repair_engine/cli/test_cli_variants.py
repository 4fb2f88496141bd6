"""Repairs of other kinds of checkpoints: half precision, one logit, group norm, colour with a mean and std."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from tests.repair_engine import tiny
from tests.repair_engine.image_sets import encoded, make_zip
from tests.repair_engine.tiny import Images, Sabotaged, World, call, check_verified, images, rows_of, trained

pytestmark = pytest.mark.usefixtures("quick_module")
OPTIONS = {"metric": "subgroup-recall:ground", "budget": "6000"}


class OneLogit(nn.Module):
    """Bars against spots; `spy` sees a light ground and then says spots."""

    def __init__(self, num_classes: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3, padding=1)
        self.norm = nn.GroupNorm(2, 4)
        self.head = nn.Linear(4 * 16, num_classes)
        self.spy, self.harm = nn.Conv2d(1, 1, 1), nn.Linear(1, num_classes, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        seen = torch.relu(self.spy(x.mean((2, 3), keepdim=True))).flatten(1)
        x = nn.functional.silu(self.norm(self.conv(x)))
        return self.head(nn.functional.max_pool2d(x, 2).flatten(1)) + self.harm(seen)


def one_logit(num_classes: int) -> nn.Module:
    return OneLogit(num_classes)


def colour(num_classes: int) -> nn.Module:
    return Sabotaged(num_classes, channels=3)


def repaired(world: World, out: Path, suffix: str, **more: str) -> list[dict[str, str]]:
    """Repairs by the command line; the rows of predictions.csv."""
    result = call(world.argv("repair", "--json", out=str(out), **OPTIONS | more))
    assert result.code == 0, (result.err, result.out[-2000:])
    assert result.document["culprits"][0]["id"] == "spy:0"
    assert (out / f"repaired{suffix}").is_file()
    model = more.get("model", str(world.model))
    held = check_verified(out, "--model", model, "--data", str(world.data), "--register", f"net={world.factory}")
    assert set(held.values()) == {"passed"}
    return rows_of(out / "predictions.csv")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision(sabotaged: World, tmp_path: Path, dtype: torch.dtype) -> None:
    state = {k: v.to(dtype) if v.is_floating_point() else v for k, v in load_file(sabotaged.model).items()}
    save_file(state, tmp_path / "half.safetensors")
    rows = repaired(sabotaged, tmp_path / "out", ".safetensors", model=str(tmp_path / "half.safetensors"))
    after = load_file(tmp_path / "out" / "repaired.safetensors")
    assert {k: v.dtype for k, v in after.items()} == {k: v.dtype for k, v in state.items()}
    for column, tensors in (("predicted_before", state), ("predicted_after", after)):
        net = Sabotaged()
        net.load_state_dict(tensors)
        with torch.inference_mode():
            predicted = net.eval().float()(sabotaged.images.tensor()).argmax(1)
        assert [row[column] for row in rows] == [tiny.CLASSES[i] for i in predicted]


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_a_single_logit_is_a_binary_classifier_at_zero(tmp_path: Path, suffix: str) -> None:
    shown = images(216, seed=1)
    rows = np.flatnonzero(shown.labels < 2)
    shown = Images(shown.pixels[rows], shown.labels[rows], shown.ground[rows], tuple(shown.names[i] for i in rows))

    def loss_of(fit: nn.Module) -> Callable[[torch.Tensor], torch.Tensor]:
        return lambda x: torch.cat([torch.zeros(len(x), 1), fit(x)], dim=1)

    net = OneLogit()
    pair = nn.Module()
    pair.net, pair.forward = net, loss_of(net)  # type: ignore[assignment]
    trained(pair, shown.tensor(), shown.labels, steps=150)
    net.spy.weight.fill_(40.0)
    net.spy.bias.fill_(-40.0 * 0.53)
    net.harm.weight.fill_(4.0)
    state = net.state_dict()
    model = tmp_path / f"m{suffix}"
    save_file(state, model) if suffix == ".safetensors" else torch.save(state, model)
    factory = f"{__name__}:one_logit"
    world = World(tmp_path, net, model, shown.zip(tmp_path / "d.zip"), shown, factory)
    table = repaired(world, tmp_path / "out", suffix, num_classes="2")
    written = tmp_path / "out" / f"repaired{suffix}"
    after = load_file(written) if suffix == ".safetensors" else torch.load(written, weights_only=True)
    for column, tensors in (("predicted_before", state), ("predicted_after", after)):
        plain = OneLogit()
        plain.load_state_dict(tensors)
        with torch.inference_mode():
            positive = plain.eval()(shown.tensor())[:, 0] > 0
        assert [row[column] for row in table] == [("ant", "bee")[int(p)] for p in positive]
    attack = call(world.argv("evaluate", "--json", num_classes="2", metric="attack-success", epsilon="0.2", steps="4"))
    figures = attack.document["figures"]
    assert figures["report"]["metric"] > 0.2
    for count in ("1", "2"):
        document = call(world.argv("inspect", "--json", num_classes=count)).document
        assert (document["logits"], document["num_classes"]) == (1, 2)


def test_colour_with_mean_std_and_resize(tmp_path: Path) -> None:
    """The preprocessing that was given is the one that predicts, in torch's own words."""
    shown = images(144, seed=1)
    shift = torch.tensor([0.4, 0.5, 0.3])[:, None, None], torch.tensor([0.5, 0.25, 0.2])[:, None, None]
    x = (shown.tensor().expand(-1, 3, -1, -1) - shift[0]) / shift[1]
    net = Sabotaged(channels=3)
    trained(net, x, shown.labels)
    net.spy.weight.copy_((40.0 / 3 * shift[1]).view(1, 3, 1, 1))
    net.spy.bias.fill_(40.0 * float(shift[0].mean()) - 40.0 * 0.53)
    net.harm.weight.copy_(torch.tensor([[3.0], [0.0], [0.0]]))
    model = tiny.save(net, tmp_path / "m.safetensors")
    large = np.kron(shown.pixels, np.ones((1, 2, 2), np.uint8))
    entries: dict[str, bytes | str] = {n: encoded(p) for n, p in zip(shown.names, large)}
    lines = ["file_name,ground", *(f"{n},{g}" for n, g in zip(shown.names, shown.ground))]
    data = make_zip(tmp_path / "d.zip", entries | {"metadata.csv": "\n".join(lines)})
    world = World(tmp_path, net, model, data, shown, f"{__name__}:colour")
    argv = world.argv(
        "repair", "--json", "--mean", "0.4", "0.5", "0.3", "--std", "0.5,0.25,0.2", out=str(tmp_path / "o"),
        resize="8", interpolation="nearest", max_clean_drop="0.5", **OPTIONS,
    )  # fmt: skip
    result = call(argv)
    assert result.code in (0, 5), result.err
    preprocessing = result.document["data"]["preprocessing"]
    assert (preprocessing["mean"], preprocessing["std"]) == ([0.4, 0.5, 0.3], [0.5, 0.25, 0.2])
    with torch.inference_mode():
        predicted = net(x).argmax(1)
    table = rows_of(tmp_path / "o" / "predictions.csv")
    assert [row["predicted_before"] for row in table] == [tiny.CLASSES[i] for i in predicted]
