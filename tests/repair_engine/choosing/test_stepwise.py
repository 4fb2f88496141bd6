"""The stepwise order beside a plain greedy search, and when it takes the other's place."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest
import torch

from repair_engine.case.case import Case
from repair_engine.choosing import stepwise
from repair_engine.choosing.harm import LimitCheck
from repair_engine.choosing.orders import by_certainty, plan_of
from repair_engine.choosing.plan import Plan, fewest_of_the_best, masked_predictions
from repair_engine.choosing.stepwise import AGAIN_SHARE, MARGIN, SHARE, Greedy, Stepwise, candidates_of
from repair_engine.pages.repair_page import render
from repair_engine.pages.repair_wording import orders_said
from repair_engine.question.attacks import AttackSettings
from repair_engine.question.request import Limits
from repair_engine.search.phases import Ranking
from repair_engine.support.progress import silent
from repair_engine.verbs import pipeline
from tests.repair_engine.pages.documents import document
from tests.repair_engine.search.test_exact_values import request_of
from tests.repair_engine.tiny import World, call

pytestmark = pytest.mark.usefixtures("quick_module")
METRIC = "subgroup-recall:ground"


@pytest.fixture(scope="module")
def exact(sabotaged: World, tmp_path_factory: pytest.TempPathFactory) -> tuple[pipeline.Job, Ranking]:
    request = request_of(sabotaged, METRIC, estimator="exact")
    job = pipeline.prepare_job(request, tmp_path_factory.mktemp("exact"))
    return job, pipeline.ranking_of(job, None, None)[0]


def order_of(case: Case, ranking: Ranking, budget: int) -> Stepwise | None:
    """The first order; None where there can be none."""
    greedy = Greedy.of(case, ranking, budget, silent)
    return None if greedy is None else greedy.order()


def value_without(job: pipeline.Job, players: list[int]) -> float:
    """The metric on the score images with players ablated, by plain masking."""
    objective = job.case.question.objective("score")
    return float(objective.value(masked_predictions(job.case, objective.pixels, np.array(players, dtype=np.int64))))


def test_the_greedy_order_by_a_plain_loop(exact: tuple[pipeline.Job, Ranking]) -> None:
    job, ranking = exact
    found = order_of(job.case, ranking, 10**9)
    assert found is not None
    assert found.images == len(job.case.question.objective("score"))
    game = job.case.game(32)
    everyone = np.ones((1, game.n_players), dtype=bool)
    open_ = candidates_of(ranking, -1, game.guesses([(everyone, game.full_batch())], lambda _: None)[0]).tolist()
    removed: list[int] = []
    while open_:
        now = value_without(job, removed)
        gains = [value_without(job, [*removed, p]) - now for p in open_]
        if max(gains) <= 1e-12:
            break
        removed.append(open_.pop(int(np.argmax(gains))))
    assert removed, "this network has a culprit"
    assert found.players[: found.picked].tolist() == removed
    assert set(ranking.players) <= set(found.players)
    assert len(set(found.players)) == len(found.players)


def test_an_attack_that_no_filter_turns_back_is_ordered_by_the_targets_probability(
    sabotaged: World, tmp_path: Path
) -> None:
    """One step of the order by hand: what lowers the mean probability of the adversary's targets most."""
    attack = AttackSettings.of("paper", epsilon=0.15, steps=6)
    request = request_of(sabotaged, "attack-success", estimator="exact", attack=attack)
    request = dataclasses.replace(request, limits=Limits(max_clean_drop=1.0, max_subgroup_drop=1.0))
    job = pipeline.prepare_job(request, tmp_path)
    greedy = Greedy.of(job.case, pipeline.ranking_of(job, None, None)[0], 10**9, silent)
    assert greedy is not None
    found = greedy.order()
    assert found.picked
    assert found.images == len(job.case.question.objective("score"))

    def probability(players: list[int]) -> float:
        objective, coalition = job.case.question.objective("score"), np.ones((1, job.game.n_players), dtype=bool)
        coalition[0, players] = False
        logits = job.case.subject.network.masked_logits(job.case.images.normalize(objective.pixels), coalition)[0]
        return float(logits.softmax(1)[torch.arange(len(objective)), torch.from_numpy(objective.targets)].mean())

    after = {int(p): probability([int(p)]) for p in greedy.candidates}
    assert found.players[0] == min(after, key=after.get)  # type: ignore[arg-type]
    assert after[int(found.players[0])] < probability([])


def test_the_budget_bounds_it(exact: tuple[pipeline.Job, Ranking]) -> None:
    job, ranking = exact
    for budget in (3_000, 20_000):
        found = order_of(job.case, ranking, budget)
        assert found is None or found.evaluations <= SHARE * budget
    assert order_of(job.case, ranking, 100) is None


def test_there_is_none_where_no_filter_harms(
    exact: tuple[pipeline.Job, Ranking], monkeypatch: pytest.MonkeyPatch
) -> None:
    job, ranking = exact
    monkeypatch.setattr(stepwise, "candidates_of", lambda *_: np.array([], dtype=np.int64))
    assert order_of(job.case, ranking, 20_000) is None


def test_no_more_filters_than_allowed(exact: tuple[pipeline.Job, Ranking]) -> None:
    job, ranking = exact
    request = dataclasses.replace(job.request, limits=Limits(max_filters=1))
    found = order_of(dataclasses.replace(job.case, request=request), ranking, 10**9)
    assert found is not None
    assert len(found.players) == 1


def test_what_breaks_a_limit_is_passed_over(
    exact: tuple[pipeline.Job, Ranking], monkeypatch: pytest.MonkeyPatch
) -> None:
    job, ranking = exact
    first = int(order_of(job.case, ranking, 10**9).players[0])  # type: ignore[union-attr]
    monkeypatch.setattr(LimitCheck, "margin", lambda self, coalition: 1.0 if coalition[first] else -0.5)
    found = order_of(job.case, ranking, 10**9)
    assert found is not None
    assert found.passed_over == 1
    assert first not in found.players[: found.picked]
    assert first not in ranking.players or found.players[-1] == first


def test_limits_are_those_of_the_plan_on_score_images(
    exact: tuple[pipeline.Job, Ranking], monkeypatch: pytest.MonkeyPatch
) -> None:
    job, _ = exact
    case, score = job.case, job.case.images.splits.score
    assert LimitCheck(case, 10**6, np.random.default_rng(0)).images == 0  # too few to say anything
    monkeypatch.setattr("repair_engine.choosing.harm.LEAST_IMAGES", 10)
    labels, groups = case.images.labels[score], np.array(case.question.subgroups)[score]
    seen = set()
    for players in ([0], [0, 1, 2], [8], [3, 8], list(range(8))):
        pixels = case.images.pixels[torch.from_numpy(score)]
        right = masked_predictions(case, pixels, np.array(players)) == labels
        intact = case.intact[score] == labels
        drops = [intact[groups == g].mean() - right[groups == g].mean() for g in np.unique(groups)]
        big = [d for d, g in zip(drops, np.unique(groups), strict=True) if (groups == g).sum() >= 30]
        for clean, subgroup in ((0.02, 1.0), (0.3, 0.05), (1.0, 0.1), (1.0, 1.0)):
            limits = Limits(max_clean_drop=clean, max_subgroup_drop=subgroup)
            asked = dataclasses.replace(case, request=dataclasses.replace(case.request, limits=limits))
            check = LimitCheck(asked, 10**6, np.random.default_rng(0))
            assert check.images == len(score)
            coalition = np.ones(job.game.n_players, dtype=bool)
            coalition[players] = False
            expected = intact.mean() - right.mean() <= clean + 1e-9 and max([*big, 0.0]) <= subgroup + 1e-9
            assert (check.margin(coalition) >= 0) == expected
            seen.add(expected)
    assert seen == {True, False}


def test_a_margin_is_in_standard_errors_of_the_nearest_limit(
    exact: tuple[pipeline.Job, Ranking], monkeypatch: pytest.MonkeyPatch
) -> None:
    job, _ = exact
    case, score = job.case, job.case.images.splits.score
    monkeypatch.setattr("repair_engine.choosing.harm.LEAST_IMAGES", 10)
    coalition = np.ones(job.game.n_players, dtype=bool)
    check = LimitCheck(case, 10**6, np.random.default_rng(0))
    assert check.margin(coalition) == np.inf  # what changes nothing keeps every limit for sure
    coalition[[0, 1, 2]] = False
    pixels, labels = case.images.pixels[torch.from_numpy(score)], case.images.labels[score]
    right = masked_predictions(case, pixels, np.array([0, 1, 2])) == labels
    lost = (case.intact[score] == labels).astype(float) - right
    limits = dataclasses.replace(job.request.limits, max_clean_drop=0.5, max_subgroup_drop=1.0)
    groups = np.array(case.question.subgroups)[score]
    expected = [(0.5 - lost.mean()) / (lost.std() / np.sqrt(len(lost)))]
    for g in np.unique(groups):
        if (inside := groups == g).sum() >= 30:
            expected.append((1.0 - lost[inside].mean()) / (lost[inside].std() / np.sqrt(inside.sum())))
    asked = dataclasses.replace(case, request=dataclasses.replace(case.request, limits=limits))
    assert LimitCheck(asked, 10**6, np.random.default_rng(0)).margin(coalition) == pytest.approx(min(expected))


def test_an_order_with_a_margin_takes_only_what_keeps_it_and_looks_at_nothing_twice(
    exact: tuple[pipeline.Job, Ranking], monkeypatch: pytest.MonkeyPatch
) -> None:
    job, ranking = exact
    greedy = Greedy.of(job.case, ranking, 10**9, silent)
    assert greedy is not None
    plain = greedy.order()
    first = int(plain.players[0])
    near = {True: 9.0, False: 1.0}  # without the first pick a limit is kept by one standard error only
    greedy.margins.clear()
    monkeypatch.setattr(LimitCheck, "margin", lambda self, coalition: near[bool(coalition[first])])
    again = greedy.order()
    assert again.players.tolist() == plain.players.tolist()
    assert again.tightest == 1.0
    assert greedy.spent == plain.evaluations, "it was all looked at before"
    wider = greedy.order(MARGIN)
    assert first not in wider.players[: wider.picked]
    assert wider.passed_over >= 1
    assert wider.tightest > MARGIN


@pytest.mark.parametrize("tight", [True, False])
def test_the_margin_is_tried_where_the_order_comes_near_a_limit(
    exact: tuple[pipeline.Job, Ranking], monkeypatch: pytest.MonkeyPatch, tight: bool
) -> None:
    job, ranking = exact
    made: list[float] = []

    def order(self: Greedy, margin: float = 0.0, most: int | None = None) -> Stepwise:
        made.append(margin)
        tightest = 1.0 if tight else 2.0
        return Stepwise(ranking.players[:1], 1, 1, 1, 1, 0, margin, MARGIN + 1 if margin else tightest)

    monkeypatch.setattr(Greedy, "order", order)
    monkeypatch.setattr("repair_engine.choosing.orders.fewest_of_the_best", lambda plans: (len(plans) - 1, "best"))
    used, _, compared = plan_of(job.case, ranking, 10**9, silent, more=False)
    assert compared is not None
    assert made == ([0.0, MARGIN] if tight else [0.0])
    assert (compared["used"], compared["why"]) == ("stepwise", "best")
    orders = ["value", "stepwise", "stepwise with a margin"]
    assert [row["order"] for row in compared["rows"]] == orders[: 1 + len(made)]
    assert [walk.order for walk in used.walks] == [orders[len(made)], *orders[: len(made)]]


def test_gates_are_tried_where_nothing_gains_stepwise(
    exact: tuple[pipeline.Job, Ranking], monkeypatch: pytest.MonkeyPatch
) -> None:
    job, ranking = exact
    monkeypatch.setattr(Greedy, "order", lambda self, *_: Stepwise(ranking.players, 0, 7, 5, 3))
    _, _, compared = plan_of(job.case, ranking, 10**6, silent)
    assert compared is not None
    assert [row["order"] for row in compared["rows"]] == ["value", "gates"]
    assert (compared["picked"], compared["candidates"]) == (0, 7)
    alone, _, nothing = plan_of(job.case, ranking, 10**6, silent, more=False)
    assert nothing is None
    assert alone.walks[0].order == "value"


def plan(k: int, values: np.ndarray) -> Plan:
    return Plan(np.arange(9), (), k, None, values, scores=np.full(10, values.mean()))


def test_which_of_several_orders_is_used() -> None:
    noise = np.random.default_rng(0).normal(0, 0.01, 1000)
    noise -= noise.mean()
    value = plan(5, 0.7 + noise)
    assert fewest_of_the_best([value]) == (0, "best")
    assert fewest_of_the_best([value, plan(8, 0.75 + noise + 0.1 * noise[::-1])]) == (1, "best")
    assert fewest_of_the_best([value, plan(3, 0.7 + noise[::-1])])[0] == 1
    assert fewest_of_the_best([value, plan(3, 0.69 + noise[::-1])]) == (1, "fewest")
    assert fewest_of_the_best([value, plan(5, 0.7 + noise[::-1])])[0] == 0  # as many, and no better
    assert fewest_of_the_best([value, plan(8, 0.71 + noise[::-1])]) == (0, "fewest")  # within the noise, more filters
    assert fewest_of_the_best([value, plan(1, 0.6 + noise)]) == (0, "best")  # fewer, and worse
    assert fewest_of_the_best([value, plan(0, 0.695 + noise[::-1])]) == (1, "fewest")  # none is as good
    assert fewest_of_the_best([value, plan(0, 0.6 + noise[::-1])]) == (0, "best")


def test_by_certainty() -> None:
    values, errors = np.array([[0.1, 0.3, -0.2, np.nan, 0.2]]), np.array([[0.01, 0.1, 0.1, np.nan, 0.0]])
    found = cast(Ranking, SimpleNamespace(found=SimpleNamespace(values=values, std_errors=errors)))
    assert by_certainty(found, 1).tolist() == [0, 1]
    assert by_certainty(found, -1).tolist() == [2]


def test_both_orders_stand_in_the_report(sabotaged: World, tmp_path: Path) -> None:
    options = {"metric": METRIC, "budget": "8000", "seed": "3"}
    auto = call(sabotaged.argv("repair", "--json", out=str(tmp_path / "auto"), **options))
    value = call(sabotaged.argv("repair", "--json", out=str(tmp_path / "value"), order="value", **options))
    assert (auto.code, value.code) == (0, 0), auto.err + value.err
    assert value.document["orders"] is None
    orders = json.loads((tmp_path / "auto" / "repair.json").read_text())["orders"]
    assert {"value", "stepwise"} <= {row["order"] for row in orders["rows"]}
    assert orders["rows"][0]["k"] == value.document["k"]
    assert orders["evaluations"] <= (SHARE + AGAIN_SHARE) * 8000
    k = auto.document["k"]
    used = [row for row in orders["rows"] if row["order"].startswith(orders["used"]) and row["k"] == k]
    assert auto.document["curve"][k]["objective"] in [row["select"] for row in used]
    assert "Orders of removal that were tried" in (tmp_path / "auto" / "report.html").read_text()


def test_the_sentence_says_which_and_why() -> None:
    made = document("recall:shirt")
    made["orders"] = {
        "used": "stepwise", "why": "fewest", "picked": 2, "candidates": 160, "images": 322, "evaluations": 150_000,
        "rows": [
            {"order": "value", "k": 11, "select": 0.751, "clean": 0.8},
            {"order": "stepwise", "k": 2, "select": 0.75, "clean": 0.8},
        ],
    }  # fmt: skip
    assert "of the best (75.1% with 11 filters) and ablates fewer filters." in orders_said(made)[0]
    assert "in the order of removal: stepwise" in render(made)
    again = {"order": "stepwise with a margin", "k": 1, "select": 0.76, "clean": 0.8}
    near = made | {"orders": made["orders"] | {"margin": MARGIN, "rows": [*made["orders"]["rows"], again]}}
    assert "kept by 1.7 standard errors (k = 1, 76.0%)" in orders_said(near)[0]
    made["orders"] |= {"used": "value", "why": ""}  # of earlier versions
    assert "The order by value was used: others were not shown" in orders_said(made)[0]
    made["orders"] |= {"used": "stepwise", "why": "fewer"}
    assert "was used: it was not told apart from the next best" in orders_said(made)[0]
    made["orders"] |= {"used": "certainty", "why": "best"}
    assert "The order by value over standard error was used: it did best" in orders_said(made)[0]
    made["orders"]["rows"].pop()
    assert "gained nothing on the score images (150,000 evaluations" in orders_said(made)[0]
    made["orders"] = None
    assert orders_said(made) == []
