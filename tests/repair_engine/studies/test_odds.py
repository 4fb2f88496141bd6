"""Equalized odds on the report images: figures, interval, files and pages, beside plain counts."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from repair_engine.documents import gates
from repair_engine.documents.reasons import ends_of, judged, not_shown, reasons_of
from repair_engine.errors import BadInput
from repair_engine.pages.fairness_wording import odds_said
from repair_engine.pages.gate_wording import summary
from repair_engine.pages.repair_page import render
from repair_engine.pages.repair_wording import headline, selection_said
from repair_engine.pages.text import repair_text
from repair_engine.studies import odds
from tests.repair_engine import tiny
from tests.repair_engine.pages.pages import Page
from tests.repair_engine.tiny import World, call, check_verified, rows_of

METRIC = "subgroup-recall:ground"
CLASSES = ("ant", "bee", "cat")
DIFFERENCE = "the equalized odds difference"
Told = dict[str, Any]


def rate(labels: Sequence[str], predicted: Sequence[str], rows: Sequence[int], of: str, own: bool) -> tuple[int, int]:
    """How many of some images of a class (or of the others) are predicted as it, and how many they are."""
    mine = [i for i in rows if (labels[i] == of) == own]
    return sum(predicted[i] == of for i in mine), len(mine)


def largest(labels: Sequence[str], predicted: Sequence[str], groups: Sequence[str]) -> float:
    found = 0.0
    for of in CLASSES:
        for own in (True, False):
            rates = []
            for group in sorted(set(groups)):
                rows = [i for i, name in enumerate(groups) if name == group]
                hits, n = rate(labels, predicted, rows, of, own)
                rates += [hits / n] if n >= 30 else []
            found = max(found, max(rates) - min(rates))
    return found


def one_class_apart() -> tuple[list[str], np.ndarray, np.ndarray, np.ndarray]:
    """Ants of group b are recognised in 80 of 200 cases, then in 140; all else always."""
    labels = np.tile(np.repeat([0, 1], 200), 2)
    before, after = labels.copy(), labels.copy()
    before[400:520] = 1
    after[500:560] = 1
    return ["a"] * 400 + ["b"] * 400, labels, before, after


def test_figures_and_the_closed_form_of_the_interval() -> None:
    """Where one difference is far above all others, the change is that of one mean of 200 images, with a band."""
    groups, labels, before, after = one_class_apart()
    found, rows = odds.describe(groups, CLASSES, labels, before, after, seed=1)
    assert found is not None
    assert found["before"] == {
        "difference": pytest.approx(0.6), "rate": "true positive rate", "of": "ant", "least": "b", "largest": "a"
    }  # fmt: skip
    assert found["after"]["difference"] == pytest.approx(0.3)
    change, paired = found["change"], (before == labels).astype(float) - (after == labels)
    assert change["value"] == pytest.approx(-0.3)
    error = paired[400:600].std(ddof=1) / np.sqrt(200)
    assert 0.95 < (change["upper"] - change["lower"]) / (2 * 1.96 * error) < 1.35
    assert found["left_out"] == []
    assert [(row["of"], row["subgroup"]) for row in rows] == [("ant", "a"), ("ant", "b"), ("bee", "a"), ("bee", "b")]
    assert rows[1]["true"] == {"n": 200, "before": 0.4, "after": 0.7, "counts": True}
    assert rows[3]["false"] == {"n": 200, "before": 0.6, "after": 0.3, "counts": True}
    wider, _ = odds.describe(groups, CLASSES, labels, before, after, seed=1, level=0.99)
    assert wider is not None
    assert wider["change"]["lower"] < change["lower"]
    assert wider["change"]["level"] == 0.99


def test_nothing_changed_is_no_change() -> None:
    groups, labels, before, _ = one_class_apart()
    found, _ = odds.describe(groups, CLASSES, labels, before, before, seed=1)
    assert found is not None
    assert (found["change"]["value"], found["change"]["lower"], found["change"]["upper"]) == (0, 0, 0)


def test_resamples_in_chunks_are_the_same_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    groups, labels, before, after = one_class_apart()
    whole, _ = odds.describe(groups, CLASSES, labels, before, after, seed=1)
    monkeypatch.setattr(odds, "_CELLS_AT_ONCE", 70_000)
    parts, _ = odds.describe(groups, CLASSES, labels, before, after, seed=1)
    assert whole is not None
    assert parts is not None
    for end in ("lower", "upper"):
        assert parts["change"][end] == pytest.approx(whole["change"][end], abs=0.02)  # type: ignore[literal-required]


def test_rates_of_few_images_are_named_and_left_out() -> None:
    groups, labels, before, after = one_class_apart()
    some = np.r_[0:400, 400:420, 600:800]  # twenty ants in b
    few = [groups[i] for i in some], CLASSES, labels[some], before[some], after[some]
    assert odds.describe(*few, seed=1)[0] is None  # no class has both rates in both subgroups
    more = np.r_[some, 0:400]  # a third subgroup, c
    named = [*few[0], *["c"] * 400]
    found, rows = odds.describe(named, CLASSES, labels[more], before[more], after[more], seed=1)
    assert found is not None
    assert found["left_out"] == [
        "the true positive rate of ant in b (n = 20)", "the false positive rate of bee in b (n = 20)"
    ]  # fmt: skip
    assert found["before"]["difference"] == 0  # a and c are the same
    assert [row["true"]["counts"] for row in rows] == [True, False, True, True, True, True]


def test_of_a_class_in_no_image_there_is_no_true_positive_rate() -> None:
    groups, labels, before, after = one_class_apart()
    after = after.copy()
    after[0] = 2
    rows = odds.describe(groups, CLASSES, labels, before, after, seed=1)[1]
    assert rows[4]["of"] == "cat"
    assert rows[4]["true"] == {"n": 0, "before": None, "after": None, "counts": False}
    assert rows[4]["false"] == {"n": 400, "before": 0.0, "after": 1 / 400, "counts": True}


@pytest.fixture(scope="module")
def ample(tmp_path_factory: pytest.TempPathFactory) -> World:
    """Enough images for 30 of each class on each ground among the select images."""
    return tiny.make_sabotaged(tmp_path_factory.mktemp("ample"), tiny.images(1200, seed=1))


@pytest.fixture(scope="module")
def original(ample: World, tmp_path_factory: pytest.TempPathFactory, quick_module: None) -> Path:
    out = tmp_path_factory.mktemp("repaired")
    asked = ample.argv("repair", "--json", out=str(out), metric=METRIC, budget="20000", goal="equalized-odds")
    assert call(asked).code == 0
    return out


@pytest.fixture
def repaired(original: Path, tmp_path: Path) -> tuple[Told, Path]:
    """A copy, to be tampered with."""
    out = Path(shutil.copytree(original, tmp_path / "got"))
    return json.loads((out / "report.json").read_text()), out


def test_the_report_has_what_the_rows_give(repaired: tuple[Told, Path]) -> None:
    document, out = repaired
    rows = [row for row in rows_of(out / "predictions.csv") if row["split"] == "report"]
    labels, groups = ([row[key] for row in rows] for key in ("label", "subgroup"))
    found = document["fairness"]["equalized_odds"]
    ends = []
    for when in ("before", "after"):
        predicted = [row[f"predicted_{when}"] for row in rows]
        ends.append(largest(labels, predicted, groups))
        assert found[when]["difference"] == pytest.approx(ends[-1])
        for row in document["fairness"]["rates"]:
            inside = [i for i, name in enumerate(groups) if name == row["subgroup"]]
            for kind, own in (("true", True), ("false", False)):
                hits, n = rate(labels, predicted, inside, row["of"], own)
                assert row[kind]["n"] == n
                assert row[kind][when] == pytest.approx(hits / n)
    assert found["change"]["value"] == pytest.approx(ends[1] - ends[0])
    assert found["change"]["upper"] < 0
    assert document["outcome"] == "repaired"
    assert ends_of(document) == pytest.approx(tuple(ends))
    table = rows_of(out / "rates.csv")
    assert len(table) == 2 * len(document["fairness"]["rates"])
    first = document["fairness"]["rates"][0]
    assert table[1] == {
        "class": first["of"], "subgroup": first["subgroup"], "rate": "false positive", "n": str(first["false"]["n"]),
        "before": f"{first['false']['before']:.6f}", "after": f"{first['false']['after']:.6f}", "counts": "yes",
    }  # fmt: skip
    plan = json.loads((out / "repair.json").read_text())
    assert plan["fairness"] == {"equalized_odds": found}
    assert plan["limits"]["goal"] == "equalized-odds"


def test_it_is_chosen_by_the_smallest_difference_within_the_limits(repaired: tuple[Told, Path]) -> None:
    document, _ = repaired
    curve, k = document["curve"], document["k"]
    assert curve[k]["goal"] == min(step["goal"] for step in curve if step["feasible"])
    assert curve[k]["goal"] < curve[0]["goal"]


def test_text_and_page_say_it(repaired: tuple[Told, Path]) -> None:
    document, out = repaired
    _, what, lower = judged(document)
    assert (what, lower) == (DIFFERENCE, True)
    before, after = (100 * document["fairness"]["equalized_odds"][when]["difference"] for when in ("before", "after"))
    said = f"By {DIFFERENCE} it was chosen: a change of"
    for text in (headline(document), repair_text(document)):
        assert said in text
        assert f"from {before:.1f}% to {after:.1f}%." in text
    assert "best equalized odds difference within the limits" in " ".join(selection_said(document))
    page = Page((out / "report.html").read_text())
    assert said in page.text
    assert page.text.count("Equalized odds") >= 1
    shown = page.table("True and false positive rates (TPR, FPR) by class and subgroup")
    for cells, row in zip(shown, document["fairness"]["rates"], strict=True):
        assert (cells["class"], cells["subgroup"], cells["note"]) == (row["of"], row["subgroup"], "")
        assert (cells["n of the class"], cells["n of others"]) == (str(row["true"]["n"]), str(row["false"]["n"]))
        for name, kind in (("TPR", "true"), ("FPR", "false")):
            for when in ("before", "after"):
                assert cells[f"{name} {when}"] == f"{100 * row[kind][when]:.1f}%"
    glance = page.table("Report images, before and after the repair")
    assert "equalized odds difference" in glance[1]["figure"]
    assert (glance[1]["before"], glance[1]["after"]) == (f"{before:.1f}%", f"{after:.1f}%")
    comment = summary(gates.judge(document, gates.read([{"metric": "accuracy", "min": 0}]), "0" * 64), document)
    assert f"| equalized odds difference | {document['images_right']['n']} | {before:.1f}% | {after:.1f}% |" in comment


def test_a_change_that_may_be_nothing_is_no_improvement(repaired: tuple[Told, Path]) -> None:
    document, _ = repaired
    document["fairness"]["equalized_odds"]["change"] |= {"lower": -0.01, "upper": 0.01}
    assert not_shown(document) == "an improvement is not shown"
    assert DIFFERENCE in reasons_of(document)[0]
    document["fairness"]["equalized_odds"] = None
    assert reasons_of(document)[0].startswith("No class has 30 report images of its own and 30 of others")
    assert "is not given: no class has 30" in odds_said(document["fairness"], True)[0]
    assert "The equalized odds difference is not given" in Page(render(document)).text


def test_without_a_change_the_table_is_of_the_intact_model(repaired: tuple[Told, Path]) -> None:
    document, _ = repaired
    said = odds_said(document["fairness"], False)
    assert said[1].startswith("It is ")
    document["edit"]["used"] = None
    intact = Page(render(document)).table("True and false positive rates (TPR, FPR) by class and subgroup")
    assert "TPR before" in intact[0]
    assert "TPR after" not in intact[0]
    document["edit"]["used"] = "ablate"
    document["fairness"]["equalized_odds"]["left_out"] = [f"the rate of {i} in b (n = 1)" for i in range(9)]
    assert odds_said(document["fairness"], True)[-1].endswith("of 5 in b (n = 1) and 3 more.")
    document["fairness"]["rates"][0]["true"]["counts"] = False
    assert "fewer than 30 images: no true positive rate counts" in Page(render(document)).text
    document["fairness"]["rates"] *= 11
    assert "rates of all classes in all subgroups, 66 rows" in Page(render(document)).text


def test_a_gate_on_it(repaired: tuple[Told, Path]) -> None:
    document, _ = repaired
    found = document["fairness"]["equalized_odds"]
    after = gates.judge(document, gates.read([{"metric": "equalized-odds", "max": 1}]), "0" * 64)["gates"][0]
    assert after["value"] == found["after"]["difference"]
    gate = {"metric": "equalized-odds", "change": True, "bound": "upper", "max": 0}
    assert gates.judge(document, gates.read([gate]), "0" * 64)["verdict"] == "passed"
    document["fairness"]["equalized_odds"] = None
    none = gates.judge(document, gates.read([gate]), "0" * 64)["gates"][0]
    assert none["verdict"] == "failed"
    assert "no class has 30 report images" in none["why"]
    del document["fairness"]["equalized_odds"]
    document["limits"]["goal"] = "gap"
    with pytest.raises(BadInput, match="has no equalized-odds: its repair's goal is gap"):
        gates.judge(document, gates.read([gate]), "0" * 64)


@pytest.mark.parametrize(
    ("place", "said"),
    [
        (("equalized_odds", "after", "difference"), "Equalized odds difference after"),
        (("equalized_odds", "change", "value"), "Change of equalized odds"),
        (("rates", 3, "false", "before"), "False positive rate of"),
        (("gap", "before"), "Gap between the subgroups before"),
        (("worst", "after", "recall"), "Recall of the worst subgroup after"),
        (("rows", 0, "after"), "Mean recall of"),
    ],
)
def test_verify_derives_it_again(repaired: tuple[Told, Path], place: tuple, said: str) -> None:
    document, out = repaired
    assert check_verified(out)["figures"] == "passed"
    part = document["fairness"]
    for key in place[:-1]:
        part = part[key]
    part[place[-1]] += 0.01
    (out / "report.json").write_text(json.dumps(document))
    result = call(["verify", str(out), "--json"])
    assert result.code == 1
    checks = {check["name"]: check for check in result.document["checks"]}
    assert checks["figures"]["verdict"] == "failed"
    assert checks["figures"]["text"].startswith(said)
    assert (checks["plan"]["verdict"] == "failed") == (place[0] == "equalized_odds")


@pytest.mark.usefixtures("quick")
def test_edits_are_chosen_by_it_too(ample: World, tmp_path: Path) -> None:
    asked = {"metric": METRIC, "budget": "8000", "goal": "equalized-odds", "edit": "auto"}
    document = call(ample.argv("repair", "--json", out=str(tmp_path / "out"), **asked)).document
    made = [row for row in document["edit"]["rows"] if "not_made" not in row]
    assert made
    assert all(0 <= row["goal"] < document["curve"][0]["goal"] for row in made)
    assert min(made, key=lambda row: row["goal"])["behind_best"] == 0
    page = Page((tmp_path / "out" / "report.html").read_text())
    shown = page.table("Edits on the select images")
    assert shown[0][DIFFERENCE] == f"{100 * document['edit']['rows'][0]['goal']:.1f}%"
