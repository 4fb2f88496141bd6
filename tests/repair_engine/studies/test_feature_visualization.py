"""Pictures of filters: responses before the activation, the images with the extreme ones, and optimized images."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from repair_engine.network import Network, Responses
from repair_engine.studies.pictures import SIDE, png_of
from repair_engine.studies.visualize import colour_root, visualize
from tests.repair_engine.cli.test_cli_onnx import argv, model_of
from tests.repair_engine.tiny import SIDE as TINY_SIDE
from tests.repair_engine.tiny import Sabotaged, Tiny, World, call, trained

pytestmark = pytest.mark.usefixtures("quick_module")


@pytest.fixture(scope="module")
def tiny(sabotaged: World) -> tuple[Network, Tiny]:
    shown = sabotaged.images
    module = trained(Tiny(), shown.tensor(), shown.labels)
    return Network.capture(module, shown.tensor()[:2]), module  # type: ignore[return-value]


def before_activation(module: Tiny, x: torch.Tensor) -> torch.Tensor:
    """Outputs of all eight filters before their activations, averaged over positions, [B, 8]."""
    stem = module.stem(x)
    branch = module.bn(module.branch(torch.relu(stem)))
    last = module.last(torch.relu(stem) + torch.relu(branch))
    return torch.cat([y.mean((2, 3)) for y in (stem, branch, last)], 1)


def test_responses_are_those_before_the_activation(tiny: tuple[Network, Tiny], sabotaged: World) -> None:
    network, module = tiny
    images = sabotaged.images.tensor()[:20]
    with torch.inference_mode():
        expected = before_activation(module, images)
    players = [7, 0, 4, 2]
    found = Responses(network).means(images, players)
    torch.testing.assert_close(found, expected[:, players], rtol=1e-4, atol=1e-5)
    assert (expected < 0).any()  # which no ReLU gives
    torch.testing.assert_close(network.logits(images), module(images), rtol=1e-4, atol=1e-5)  # nothing was overwritten


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("player", [0, 3, 7])
def test_optimized_images_move_the_response_beyond_every_image(
    tiny: tuple[Network, Tiny], sabotaged: World, player: int, sign: int
) -> None:
    network, module = tiny
    responses, pixels = Responses(network), torch.from_numpy(sabotaged.images.pixels)[:, None]
    options = (responses, player, sign, colour_root(pixels), (TINY_SIDE, TINY_SIDE), lambda unit: unit, 5)
    found = visualize(*options)
    assert found.pixels.shape == (1, TINY_SIDE, TINY_SIDE)
    with torch.inference_mode():  # by plain torch, on the pixels that are shown
        reached = float(before_activation(module, torch.from_numpy(found.pixels)[None].float() / 255)[0, player])
        known = before_activation(module, sabotaged.images.tensor())[:, player]
    assert reached == pytest.approx(found.response, rel=1e-3, abs=1e-4)
    assert sign * found.response > sign * found.start
    assert sign * reached > float((sign * known).median())
    again = visualize(*options)
    assert np.array_equal(found.pixels, again.pixels)
    other = visualize(*options[:-1], 6)
    assert not np.array_equal(found.pixels, other.pixels)


def test_colours_are_decorrelated_by_their_root() -> None:
    """Random colours with a known covariance: root·rootᵀ is in proportion to it."""
    rng = np.random.default_rng(0)
    mix = np.array([[30.0, 0, 0], [25, 10, 0], [20, 5, 8]])
    pixels = 128 + np.einsum("cd,ndhw->nchw", mix, rng.normal(size=(40, 3, 16, 16)).clip(-3, 3))
    stored = torch.from_numpy(pixels.round().clip(0, 255).astype(np.uint8))
    root = colour_root(stored).double().numpy()
    expected = np.cov(stored.double().numpy().transpose(1, 0, 2, 3).reshape(3, -1))
    assert np.allclose(root @ root.T / (root @ root.T)[0, 0], expected / expected[0, 0], atol=1e-2)
    assert float(np.linalg.norm(root, axis=1).max()) == pytest.approx(1.0)


def test_pngs_are_small_and_show_the_pixels() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (3, 20, 30), dtype=np.uint8)
    with Image.open(io.BytesIO(png_of(pixels))) as image:
        assert np.array_equal(np.array(image).transpose(2, 0, 1), pixels)
    with Image.open(io.BytesIO(png_of(np.zeros((2, 500, 1000), np.uint8)))) as image:
        assert image.size == (SIDE, SIDE // 2)
        assert image.mode == "L"


def test_the_command_shows_the_extreme_score_images(sabotaged: World, tmp_path: Path) -> None:
    out = tmp_path / "out"
    options = {"estimator": "exact", "pictures": "2", "visualize": "1", "out": str(out)}
    document = call(sabotaged.argv("explain", "--json", **options)).document
    net = Sabotaged().eval()
    net.load_state_dict(load_file(sabotaged.model))
    names = sabotaged.images.names
    ranked = sorted(document["filters"], key=lambda f: f["rank"])
    ends = {ranked[0]["id"], ranked[1]["id"], ranked[-1]["id"], ranked[-2]["id"]}
    assert {row["id"] for row in document["pictures"]} == ends
    assert sum(len(row["visualizations"]) for row in document["pictures"]) == 4
    with torch.inference_mode():
        plain = before_activation(net, sabotaged.images.tensor())
    at = {"stem": 0, "branch": 3, "last": 6}
    for row in document["pictures"]:
        site, channel = row["id"].split(":")
        if site not in at:
            continue
        shown = {sign: [e for e in row["extremes"] if e["sign"] == sign] for sign in (1, -1)}
        assert len(shown[1]) == len(shown[-1]) == 5
        for e in (*shown[1], *shown[-1]):
            value = float(plain[names.index(e["picture"]), at[site] + int(channel)])
            assert e["response"] == pytest.approx(value, rel=1e-3, abs=1e-4)
            assert e["picture"].startswith(e["label"])
        assert shown[1][0]["response"] == pytest.approx(row["range"][1])
        assert shown[-1][0]["response"] == pytest.approx(row["range"][0])
    page = (out / "explain.html").read_text()
    assert page.count('src="data:image/png;base64,') == sum(
        len(row["extremes"]) + len(row["visualizations"]) + sum(e["heat"] is not None for e in row["extremes"])
        for row in document["pictures"]
    )
    assert "img-src data:" in page


def test_none_are_made_when_none_are_asked_for(sabotaged: World, tmp_path: Path) -> None:
    options = {"estimator": "exact", "pictures": "0", "visualize": "0", "out": str(tmp_path / "out")}
    document = call(sabotaged.argv("explain", "--json", **options)).document
    assert document["pictures"] == []
    assert "data:image" not in (tmp_path / "out" / "explain.html").read_text()


def test_an_onnx_model_shows_the_same(sabotaged: World, tmp_path: Path) -> None:
    """Responses of the imported graph are those of the state dict's network."""
    options = {"estimator": "exact", "pictures": "2", "visualize": "1", "metric": "accuracy"}
    model = model_of(sabotaged, tmp_path)
    result = call(argv(sabotaged, "explain", model, "--json", out=str(tmp_path / "onnx"), **options))
    assert result.code == 0, result.err
    plain = call(sabotaged.argv("explain", "--json", out=str(tmp_path / "plain"), **options)).document
    for row, other in zip(result.document["pictures"], plain["pictures"], strict=True):
        assert [v["response"] for v in row["visualizations"]] == pytest.approx(
            [v["response"] for v in other["visualizations"]], rel=0.05, abs=0.02
        )
        assert row["range"] == pytest.approx(other["range"], rel=1e-3, abs=1e-4)
        assert len(row["extremes"]) == 10
