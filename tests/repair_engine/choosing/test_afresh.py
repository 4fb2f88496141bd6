"""What a repair ablates is valued on samples that had no part in choosing it, whatever it was chosen by."""

from __future__ import annotations

import copy
import csv
import dataclasses
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from repair_engine.choosing import afresh as module
from repair_engine.choosing.afresh import SHARE, afresh, in_place, value
from repair_engine.choosing.plan import Plan
from repair_engine.choosing.stepwise import Stepwise
from repair_engine.search.phases import Ranking
from repair_engine.support.progress import silent
from repair_engine.verbs import pipeline
from repair_engine.verbs.finish import finish
from shapley import Settings, estimate, exact, merge_round, next_round, run_block, start
from tests.repair_engine.search.test_exact_values import request_of
from tests.repair_engine.tiny import World, call
from tests.shapley.games import ImageBatchGame

pytestmark = pytest.mark.usefixtures("quick_module")

METRIC = "subgroup-recall:ground"


class Votes(ImageBatchGame):
    """A network's game in the small: draws of any number of images, weak players that noise can put in any order."""

    def __init__(self, n: int = 12, images: int = 40, batch_size: int = 4) -> None:
        rng = np.random.default_rng(1)
        super().__init__(0.6 + rng.normal(0, 1, (images, n)), np.full(images, 0.3 * n), batch_size)
        self.plan = SimpleNamespace(resolution=1 / batch_size, value_range=1.0)

    def resized(self, batch_size: int) -> Votes:
        game = copy.copy(self)
        game.batch_size = game.n_parts = batch_size
        game.plan = SimpleNamespace(resolution=1 / batch_size, value_range=1.0)
        return game


def searched(game: Votes, seed: int) -> np.ndarray:
    """Means of the few samples of a search, [n]."""
    settings = Settings(
        "cmcs", game.n_players, 40 * 13 * 4, batch_size=4, seed=seed, depth=game.n_players, tol=0.0, resolution=0.25
    )
    state = start(settings)
    while tasks := next_round(state, settings):
        state = merge_round(state, settings, [run_block(game, settings, state, task) for task in tasks])
    return estimate(state, settings).values[0]


def test_intervals_cover_what_was_picked_for_being_extreme_and_means_are_unbiased() -> None:
    game = Votes()
    truth = exact(game).values[0]
    together, of_search, fresh = [], [], []
    for seed in range(120):
        guess = searched(game, seed)
        picked = np.argsort(guess)[:3]  # worst first, as culprits are picked
        found, images = value(game, picked, 60 * 4 * 4, seed, game.n_players, lambda _: None)
        assert images == 4
        assert found.samples[picked].min() >= 30
        inside = (found.lower[0] <= truth) & (truth <= found.upper[0])
        together.append(inside[picked].all())
        of_search.append((guess - truth)[picked].mean())
        fresh.append((found.values[0] - truth)[picked].mean())
    assert np.mean(together) >= 0.95 - 2 * np.sqrt(0.95 * 0.05 / 120)
    error = np.std(fresh, ddof=1) / np.sqrt(len(fresh))
    assert abs(np.mean(fresh)) < 3 * error
    assert np.mean(of_search) < -5 * error, "picked for being low, the search's own means are too low"


def test_few_evaluations_buy_draws_of_fewer_images_and_at_least_two() -> None:
    game, picked = Votes(batch_size=32), np.array([5, 2])
    rich, images = value(game, picked, 40 * 3 * 32, 0, 12, lambda _: None)
    assert (images, rich.samples[5]) == (32, 40)
    poor, images = value(game, picked, 40 * 3 * 8, 0, 12, lambda _: None)
    assert (images, poor.samples[5]) == (8, 40)
    shares: list[float] = []
    none, images = value(game, picked, 0, 0, 12, shares.append)
    assert (images, none.samples[2], none.evaluations) == (4, 2, 2 * 3 * 4)
    assert shares[-1] == 1.0
    assert none.lower[0, 2] <= exact(game).values[0][2] <= none.upper[0, 2]
    for found in (rich, poor, none):
        assert (found.samples > 0).sum() == 2
        assert found.interval.claims == 2


@pytest.fixture(scope="module")
def job(sabotaged: World, tmp_path_factory: pytest.TempPathFactory) -> tuple[pipeline.Job, Ranking]:
    request = request_of(sabotaged, METRIC, budget=20_000)
    ready = pipeline.prepare_job(request, tmp_path_factory.mktemp("afresh"))
    search = pipeline.run_phase(ready, pipeline.phase_settings(ready, "search"))
    confirm = pipeline.run_phase(ready, pipeline.phase_settings(ready, "confirm", search))
    return ready, pipeline.ranking_of(ready, search, confirm)[0]


def run_of(ready: pipeline.Job) -> dict:
    return {"budget": ready.budget, "images_per_draw": ready.game.batch_size, "interval": {}, "reported_values": ""}


def test_picks_without_samples_get_them_and_the_others_keep_theirs(job: tuple[pipeline.Job, Ranking]) -> None:
    ready, ranking = job
    assert ranking.fresh is not None
    unseen = int(np.flatnonzero(ranking.fresh.samples == 0)[0])
    players = np.array([unseen, *ranking.players[:1]])
    plan = Plan(players, (), 2)
    found, run = afresh(ready.case, ranking, plan, run_of(ready), silent)
    assert found.fresh is not None
    assert np.isfinite(found.fresh.values[0][players]).all()
    assert (found.fresh.samples[players] == run["afresh"]["samples"]).all()
    assert run["afresh"]["evaluations"] <= SHARE * ready.budget
    assert run["afresh"]["interval"]["claims"] == 2
    rest = np.setdiff1d(np.arange(ready.game.n_players), players)
    for name in ("values", "lower", "upper", "samples"):
        kept, before = getattr(found.fresh, name)[..., rest], getattr(ranking.fresh, name)[..., rest]
        np.testing.assert_array_equal(kept, before)
    again, _ = afresh(ready.case, ranking, plan, run_of(ready), silent)
    np.testing.assert_array_equal(again.fresh.values, found.fresh.values)  # type: ignore[union-attr]
    first = ranking.players[0]
    assert found.fresh.values[0, first] != ranking.fresh.values[0, first], "other samples than helped to order it"


def test_where_nothing_was_confirmed_the_ablated_filters_are(job: tuple[pipeline.Job, Ranking]) -> None:
    ready, ranking = job
    bare = dataclasses.replace(ranking, fresh=None)
    found, run = afresh(ready.case, bare, Plan(ranking.players, (), 1), run_of(ready), silent)
    assert found.fresh is not None
    assert found.fresh.samples[ranking.players[0]] > 0
    assert run["interval"] == run["afresh"]["interval"]


@pytest.mark.parametrize("why", ["no filter", "exact", "by hand"])
def test_what_needs_no_samples_gets_none(job: tuple[pipeline.Job, Ranking], why: str) -> None:
    ready, ranking = job
    case, plan = ready.case, Plan(ranking.players, (), 0 if why == "no filter" else 1)
    if why == "exact":
        ranking = dataclasses.replace(ranking, fresh=ranking.found)
    if why == "by hand":
        case = dataclasses.replace(case, request=dataclasses.replace(case.request, by_hand=("conv1:0",)))
    run = run_of(ready)
    assert afresh(case, ranking, plan, run, silent) == (ranking, run)


@pytest.mark.parametrize("order", ["value", "stepwise"])
def test_every_ablated_filter_of_a_report_has_fresh_samples(
    sabotaged: World,
    job: tuple[pipeline.Job, Ranking],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    order: str,
) -> None:
    ready, ranking = job
    assert ranking.fresh is not None
    culprit = ranking.players[:1]
    if order == "stepwise":  # its first pick was never confirmed; nothing else is compared with it
        blank = in_place(ranking.fresh, ranking.fresh, culprit)
        blank.values[..., culprit], blank.samples[culprit] = np.nan, 0
        ranking = dataclasses.replace(ranking, fresh=blank)
        monkeypatch.setattr("repair_engine.choosing.orders.Greedy.order", lambda *_: Stepwise(culprit, 1, 1, 1, 1))
        monkeypatch.setattr("repair_engine.choosing.orders.fewest_of_the_best", lambda plans: (len(plans) - 1, "best"))
    else:
        limits = dataclasses.replace(ready.request.limits, order="value")
        changed = dataclasses.replace(ready.request, limits=limits)
        ready = dataclasses.replace(ready, case=dataclasses.replace(ready.case, request=changed))
    run = pipeline.run_of(ready, 0, ranking.found, ranking.fresh)
    document = finish(ready.case, ranking, run, tmp_path / "out", silent)
    assert document["k"] >= 1
    ablated = [row for row in document["culprits"] if row["ablated"]]
    assert all(row["samples"] > 0 and row["lower"] <= row["value"] <= row["upper"] for row in ablated)
    assert {row["samples"] for row in ablated} == {document["run"]["afresh"]["samples"]}
    with (tmp_path / "out" / "filters.csv").open() as file:
        rows = {row["filter"]: row for row in csv.DictReader(file)}
    for row in ablated:
        assert float(rows[row["id"]]["fresh_lower"]) == row["lower"]
    page = (tmp_path / "out" / "report.html").read_text()
    assert "values of the ablated filters" in page
    assert "had been chosen" in page


def test_by_the_command_line(sabotaged: World, tmp_path: Path) -> None:
    given = {"metric": METRIC, "budget": "8000", "seed": "3", "out": str(tmp_path / "out")}
    document = call(sabotaged.argv("repair", "--json", **given)).document
    stored = json.loads((tmp_path / "out" / "repair.json").read_text())
    assert stored["run"]["afresh"] == document["run"]["afresh"]
    assert stored["run"]["afresh"]["evaluations"] <= max(SHARE * 8000, module._LEAST * (1 + document["k"]) * 32)
    assert all(row["samples"] > 0 for row in stored["filters"])
