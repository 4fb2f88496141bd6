"""Budgets: never exceeded, too small ones refused with one that works, calibrated ones always enough."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from torch import nn

from repair_engine.search import calibrate
from tests.repair_engine.tiny import World, call, images, save

pytestmark = pytest.mark.usefixtures("quick_module")
FILTERS = 600
SHORT = {"score": {}, "repair": {"max_filters": "2"}}


class Wide(nn.Module):
    """Many filters beside a path that needs none: it is never dead, so draws go all the way."""

    def __init__(self, num_classes: int, filters: int = FILTERS) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, filters, 1)
        self.head = nn.Linear(64, num_classes)
        self.more = nn.Linear(filters, num_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(x.flatten(1)) + 0.01 * self.more(torch.relu(self.conv(x)).mean((2, 3)))


def wide(num_classes: int) -> nn.Module:
    return Wide(num_classes)


def widest(num_classes: int) -> nn.Module:
    return Wide(num_classes, filters=1200)


def lonely(num_classes: int) -> nn.Module:
    return Wide(num_classes, filters=1)


@pytest.fixture(scope="module")
def wide_world(tmp_path_factory: pytest.TempPathFactory) -> World:
    folder = tmp_path_factory.mktemp("wide")
    torch.manual_seed(0)
    shown = images(48)
    module = Wide(3)
    return World(
        folder, module, save(module, folder / "m.safetensors"), shown.zip(folder / "d.zip"), shown, f"{__name__}:wide"
    )


@pytest.mark.parametrize(
    ("verb", "estimator"), [("score", "tmab"), ("score", "monte_carlo"), ("score", "cmcs"), ("repair", "cmcs")]
)
def test_a_budget_too_small_is_refused_with_one_that_works(
    wide_world: World, tmp_path: Path, verb: str, estimator: str
) -> None:
    options = {"estimator": estimator, "out": str(tmp_path)} | SHORT[verb]
    result = call(wide_world.argv(verb, "--json", budget="5", **options))
    assert result.code == 2
    assert "5 evaluations" in result.document["error"]
    (least,) = re.findall(r"--budget (\d+)", result.document["mend"])
    again = call(wide_world.argv(verb, "--json", budget=least, **options))
    assert again.code in (0, 5), again.out
    assert 0 < again.document["run"]["evaluations"] <= int(least)


@pytest.mark.parametrize("verb", ["score", "repair"])
def test_what_only_the_first_walks_can_tell_is_bad_input_too(wide_world: World, tmp_path: Path, verb: str) -> None:
    """The pilot finds that draws go 600 removals deep: one costs more than is left."""
    options = {"estimator": "tmab", "out": str(tmp_path), "batch_size": "4"} | SHORT[verb]
    pilot_and_shallow = (8 * 61 + 3) * 4  # 8 walks of 60 looks and the empty one; a draw of depth 1
    budget = pilot_and_shallow if verb == "score" else int(pilot_and_shallow / 0.7) + 2
    result = call(wide_world.argv(verb, "--json", budget=str(budget), **options))
    assert result.code == 2
    assert "first walks" in result.document["error"]
    (least,) = re.findall(r"--budget (\d+)", result.document["mend"])
    assert int(least) > budget
    assert call(wide_world.argv(verb, "--json", budget=least, **options)).code in (0, 5)


@pytest.mark.parametrize("estimator", ["tmab", "monte_carlo", "cmcs"])
def test_a_calibrated_budget_is_enough_and_repeatable(
    wide_world: World, monkeypatch: pytest.MonkeyPatch, estimator: str
) -> None:
    """On a machine so slow that the time would buy next to nothing."""
    monkeypatch.setattr(calibrate, "measure", lambda *_: calibrate.Rates(0.1, 0.1, 0.1, 0.1))
    chosen = call(wide_world.argv("score", "--json", estimator=estimator))
    assert chosen.code == 0, chosen.out
    assert chosen.document["run"]["budget_was"] == "calibrated"
    (budget,) = re.findall(r"--budget (\d+)", chosen.err)
    given = call(wide_world.argv("score", "--json", estimator=estimator, budget=budget)).document
    assert given["filters"] == chosen.document["filters"]
    assert given["run"]["budget"] == chosen.document["run"]["budget"]


def test_a_calibrated_repair_is_repeatable_where_it_is_screened(
    wide_world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So many filters that the least budget of all of them is enough for the gradient screen."""
    monkeypatch.setattr(calibrate, "measure", lambda *_: calibrate.Rates(0.1, 0.1, 0.1, 0.1))
    model = save(Wide(3, filters=1200), tmp_path / "m.safetensors")
    options = {"model": str(model), "register": f"net={__name__}:widest", "max_filters": "2"}
    chosen = call(wide_world.argv("repair", "--json", out=str(tmp_path / "1"), **options))
    assert chosen.code in (0, 5), chosen.out
    (budget,) = re.findall(r"--budget (\d+)", chosen.err)
    given = call(wide_world.argv("repair", "--json", out=str(tmp_path / "2"), budget=budget, **options)).document
    assert given["culprits"] == chosen.document["culprits"]
    assert given["run"]["images_per_draw"] == chosen.document["run"]["images_per_draw"]
    assert chosen.document["run"]["evaluations"] <= int(budget)


def test_calibration_measures_and_fits_the_time(skewed: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibrate, "_PROBE_SECONDS", 0.02)
    rates = calibrate.Rates(forward=1e3, walk=1e3, toggle=2e3, masked=1e3)
    walked = calibrate.choose_budget(rates, "tmab", 40.0, target=100.0)
    assert 20_000 <= walked <= 60_000  # a thousand a second, in what is left of 100 s
    assert calibrate.choose_budget(rates, "cmcs", 40.0, target=100.0) == pytest.approx(2 * walked, rel=0.1)
    slow = calibrate.Rates(forward=1e2, walk=1e2, toggle=2e2, masked=1e2)
    assert calibrate.choose_budget(slow, "tmab", 40.0, target=100.0) < walked
    assert 0 < calibrate.choose_budget(rates, "tmab", 500.0, target=100.0) < walked
    document = call(skewed.argv("score", "--json", minutes="0.1")).document
    assert document["run"]["evaluations"] <= document["run"]["budget"]


@pytest.mark.parametrize(("noise", "known"), [(0.0, True), (0.1, True), (3.0, False)])
def test_a_speed_is_measured_until_it_is_known(monkeypatch: pytest.MonkeyPatch, noise: float, known: bool) -> None:
    """With an invented clock: 100 evaluations take .01 s, now and then a little or a lot longer."""
    clock, calls = [0.0], [0]
    monkeypatch.setattr(calibrate.time, "perf_counter", lambda: clock[0])

    def work() -> int:
        calls[0] += 1
        clock[0] += 0.01 * (1 + noise * (calls[0] % 4 == 0) * (1 + calls[0] % 8))
        return 100

    rate = calibrate._rate(work, 2.0)
    assert rate == pytest.approx(1e4 * calls[0] * 0.01 / clock[0], rel=0.05)
    assert (clock[0] < 0.5) == known
    assert clock[0] < 2.3


def test_exact_says_what_it_costs(skewed: World, wide_world: World) -> None:
    result = call(skewed.argv("score", "--json", estimator="exact", budget="100"))
    assert result.code == 2
    assert f"--budget {2**8 * 48}" in result.document["mend"]
    result = call(wide_world.argv("score", "--json", estimator="exact"))
    assert result.code == 2
    assert "600" in result.document["error"]


def test_one_filter_is_valued_by_all_but_tmab(wide_world: World, tmp_path: Path) -> None:
    model = save(Wide(3, filters=1), tmp_path / "one.safetensors")
    options = {"model": str(model), "register": f"net={__name__}:lonely", "budget": "3000"}
    for estimator in ("exact", "cmcs", "monte_carlo"):
        (row,) = call(wide_world.argv("score", "--json", estimator=estimator, **options)).document["filters"]
        assert row["id"] == "conv:0"
    refused = call(wide_world.argv("score", "--json", estimator="tmab", **options))
    assert refused.code == 2
    assert "exact" in refused.document["mend"]


class Loud(Wide):
    """Wide, but only its filters speak."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 50 * self.more(torch.relu(self.conv(x)).mean((2, 3)))


def loud(num_classes: int) -> nn.Module:
    torch.manual_seed(5)
    return Loud(num_classes, filters=80)


def test_quality_stops_early_and_says_what_it_expects(wide_world: World, tmp_path: Path) -> None:
    model = save(loud(3), tmp_path / "loud.safetensors")
    options = {"model": str(model), "register": f"net={__name__}:loud", "budget": "400000", "batch_size": "8"}
    low = call(wide_world.argv("score", "--json", quality="10,0.5", side="both", **options)).document["run"]
    assert low["stopped"] == "converged"
    assert 0.5 <= low["expected_overlap"] < 1
    options["budget"] = str(low["evaluations"] + 10_000)
    whole = call(wide_world.argv("score", "--json", side="both", **options)).document["run"]
    assert whole["stopped"] == "budget"
    assert whole["evaluations"] > low["evaluations"]


def test_quality_that_cannot_be_waited_for_is_said(skewed: World) -> None:
    few = call(skewed.argv("score", "--json", quality="2,0.9", budget="4000"))
    assert few.code == 0, few.err
    assert "--quality is left aside: fewer than 64 filters" in few.err
    assert few.document["run"]["stopped"] == "budget"
    many = call(skewed.argv("score", "--json", quality="8,0.9", budget="4000"))
    assert many.code == 2
    assert "the network has 8 in all" in many.document["error"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"minutes": "0"}, "is not above 0"),
        ({"minutes": "nan"}, "is no finite number"),
        ({"minutes": "2", "budget": "5000"}, "exclude each other"),
        ({"quality": "20"}, "K,OVERLAP"),
        ({"quality": "0,0.9"}, "K counts filters"),
        ({"quality": "20,1.5"}, "between 0 and 1"),
        ({"quality": "20,0.9", "estimator": "tmab"}, "fast only"),
    ],
)
def test_time_and_quality_that_cannot_be(wide_world: World, options: dict, said: str) -> None:
    result = call(wide_world.argv("score", "--json", **options))
    assert result.code == 2
    assert said in result.document["error"] + result.document["mend"]


def test_the_largest_budget_within_a_time() -> None:
    assert calibrate.largest_budget(lambda budget: 100 + budget / 1000, 300) == 150_000  # 85% of it, two digits
    assert calibrate.largest_budget(lambda budget: 1e6, 300) == calibrate.LEAST


def test_what_a_budget_can_find_is_said() -> None:
    assert "4 a filter" in calibrate.reach(12_000, 2976)
    assert "only the largest effects" in calibrate.reach(12_000, 2976)
    assert "neighbours in the ranking will not" in calibrate.reach(400_000, 2944)
    assert "0.7 a filter" in calibrate.reach(12_000, 17_216)


def test_minutes_choose_the_budget(wide_world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibrate, "measure", lambda *_: calibrate.Rates(200.0, 200.0, 200.0, 200.0))
    budgets = []
    for minutes in ("2", "4"):
        run = call(wide_world.argv("score", "--json", minutes=minutes, estimator="monte_carlo")).document["run"]
        assert run["budget_was"] == "calibrated"
        budgets.append(run["budget"])
    assert 1.6 < budgets[1] / budgets[0] < 2.6
