"""The worst subgroup, the gap and their intervals, beside plain NumPy."""

from __future__ import annotations

import numpy as np
import pytest

from repair_engine.pages.fairness_wording import fairness_said
from repair_engine.pages.repair_page import render
from repair_engine.question.objectives import metric_weights
from repair_engine.question.objectives.metric import Metric
from repair_engine.studies.fairness import describe
from repair_engine.support.statistics import paired_draws
from tests.repair_engine.pages.documents import document
from tests.repair_engine.pages.pages import Page

NAMES = ["a", "b", "c"]


@pytest.fixture(scope="module")
def world() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Three subgroups of uneven classes, one of few images: codes, labels, right before and after."""
    rng = np.random.default_rng(0)
    codes = np.repeat([0, 1, 2], [300, 120, 20])
    labels = np.where(codes == 1, 0, rng.integers(0, 2, 440))  # b has one class
    before = rng.random(440) < np.where(labels == 0, 0.9, 0.4)
    after = rng.random(440) < np.where(codes == 1, 0.6, 0.8)
    return codes, labels, before, after


def by_hand(codes: np.ndarray, labels: np.ndarray, right: np.ndarray) -> list[float]:
    means = []
    for g in range(3):
        recalls = [right[(codes == g) & (labels == c)].mean() for c in np.unique(labels[codes == g])]
        means.append(float(np.mean(recalls)))
    return means


def test_figures_by_hand(world: tuple[np.ndarray, ...]) -> None:
    codes, labels, before, after = world
    found = describe(NAMES, codes, labels, before, after, seed=1)
    was, now = by_hand(codes, labels, before), by_hand(codes, labels, after)
    assert [row["before"] for row in found["rows"]] == pytest.approx(was)
    assert [row["after"] for row in found["rows"]] == pytest.approx(now)
    assert [row["n"] for row in found["rows"]] == [300, 120, 20]
    assert [row["classes"] for row in found["rows"]] == [2, 1, 2]
    assert found["left_out"] == ["c"]
    assert found["worse"] == [name for name, b, a in zip(NAMES, was, now) if a < b]
    assert found["worst"]["before"] == {"name": "ab"[int(np.argmin(was[:2]))], "recall": pytest.approx(min(was[:2]))}
    assert found["worst"]["after"]["recall"] == pytest.approx(min(now[:2]))
    assert found["gap"]["before"] == pytest.approx(max(was[:2]) - min(was[:2]))
    assert found["gap"]["change"]["value"] == pytest.approx(max(now[:2]) - min(now[:2]) - found["gap"]["before"])
    for change in (found["gap"]["change"], found["worst"]["change"]):
        assert change["lower"] < change["value"] < change["upper"]


def test_the_mean_over_the_rows_is_the_metric(world: tuple[np.ndarray, ...]) -> None:
    codes, labels, before, after = world
    weights = metric_weights(Metric.parse("subgroup-recall:g"), labels, [NAMES[c] for c in codes], ("x", "y"))
    rows = describe(NAMES, codes, labels, before, after, seed=1)["rows"]
    assert np.mean([row["before"] for row in rows]) == pytest.approx(weights @ before)
    assert np.mean([row["after"] for row in rows]) == pytest.approx(weights @ after)


def test_the_bootstrap_has_the_closed_form_of_the_variance(world: tuple[np.ndarray, ...]) -> None:
    """Of a change of a cell's mean: s²/n with s² over n − 1, paired."""
    codes, _, before, after = world
    change = after.astype(float) - before
    parts = np.stack([np.where(codes == g, change / (codes == g).sum(), 0.0) for g in range(3)])
    draws = paired_draws(parts, codes, [3], resamples=20_000)
    for g in range(3):
        mine = change[codes == g]
        assert draws[g].var() == pytest.approx(mine.var(ddof=1) / len(mine), rel=0.05)


def test_subgroups_of_one_image_a_class_have_intervals_that_cover() -> None:
    """Each class's chance is drawn anew with its one image, so the truth is the chances' mean."""
    codes, labels = np.repeat([0, 1], 60), np.tile(np.arange(60), 2)
    rng = np.random.default_rng(5)
    covered = 0
    for seed in range(150):
        before = rng.random(120) < 0.7
        after = rng.random(120) < np.where(codes == 0, 0.9, 0.5)
        rows = describe(["a", "b"], codes, labels, before, after, seed)["rows"]
        for row, truth in zip(rows, (0.2, -0.2), strict=True):
            assert row["change"]["lower"] < row["change"]["upper"]
            covered += row["change"]["lower"] <= truth <= row["change"]["upper"]
    assert covered / 300 >= 0.95 - 3 * np.sqrt(0.95 * 0.05 / 300)


def test_of_a_subgroup_of_one_image_nothing_is_known() -> None:
    codes = np.array([0] * 10 + [1])
    right = np.arange(11) % 2 == 0
    rows = describe(["a", "b"], codes, np.zeros(11, int), right, ~right, seed=0)["rows"]
    assert (rows[1]["change"]["lower"], rows[1]["change"]["upper"]) == (-1.0, 1.0)


def test_too_few_images_for_a_worst_subgroup() -> None:
    codes = np.repeat([0, 1], [40, 29])
    found = describe(["a", "b"], codes, np.zeros(69, int), np.ones(69, bool), np.ones(69, bool), seed=0)
    assert found["worst"] is None
    assert found["gap"] is None
    assert "fewer than two subgroups have 30" in fairness_said(found, True)[0]


def test_the_page_shows_the_figures(world: tuple[np.ndarray, ...]) -> None:
    codes, labels, before, after = world
    made = document("subgroup-recall:sex,skin")
    made["fairness"] = describe(NAMES, codes, labels, before, after, seed=1)
    page = Page(render(made))
    rows = page.table("Mean over each subgroup's classes of recall")
    assert [row["subgroup"] for row in rows] == NAMES
    for cells, row in zip(rows, made["fairness"]["rows"]):
        assert float(cells["before"].rstrip("%")) == pytest.approx(100 * row["before"], abs=0.06)
        assert float(cells["after"].rstrip("%")) == pytest.approx(100 * row["after"], abs=0.06)
    assert "Worst subgroup before: " in page.text
    assert f"{100 * made['fairness']['worst']['before']['recall']:.1f}%" in page.text
    assert "Subgroups that got worse: b" in page.text
    assert "Left out of both, for fewer than 30 images: c." in page.text
