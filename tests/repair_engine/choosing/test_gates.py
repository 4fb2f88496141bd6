"""Learned gates beside a plain loop, what they close, and their orders in a repair."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from repair_engine.choosing import orders
from repair_engine.choosing.gates import COST, IMAGES, LEAST, MOST, closed, learned_gates
from repair_engine.choosing.lesson import lesson_of
from repair_engine.choosing.plan import masked_predictions
from repair_engine.pages.repair_wording import orders_said
from repair_engine.search.phases import Ranking
from repair_engine.support.progress import silent
from repair_engine.verbs import pipeline
from tests.repair_engine.search.test_exact_values import request_of
from tests.repair_engine.tiny import World, call

pytestmark = pytest.mark.usefixtures("quick_module")
METRIC = "subgroup-recall:ground"


@pytest.fixture(scope="module")
def exact(sabotaged: World, tmp_path_factory: pytest.TempPathFactory) -> tuple[pipeline.Job, Ranking]:
    job = pipeline.prepare_job(request_of(sabotaged, METRIC, estimator="exact"), tmp_path_factory.mktemp("exact"))
    return job, pipeline.ranking_of(job, None, None)[0]


def test_the_first_steps_by_a_plain_loop(exact: tuple[pipeline.Job, Ranking]) -> None:
    """Each unit a mix of what it gives and its mean constant, Adam on the mix: written out once more."""
    case = exact[0].case
    lesson, network = lesson_of(case), case.subject.network
    at_once = min(IMAGES, len(lesson))
    told: list[int] = []
    found = learned_gates(case, LEAST * COST * at_once, told.append)
    assert found is not None
    rng = np.random.default_rng([0x6A7E, case.settings.seed])
    masks = torch.ones(network.n_filters)
    first, second = torch.zeros_like(masks), torch.zeros_like(masks)
    pixels, weights = case.images.rows("score")[:], lesson.weights
    assert len(pixels) == len(lesson)
    for step in range(1, LEAST + 1):
        rows = np.sort(rng.choice(len(lesson), at_once, p=weights))
        masks.requires_grad_(True)
        logits = network.soft_logits(case.images.normalize(pixels[rows]), masks)
        loss = cross_entropy(logits, torch.from_numpy(lesson.labels[rows])) + 0.5 * (1 - masks).mean()
        (slope,) = torch.autograd.grad(loss, (masks,))
        first, second = 0.9 * first + 0.1 * slope, 0.999 * second + 0.001 * slope**2
        pace = (first / (1 - 0.9**step)) / ((second / (1 - 0.999**step)).sqrt() + 1e-8)
        masks = (masks.detach() - 0.05 * pace).clamp(0, 1)
    np.testing.assert_allclose(found, masks.numpy(), atol=2e-3)
    assert sum(told) == LEAST * COST * at_once


def test_they_close_the_culprit_and_that_helps(exact: tuple[pipeline.Job, Ranking]) -> None:
    job, _ = exact
    masks = learned_gates(job.case, 10**9, lambda _: None)
    assert masks is not None
    worst = closed(masks, 5)
    assert job.case.subject.network.filter_id(int(worst[0])) == "spy:0"
    assert masks[worst].tolist() == sorted(masks[worst].tolist())
    assert 0 <= masks.min() < masks.max() <= 1
    objective = job.case.question.objective("score")
    before, after = (
        objective.value(masked_predictions(job.case, objective.pixels, players)) for players in (worst[:0], worst[:1])
    )
    assert after > before + 0.1


def test_what_it_costs_is_bounded_and_the_same_seed_gives_the_same(exact: tuple[pipeline.Job, Ranking]) -> None:
    case = exact[0].case
    step = COST * min(IMAGES, len(lesson_of(case)))
    told: list[int] = []
    assert learned_gates(case, LEAST * step - 1, told.append) is None
    assert not told
    large = learned_gates(case, 10**9, told.append)
    assert sum(told) == MOST * step
    again = learned_gates(case, MOST * step, told.append)
    assert large is not None
    assert again is not None
    assert large.tobytes() == again.tobytes()


def test_open_gates_are_no_candidates() -> None:
    assert closed(np.array([1.0, 0.2, 1.0, 0.0, 0.9]), 9).tolist() == [3, 1, 4]
    assert closed(np.array([1.0, 0.2, 1.0, 0.0, 0.9]), 2).tolist() == [3, 1]
    assert not len(closed(np.ones(3), 9))


@pytest.mark.parametrize("win", ["gates", "stepwise among gates", ""])
def test_select_decides(exact: tuple[pipeline.Job, Ranking], monkeypatch: pytest.MonkeyPatch, win: str) -> None:
    job, ranking = exact
    monkeypatch.setattr(
        orders,
        "fewest_of_the_best",
        lambda plans: (next((i for i, plan in enumerate(plans) if plan.walks[0].order == win), 0), "best"),
    )
    plan, ranked, compared = orders.plan_of(job.case, ranking, 10**6, silent)
    assert compared is not None
    rows = [row["order"] for row in compared["rows"]]
    assert rows[rows.index("gates") :][:2] == ["gates", "stepwise among gates"]
    assert plan.walks[0].order == (win or "value")
    assert (compared["used"], compared["why"]) == ("gates" if win else "value", "best")
    assert ranked.players.tolist() == plan.players.tolist()
    assert len({walk.order for walk in plan.walks}) == len(plan.walks) >= 4
    assert compared["gates"]["evaluations"] <= (orders.SHARE - orders.STEPWISE_SHARE) * 10**6


def test_a_report_says_what_was_tried(sabotaged: World, tmp_path: Path) -> None:
    done = call(sabotaged.argv("repair", "--json", out=str(tmp_path), metric=METRIC, budget="100000", seed="3"))
    assert done.code == 0, done.err
    report = json.loads((tmp_path / "repair.json").read_text())
    rows = {row["order"]: row for row in report["orders"]["rows"]}
    assert {"value", "stepwise", "gates", "stepwise among gates"} <= set(rows)
    (said,) = orders_said(report)
    assert f"in the order in which they close (k = {rows['gates']['k']}, " in said
    assert said in (tmp_path / "report.html").read_text().replace("&#39;", "'")
