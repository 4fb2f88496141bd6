"""Objectives as weights, and batches whose expectation is the objective."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from repair_engine.errors import BadInput
from repair_engine.question.objectives import Metric, Objective, cell_codes, metric_weights, plan_batches

CLASSES = ("ant", "bee", "cat")


def objective(labels: np.ndarray, weights: np.ndarray, cells: np.ndarray) -> Objective:
    return Objective(torch.zeros(len(labels), 1, 1, 1, dtype=torch.uint8), labels, weights, cells)


def weights_of(metric: str, labels: list[int], subgroups: list[str] | None = None) -> np.ndarray:
    return metric_weights(Metric.parse(metric), np.array(labels), subgroups, CLASSES)


def test_accuracy_and_recall() -> None:
    np.testing.assert_allclose(weights_of("accuracy", [0, 0, 1, 2]), 1 / 4)
    np.testing.assert_allclose(weights_of("recall:bee", [0, 1, 1, 2]), [0, 1 / 2, 1 / 2, 0])


def test_subgroup_recall_counts_the_classes_that_are_there() -> None:
    """w = 1/(G·C_g·N_gc): G = 2, C_a = 2 (with 2 and 1 images), C_b = 1 (with 2)."""
    got = weights_of("subgroup-recall:g", [0, 0, 1, 1, 1], ["a", "a", "a", "b", "b"])
    np.testing.assert_allclose(got, [1 / 8, 1 / 8, 1 / 4, 1 / 4, 1 / 4])
    assert got.sum() == pytest.approx(1)


def test_groups_of_one_class_give_the_mean_over_groups() -> None:
    """The paper's four groups of a binary task: the mean of their accuracies."""
    labels, groups = [0, 0, 0, 1, 1, 1, 1], ["a", "a", "b", "c", "c", "c", "d"]
    right = np.array([1, 0, 1, 0, 0, 1, 1])
    means = [np.mean([r for r, g in zip(right, groups) if g == name]) for name in "abcd"]
    assert weights_of("subgroup-recall:g", labels, groups) @ right == pytest.approx(np.mean(means))


@pytest.mark.parametrize("text", ["", "beauty", "recall", "recall:", "accuracy:x", "accuracy:", "subgroup-recall"])
def test_what_is_no_metric(text: str) -> None:
    with pytest.raises(BadInput, match=r"metric: .*(is not one of accuracy, |needs a |takes nothing)"):
        Metric.parse(text)


def test_an_argument_may_hold_a_colon() -> None:
    assert Metric.parse("recall:n01: tench").argument == "n01: tench"
    assert str(Metric.parse("subgroup-recall:skin")) == "subgroup-recall:skin"


def test_a_class_that_is_not_there() -> None:
    with pytest.raises(BadInput, match="no class 'dog'") as caught:
        weights_of("recall:dog", [0, 1])
    assert "ant, bee, cat" in caught.value.mend
    with pytest.raises(BadInput, match="no image of class 'cat'"):
        weights_of("recall:cat", [0, 1])


LABELS = np.array([0, 0, 0, 1, 1, 2])
GROUPS = ["a", "b", "b", "a", "a", "b"]


def expected_value(plan, outcomes: np.ndarray) -> float:
    """E of V on a batch, over every equally likely draw of a stratified plan."""
    total = 0.0
    for stratum, count, share in zip(plan.strata, plan.counts, plan.shares[0]):
        draws = [np.mean(outcomes[list(c)]) for c in itertools.combinations(stratum, count)]
        total += share * float(np.mean(draws))
    return total


@pytest.mark.parametrize("size", [4, 5, 6, 50])
@pytest.mark.parametrize("metric", ["accuracy", "subgroup-recall:g"])
def test_stratified_batches_are_unbiased(metric: str, size: int) -> None:
    groups = GROUPS if metric != "accuracy" else None
    weights = metric_weights(Metric.parse(metric), LABELS, groups, CLASSES)
    plan = plan_batches(objective(LABELS, weights, cell_codes(LABELS, groups)), size)
    assert not plan.pooled
    assert plan.size == min(size, 6)
    assert all(1 <= c <= len(s) for c, s in zip(plan.counts, plan.strata))
    for outcomes in np.eye(6):
        assert expected_value(plan, outcomes) == pytest.approx(weights @ outcomes)
    rng = np.random.default_rng(0)
    for _ in range(20):
        indices, (batch_weights,) = plan.draw(rng)
        assert len(indices) == len(set(indices)) == plan.size
        assert batch_weights.sum() == pytest.approx(1)
        assert plan.resolution == pytest.approx(batch_weights.max())
        drawn = [int(np.isin(indices, s).sum()) for s in plan.strata]
        assert drawn == list(plan.counts)
    if plan.size == 6:
        assert batch_weights[np.argsort(indices)] == pytest.approx(weights)


@pytest.mark.parametrize("metric", ["accuracy", "subgroup-recall:g"])
def test_more_cells_than_images_in_a_batch(metric: str) -> None:
    """Pooled: drawn by weight, so that every image of the batch counts the same."""
    groups = GROUPS if metric != "accuracy" else None
    weights = metric_weights(Metric.parse(metric), LABELS, groups, CLASSES)
    plan = plan_batches(objective(LABELS, weights, cell_codes(LABELS, groups)), 2)
    assert plan.pooled
    assert plan.size == 2
    assert plan.resolution == pytest.approx(1 / 2)
    rng, hits, n = np.random.default_rng(1), np.zeros(6), 20_000
    for _ in range(n):
        indices, (batch_weights,) = plan.draw(rng)
        assert batch_weights == pytest.approx(1 / 2)
        np.add.at(hits, indices, batch_weights)
    # Each weight is a mean of n draws in [0, 1]: six standard errors, at most 0.5/√n each.
    np.testing.assert_allclose(hits / n, weights, atol=6 * 0.5 / np.sqrt(n))


def test_images_go_where_they_lower_the_variance() -> None:
    """Equal shares, unequal sizes: subgroups share the batch equally."""
    labels = np.array([0] * 90 + [1] * 10)
    weights = np.where(labels == 0, 0.5 / 90, 0.5 / 10)
    plan = plan_batches(objective(labels, weights, labels), 16)
    assert plan.counts == (8, 8)
    assert plan_batches(objective(labels, weights, labels), 32).counts == (22, 10)


def test_value_of_predictions_and_its_complement() -> None:
    asked = objective(LABELS, np.full(6, 1 / 6), LABELS)
    predicted = np.array([[0, 0, 0, 0, 0, 0], [0, 0, 0, 1, 1, 2]])
    np.testing.assert_allclose(asked.value(predicted), [0.5, 1.0])
    turned = Objective(asked.pixels, LABELS, asked.weights, LABELS, complement=True)
    np.testing.assert_allclose(turned.value(predicted), [0.5, 0.0])
    assert asked.culprit_sign == -1
    assert Objective(asked.pixels, LABELS, asked.weights, LABELS, goal="lower").culprit_sign == 1


def many(labels: np.ndarray, groups: list[str]) -> Objective:
    """Accuracy, each class's recall and subgroup-fair recall, on the cells of class × subgroup."""
    named = ["recall:ant", "recall:bee", "recall:cat", "subgroup-recall:g"]
    also = np.stack([metric_weights(Metric.parse(name), labels, groups, CLASSES) for name in named])
    pixels = torch.zeros(len(labels), 1, 1, 1, dtype=torch.uint8)
    return Objective(pixels, labels, np.full(len(labels), 1 / len(labels)), cell_codes(labels, groups), also=also)


@pytest.mark.parametrize("size", [1, 2, 4, 5])
def test_batches_are_unbiased_for_every_objective(size: int) -> None:
    asked = many(LABELS, GROUPS)
    plan = plan_batches(asked, size)
    assert plan.pooled == (size < 4)
    rng, found, n = np.random.default_rng(2), np.zeros((5, 6)), 20_000
    largest = 0.0
    for _ in range(n):
        indices, weights = plan.draw(rng)
        assert weights.shape == (5, plan.size)
        np.add.at(found.T, indices, weights.T)
        largest = max(largest, weights.max())
        assert (weights.sum(axis=1) <= plan.value_range + 1e-9).all()
    assert largest == pytest.approx(plan.resolution)
    np.testing.assert_allclose(found / n, asked.rows, atol=6 * 0.5 * plan.resolution / np.sqrt(n))


def test_weights_that_differ_within_a_cell_are_refused() -> None:
    asked = many(LABELS, GROUPS)
    with pytest.raises(ValueError, match="equal within a cell"):
        plan_batches(Objective(asked.pixels, LABELS, np.arange(6) / 15, asked.cells), 4)
