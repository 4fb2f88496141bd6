"""`repair --filters`: filters chosen by hand are valued, ablated and reported on like found ones."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from repair_engine.edits.deciding import Decision
from repair_engine.search import calibrate
from repair_engine.verbs import editing
from tests.repair_engine.tiny import Sabotaged, World, call, rows_of

pytestmark = pytest.mark.usefixtures("quick_module")


def by_hand(world: World, filters: str, out: Path, **options: str):
    given = {"metric": "subgroup-recall:ground", "seed": "3", "budget": "9000", "filters": filters, "out": str(out)}
    return call(world.argv("repair", "--json", **(given | options)))


def test_the_named_filters_are_ablated_and_the_figures_are_plain_torchs(sabotaged: World, tmp_path: Path) -> None:
    result = by_hand(sabotaged, "spy:0, stem:1", tmp_path / "out")
    assert result.code == 0, result.err
    document = result.document
    assert [row["id"] for row in document["culprits"]] == ["spy:0", "stem:1"]
    assert all(row["ablated"] and row["samples"] > 0 for row in document["culprits"])
    assert document["k"] == 2
    assert document["by_hand"]
    assert document["run"]["evaluations"] <= 9000
    module = Sabotaged().eval()
    module.load_state_dict(load_file(tmp_path / "out" / "repaired.safetensors"))
    rows = rows_of(tmp_path / "out" / "predictions.csv")
    with torch.inference_mode():
        classes = module(sabotaged.images.tensor([row["file_name"] for row in rows])).argmax(1).tolist()
    names = ("ant", "bee", "cat")
    assert [names[c] for c in classes] == [row["predicted_after"] for row in rows]
    assert "chosen by hand" in (tmp_path / "out" / "report.html").read_text()


def test_a_slow_machine_chooses_a_budget_that_suffices(
    sabotaged: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However little fits into the time, the filters chosen by hand are valued."""
    monkeypatch.setattr(calibrate, "measure", lambda *_: calibrate.Rates(1.0, 1.0, 1.0, 1.0))
    monkeypatch.setattr(calibrate, "LEAST", 1)
    options = {"metric": "subgroup-recall:ground", "filters": "spy:0,stem:1", "out": str(tmp_path / "out")}
    result = call(sabotaged.argv("repair", "--json", **options))
    assert result.code == 0, result.err
    assert all(row["samples"] > 0 for row in result.document["culprits"])


def test_key_and_strip_prefix_hold_from_reading_to_apply(sabotaged: World, tmp_path: Path) -> None:
    """The written file is read back in a fresh process, and `apply` finds both options in repair.json."""
    inside = {f"net.{key}": value for key, value in load_file(sabotaged.model).items()}
    stored = {"teacher": {"temperature": torch.ones(1), **inside}, "student": {"x": torch.ones(1)}, "epoch": 3}
    model, out = tmp_path / "m.pth", tmp_path / "out"
    torch.save(stored, model)
    refused = by_hand(sabotaged, "spy:0", out, model=str(model))
    assert refused.code == 2
    assert "--key teacher" in refused.err
    refused = by_hand(sabotaged, "spy:0", out, model=str(model), key="teacher")
    assert "--strip-prefix net." in refused.err
    result = by_hand(sabotaged, "spy:0", out, model=str(model), key="teacher", strip_prefix="net.")
    assert result.code == 0, result.err
    written = torch.load(out / "repaired.pth", weights_only=True)
    assert list(written) == ["teacher", "epoch"]
    assert list(written["teacher"]) == list(stored["teacher"])
    where = ["--model", str(model), "--plan", str(out / "repair.json"), "--out", str(tmp_path / "again.pth")]
    again = call(["apply", *where, "--register", f"net={sabotaged.factory}", "--json"])
    assert again.code == 0, again.err
    assert again.document["same_as_repaired"] is True


def test_a_choice_that_does_not_help_is_written_and_marked(sabotaged: World, tmp_path: Path) -> None:
    """Whatever the verdict: engine, JSON, page and text say what it is worth, and the file is the masked network's."""
    result = by_hand(sabotaged, "stem:0,stem:1,stem:2", tmp_path / "out")
    assert result.code == 5, result.err
    document = result.document
    assert document["outcome"] == "not_shown_to_help"
    assert document["reasons"]
    assert np.isfinite(document["gain"]["value"])
    assert document["verification"]["different_predictions"] == 0
    for name in ("report.json", "repair.json"):
        assert json.loads((tmp_path / "out" / name).read_text())["outcome"] == "not_shown_to_help"
    page = (tmp_path / "out" / "report.html").read_text()
    assert "<h1>Written, not shown to help</h1>" in page
    assert "The checkpoint was written because its filters were chosen by hand" in page
    module = Sabotaged().eval()
    module.load_state_dict(load_file(tmp_path / "out" / "repaired.safetensors"))
    rows = rows_of(tmp_path / "out" / "predictions.csv")
    with torch.inference_mode():
        classes = module(sabotaged.images.tensor([row["file_name"] for row in rows])).argmax(1).tolist()
    assert [("ant", "bee", "cat")[c] for c in classes] == [row["predicted_after"] for row in rows]
    again = ["--model", str(sabotaged.model), "--plan", str(tmp_path / "out" / "repair.json")]
    applied = call(["apply", *again, "--out", str(tmp_path / "b.safetensors"), "--json",
                    "--register", f"net={sabotaged.factory}"])  # fmt: skip
    assert applied.document["same_as_repaired"] is True


def test_a_choice_that_helps_and_breaks_a_limit_says_which(sabotaged: World, tmp_path: Path) -> None:
    filters = "spy:0,stem:0,stem:1"
    strict = by_hand(sabotaged, filters, tmp_path / "a", max_clean_drop="0", max_subgroup_drop="0")
    step = strict.document["curve"][3]
    assert not step["feasible"]
    assert strict.code == 5
    assert strict.document["outcome"] == "not_shown_to_help"
    assert "a limit is broken" in strict.document["reasons"][-1]
    assert (tmp_path / "a" / "repaired.safetensors").exists()
    loose = by_hand(sabotaged, filters, tmp_path / "b", max_clean_drop="1", max_subgroup_drop="1")
    assert not any("limit" in reason for reason in loose.document["reasons"])
    text = call(sabotaged.argv("repair", metric="subgroup-recall:ground", seed="3", budget="9000", filters=filters,
                               max_clean_drop="0", max_subgroup_drop="0", out=str(tmp_path / "c")))  # fmt: skip
    assert text.out.startswith("NOT SHOWN TO HELP, written because its filters were chosen by hand: ")
    assert "Checkpoint: " in text.out


def test_where_another_edit_finds_nothing_the_choice_is_written(
    sabotaged: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(editing, "decide", lambda _, asked: Decision(asked, None, [], 0))
    result = by_hand(sabotaged, "spy:0,stem:1", tmp_path / "out", edit="ablate+biases")
    assert result.document["edit"]["asked"] == "ablate+biases"
    assert result.document["edit"]["used"] == "ablate"
    assert result.document["k"] == 2
    assert (tmp_path / "out" / "repaired.safetensors").exists()


@pytest.mark.parametrize(
    ("filters", "options", "problem"),
    [
        ("spy:7", {}, "channels 0 to 0"),
        ("ghost:0", {}, "names no filter"),
        ("spy:0,spy:0", {}, "twice"),
        ("spy:0", {"budget": "40"}, "Give --budget"),
    ],
)
def test_what_cannot_be_ablated(sabotaged: World, tmp_path: Path, filters: str, options: dict, problem: str) -> None:
    result = by_hand(sabotaged, filters, tmp_path / "out", **options)
    assert result.code == 2
    assert problem in result.err


def test_a_misspelt_filter_is_refused_before_anything_costly(
    sabotaged: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "repair_engine.case.preparing.means_of", lambda *_: pytest.fail("constants were computed first")
    )
    result = by_hand(sabotaged, "spy:0,sten:1", tmp_path / "out")
    assert result.code == 2
    assert "'sten:1' names no filter" in result.document["error"]
    assert result.document["mend"].startswith("Did you mean stem? ")
