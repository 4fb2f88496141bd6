"""`repair --values`: a repair for any objective of an earlier score, without a search of its own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file

from repair_engine.case.stored_values import FILE
from tests.repair_engine.tiny import World, call

pytestmark = pytest.mark.usefixtures("quick_module")
METRIC = "subgroup-recall:ground"


@pytest.fixture(scope="module")
def scored(sabotaged: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("scored") / "values"
    result = call(sabotaged.argv("score", "--also", "all", budget="40000", seed="3", out=str(out)))
    assert result.code == 0, result.err
    return out


def repaired(world: World, values: Path, out: Path, *more: str, **options: str):
    given = {"metric": METRIC, "seed": "3", "budget": "6000", "values": str(values), "out": str(out)} | options
    return call(world.argv("repair", "--json", *more, **given))


@pytest.mark.parametrize("metric", [METRIC, "accuracy", "recall:bee"])
def test_a_repair_for_any_of_them(sabotaged: World, scored: Path, tmp_path: Path, metric: str) -> None:
    result = repaired(sabotaged, scored, tmp_path / "out", metric=metric)
    assert result.code in ((0, 5) if metric == "recall:bee" else (0,)), result.err  # of bees there are few
    document = result.document
    if metric != "recall:bee":
        assert document["culprits"][0]["id"] == "spy:0"
    assert document["metric"]["name"] == metric
    assert document["run"]["evaluations"] <= 6000
    assert metric in document["run"]["values_from"]["objectives"]
    with np.load(scored / FILE) as arrays:
        row, filters = arrays["objectives"].tolist().index(metric), arrays["filters"].tolist()
        for culprit in document["culprits"] if metric != "accuracy" else ():  # there the search's own belief is shown
            if culprit["searched_value"] is not None:
                assert culprit["searched_value"] == arrays["values"][row][filters.index(culprit["id"])]
    if result.code == 0:
        assert "spy.weight" in load_file(tmp_path / "out" / "repaired.safetensors")


def test_another_split_or_model_is_refused(sabotaged: World, skewed: World, scored: Path, tmp_path: Path) -> None:
    result = repaired(sabotaged, scored, tmp_path / "a", seed="4")
    assert result.code == 2
    assert "another score split" in result.err
    result = repaired(skewed, scored, tmp_path / "b")
    assert result.code == 2
    assert "another model" in result.err


def test_other_constants_are_refused(sabotaged: World, scored: Path, tmp_path: Path) -> None:
    result = repaired(sabotaged, scored, tmp_path / "a", constant="bn_beta")
    assert result.code == 2
    assert "other constants" in result.err


def test_values_that_are_all_zero_rank_nothing(sabotaged: World, scored: Path, tmp_path: Path) -> None:
    """As of a class that few samples never drew: no repair is looked for, and none is said not to be there."""
    with np.load(scored / FILE) as arrays:
        stored = dict(arrays)
    stored["values"][stored["objectives"].tolist().index("recall:bee")] = 0.0
    np.savez(tmp_path / FILE, **stored)
    result = repaired(sabotaged, tmp_path, tmp_path / "a", metric="recall:bee")
    assert result.code == 2
    assert "all values of recall:bee are 0" in result.err
    assert "larger budget" in result.err


def test_a_metric_that_was_not_valued(sabotaged: World, scored: Path, tmp_path: Path) -> None:
    result = repaired(sabotaged, scored, tmp_path / "a", metric="attack-success")
    assert result.code == 2
    assert "has no values of attack-success" in result.err


def test_what_is_no_file_of_values(sabotaged: World, tmp_path: Path) -> None:
    assert "there is no file" in repaired(sabotaged, tmp_path / "none", tmp_path / "a").err
    broken = tmp_path / FILE
    broken.write_bytes(b"PK\x03\x04 and no more")
    assert "no file of values" in repaired(sabotaged, broken, tmp_path / "a").err
    np.savez(broken, objectives=np.array([METRIC]), filters=np.array(["a:0"]), values=np.zeros((2, 1)))
    result = repaired(sabotaged, broken, tmp_path / "a")
    assert result.code == 2
    assert "no file of values" in result.err
