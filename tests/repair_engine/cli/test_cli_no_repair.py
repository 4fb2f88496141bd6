"""No repair found: an answer with a report and no checkpoint, also where an earlier run left one."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from repair_engine.network import subject
from tests.repair_engine.tiny import World, call, rows_of

pytestmark = pytest.mark.usefixtures("quick_module")
WORKS = {"metric": "subgroup-recall:ground", "budget": "8000"}
NO_GAIN = {"metric": "recall:ant", "budget": "8000"}  # every ant is recognized already


def names(out: Path) -> set[str]:
    return {path.name for path in out.iterdir()}


def test_exit_code_5_with_report_and_predictions(sabotaged: World, tmp_path: Path) -> None:
    result = call(sabotaged.argv("repair", "--json", out=str(tmp_path), **NO_GAIN))
    assert result.code == 5
    document = result.document
    assert document["outcome"] == "no_repair_found"
    assert document["k"] == 0
    assert document["reasons"]
    assert "checkpoint" not in document["files"]
    assert names(tmp_path) >= {"repair.json", "report.json", "report.html", "predictions.csv"}
    assert not [name for name in names(tmp_path) if name.startswith("repaired")]
    rows = rows_of(tmp_path / "predictions.csv")
    assert len(rows) == 144
    assert all(row["predicted_before"] == row["predicted_after"] for row in rows)
    assert json.loads((tmp_path / "repair.json").read_text())["filters"] == []
    assert "No repair found" in call(sabotaged.argv("repair", out=str(tmp_path), **NO_GAIN)).out


def test_max_filters_bounds_the_prefixes(sabotaged: World, tmp_path: Path) -> None:
    options = {"metric": "subgroup-recall:ground", "budget": "8000", "max_clean_drop": "0", "max_filters": "1"}
    document = call(sabotaged.argv("repair", "--json", out=str(tmp_path / "a"), **options)).document
    assert [step["k"] for step in document["curve"]] == [0, 1]
    assert document["k"] == 1  # the culprit costs nothing


def test_an_earlier_checkpoint_is_not_left_beside_a_report_without_one(sabotaged: World, tmp_path: Path) -> None:
    assert call(sabotaged.argv("repair", "--json", out=str(tmp_path), **WORKS)).code == 0
    assert "repaired.safetensors" in names(tmp_path)
    (tmp_path / "notes.txt").write_text("mine")
    assert call(sabotaged.argv("repair", "--json", out=str(tmp_path), **NO_GAIN)).code == 5
    assert not [name for name in names(tmp_path) if name.startswith("repaired")]
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_an_earlier_run_survives_a_run_that_fails(sabotaged: World, tmp_path: Path) -> None:
    assert call(sabotaged.argv("repair", "--json", out=str(tmp_path), **WORKS)).code == 0
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert call(sabotaged.argv("repair", "--json", out=str(tmp_path), **WORKS | {"budget": "3"})).code == 2
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize("name", ["repaired.safetensors", "repaired.pth"])
def test_a_checkpoint_of_somebody_else_is_neither_lost_nor_mistaken(
    sabotaged: World, tmp_path: Path, name: str
) -> None:
    (tmp_path / name).write_bytes(b"weeks of work")
    result = call(sabotaged.argv("repair", "--json", out=str(tmp_path), **NO_GAIN))
    assert result.code == 2
    assert name in result.document["error"]
    assert names(tmp_path) == {name}
    assert (tmp_path / name).read_bytes() == b"weeks of work"


def test_repairing_the_repaired_in_its_own_folder_is_refused(sabotaged: World, tmp_path: Path) -> None:
    assert call(sabotaged.argv("repair", "--json", out=str(tmp_path), **WORKS)).code == 0
    repaired = tmp_path / "repaired.safetensors"
    before = repaired.read_bytes()
    result = call(sabotaged.argv("repair", "--json", model=str(repaired), out=str(tmp_path), **WORKS))
    assert result.code == 2
    assert "its place" in result.document["error"]
    assert repaired.read_bytes() == before
    second = shutil.copy(repaired, tmp_path / "second.safetensors")
    assert call(sabotaged.argv("repair", "--json", model=str(second), out=str(tmp_path / "b"), **WORKS)).code in (0, 5)


@pytest.mark.parametrize("verb", ["repair", "score"])
def test_out_must_be_a_folder_before_any_work(sabotaged: World, tmp_path: Path, verb: str) -> None:
    (tmp_path / "file").write_text("")
    for out in (tmp_path / "file", tmp_path / "file" / "below"):
        result = call(sabotaged.argv(verb, "--json", out=str(out), budget="8000"))
        assert result.code == 2
        assert str(tmp_path / "file") in result.document["error"]


def test_a_file_that_does_not_give_the_measured_predictions_is_not_exported(
    sabotaged: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if the writing had gone wrong: the intact tensors are written in place of the edited ones."""
    monkeypatch.setattr(subject, "write_back", lambda tensors, *_: dict(tensors))
    result = call(sabotaged.argv("repair", "--json", out=str(tmp_path), **WORKS))
    assert result.code == 3
    assert "differently from the masked network" in result.document["error"]
    assert names(tmp_path) == set()
