"""Every figure in the page is the document's figure."""

import pytest

from repair_engine.documents.repair import judge
from repair_engine.pages.interactions import together_said
from repair_engine.pages.repair_page import render, sections
from repair_engine.pages.repair_wording import tried
from repair_engine.studies.attack_rows import NO_SURROGATE
from tests.repair_engine.pages.documents import METRICS, document, with_guard
from tests.repair_engine.pages.pages import Page


def number(cell: str) -> float:
    return float(cell.split()[0].replace("−", "-").replace(",", "").rstrip("%"))


@pytest.mark.parametrize("metric", METRICS)
def test_at_a_glance(metric):
    made = with_guard(document(metric))
    rows = Page(render(made)).table("Report images, before and after the repair")
    assert number(rows[0]["before"]) == pytest.approx(100 * made["before"]["report"]["metric"], abs=0.05)
    assert number(rows[0]["after"]) == pytest.approx(100 * made["after"]["report"]["metric"], abs=0.05)
    assert number(rows[0]["change, points"]) == pytest.approx(100 * made["gain"]["value"], abs=0.05)
    low, high = rows[0]["95% interval"].split(" to ")
    assert number(low) == pytest.approx(100 * made["gain"]["lower"], abs=0.05)
    assert number(high) == pytest.approx(100 * made["gain"]["upper"], abs=0.05)
    assert [r["figure"].split()[0] for r in rows[1:]] == (["clean"] if metric != "accuracy" else []) + ["accuracy"]
    assert (rows[-1]["images"], rows[-1]["before"], rows[-1]["after"]) == ("400", "90.0%", "85.0%")
    assert ("lower is better" in rows[0]["figure"]) == (metric == "attack-success")


@pytest.mark.parametrize("which", ["subgroups", "classes"])
def test_group_tables(which):
    made = document("subgroup-recall:ground")
    shown = Page(render(made)).table(f"Recall of {which}, 95% Wilson")
    assert len(shown) == len(made["groups"][which])
    for cells, row in zip(shown, made["groups"][which]):
        assert (cells["name"], cells["n"]) == (row["name"], str(row["n"]))
        for when in ("before", "after"):
            rate, low, _, high = cells[f"recall {when}"].split()
            ends = row[f"{when}_interval"]
            assert [number(v) for v in (rate, low, high)] == pytest.approx(
                [100 * v for v in (row[when], *ends)], abs=0.06
            )
        assert number(cells["change, points"]) == pytest.approx(100 * row["change"], abs=0.06)
        if row["p_holm"] < 0.001:
            assert cells["p (Holm)"] == "< 0.001"
        else:
            assert float(cells["p (Holm)"]) == pytest.approx(row["p_holm"], abs=6e-4)
        flagged = {"ok": "", "few": "fewer than 100", "too few": "fewer than 30"}[row["size"]]
        assert cells["note"].startswith(flagged)
        assert bool(cells["note"]) == bool(flagged)


def test_unchanged_groups_show_one_column_of_recalls():
    rows = Page(render(document("recall:shirt", k=0))).table("Recall of classes")
    assert list(rows[0]) == ["name", "n", "recall before", "note"]


def test_controls_and_their_verdicts():
    for metric in ("recall:shirt", "attack-success"):
        made = document(metric)
        page = Page(render(made))
        rows = page.table("Report images; rankings of up to 2 filters")
        assert [r[""] for r in rows] == ["this repair", *(c["name"] for c in made["controls"])]
        assert [r["verdict"] for r in rows] == ["", "repair better", "not told apart", "control better"]
        for cells, row in zip(rows[1:], made["controls"]):
            assert number(cells[made["metric"]["text"]]) == pytest.approx(100 * row["metric"], abs=0.06)
            assert number(cells["clean accuracy"]) == pytest.approx(100 * row["accuracy"], abs=0.06)
        assert page.text.count("The repair is not shown to beat these controls: “leave-one-out”, “logit shift”.") == 2


def test_a_repair_that_beats_all_controls_is_said_to():
    made = document("recall:shirt")
    made["controls"] = made["controls"][:1]
    assert "does better on the report images than every control" in Page(render(made)).text


def test_every_prefix_is_listed_with_the_chosen_one():
    made = with_guard(document("subgroup-recall:ground", k=1))
    rows = Page(render(made)).table("Every prefix")
    for cells, step in zip(rows, made["curve"], strict=True):
        assert int(cells["k"]) == step["k"]
        assert number(cells[made["metric"]["text"]]) == pytest.approx(100 * step["objective"], abs=0.06)
        assert number(cells["clean accuracy"]) == pytest.approx(100 * step["clean"], abs=0.06)
        assert number(cells["guard set"]) == pytest.approx(100 * step["guard"], abs=0.06)
        assert number(cells["largest subgroup drop, points"]) == pytest.approx(100 * step["subgroup_drop"], abs=0.06)
        assert cells["within limits"] == ("yes" if step["feasible"] else "no")
        assert cells[""] == ("chosen" if step["k"] == 1 else "")


def test_culprits():
    made = document("recall:shirt")
    made["culprits"][3] |= {"value": None, "lower": None, "upper": None, "samples": 0}
    rows = Page(render(made)).table("Ranked candidates")
    for cells, row in zip(rows[:3], made["culprits"]):
        value, low, _, high = cells["value, interval"].split()
        ends = [row["value"], row["lower"], row["upper"]]
        assert [number(v) for v in (value, low, high)] == pytest.approx(ends, abs=6e-5)
        assert (cells["filter"], int(cells["rank"])) == (row["id"], row["rank"])
        assert number(cells["samples"]) == row["samples"]
        assert float(cells["constant"]) == row["constant"]
        assert cells["ablated"] == ("ablated" if row["ablated"] else "no")
    assert rows[3]["value, interval"] == "not sampled"
    assert "Of 4 candidates, 3 have an interval wholly below zero." in Page(render(made)).text


def test_attack_rows():
    made = document("attack-success")
    page = Page(render(made))
    rows = page.table("Attacks on the report images")
    assert [r["n"] for r in rows] == ["551", "", "551", "100 500 queries each"]
    assert [r["success before"].split()[0] for r in rows if r["success before"]] == ["55.0%", "55.0%", "60.0%"]
    assert [r["success after"].split()[0] for r in rows if r["success after"]] == ["35.0%", "50.1%", "40.0%"]
    assert [r["after"].split()[0] for r in rows if r["after"]] == ["41.0%", "22.0%", "30.0%"]
    assert rows[1]["attack"].endswith(NO_SURROGATE)
    assert "ε = 16/255, 30 steps of 0.8/255, no random start" in page.text
    assert "The attack no longer succeeds on 7 images and newly succeeds on 31" in page.text
    assert "On the repaired model: Queries beat gradients" in page.text
    findings = " ".join(made["findings"])
    assert (
        "A new white-box attack on the repaired model wins 50.1% of 551 images (before the repair: 55.0%)." in findings
    )
    assert "Attacks on the repaired model: Queries beat gradients" in findings
    assert "at most 500 queries per image and no gradients, on 100 of the images" in page.text
    assert "Not measured here" not in page.text


def test_attack_rows_of_an_earlier_version():
    """Reports that were written before there were four rows still show what they have, and what they lack."""
    made = document("attack-success")
    made["attack"]["rows"] = [
        {"name": "replay of the fixed set", "success": 0.35, "true_label": 0.41, "n": 551},
        {"name": "new white-box attack on the repaired model", "success": 0.5, "true_label": 0.22, "n": 551},
    ]
    del made["attack"]["self_tests"]
    del made["attack"]["settings"]["norm"]
    page = Page(render(made))
    rows = page.table("Attacks on the report images")
    assert [r["success after"] for r in rows] == ["35.0%", "50.0%"]
    assert "Not measured here: transfer from other models and a black-box attack." in page.text


def test_method_limits_and_files():
    made = with_guard(document("recall:shirt"))
    made["run"]["certificate"] = {
        "walks": 12, "intact": 0.9, "at_stop": 0.2, "all_ablated": 0.1, "missing": 0.1, "missing_error": 0.01,
    }  # fmt: skip
    made["run"]["something_new"] = "kept"
    text = Page(render(made)).text
    for said in (
        "score 1,125 images (values, constants), select 562 (choice of k), report 563",
        "300,000 evaluations (given); 299,123 spent, 32 images per draw",
        made["run"]["interval"]["text"],
        made["run"]["estimand"],
        "from 12 full walks",
        "seed 5, cpu, 1 thread",
        "--budget 300000 --seed 5",
        "something newkept",
        "may fall by at most 2 points",
        made["verification"]["how"],
        *("a" * 64, "b" * 64, "c" * 64, "d" * 64),
        "torch 2.14.1",
        "1 layer is not a player",
    ):
        assert said in text


def test_what_was_valued_is_said_of_this_run() -> None:
    found = document("recall:shirt", k=0)
    screened = {**found["run"], "screen": {"by": "gradients", "images": 9, "sampled": 364, "of": 2944}}
    assert "were screened, and 364 of them valued, with" in tried(found | {"run": screened})[0]
    said = " ".join(tried(found | {"by_hand": True}))
    assert "chosen by hand" in said
    assert "no other filter was valued" in said
    assert f"{found['model']['filters']:,} filters at" not in said


def test_values_that_are_not_known_are_no_figures() -> None:
    found = document("recall:shirt")
    for row in found["culprits"]:
        row |= {"value": -0.12345, "lower": -1.0, "upper": 1.0, "samples": 4}
    shown = next(part.body for part in sections(found) if part.ident == "culprits")
    assert "0.12345" not in shown
    assert "not known (4 samples)" in shown
    assert "Values of the ranked candidates" not in shown


@pytest.mark.parametrize("k", [0, 2])
def test_calibration(k: int) -> None:
    made = document("subgroup-recall:ground", k=k)
    found, page = made["calibration"], Page(render(made))
    nll, brier, excess, error = page.table("How far probabilities can be trusted")
    assert len(nll) == (5 if k else 2)
    for when in ("before", "after")[: 1 + bool(k)]:
        assert number(nll[when]) == pytest.approx(found["nll"][when], abs=6e-4)
        assert number(brier[when]) == pytest.approx(found["brier"][when], abs=6e-5)
        assert number(excess[when]) == pytest.approx(100 * found["overconfidence"][when], abs=0.06)
        assert number(error[when]) == pytest.approx(100 * found[when]["ece"], abs=0.06)
    groups = page.table("Confidence minus accuracy by subgroup")
    assert [(row["subgroup"], row["n"]) for row in groups] == [("dark", "263"), ("light", "300")]
    assert number(groups[0]["before"]) == pytest.approx(100 * found["subgroups"][0]["before"], abs=0.06)
    assert f"{found['before']['confidence']:.1%} sure" in page.text
    assert ("the repaired one is" in page.text) == bool(k)
    assert f"divided by {found['after']['temperature']:.2f}" in page.text


def test_growing_over_confidence_is_a_finding_and_said() -> None:
    made = document("accuracy", k=2)
    excess = made["calibration"]["overconfidence"]
    made["calibration"] = {
        **made["calibration"],
        "overconfidence": {**excess, "change": {**excess["change"], "value": 0.05, "lower": 0.01, "upper": 0.09}},
    }
    judge(made)
    assert any(said.startswith("Confidence exceeds accuracy by more") for said in made["findings"])
    assert "do not take thresholds on confidence over unchanged" in Page(render(made)).text


def test_how_culprits_work_together() -> None:
    made = document("recall:shirt", k=2)
    assert "How they work together" not in Page(render(made)).text, "an earlier version's report has none"

    def gain(value: float) -> dict[str, float]:
        return {"value": value, "lower": value - 0.01, "upper": value + 0.01, "level": 0.95}

    a, b = (row["id"] for row in made["culprits"][:2])
    pair = {"first": a, "second": b, "both": gain(0.12), "interaction": gain(0.1), "p": 1e-4, "p_holm": 2e-4}
    made["interactions"] = {
        "of": 3,
        "n": 180,
        "culprits": [{"id": a, "alone": gain(0.02), "last": gain(0.12)}, {"id": b, "alone": gain(0), "last": gain(0)}],
        "pairs": [{**pair, "kind": "only together"}],
        "evaluations": 900,
    }
    page = Page(render(made))
    assert "On 180 report images, 1 of the first 2 of 3 is shown to be needed" in page.text
    assert "Of 1 pair, 1 help only together" in page.text
    first, second = page.table("What each gains on the report images")
    assert first == {"filter": a, "ablated alone": "+2.0 +1.0 to +3.0", "lost without it": "+12.0 +11.0 to +13.0"}
    assert second["filter"] == b
    (row,) = page.table("Pairs that interact")
    assert (row["both, points"].split()[0], row["interaction, points"].split()[0]) == ("+12.0", "+10.0")
    assert (row["p (Holm)"], row["note"]) == ("< 0.001", "help only together")
    assert "of ablation alone" not in page.text
    assert "All of this is of ablation alone" in together_said(made["interactions"], "constants")[-1]
