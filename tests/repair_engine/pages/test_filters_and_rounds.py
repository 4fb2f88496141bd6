"""filters.csv holds every filter once, with the figures of the right phase; the live chart shows what it is given."""

import csv
import xml.etree.ElementTree as ET
from types import SimpleNamespace

import numpy as np
import pytest

from repair_engine.documents.filters import HEADER, write_filters
from repair_engine.pages.charts import RoundPoint, convergence
from repair_engine.pages.svg import NARROW, WIDE
from repair_engine.search.phases import Ranking

NETWORK = SimpleNamespace(
    n_filters=4,
    channel=lambda player: player % 2,
    filter_id=lambda player: f"layer.{player // 2}:{player % 2}",
    constant=lambda player: (0.5, 1 / 3, 0.0, -2.0)[player],
    kind=lambda player: "filter",
)
NONE = float("nan")


def estimate(values, samples, best=None):
    values = np.array([values])
    errors, samples = np.where(np.isnan(values), np.nan, 0.05), np.array(samples)
    return SimpleNamespace(
        values=values, lower=values - 0.1, upper=values + 0.1, std_errors=errors, samples=samples, best=best
    )


@pytest.fixture
def found():
    return estimate([0.3, -0.2, NONE, -0.4], [10, 20, 0, 40], best=np.array([0.2, -0.1, 0.01, -0.3]))


def written(tmp_path, ranking, k):
    write_filters(NETWORK, ranking, k, tmp_path / "filters.csv")
    with (tmp_path / "filters.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == HEADER
    assert [row["filter"] for row in rows] == ["layer.0:0", "layer.0:1", "layer.1:0", "layer.1:1"]
    return rows


def test_search_and_fresh_figures_stand_apart(tmp_path, found):
    fresh = estimate([NONE, -0.1, NONE, -0.3], [0, 200, 0, 400])
    rows = written(tmp_path, Ranking(np.array([3, 1]), found, fresh), k=1)
    assert [row["value"] for row in rows] == ["0.3", "-0.2", "", "-0.4"]
    assert [row["fresh_value"] for row in rows] == ["", "-0.1", "", "-0.3"]
    assert [row["samples"] for row in rows] == ["10", "20", "0", "40"]
    assert [row["std_error"] for row in rows] == ["0.05", "0.05", "", "0.05"]
    assert [row["fresh_std_error"] for row in rows] == ["", "0.05", "", "0.05"]
    assert [row["best"] for row in rows] == ["0.2", "-0.1", "0.01", "-0.3"], "of every filter, sampled or not"
    assert [row["rank"] for row in rows] == ["", "2", "", "1"]
    assert [row["ablated"] for row in rows] == ["0", "0", "0", "1"]
    assert float(rows[3]["fresh_lower"]) == pytest.approx(-0.4)
    assert float(rows[3]["upper"]) == pytest.approx(-0.3)
    assert [(row["site"], row["channel"]) for row in rows[:2]] == [("layer.0", "0"), ("layer.0", "1")]
    assert float(rows[1]["constant"]) == pytest.approx(1 / 3)


@pytest.mark.parametrize("same", [True, False])
def test_exact_values_have_no_second_look(tmp_path, found, same):
    rows = written(tmp_path, Ranking(np.array([3]), found, found if same else None), k=0)
    assert {row["fresh_value"] for row in rows} == {""}
    assert {row["ablated"] for row in rows} == {"0"}


@pytest.mark.parametrize("width", [WIDE, NARROW])
def test_the_live_chart_falls_as_intervals_narrow(width):
    points = [RoundPoint("search", 1000, 0.2), RoundPoint("search", 3000, 0.1), RoundPoint("confirm", 4000, 0.05)]
    chart = ET.fromstring(convergence(points, 5000, width=width))
    marks = chart.findall(".//{http://www.w3.org/2000/svg}circle")[1:]  # the first is the legend's
    xs, ys = ([float(mark.get(axis)) for mark in marks] for axis in ("cx", "cy"))
    assert xs == sorted(xs)
    assert ys == sorted(ys), "down is narrower"
    assert len(marks) == 2, "the other phase has another shape"
    assert all(0 <= x <= width for x in xs)
    assert "from 0.2000 after 1,000 evaluations to 0.0500 after 4,000" in "".join(chart.itertext())


def test_one_point_without_width_or_budget_is_drawn():
    ET.fromstring(convergence([RoundPoint("search", 0, 0.0)], 0))
