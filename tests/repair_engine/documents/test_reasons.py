"""Why a repair is none, in sentences that its own rows bear out; and what looser limits would have allowed."""

from __future__ import annotations

import pytest

from repair_engine.documents.reasons import looser, reasons_of
from repair_engine.documents.repair import judge
from repair_engine.pages.repair_wording import headline, looser_said, title, tried
from tests.repair_engine.pages.documents import document


def step(k: int, metric: float, clean: float = 0.8, guard: float | None = None, drop: float | None = 0.0) -> dict:
    fine = 0.8 - clean <= 0.02 + 1e-12 and (guard is None or 0.7 - guard <= 0.02) and (drop or 0) <= 0.02
    return {"k": k, "objective": metric, "clean": clean, "guard": guard, "subgroup_drop": drop, "feasible": fine}


def none_of(*steps: dict, selection: dict | None = None, **more: object) -> dict:
    made = document(k=0)
    made["limits"] |= {"max_clean_drop": 0.02, "max_subgroup_drop": 0.02}
    made |= {"curve": list(steps), "selection": selection, "by_hand": False, **more}
    judge(made)
    return made


def test_nothing_gains() -> None:
    made = none_of(step(0, 0.5), step(1, 0.5), step(2, 0.4))
    assert made["outcome"] == "no_repair_found"
    assert made["reasons"] == ["On the select images no number of culprits, 1 to 2, improves the recall of shirt."]
    assert looser(made) == []


def test_what_gains_breaks_a_limit() -> None:
    made = none_of(step(0, 0.5), step(1, 0.52, 0.75), step(2, 0.56, 0.769), step(3, 0.49))
    (reason,) = made["reasons"]
    assert reason == (
        "On the select images 2 of 3 culprits would change the recall of shirt by +6.0 points, but each of the 2 that "
        "gain breaks a limit; at k = 2 clean accuracy falls by 3.1 points, where 2 may be lost."
    )
    assert looser(made) == [
        {"max_clean_drop": 0.031, "max_subgroup_drop": None, "k": 2, "change": pytest.approx(0.06), "metric": 0.56}
    ]
    assert looser_said(made) == [
        "With a clean drop of 3.1 points allowed, k = 2 changes the recall of shirt by +6.0 points to 56.0% on the "
        "select images."
    ]
    assert reason in headline(made)
    assert "outside the limits" in " ".join(tried(made))


def test_the_gain_is_within_one_standard_error() -> None:
    """The case in which an earlier sentence said that nothing improved the metric."""
    found = {"best": 2, "standard_error": 0.03, "choose": "one-se"}
    made = none_of(step(0, 0.5), step(1, 0.51), step(2, 0.52), selection=found)
    (reason,) = made["reasons"]
    assert "the best number of culprits, 2, gains +2.0 points, less than one standard error (3.0 points)" in reason
    assert "no number" not in headline(made).lower()


def test_a_metric_that_is_to_be_lowered() -> None:
    made = none_of(step(0, 0.5), step(1, 0.3, 0.7), metric={**document("attack-success")["metric"]})
    assert "would change the success of the attack by −20.0 points" in made["reasons"][0]
    assert looser(made)[0] == {
        "max_clean_drop": 0.1, "max_subgroup_drop": None, "k": 1, "change": pytest.approx(-0.2), "metric": 0.3,
    }  # fmt: skip


def test_offers_rise_and_are_few() -> None:
    """Each costs more and gives more than the one before; a prefix that costs more for less is no offer."""
    steps = [step(0, 0.5)] + [step(k, 0.5 + k / 100, 0.78 - k / 100, drop=k / 20) for k in range(1, 9)]
    steps += [step(9, 0.51, 0.5)]
    offers = looser(none_of(*steps))
    assert [offer["k"] for offer in offers] == [1, 5, 8] or len(offers) == 3
    assert [offer["change"] for offer in offers] == sorted(offer["change"] for offer in offers)
    drops = [offer["max_clean_drop"] for offer in offers]
    assert drops == sorted(drops)
    assert all(offer["max_subgroup_drop"] == pytest.approx(offer["k"] / 20) for offer in offers)


def test_the_guard_set_and_subgroups_count() -> None:
    made = none_of(step(0, 0.5, guard=0.7), step(1, 0.6, guard=0.6, drop=0.3))
    assert "accuracy on the guard set falls by 10.0 points" in made["reasons"][0]
    assert "the recall of a subgroup falls by 30.0 points" in made["reasons"][0]
    (offer,) = looser(made)
    assert (offer["max_clean_drop"], offer["max_subgroup_drop"]) == (0.1, 0.3)


def test_by_hand_it_is_written_whatever_it_is_worth() -> None:
    made = document(k=2, gain=0.001)
    made |= {"by_hand": True}
    made["curve"][2] |= {"clean": 0.5, "feasible": False}
    judge(made)
    assert made["outcome"] == "not_shown_to_help"
    assert len(made["reasons"]) == 2
    assert title(made) == "Written, not shown to help"
    said = headline(made)
    assert "an improvement is not shown." in said
    assert "a limit is broken" in said
    assert "The checkpoint was written" in said
    found = document(k=2) | {"by_hand": True}
    found["curve"][2] |= {"clean": found["curve"][0]["clean"]}
    judge(found)
    assert (found["outcome"], reasons_of(found)) == ("repaired", [])


def test_a_limit_that_is_broken_on_the_report_images_stands_in_the_headline() -> None:
    made = document("subgroup-recall:ground")
    judge(made)
    assert made["beyond_limits"] == []
    assert title(made) == "Repaired"
    assert "breaks" not in headline(made)
    made["after"]["report"]["accuracy"] = made["before"]["report"]["accuracy"] - 0.02  # exactly the limit is within it
    made["guard"] = {"n": 400, "before": 0.9, "after": 0.866, "change": {}}
    made["limits"]["max_subgroup_drop"] = 0.01
    judge(made)
    assert made["outcome"] == "repaired"
    assert [(row["what"], row["n"]) for row in made["beyond_limits"]] == [
        ("accuracy on the guard set", 400),
        ("the recall of dark", 263),
    ]
    assert title(made) == "Repaired, beyond a limit"
    assert (
        "On the report images it breaks limits: accuracy on the guard set falls by 3.4 points, where 2 may be lost and "
        "the recall of dark falls by 1.5 points, where 1 may be lost."
    ) in headline(made)
    assert not [said for said in made["findings"] if "guard" in said], "it is said once"
