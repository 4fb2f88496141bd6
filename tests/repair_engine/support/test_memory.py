"""One option for the memory of a run: what it allows, and that it changes no figure."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision

from repair_engine.data.pixels import Rows, taken
from repair_engine.errors import BadInput
from repair_engine.network import Network
from repair_engine.search.guesses import guess_differences
from repair_engine.support.memory import DEFAULT, PROGRAM, Footprint, Room, parse_memory
from tests.repair_engine.tiny import World, call

pytestmark = pytest.mark.usefixtures("quick_module")

MIB = 1 << 20
SQUEEZENET = Footprint((600_000, 4_562_304, *[800_000] * 24), 8 * MIB, 60 * MIB)  # of one image of 224 px, about


def test_sizes_as_people_write_them() -> None:
    assert parse_memory("2G") == parse_memory("2 GiB") == parse_memory("2048m") == 2 << 30
    assert parse_memory("1.5G") == parse_memory(str(3 << 29)) == 3 << 29
    for wrong in ("", "much", "-2G", "2P"):
        with pytest.raises(BadInput, match="is no size"):
            parse_memory(wrong)
    with pytest.raises(BadInput, match="the program itself takes"):
        parse_memory("100M")


def test_small_images_are_batched_as_ever_and_large_ones_by_the_memory() -> None:
    small = Room.of(None, True, 5 * MIB, Footprint((10_000,) * 20, 20_000, 400_000))
    assert (small.plain, small.reducing, small.along) == (64, 64, 64)
    rooms = [Room.of(memory, True, 5 * MIB, SQUEEZENET) for memory in (1800 * MIB, None, 16 << 30)]
    for less, more in pairwise(rooms):
        assert 2 <= less.plain <= more.plain <= 64
        assert less.stored <= more.stored
        assert less.backward <= more.backward
    assert rooms[0].plain < rooms[2].plain == 64
    left = DEFAULT - PROGRAM
    for held in (rooms[1].plain * 2 * SQUEEZENET.forward, rooms[1].stored, rooms[1].backward * SQUEEZENET.backward):
        assert held <= 0.5 * left


def test_too_little_is_refused_with_enough() -> None:
    with pytest.raises(BadInput, match="images of this size takes") as caught:
        Room.of(PROGRAM + 20 * MIB, True, 5 * MIB, SQUEEZENET)
    enough = parse_memory(caught.value.mend.split("--memory ")[1].split()[0])
    assert Room.of(enough, True, 5 * MIB, SQUEEZENET).plain >= 2


def test_a_gpu_keeps_its_own_default() -> None:
    assert Room.of(None, False, 5 * MIB, SQUEEZENET).game is None
    assert Room.of(4 << 30, False, 5 * MIB, SQUEEZENET).game is not None


@pytest.fixture(scope="module")
def network() -> Network:
    torch.manual_seed(0)
    module = torchvision.models.squeezenet1_0(num_classes=7).eval()
    found = Network.capture(module, torch.rand(2, 3, 64, 64))
    found.constants = torch.zeros(found.n_filters)
    return found


def test_batches_of_any_size_give_the_same_bits(network: Network) -> None:
    images = torch.rand(12, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    for at_once in (2, 4, 6):
        assert torch.equal(network.mean_outputs([images], at_once=at_once), network.mean_outputs([images]))
        assert torch.equal(network.response_norms(images, at_once), network.response_norms(images))
    coalitions = np.random.default_rng(0).random((12, network.n_filters)) < 0.98
    targets, weights = torch.arange(12) % 7, torch.rand(3, 12, generator=torch.Generator().manual_seed(2))
    whole = guess_differences(network, images, coalitions, targets, weights)
    for at_once in (2, 4):
        assert np.array_equal(guess_differences(network, images, coalitions, targets, weights, at_once), whole)


def test_rows_are_taken_where_they_lie() -> None:
    pixels = torch.arange(24, dtype=torch.uint8).reshape(6, 1, 2, 2)
    rows = Rows(pixels, np.array([4, 1, 3]))
    assert len(rows) == 3
    assert torch.equal(rows[torch.tensor([2, 0])], pixels[[3, 4]])
    assert torch.equal(rows[1:], pixels[[1, 3]])
    assert torch.equal(taken(rows, np.array([1]))[:], pixels[[1]])
    assert torch.equal(taken(pixels, np.array([1])), pixels[[1]])
    assert torch.equal(rows.clone(), pixels[[4, 1, 3]])


def test_the_option_changes_no_figure(sabotaged: World, tmp_path: Path) -> None:
    options = {"estimator": "cmcs", "budget": "8000", "pictures": "0", "visualize": "0"}
    found = []
    for memory in ("1100M", "8G"):
        result = call(sabotaged.argv("explain", "--json", memory=memory, out=str(tmp_path / memory), **options))
        assert result.code == 0, result.err
        assert "evaluations are 889 a filter" in result.err
        found.append({key: result.document[key] for key in ("filters", "curves")})
    assert found[0] == found[1]
    refused = call(sabotaged.argv("explain", "--json", memory="lots", **options))
    assert refused.code == 2
    assert "is no size" in refused.document["error"]
