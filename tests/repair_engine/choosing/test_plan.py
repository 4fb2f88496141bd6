"""The choice of k, the judgement on the report images, and the cheapest rival's search."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from repair_engine.choosing.controls import logit_shift, shifted_predictions
from repair_engine.choosing.outcomes import largest_drops
from repair_engine.choosing.plan import Plan, choose
from repair_engine.choosing.selection import Sweep
from repair_engine.documents.measures import group_table
from repair_engine.documents.repair import judge
from repair_engine.errors import BadInput
from repair_engine.pages.repair_wording import selection_said
from repair_engine.question.request import Limits
from repair_engine.support.statistics import resampling_cells


def plan(
    values: list[float],
    clean: list[float] | None = None,
    guard: list[float] | None = None,
    drops: list[float] | None = None,
    lower: bool = False,
    noise: float = 0.01,
    **limits: float | str,
) -> Plan:
    """The plan for these figures of the prefixes; resamples scatter the metric by `noise`."""
    n = len(values)
    sweep = Sweep(
        np.array(values),
        np.array(clean or [0.9] * n),
        None if guard is None else np.array(guard),
        None if drops is None else np.array(drops),
        lower,
    )
    scatter = np.random.default_rng(0).normal(0, noise, (500, n))
    scatter[:, 0] = 0
    draws = Sweep(sweep.values + scatter, *(np.tile(f, (500, 1)) if f is not None else None for f in
                  (sweep.clean, sweep.guard, sweep.drops)), lower)  # fmt: skip
    return choose(np.arange(n - 1), sweep, Limits(**limits), draws, 200)  # type: ignore[arg-type]


def test_the_best_feasible_prefix() -> None:
    assert plan([0.5, 0.6, 0.8, 0.7]).k == 2
    assert plan([0.5, 0.6, 0.8, 0.7]).chosen.tolist() == [0, 1]
    assert plan([0.5, 0.4, 0.2, 0.3], lower=True).k == 2
    assert plan([0.5, 0.4, 0.3]).k == 0
    assert plan([0.5]).k == 0


def test_ties_go_to_the_fewest_filters() -> None:
    assert plan([0.5, 0.7, 0.7, 0.6]).k == 1
    assert plan([0.5, 0.5, 0.5]).k == 0
    assert plan([0.5, 0.1 + 0.2, 0.3, 0.4], lower=True).k == 1  # equal but for rounding


def test_the_fewest_filters_within_one_standard_error() -> None:
    values = [0.5, 0.6, 0.695, 0.7, 0.65]
    assert plan(values, choose="one-se").k == 2
    assert plan(values, choose="one-se", noise=0.001).k == 3
    assert plan(values, choose="one-se", noise=0.15).k == 1
    assert plan(values, choose="one-se", noise=0.3).k == 0  # the whole gain is within one standard error
    assert plan([0.5, 0.4, 0.32, 0.3], lower=True, choose="one-se").k == 3
    assert plan([0.5, 0.4, 0.305, 0.3], lower=True, choose="one-se").k == 2
    # a prefix outside the limits is neither the best nor a substitute for it
    assert plan(values, clean=[0.9, 0.9, 0.8, 0.9, 0.9], choose="one-se").k == 3
    found = plan(values, choose="one-se").stability
    assert found is not None
    assert found.best == 3
    assert found.margin == pytest.approx(0.01, rel=0.1)


def test_limits() -> None:
    values = [0.5, 0.6, 0.7, 0.8]
    assert plan(values, clean=[0.9, 0.9, 0.88, 0.87]).k == 2  # exactly the limit is within it
    assert plan(values, clean=[0.9, 0.87, 0.88, 0.87]).k == 2  # a worse prefix on the way does not matter
    assert plan(values, clean=[0.9, 0.8, 0.8, 0.8]).k == 0
    assert plan(values, clean=[0.9, 0.8, 0.8, 0.8], max_clean_drop=0.1).k == 3
    assert plan(values, guard=[0.9, 0.9, 0.89, 0.8]).k == 2
    assert plan(values, drops=[0.0, 0.1, 0.11, 0.2]).k == 1
    assert plan(values, drops=[0.0, 0.1, 0.11, 0.2], max_subgroup_drop=0.2).k == 3
    flags = [step.feasible for step in plan(values, clean=[0.9, 0.9, 0.95, 0.8], drops=[0, 0.2, 0, 0]).steps]
    assert flags == [True, False, True, False]
    for bad in (
        {"max_clean_drop": -0.1},
        {"max_subgroup_drop": 1.5},
        {"max_filters": 0},
        {"max_clean_drop": np.nan},
        {"choose": "worst"},
    ):
        with pytest.raises(BadInput):
            Limits(**bad)


def test_subgroups_too_small_do_not_gate() -> None:
    right = np.ones((2, 60), bool)
    right[1, :3] = False  # 3 of 31 of "a"
    right[1, 31:] = False  # all 29 of "b"
    drops = largest_drops(right, ["a"] * 31 + ["b"] * 29)
    assert drops.tolist() == pytest.approx([0, 3 / 31])
    assert largest_drops(right, ["b"] * 29 + ["c"] * 29 + ["d"] * 2).tolist() == [0, 0]


def judged(k: int, value: float, lower: float, upper: float, goal: str = "raise", culprits: int = 3) -> dict:
    figures = {"report": {"accuracy": 0.9}}
    document = {
        "k": k, "metric": {"goal": goal, "text": "recall"},
        "gain": {"value": value, "lower": lower, "upper": upper},
        "culprits": [{}] * culprits, "limits": {"max_clean_drop": 0.02}, "groups": {}, "controls": [],
        "curve": [{"k": i, "objective": 0.5, "clean": 0.9, "feasible": True} for i in range(max(k, 2) + 1)],
        "before": figures, "after": figures, "images_right": {"n": 100},
    }  # fmt: skip
    judge(document)
    return document


@pytest.mark.parametrize(
    ("middle", "said"), [((1, 1, 1), "k was 1 in at least"), ((0, 1, 3), "k was between 0 and 3 in")]
)
def test_how_stable_the_number_was_is_a_plain_sentence(middle: tuple[int, int, int], said: str) -> None:
    selection = {
        "choose": "best",
        "standard_error": 0.01,
        "middle": middle,
        "resamples": 1000,
        "images": 30,
        "same": 1.0,
    }
    document = {"selection": {**selection, "none": 0.0}, "k": 1, "curve": [{}, {}]}
    assert said in " ".join(selection_said(document))


def test_an_improvement_must_be_shown_on_the_report_images() -> None:
    assert judged(2, 0.1, 0.02, 0.2)["outcome"] == "repaired"
    for document in (judged(2, 0.1, 0.0, 0.2), judged(2, 0.1, -0.01, 0.2), judged(2, -0.1, -0.2, 0.0)):
        assert document["outcome"] == "no_repair_found"
        assert "not shown" in document["reasons"][0]
    for document in (judged(2, -0.1, -0.2, -0.05), judged(2, 0.1, 0.05, 0.2, goal="lower")):
        assert document["outcome"] == "no_repair_found"
        assert document["reasons"][0].endswith("it got worse.")
    assert judged(2, -0.1, -0.2, -0.02, goal="lower")["outcome"] == "repaired"
    assert judged(2, -0.1, -0.2, 0.0, goal="lower")["outcome"] == "no_repair_found"
    assert judged(2, 0.1, 0.02, 0.2, goal="lower")["outcome"] == "no_repair_found"
    assert "select" in judged(0, 0, 0, 0)["reasons"][0]
    assert "No filter" in judged(0, 0, 0, 0, culprits=0)["reasons"][0]


def test_holm_over_the_rows_of_a_table() -> None:
    """Three groups; only the first changed. Holm: the smallest p three times, never above 1."""
    groups = np.repeat([0, 1, 2], 40)
    before, after = np.ones(120, bool), np.ones(120, bool)
    before[:10] = False
    rows = group_table(["a", "b", "c", "absent"], before, after, groups)
    assert [row["name"] for row in rows] == ["a", "b", "c"]
    assert rows[0]["p"] == pytest.approx(2 / 2**10)
    assert rows[0]["p_holm"] == pytest.approx(3 * 2 / 2**10)
    assert rows[1]["p_holm"] == 1.0
    assert (rows[0]["won"], rows[0]["lost"]) == (10, 0)
    assert rows[0]["before_interval"][0] < 0.75 < rows[0]["before_interval"][1]
    assert rows[0]["size"] == "few"


def test_cells_of_few_images_are_resampled_together() -> None:
    cells = np.array([0, 0, 0, 0, 1, 2, 2])
    pooled = resampling_cells(cells)
    assert len(set(pooled[:4])) == 1
    assert len(set(pooled[4:])) == 1
    assert pooled[0] != pooled[4]


LOGITS = torch.tensor([[2.0, 0.0, 0.0], [1.0, 0.5, 0.0], [0.0, 3.0, 0.0], [1.0, 0.8, 0.0], [0.0, 0.0, 4.0]])
LABELS = np.array([0, 1, 1, 1, 2])


def test_the_logit_shift_finds_the_offset_that_mends_all() -> None:
    offsets, how = logit_shift(LOGITS, lambda predicted, _: True, lambda p: float((p == LABELS).mean()))
    assert (shifted_predictions(LOGITS, offsets) == LABELS).all()
    assert "coordinate" in how


def test_the_logit_shift_keeps_the_limits() -> None:
    """Raising recall of class 1 without a limit sacrifices class 0; with one it does not."""
    recall = lambda p: float((p[LABELS == 1] == 1).mean()) - 0.01 * float((p == 0).mean())  # noqa: E731
    free, _ = logit_shift(LOGITS, lambda *_: True, recall)
    assert shifted_predictions(LOGITS, free)[0] != 0
    kept, _ = logit_shift(LOGITS, lambda p, _: p[0] == 0, recall)
    assert shifted_predictions(LOGITS, kept)[0] == 0
    none, _ = logit_shift(LOGITS, lambda *_: False, recall)
    assert not none.any()


def test_the_logit_shift_of_a_single_logit_and_of_many_classes() -> None:
    single = torch.tensor([[-0.3], [0.4], [-2.0]])
    offsets, _ = logit_shift(single, lambda *_: True, lambda p: float((p == [1, 1, 0]).mean()))
    assert shifted_predictions(single, offsets).tolist() == [1, 1, 0]
    many = torch.randn(200, 25, generator=torch.Generator().manual_seed(0))
    many[:, 3] += 2
    labels = np.argmax(many.numpy() - 2 * (np.arange(25) == 3), axis=1)
    before = float((many.argmax(1).numpy() == labels).mean())
    offsets, how = logit_shift(many, lambda *_: True, lambda p: float((p == labels).mean()))
    assert "prior" in how
    assert float((shifted_predictions(many, offsets) == labels).mean()) > before + 0.2
