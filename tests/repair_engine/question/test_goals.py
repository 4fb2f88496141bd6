"""The worst subgroup and the gap as what a repair is chosen and judged by."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from repair_engine.choosing.selection import Seen, Sweep, judge, resample
from repair_engine.documents.reasons import judged, looser, not_shown, reasons_of
from repair_engine.errors import BadInput
from repair_engine.pages.repair_wording import headline, selection_said
from repair_engine.pages.text import repair_text
from repair_engine.question.goals import goal_of
from repair_engine.question.objectives import cell_codes
from repair_engine.settings import Limits, Repair, from_keywords
from tests.repair_engine import tiny
from tests.repair_engine.choosing.test_selection import CLASSES, N, world
from tests.repair_engine.tiny import World, call

METRIC = "subgroup-recall:ground"


def by_loops(right: np.ndarray, groups: list[str], labels: np.ndarray, counts: np.ndarray) -> tuple[float, float]:
    """Worst subgroup and gap of one candidate, one image at a time."""
    recalls = []
    for group in sorted(set(groups)):
        of_classes = []
        for label in sorted(set(labels)):
            rows = [i for i in range(len(labels)) if groups[i] == group and labels[i] == label and counts[i] > 0]
            if rows:
                of_classes.append(sum(counts[i] * right[i] for i in rows) / sum(counts[i] for i in rows))
        recalls.append(sum(of_classes) / len(of_classes))
    return min(recalls), max(recalls) - min(recalls)


def test_values_by_plain_loops() -> None:
    clean, objective, _, groups = world()
    counts = np.random.default_rng(0).integers(0, 3, (4, N)).astype(float)
    for place, name in enumerate(("worst-group", "gap")):
        goal = goal_of(name, groups, objective.targets, CLASSES)
        assert goal is not None
        once, drawn = goal.value(clean.predicted), goal.value(clean.predicted, counts)
        assert once.shape == (3,)
        assert drawn.shape == (4, 3)
        for k in range(3):
            expected = by_loops(clean.right[k], groups, objective.targets, np.ones(N))[place]
            assert once[k] == pytest.approx(expected)
            for r in range(4):
                assert drawn[r, k] == pytest.approx(
                    by_loops(clean.right[k], groups, objective.targets, counts[r])[place]
                )
    assert goal_of("mean", groups, objective.targets, CLASSES) is None


def test_subgroups_of_few_images_do_not_count() -> None:
    labels = np.zeros(100, np.int64)
    predicted = np.zeros((1, 100), np.int64)
    predicted[0, 90:] = 1  # the ten of group c
    goal = goal_of("worst-group", ["a"] * 50 + ["b"] * 40 + ["c"] * 10, labels, CLASSES)
    assert goal is not None
    assert goal.value(predicted)[0] == 1
    for groups, said in ((["a"] * 90 + ["b"] * 10, "there is one"), (["a"] * 20, "there is none"), (None, "none")):
        with pytest.raises(BadInput, match=said):
            goal_of("gap", groups, labels[: len(groups or ())], CLASSES)


def test_the_goal_chooses_and_not_the_metric() -> None:
    """The second prefix has the best mean, the first the best worst subgroup and the smallest gap."""
    labels, groups = np.zeros(400, np.int64), ["a"] * 200 + ["b"] * 200
    rng, shares = np.random.default_rng(1), [(0.80, 0.50), (0.79, 0.70), (0.99, 0.60)]
    right = np.stack([np.r_[rng.random(200) < a, rng.random(200) < b] for a, b in shares])
    _, objective, _, _ = world()
    objective = type(objective)(objective.pixels[:400], labels, np.full(400, 1 / 400), cell_codes(labels, groups))
    predicted = np.where(right, 0, 1)
    chosen = {}
    for name in ("mean", "worst-group", "gap"):
        goal = goal_of(name, groups, labels, CLASSES)
        seen = Seen(predicted, labels, objective.cells)
        draws = resample(seen, objective, predicted, np.arange(400), None, groups, seed=1, goal=goal)
        aims = None if goal is None else goal.score(goal.value(predicted))
        sweep = Sweep(objective.value(predicted), right.mean(axis=1), None, None, False, aims)
        found = judge(sweep, draws, Limits(max_clean_drop=1.0), 400)
        chosen[name] = found.best
        expected = draws.score[:, found.best] - draws.score[:, 0]
        assert found.margin == pytest.approx(expected.std(ddof=1))
        assert found.counts.argmax() == found.best
    assert chosen == {"mean": 2, "worst-group": 1, "gap": 1}


def test_less_is_better_where_the_metric_is_to_be_lowered() -> None:
    values = np.array([0.5, 0.2])
    assert Sweep(values, values, None, None, True).score.argmax() == 1
    assert Sweep(values, values, None, None, False).score.argmax() == 0
    assert Sweep(values, values, None, None, True, goal=values).score.argmax() == 0


def test_a_goal_needs_subgroups() -> None:
    with pytest.raises(BadInput, match="accuracy has no subgroups"):
        from_keywords(Repair, metric="accuracy", goal="gap")
    assert from_keywords(Repair, metric=METRIC, goal="gap").goal == "gap"


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> World:
    """Enough images for 30 of each ground among the select images."""
    return tiny.make_sabotaged(tmp_path_factory.mktemp("many"), tiny.images(400, seed=1))


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("goal", ["worst-group", "gap"])
def test_by_the_command_line(many: World, tmp_path: Path, goal: str) -> None:
    out = str(tmp_path / "out")
    document = call(many.argv("repair", "--json", out=out, metric=METRIC, budget="8000", goal=goal)).document
    assert document["outcome"] == "repaired"
    assert document["limits"]["goal"] == goal
    curve, k = document["curve"], document["k"]
    sign = -1 if goal == "gap" else 1
    assert sign * curve[k]["goal"] == max(sign * step["goal"] for step in curve if step["feasible"])
    change, what, lower = judged(document)
    assert change is not None
    assert change == document["fairness"]["gap" if lower else "worst"]["change"]
    assert sign * change["value"] > 0
    assert f" By {what} it was chosen: a change of" in headline(document)
    assert f"By {what} it was chosen: a change of" in repair_text(document)
    assert what.removeprefix("the ") in " ".join(selection_said(document))
    # The same report by a change that may be nothing: no improvement is shown, whatever the metric gained.
    change |= {"lower": -0.01, "upper": 0.01}
    assert not_shown(document) == "an improvement is not shown"
    assert what in reasons_of(document)[0]
    document["fairness"]["gap" if lower else "worst"] = None
    assert "two subgroups have 30 report images" in reasons_of(document)[0]
    assert looser(document) == []


@pytest.mark.usefixtures("quick")
def test_edits_are_chosen_by_it_too(many: World, tmp_path: Path) -> None:
    out = str(tmp_path / "out")
    document = call(
        many.argv("repair", "--json", out=out, metric=METRIC, budget="8000", goal="gap", edit="auto")
    ).document
    made = [row for row in document["edit"]["rows"] if "not_made" not in row]
    assert made
    assert all(0 <= row["goal"] < document["curve"][0]["goal"] for row in made)  # each makes the gap smaller
    best = min(made, key=lambda row: row["goal"])
    assert best["behind_best"] == 0
    assert (tmp_path / "out" / "report.html").read_text().count("the gap between the subgroups") >= 3


@pytest.mark.usefixtures("quick")
def test_too_few_images_are_said_before_the_search(skewed: World, tmp_path: Path) -> None:
    out = str(tmp_path / "out")
    result = call(skewed.argv("repair", out=out, metric=METRIC, budget="10000000000", goal="worst-group"))
    assert result.code == 2
    assert "subgroups of at least 30 select images" in result.err
