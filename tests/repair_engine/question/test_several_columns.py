"""`--metric subgroup-recall:COL1,COL2` from the command line to the report, recomputed with plain NumPy."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.repair_engine.tiny import World, call, rows_of

pytestmark = pytest.mark.usefixtures("quick_module")
METRIC = "subgroup-recall:ground,side"


@pytest.fixture(scope="module")
def sided(sabotaged: World, tmp_path_factory: pytest.TempPathFactory) -> World:
    """A second column: left or right; no light ground on the right."""
    shown = sabotaged.images
    side = ["right" if ground == "dark" and i % 2 else "left" for i, ground in enumerate(shown.ground)]
    return replace(sabotaged, data=shown.zip(tmp_path_factory.mktemp("sided") / "data.zip", "side", side))


@pytest.fixture(scope="module")
def repaired(sided: World, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict]:
    out = tmp_path_factory.mktemp("columns")
    result = call(sided.argv("repair", "--json", metric=METRIC, budget="8000", seed="3", out=str(out)))
    assert result.code == 0, result.err
    return out, result.document


def mean_recall(rows: list[dict[str, str]], predicted: str) -> float:
    """The mean over subgroups of the mean over classes of recall."""
    means = []
    for group in sorted({row["subgroup"] for row in rows}):
        inside = [row for row in rows if row["subgroup"] == group]
        recalls = [
            np.mean([row[predicted] == label for row in inside if row["label"] == label])
            for label in sorted({row["label"] for row in inside})
        ]
        means.append(np.mean(recalls))
    return float(np.mean(means))


def test_the_metric_is_the_mean_over_the_combinations(repaired: tuple[Path, dict]) -> None:
    out, document = repaired
    rows = rows_of(out / "predictions.csv")
    assert {row["subgroup"] for row in rows} == {"dark & left", "dark & right", "light & left"}
    for part in ("score", "select", "report"):
        here = [row for row in rows if row["split"] == part]
        for moment in ("before", "after"):
            assert document[moment][part]["metric"] == pytest.approx(mean_recall(here, f"predicted_{moment}"))
    assert document["metric"]["name"] == METRIC
    assert document["metric"]["text"] == "mean recall over the combinations of ground and side"


def test_the_report_names_the_combinations_and_what_is_absent(repaired: tuple[Path, dict]) -> None:
    out, document = repaired
    names = {"dark & left", "dark & right", "light & left"}
    assert {row["name"] for row in document["groups"]["subgroups"]} == names
    assert {row["name"] for row in document["fairness"]["rows"]} == names
    assert {row["name"].split(": ")[0] for row in document["groups"]["cells"]} == names
    assert sum(row["n"] for row in document["groups"]["cells"]) == document["data"]["splits"]["report"]
    (absent,) = [w for w in document["warnings"] if "combination" in w]
    assert "light & right" in absent
    assert any("cells (a class within a subgroup)" in w for w in document["warnings"])
    assert json.loads((out / "repair.json").read_text())["metric"]["name"] == METRIC


@pytest.mark.parametrize(
    ("argument", "problem"),
    [
        ("ground,breed", "no column 'breed'"),
        ("ground,ground", "'ground' twice"),
        ("ground,", "empty column name"),
        ('ground,"side', "does not name columns"),
    ],
)
def test_refused(sided: World, argument: str, problem: str) -> None:
    result = call(sided.argv("evaluate", "--json", metric=f"subgroup-recall:{argument}"))
    assert result.code == 2
    assert problem in result.document["error"]
    assert result.document["mend"]


def test_a_column_with_a_comma_in_its_name(sabotaged: World, tmp_path: Path) -> None:
    shown = sabotaged.images
    side = ["left", "right"] * (len(shown.labels) // 2)
    data = shown.zip(tmp_path / "d.zip", '"side, seen"', side)
    one = replace(sabotaged, data=data)
    alone = call(one.argv("evaluate", "--json", metric="subgroup-recall:side, seen"))
    both = call(one.argv("evaluate", "--json", metric='subgroup-recall:ground,"side, seen"'))
    assert (alone.code, both.code) == (0, 0), alone.err + both.err
    assert both.document["metric"]["text"].endswith("ground and side, seen")
