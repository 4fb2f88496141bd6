"""What the parts about speed and memory measure, on a tiny network; figures themselves are not asserted."""

from __future__ import annotations

import mmap
from collections.abc import Callable

import numpy as np
import pytest
import torch

from benchmarks import flips, hotspots, memory, operations, scaling, tables, throughput
from benchmarks.cases import BenchCase
from repair_engine.network import Network
from repair_engine.question.objectives import Objective
from repair_engine.search.game import NeuronGame
from shapley import next_round, run_block, start
from tests.repair_engine.tiny import Tiny


@pytest.fixture(scope="module")
def case() -> BenchCase:
    torch.manual_seed(0)
    module, pixels = Tiny().eval(), torch.rand(64, 1, 8, 8)
    network = Network.capture(module, pixels[:2])
    network.constants = network.mean_outputs([pixels]).float()
    labels = network.logits(pixels).argmax(1).numpy()
    objective = Objective(pixels, labels, np.full(64, 1 / 64), np.zeros(64, np.int64))
    return BenchCase("tiny", module, NeuronGame(network, objective, lambda x: x, 32), {"model": "tiny"})


@pytest.fixture
def one_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of plain forwards: each size that is tried takes a second."""
    monkeypatch.setitem(throughput.BATCHES, "cpu", (32,))


@pytest.mark.usefixtures("one_size")
def test_throughput(case: BenchCase) -> None:
    result = throughput.measure(case, 0.01, lambda _: None)
    marginals, half = result["records"][-2:]
    assert marginals["method"] == "single-filter marginals"
    assert 0 < marginals["share_of_dependent_bound"] <= marginals["share_of_suffix_bound"]
    assert marginals["timed_bound_ratio"] >= 1
    assert "the time that passes after the filter" in tables.throughput(result)
    rate = marginals["suffix_bound_evaluations_per_second"] * marginals["share_of_suffix_bound"]
    assert rate == pytest.approx(marginals["evaluations_per_second"], rel=1e-2)
    assert "single-filter marginals" in tables.throughput(result)
    if "cannot" not in half:
        assert half["precision"]["used"] == "bfloat16"
        assert half["evaluations_per_second"] > 0
    result["records"][-1] = {"method": half["method"], "cannot": "no instructions"}
    assert "No search in bfloat16: no instructions." in tables.throughput(result)


@pytest.mark.usefixtures("one_size")
def test_flips_as_fast_as_the_bound_reach_all_of_it(case: BenchCase, monkeypatch: pytest.MonkeyPatch) -> None:
    """Invented times: a round flips one filter, of very different cost, and the machine is slower in every round."""
    counted = operations.count(case.module, case.base.images(np.arange(1)), case.network)
    assert counted.after.max() > 3 * counted.after.min()
    speeds = [1000.0, 400.0, 100.0]  # plain forwards per second, by round

    def plain() -> int:
        return 1

    def rate_of(work: Callable[[], int], seconds: float, **_: object) -> float:
        work()
        flipping = getattr(work, "__self__", None)
        if work is plain:
            now.append(speeds[len(now)])
            return now[-1]
        if isinstance(flipping, flips.Flips):
            return now[-1] * counted.bound(counted.after, flipping.done[-1])
        return 1.0

    now: list[float] = []
    for module in (flips, throughput):
        monkeypatch.setattr(module, "rate_of", rate_of)
    monkeypatch.setattr(flips, "CHUNK", 1)
    chosen = {"batch": 1, "memory_format": "contiguous_format", "images_per_second": 1000.0}
    monkeypatch.setattr(throughput, "fastest_plain", lambda *_: (plain, chosen))
    marginals = throughput.measure(case, 0.01, lambda _: None)["records"][-2]
    assert now == speeds
    assert marginals["share_of_suffix_bound"] == 1
    assert marginals["share_of_suffix_bound_by_round"] == [1, 1, 1]
    assert marginals["evaluations_per_second"] == marginals["suffix_bound_evaluations_per_second"]


@pytest.mark.usefixtures("one_size")
def test_profile_accounts_for_all_of_the_time(case: BenchCase) -> None:
    result = hotspots.measure(case, 0.05, lambda _: None)
    kinds = {record["method"]: record["seconds"] for record in result["records"]}
    assert sum(kinds.values()) == pytest.approx(result["seconds"], rel=0.05)
    assert kinds["convolutions"] > 0
    assert min(result["floor_operations"], result["floor_bytes"]) > 0
    assert "floor: bytes at" in tables.profile(result)


@pytest.mark.parametrize(
    ("operator", "kind"),
    [
        ("aten::mkldnn_convolution", "convolutions"),
        ("aten::addmm", "matrix products"),
        ("aten::adaptive_avg_pool2d", "pooling"),
        ("aten::addcmul_", "masks and sums (multiply, add)"),
        ("aten::relu_", "activations"),
        ("aten::copy_", "copies, concatenations, gathering"),
        ("aten::empty", hotspots.REST),
    ],
)
def test_kinds_of_operators(operator: str, kind: str) -> None:
    assert hotspots.kind_of(operator) == kind


def test_flips_cover_every_filter_once_a_draw(case: BenchCase) -> None:
    asked = flips.Flips(case, case.base, case.base.draw_batch(np.random.default_rng(0)))
    asked.size = 3
    total = sum(asked.chunk() for _ in range(3))
    assert sorted(np.concatenate(asked.done).tolist()) == list(range(8))
    assert total == 8 * 32


def test_a_draw_is_paid_for_in_full(case: BenchCase) -> None:
    seconds, evaluations = scaling._draws(case, 16, np.arange(0, 8, 2), 0.0)
    assert evaluations == 5 * 16
    assert seconds > 0


def test_blocks_that_workers_share(case: BenchCase) -> None:
    settings = scaling.block_settings(8, 32, 1 / 32, 5)
    state = start(settings)
    tasks = next_round(state, settings)
    assert [(task.block, task.draws) for task in tasks] == [(block, 1) for block in range(8)]
    assert settings.players == (0, 1, 3, 5, 7)
    once, again = (run_block(case.base, settings, state, tasks[3]).to_bytes() for _ in range(2))
    assert once == again


def test_memory(case: BenchCase) -> None:
    result = memory.measure(case, lambda _: None)
    assert [r["budget"] for r in result["records"]] == sorted(memory.BUDGETS)
    assert all(r["peak"] >= r["added"] for r in result["records"])
    assert "| 64 MiB |" in tables.memory(result)


def test_the_peak_is_seen() -> None:
    before = memory.begin("cpu")
    held = mmap.mmap(-1, 64 << 20)  # straight from the system: the heap may have as much at hand already
    held.write(b"x" * (64 << 20))
    held.close()
    assert memory.peak_since("cpu") - before > 48 << 20
