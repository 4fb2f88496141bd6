"""Equalized odds as what a repair is chosen by, beside plain loops and figures made by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from repair_engine.errors import BadInput
from repair_engine.question.goals import FALSE, TRUE, EqualizedOdds, Goal, Rate, goal_of
from repair_engine.settings import Repair, from_keywords
from tests.repair_engine import tiny
from tests.repair_engine.tiny import call

METRIC = "subgroup-recall:ground"
CLASSES = ("ant", "bee", "cat")


def by_loops(predicted: np.ndarray, labels: np.ndarray, groups: list[str], counts: np.ndarray) -> float:
    """The equalized odds difference, one image at a time."""
    largest = 0.0
    for of in range(len(CLASSES)):
        for own in (True, False):
            rates = []
            for group in sorted(set(groups)):
                rows = [i for i in range(len(labels)) if groups[i] == group and (labels[i] == of) == own]
                if len(rows) < 30:
                    continue
                hits = sum(counts[i] for i in rows if predicted[i] == of)
                rates.append(hits / sum(counts[i] for i in rows))
            if len(rates) > 1:
                largest = max(largest, max(rates) - min(rates))
    return largest


def world(n: int = 900) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Predictions of four candidates [4, n], labels, and three subgroups of which the third is small."""
    rng = np.random.default_rng(2)
    labels, groups = rng.integers(0, 3, n), rng.choice(["a", "b", "c"], n, p=[0.6, 0.33, 0.07])
    shares = np.where(groups == "b", 0.6, 0.9) - 0.1 * np.arange(4)[:, None] * (labels == 1)
    return np.where(rng.random((4, n)) < shares, labels, rng.integers(0, 3, (4, n))), labels, groups.tolist()


def odds(groups: list[str] | None, labels: np.ndarray, classes: tuple[str, ...] = CLASSES) -> EqualizedOdds:
    found = goal_of("equalized-odds", groups, labels, classes)
    assert isinstance(found, EqualizedOdds)
    return found


def test_values_by_plain_loops() -> None:
    predicted, labels, groups = world()
    goal = odds(groups, labels)
    counts = np.random.default_rng(0).integers(0, 3, (5, len(labels))).astype(float)
    once, drawn = goal.value(predicted), goal.value(predicted, counts)
    assert once.shape == (4,)
    assert drawn.shape == (5, 4)
    for k in range(4):
        assert once[k] == pytest.approx(by_loops(predicted[k], labels, groups, np.ones(len(labels))), abs=1e-12)
        for r in range(5):
            assert drawn[r, k] == pytest.approx(by_loops(predicted[k], labels, groups, counts[r]), abs=1e-12)
    np.testing.assert_array_equal(goal.score(once), -once)


def test_of_two_classes_by_hand() -> None:
    """In a 30 of 40 and 10 of 40 are called 1; in b 20 of 40 and 16 of 80: rates of 75 and 50, 25 and 20 percent."""
    labels = np.repeat([1, 0, 1, 0], [40, 40, 40, 80])
    groups = ["a"] * 80 + ["b"] * 120
    predicted = np.concatenate([np.arange(n) < k for k, n in ((30, 40), (10, 40), (20, 40), (16, 80))]).astype(int)
    goal = odds(groups, labels, ("no", "yes"))
    assert goal.value(predicted[None])[0] == pytest.approx(0.25)
    found = {(rate.kind, rate.of): values[:, 0, 0].tolist() for rate, _, values in goal.rates(predicted[None])}
    assert found[TRUE, 1] == pytest.approx([0.75, 0.5])
    assert found[FALSE, 1] == pytest.approx([0.25, 0.2])
    assert found[TRUE, 0] == pytest.approx([0.75, 0.8])  # of the other class: what is left of each
    assert found[FALSE, 0] == pytest.approx([0.25, 0.5])


def test_a_false_positive_counts_where_no_true_one_differs() -> None:
    """Nothing of it can be seen in what is right: recall is the same in both subgroups."""
    labels, groups = np.tile(np.repeat([0, 1, 2], 40), 2), ["a"] * 120 + ["b"] * 120
    predicted = labels.copy()
    predicted[[40, 41, 42, 43, 80, 81, 82, 83]] = 0  # in a, bees and cats are called ants
    predicted[[160, 161, 162, 163]], predicted[[200, 201, 202, 203]] = 2, 1  # in b, each other
    goal = odds(groups, labels)
    assert goal.value(predicted[None])[0] == pytest.approx(8 / 80)
    gap = goal_of("gap", groups, labels, CLASSES)
    assert isinstance(gap, Goal)
    assert gap.value(predicted[None])[0] == pytest.approx(0)


def test_a_rate_of_few_images_does_not_count() -> None:
    labels = np.concatenate([np.repeat([0, 1], [60, 60]), np.repeat([0, 1], [29, 60]), np.repeat([0, 1], [40, 40])])
    groups = ["a"] * 120 + ["b"] * 89 + ["c"] * 80
    goal = odds(groups, labels, ("x", "y"))
    kept = {(rate.kind, rate.of): groups for rate, groups in goal.compared}
    assert kept == {(TRUE, 0): (0, 2), (FALSE, 0): (0, 1, 2), (TRUE, 1): (0, 1, 2), (FALSE, 1): (0, 2)}
    predicted = labels.copy()
    predicted[120:149] = 1  # what b says of its 29
    assert goal.value(predicted[None])[0] == 0


def test_a_class_without_images_can_still_be_predicted_wrongly() -> None:
    labels, groups = np.tile([0, 1], 80), ["a"] * 80 + ["b"] * 80
    predicted = labels.copy()
    predicted[:8] = 2
    assert odds(groups, labels).value(predicted[None])[0] == pytest.approx(0.1)  # also of each true class
    goal = odds(groups, labels)
    false = {rate.of: float(np.ptp(values)) for rate, _, values in goal.rates(predicted[None]) if rate.kind == FALSE}
    assert false == {0: 0.0, 1: 0.0, 2: pytest.approx(0.1)}
    assert Rate(TRUE, 2) not in [rate for rate, _ in goal.compared]


@pytest.mark.parametrize(
    ("groups", "labels", "said"),
    [
        (None, [0, 1] * 60, "there is none"),
        (["a"] * 120, [0, 1] * 60, "there is one"),
        (["a"] * 91 + ["b"] * 29, [0, 1] * 60, "there is one"),
        (["a", "b"] * 60, [1] * 120, "all of them are of class bee"),
        (["a"] * 60 + ["b"] * 60, [0, 1] * 29 + [0, 0] + [0, 1] * 30, "no class has so many"),
        (
            ["a"] * 60 + ["b"] * 60,
            [0] * 58 + [1, 2] + [0] * 20 + [1] * 30 + [2] * 10,
            r"\(ant comes nearest, with 2 in the second\)",
        ),
        (["a"] * 60 + ["b"] * 60, [0] * 60 + [1] * 60, "no class has so many"),  # a class in one subgroup alone
    ],
)
def test_too_few_images_are_refused(groups: list[str] | None, labels: list[int], said: str) -> None:
    with pytest.raises(BadInput, match=said) as refused:
        goal_of("equalized-odds", groups, np.array(labels), CLASSES)
    assert refused.value.field == "goal"
    assert refused.value.mend


def test_it_needs_subgroups() -> None:
    with pytest.raises(BadInput, match="recall:cat has no subgroups"):
        from_keywords(Repair, metric="recall:cat", goal="equalized-odds")
    assert from_keywords(Repair, metric=METRIC, goal="equalized-odds").goal == "equalized-odds"


@pytest.mark.usefixtures("quick")
def test_too_few_images_are_said_before_the_search(tmp_path: Path) -> None:
    """Thirty select images of each ground, but not of a class on it."""
    world = tiny.make_sabotaged(tmp_path / "world", tiny.images(400, seed=1))
    out = tmp_path / "out"
    result = call(world.argv("repair", out=str(out), metric=METRIC, budget="10000000000", goal="equalized-odds"))
    assert result.code == 2
    assert "no class has so many images, and so many of other classes, in two subgroups" in result.err
    assert not (out / "report.json").exists()
