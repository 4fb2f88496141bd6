"""The table of all filters: sorted, searched and paged by the server; the address is the state."""

from __future__ import annotations

import pytest
from django.urls import reverse

from tests.webapp.helpers import blob_of
from tests.webapp.pages.helpers import filter_cells, filters_csv, read, succeed
from webapp.jobs.models import Artifact

N = 17_216


@pytest.fixture
def table(world):
    """A table as large as Inception-v3's; every third filter was never sampled."""
    succeed(world.owner.job)
    rows = [filter_cells(i, None if i % 3 == 0 else (i * 7919 % 10_007) / 1e4 - 0.5) for i in range(N)]
    rows[10] |= {"fresh_value": -0.9, "fresh_lower": -0.95, "fresh_upper": -0.85, "fresh_samples": 7, "rank": 1}
    rows[10] |= {"best": -0.8}
    rows[10]["ablated"] = 1
    rows[11] |= {"rank": 2}
    Artifact.objects.filter(job=world.owner.job, name="filters.csv").update(blob=blob_of(filters_csv(rows)))
    url = reverse("pages:filters", args=[world.owner.job.pk])
    return lambda **query: read(world.owner.browser.get(url, query))


def cells(page) -> list[list[str]]:
    return next(rows for caption, rows in page.tables.items() if caption.startswith("Filters"))[1:]


def number(cell: str) -> float:
    return float(cell.split()[0].replace("−", "-").replace(",", ""))


def test_the_worst_come_first_and_pages_are_full(table):
    page = table()
    rows = cells(page)
    assert len(rows) == 100
    assert "17,216 of 17,216 filters" in page.text
    assert "Page 1 of 173" in page.text
    assert rows[0][0] == "features.3:10"
    assert "fresh" in rows[0][1]
    assert rows[0][2] == "−0.95000 to −0.85000"
    assert rows[0][4] == "−0.80000", "by what the search ranked them by, which is not what few samples said"
    ranked = [number(row[4]) for row in rows]
    assert ranked == sorted(ranked)


def test_where_the_metric_is_to_be_lowered_culprits_are_at_the_other_end(world, table):
    job = world.owner.job
    job.refresh_from_db()
    job.result = job.result | {"culprit_sign": 1}
    job.save()
    ranked = [number(row[4]) for row in cells(table())]
    assert ranked == sorted(ranked, reverse=True)


def test_the_other_way_round_and_by_other_columns(table):
    values = [number(row[1]) for row in cells(table(sort="value", order="desc"))]
    assert values == sorted(values, reverse=True)
    samples = [number(row[3]) for row in cells(table(sort="samples", order="desc"))]
    assert samples == sorted(samples, reverse=True)
    assert [row[6] for row in cells(table(sort="rank"))][:3] == ["1", "2", ""]


@pytest.mark.parametrize("order", ["asc", "desc"])
def test_what_was_not_sampled_comes_last_either_way(table, order):
    assert all(row[1] == "not sampled" for row in cells(table(order=order, page="173")))
    assert all(row[1] != "not sampled" for row in cells(table(order=order)))


def test_what_is_not_known_is_no_figure_and_comes_last(world):
    succeed(world.owner.job)
    rows = [filter_cells(1, -0.4), filter_cells(2, -0.5) | {"lower": -1.0, "upper": 1.0}, filter_cells(3, None)]
    Artifact.objects.filter(job=world.owner.job, name="filters.csv").update(blob=blob_of(filters_csv(rows)))
    page = read(world.owner.browser.get(reverse("pages:filters", args=[world.owner.job.pk]), {"sort": "value"}))
    assert [row[1] for row in cells(page)] == ["−0.40000", "not known", "not sampled"]
    assert [row[2] for row in cells(page)][1:] == ["", ""]
    assert "of those that were sampled, 2 of 3" in page.text


def test_of_a_run_by_hand_only_its_filters_were_valued(world):
    job = world.owner.job
    succeed(job)
    job.request = job.request | {"filters": ["features.3:1"]}
    job.save()
    page = read(world.owner.browser.get(reverse("pages:filters", args=[job.pk])))
    assert "The values of the 1 filter chosen by hand" in page.text
    assert "this run valued no other" in page.text


def test_every_filter_is_on_exactly_one_page(table):
    seen = [row[0] for page in (1, 2, 172, 173) for row in cells(table(page=page, sort="filter"))]
    assert len(seen) == len(set(seen)) == 3 * 100 + N % 100


def test_search_and_kinds(table):
    assert {row[0] for row in cells(table(q="FEATURES.3:17"))} >= {"features.3:17"}
    assert all("features.3:17" in row[0] for row in cells(table(q="features.3:17")))
    assert [row[0] for row in cells(table(show="ablated"))] == ["features.3:10"]
    assert cells(table(show="culprits", sort="rank", order="desc"))[0][0] == "features.4:11"
    assert "No filter is like that" in table(q="<script>").text


def fields(page) -> list[tuple[str, str]]:
    """What the table's form sends beside the button that is pressed."""
    kept = [a for a in page.all("input") if a.get("name") and (a.get("type") != "checkbox" or "checked" in a)]
    return [(a["name"], a.get("value", "")) for a in kept if a["name"] != "csrfmiddlewaretoken"]


def test_buttons_keep_what_the_address_says(table):
    page = table(q="features.3", sort="samples", order="desc", page="2", show="")
    assert dict(fields(page)) == {"sort": "-samples", "q": "features.3"}
    sorted_header = next(a for a in page.all("th") if "aria-sort" in a)
    assert sorted_header["aria-sort"] == "descending"
    pressed = {(a["name"], a["value"]) for a in page.all("button") if "name" in a}
    assert {("page", "1"), ("page", "3"), ("sort", "samples"), ("sort", "value")} <= pressed
    turned = {a["value"] for a in table(sort="samples").all("button") if a.get("name") == "sort"}
    assert "-samples" in turned
    assert [row[0] for row in cells(table(sort=["-samples", "filter"]))][:2] == ["features.0:0", "features.1:1"]


def test_ticks_survive_paging_sorting_and_searching(table):
    page = table(pick=["features.3:10", "features.5:12"], sort="filter")
    ticked = [a["value"] for a in page.all("input") if a.get("type") == "checkbox" and "checked" in a]
    assert ticked == ["features.3:10", "features.5:12"]
    assert "2 ticked: features.3:10, features.5:12" in page.text
    elsewhere = table(pick=["features.3:10", "features.5:12"], sort="filter", page="9")
    sent = [value for name, value in fields(elsewhere) if name == "pick"]
    assert sent == ["features.3:10", "features.5:12"], "hidden where this page does not show them"
    searched = table(pick=["features.3:10", "features.5:12"], q="features.5:12")
    assert sorted(value for name, value in fields(searched) if name == "pick") == ["features.3:10", "features.5:12"]
    assert "ticked:" not in table(pick=["ghost:1"]).text


@pytest.mark.parametrize(
    "query", [{"sort": "__class__"}, {"page": "-1"}, {"page": "x"}, {"order": "up"}, {"show": "?"}]
)
def test_an_address_that_makes_no_sense_shows_the_table(table, query):
    assert len(cells(table(**query))) >= 16


def test_a_repair_that_runs_has_no_table(world):
    url = reverse("pages:filters", args=[world.team_mate.job.pk])
    assert world.team_mate.browser.get(url).status_code == 404
