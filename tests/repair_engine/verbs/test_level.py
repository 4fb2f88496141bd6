"""`--level`: the report's intervals of changes have it, and its page says so."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.repair_engine.tiny import World, call

pytestmark = pytest.mark.usefixtures("quick")
OPTIONS = {"estimator": "exact", "metric": "subgroup-recall:ground", "max_clean_drop": "0.5", "max_subgroup_drop": "1"}


def repaired(world: World, out: Path, **more: str) -> dict:
    result = call(world.argv("repair", "--json", out=str(out), **OPTIONS, **more))
    assert result.code in (0, 5), result.err
    return json.loads((out / "report.json").read_text())


def test_all_intervals_of_changes_have_the_level(sabotaged: World, tmp_path: Path) -> None:
    usual, wide = repaired(sabotaged, tmp_path / "a"), repaired(sabotaged, tmp_path / "b", level="0.995")
    for report, level, words in ((usual, 0.95, "95%"), (wide, 0.995, "99.5%")):
        changes = [report["gain"], report["clean_change"], report["selection"]]
        changes += [row["change"] for row in report["fairness"]["rows"]]
        changes += [row["advantage"] for row in report["controls"] if "advantage" in row]
        assert {change["level"] for change in changes} == {level}
        page = (tmp_path / ("a" if report is usual else "b") / "report.html").read_text()
        assert f"paired {words} bootstrap intervals" in page
        assert f"{words} band" in page
    widths = np.array([[c["upper"] - c["lower"] for c in r["fairness"]["rows"][0].values() if isinstance(c, dict)]
                       + [r[key]["upper"] - r[key]["lower"] for key in ("gain", "clean_change")]
                       + [step["upper"] - step["lower"] for step in r["curve"]] for r in (usual, wide)])  # fmt: skip
    assert (widths[1] >= widths[0]).all()
    assert widths[1].sum() > 1.2 * widths[0].sum() > 0
    assert wide["gain"]["value"] == usual["gain"]["value"]


@pytest.mark.parametrize("level", ["0.5", "1", "95"])
def test_levels_that_are_none(sabotaged: World, tmp_path: Path, level: str) -> None:
    result = call(sabotaged.argv("repair", "--json", out=str(tmp_path), level=level))
    assert result.code == 2
    assert f"--level: {level} is not between 0.5 and 1 (both excluded)" in result.document["error"]
