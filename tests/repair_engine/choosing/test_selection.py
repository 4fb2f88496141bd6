"""Resamples of the choice of k, beside plain loops and closed forms."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from repair_engine.choosing.selection import Seen, Sweep, describe, judge, resample
from repair_engine.pages.repair_page import render
from repair_engine.question.objectives import Objective, cell_codes, metric_weights
from repair_engine.question.objectives.metric import Metric
from repair_engine.question.request import Limits
from tests.repair_engine.pages.documents import document
from tests.repair_engine.pages.pages import Page

CLASSES = ("ant", "bee")
N = 400


def world(goal: str = "raise", complement: bool = False) -> tuple[Seen, Objective, np.ndarray, list[str]]:
    """Three prefixes: intact, one that mends group b, one that breaks class 1."""
    rng = np.random.default_rng(4)
    labels = rng.integers(0, 2, N)
    groups = np.where(rng.random(N) < 0.3, "b", "a").tolist()
    weights = metric_weights(Metric.parse("subgroup-recall:g"), labels, groups, CLASSES)
    light = np.array(groups) == "b"
    shares = [np.where(light, 0.5, 0.9), np.where(light, 0.8, 0.88), np.where(labels == 1, 0.6, 0.95)]
    right = np.stack([rng.random(N) < share for share in shares])
    predicted = np.where(right, labels, 1 - labels)
    cells = cell_codes(labels, groups)
    pixels = torch.zeros(N, 1, 1, 1, dtype=torch.uint8)
    objective = Objective(pixels, labels, weights, cells, goal, complement)
    return Seen(predicted, labels, cells), objective, predicted, groups


def test_the_bootstrap_centres_on_the_figures_and_has_the_stratified_variance() -> None:
    clean, objective, predicted, groups = world()
    draws = resample(clean, objective, predicted, np.arange(N), None, groups, seed=1, resamples=4000)
    values, accuracy = objective.value(predicted), clean.right.mean(axis=1)
    np.testing.assert_allclose(draws.values.mean(axis=0), values, atol=0.003)
    np.testing.assert_allclose(draws.clean.mean(axis=0), accuracy, atol=0.003)
    # of the paired change: Σ over cells of (n·w)²·s²/n
    change = clean.right[1].astype(float) - clean.right[0]
    expected = 0.0
    for cell in np.unique(clean.cells):
        inside = clean.cells == cell
        share = objective.weights[inside].sum()
        expected += share**2 * change[inside].var(ddof=1) / inside.sum()
    assert (draws.values[:, 1] - draws.values[:, 0]).var() == pytest.approx(expected, rel=0.08)


def test_drops_and_guard_are_of_the_same_resample() -> None:
    clean, objective, predicted, groups = world()
    guard = Seen(np.repeat([[0], [1], [0]], 50, axis=1), np.zeros(50, int), np.zeros(50, int))
    draws = resample(clean, objective, predicted, np.arange(N), guard, groups, seed=1, resamples=300)
    assert draws.guard is not None
    assert draws.drops is not None
    np.testing.assert_allclose(draws.guard, np.tile([1, 0, 1], (300, 1)))
    assert not draws.drops[:, 0].any()
    assert (draws.drops[:, 2] > 0).all()  # class 1 fell in both groups
    none = resample(clean, objective, predicted, np.arange(N), None, None, seed=1, resamples=10)
    assert none.guard is None
    assert none.drops is None


def test_same_seed_same_resamples() -> None:
    clean, objective, predicted, groups = world()
    arguments = (clean, objective, predicted, np.arange(N), None, groups)
    first, again = (resample(*arguments, seed=7, resamples=50) for _ in range(2))
    assert np.array_equal(first.values, again.values)
    assert not np.array_equal(first.values, resample(*arguments, seed=8, resamples=50).values)


def test_the_complement_of_untargeted_attacks() -> None:
    clean, objective, predicted, _ = world("lower", complement=True)
    draws = resample(clean, objective, predicted, None, None, None, seed=1, resamples=2000)
    np.testing.assert_allclose(draws.values.mean(axis=0), objective.value(predicted), atol=0.01)
    assert draws.lower


def test_the_choice_in_every_resample_by_a_plain_loop() -> None:
    clean, objective, predicted, groups = world()
    limits = Limits(max_clean_drop=0.02, max_subgroup_drop=0.05)
    draws = resample(clean, objective, predicted, np.arange(N), None, groups, seed=2, resamples=200)
    drops = np.zeros(3)
    sweep = Sweep(objective.value(predicted), clean.right.mean(axis=1), None, drops, False)
    found = judge(sweep, draws, limits, N)
    assert draws.drops is not None
    counts = [0, 0, 0]
    for values, accuracy, lost in zip(draws.values, draws.clean, draws.drops):
        best = 0
        for k in (1, 2):
            fine = accuracy[0] - accuracy[k] <= 0.02 + 1e-12 and lost[k] <= 0.05 + 1e-12
            if fine and values[k] > values[best] + 1e-12:
                best = k
        counts[best] += 1
    assert found.counts.tolist() == counts
    assert 0 < counts[0] < 200
    told = describe(found, 1)
    assert told["none"] == counts[0] / 200
    assert told["same"] == counts[1] / 200
    assert sum(row["share"] for row in told["distribution"]) == pytest.approx(1)


def test_the_band_is_of_the_paired_change() -> None:
    clean, objective, predicted, groups = world()
    draws = resample(clean, objective, predicted, np.arange(N), None, groups, seed=2)
    sweep = Sweep(objective.value(predicted), clean.right.mean(axis=1), None, np.zeros(3), False)
    found = judge(sweep, draws, Limits(), N)
    assert found.lower[0] == found.upper[0] == sweep.values[0]
    assert found.lower[1] < sweep.values[1] < found.upper[1]


def test_the_pareto_front() -> None:
    def front(values: list[float], clean: list[float], lower: bool = False) -> list[int]:
        sweep = Sweep(np.array(values), np.array(clean), None, None, lower)
        return np.flatnonzero(sweep.front()).tolist()

    assert front([0.5, 0.6, 0.7, 0.65], [0.9, 0.89, 0.85, 0.88]) == [0, 1, 2, 3]
    assert front([0.5, 0.6, 0.7, 0.65], [0.9, 0.91, 0.85, 0.84]) == [1, 2]
    assert front([0.5, 0.5, 0.4], [0.9, 0.9, 0.9]) == [0]  # equal figures: the fewest filters
    assert front([0.5, 0.6, 0.4], [0.9, 0.9, 0.8], lower=True) == [0, 2]


def test_the_report_says_how_stable_the_choice_is() -> None:
    made = document("recall:shirt", k=2)
    made["selection"] = {
        "choose": "one-se", "best": 4, "standard_error": 0.013, "images": 240, "resamples": 1000, "level": 0.95,
        "none": 0.07, "same": 0.41, "middle": [0, 2, 4],
        "distribution": [{"k": 0, "share": 0.07}, {"k": 2, "share": 0.41}, {"k": 4, "share": 0.52}],
    }  # fmt: skip
    for step in made["curve"]:
        step |= {"lower": step["objective"] - 0.03, "upper": step["objective"] + 0.02, "front": step["k"] in (0, 2)}
    page = Page(render(made))
    assert "The best was k = 4; chosen: k = 2." in page.text
    assert "one standard error (1.3 points" in page.text
    assert "leaving the model as it is won in 7%" in page.text
    assert "do not settle whether anything should be ablated" in page.text
    assert "against clean accuracy on the select images: k = 0, 2." in page.text
    rows = page.table("Every prefix on the select images")
    assert [row["Pareto front"] for row in rows] == ["yes", "no", "yes", "no", "no"][: len(rows)]
    low, high = rows[1]["95% band"].split(" – ")
    assert float(low.rstrip("%")) == pytest.approx(100 * made["curve"][1]["lower"], abs=0.06)
    assert float(high.rstrip("%")) == pytest.approx(100 * made["curve"][1]["upper"], abs=0.06)
    shares = page.table("Number of filters chosen on 1,000 resamples")
    assert [row["share"] for row in shares] == ["7.0%", "41.0%", "52.0%"]
