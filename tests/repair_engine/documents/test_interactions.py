"""How culprits work together, beside plain masking and on made-up outcomes whose pairs are known."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from repair_engine.choosing.plan import masked_predictions
from repair_engine.documents import interactions
from repair_engine.documents.interactions import SHARE, InteractionsRecord, interactions_of
from repair_engine.question.attacks import AttackSettings
from repair_engine.support.progress import silent
from repair_engine.verbs import pipeline
from tests.repair_engine.search.test_exact_values import request_of
from tests.repair_engine.tiny import World

pytestmark = pytest.mark.usefixtures("quick_module")
METRICS = {
    "subgroup-recall:ground": {},
    "attack-success": {"attack": AttackSettings.of("paper", epsilon=0.15, steps=6)},
}


@pytest.fixture(scope="module", params=METRICS)
def job(request: pytest.FixtureRequest, sabotaged: World, tmp_path_factory: pytest.TempPathFactory) -> pipeline.Job:
    asked = request_of(sabotaged, request.param, estimator="exact", **METRICS[request.param])
    return pipeline.prepare_job(asked, tmp_path_factory.mktemp("job"))


def test_every_figure_is_that_of_plain_masking(job: pipeline.Job) -> None:
    case, players = job.case, np.array([5, 0, 3])
    found = interactions_of(case, players, 10**9, silent)
    assert found is not None
    objective = case.question.objective("report")
    up = -1.0 if case.question.lowers else 1.0

    def gain(*removed: int) -> float:
        def value(some: list[int]) -> float:
            predicted = masked_predictions(case, objective.pixels, np.array(some, dtype=np.int64))
            return float(objective.value(predicted))

        return up * (value([*removed]) - value([]))

    ids = [case.subject.network.filter_id(int(p)) for p in players]
    assert [row["id"] for row in found["culprits"]] == ids
    assert (found["of"], found["n"]) == (3, len(objective))
    for player, row in zip(players, found["culprits"], strict=True):
        assert row["alone"]["value"] == pytest.approx(gain(player), abs=1e-9)
        others = [p for p in players if p != player]
        assert row["last"]["value"] == pytest.approx(gain(*players) - gain(*others), abs=1e-9)
    for (i, j), pair in zip(combinations(players, 2), found["pairs"], strict=True):
        assert pair["both"]["value"] == pytest.approx(gain(i, j), abs=1e-9)
        assert pair["interaction"]["value"] == pytest.approx(gain(i, j) - gain(i) - gain(j), abs=1e-9)
        assert pair["both"]["lower"] <= pair["both"]["value"] <= pair["both"]["upper"]


def made_up(job: pipeline.Job, monkeypatch: pytest.MonkeyPatch, right: dict[tuple[int, ...], float]):
    """What is found of players 0 and 1 where this share of the images is right under what is removed, else none."""
    objective = job.case.question.objective("report")

    def predicted(network, pixels, normalize, coalitions, *_):
        out = np.full((len(coalitions), len(pixels)), -1)
        for row, coalition in zip(out, coalitions, strict=True):
            share = right.get(tuple(np.flatnonzero(~coalition).tolist()), 0.0)
            hit = np.arange(len(objective)) % 10 < round(10 * share)  # of images alike in all
            whole = objective.targets
            row[: len(objective)] = np.where(hit, whole, -1)
        return out

    monkeypatch.setattr(interactions, "coalition_predictions", predicted)
    found = interactions_of(job.case, np.array([0, 1]), 10**9, silent)
    assert found is not None
    (pair,) = found["pairs"]
    return found, pair


@pytest.mark.parametrize(
    ("right", "kind"),
    [
        ({(): 0.3, (0,): 0.3, (1,): 0.3, (0, 1): 0.8}, "only together"),
        ({(): 0.3, (0,): 0.2, (1,): 0.3, (0, 1): 0.8}, "only together"),
        ({(): 0.1, (0,): 0.3, (1,): 0.1, (0, 1): 0.8}, "together"),
        ({(): 0.3, (0,): 0.7, (1,): 0.7, (0, 1): 0.7}, "overlap"),
        ({(): 0.3, (0,): 0.3, (1,): 0.6, (0, 1): 0.6}, ""),
        ({(): 0.8, (0,): 0.3, (1,): 0.3, (0, 1): 0.6}, "together"),  # two that harm, together less than the sum
    ],
)
def test_kinds_of_pairs(
    job: pipeline.Job, monkeypatch: pytest.MonkeyPatch, right: dict[tuple[int, ...], float], kind: str
) -> None:
    if job.case.question.lowers:
        right = {removed: 1 - share for removed, share in right.items()}
    found, pair = made_up(job, monkeypatch, right)
    assert pair["kind"] == kind
    assert found["culprits"][0]["last"]["value"] == pytest.approx(
        found["pairs"][0]["both"]["value"] - found["culprits"][1]["alone"]["value"], abs=1e-9
    )


def test_the_budget_bounds_it(job: pipeline.Job) -> None:
    players, n = np.arange(8), len(job.case.question.objective("report").pixels)
    looked: list[InteractionsRecord | None] = []
    for images in (1, 7 * n, 20 * n, 60 * n):
        budget = int(images / SHARE)
        found = interactions_of(job.case, players, budget, silent)
        assert found is None or found["evaluations"] <= SHARE * budget
        looked.append(found)
    assert looked[0] is None
    assert [len(found["culprits"]) for found in looked[1:] if found] == [2, 4, 8]
    assert interactions_of(job.case, players[:1], 10**9, silent) is None, "one culprit has no pair"
