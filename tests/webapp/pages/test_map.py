"""The map of all units as data: what each byte says, who gets it, and what it costs."""

from __future__ import annotations

import json

import numpy as np
import pytest
from django.urls import reverse

from tests.webapp.helpers import blob_of
from tests.webapp.pages.helpers import filter_cells, filters_csv, succeed
from webapp.jobs.models import Artifact
from webapp.pages import units

ROWS = [
    filter_cells(1, -0.2, fresh_value=-0.1, fresh_lower=-0.12, fresh_upper=-0.08, rank=1, ablated=1),
    filter_cells(2, 0.3),
    filter_cells(8, 0.004, rank=2, best=-0.5),  # of the first one's site
    filter_cells(3, None, best=0.007, samples=0),
]


@pytest.fixture
def job(world):
    succeed(world.owner.job)
    return world.owner.job


def stored(job, rows: list[dict]) -> None:
    Artifact.objects.filter(job=job, name="filters.csv").update(blob=blob_of(filters_csv(rows)))


def parsed(content: bytes) -> tuple[dict, np.ndarray, np.ndarray, np.ndarray]:
    """Header, what colours, figures and flags, read as the page's module reads them."""
    length = int.from_bytes(content[:4], "little")
    assert length % 4 == 0
    header = json.loads(content[4 : 4 + length])
    n = sum(site["count"] for site in header["sites"])
    values = np.frombuffer(content, "<f4", n, 4 + length)
    flags = np.frombuffer(content, np.uint8, n, len(content) - n)
    figures = np.frombuffer(content, "<f4", 3 * int((flags & 3 > 0).sum()), 4 + length + 4 * n)
    assert len(content) == 4 + length + 4 * n + 4 * len(figures) + n
    return header, values, figures.reshape(-1, 3), flags


def test_every_unit_is_there_site_by_site(world, job):
    stored(job, ROWS)
    answer = world.owner.browser.get(reverse("pages:map", args=[job.pk]))
    header, values, figures, flags = parsed(answer.content)
    assert [(site["name"], site["kind"], site["count"]) for site in header["sites"]] == [
        ("features.1", "filter", 2), ("features.2", "filter", 1), ("features.3", "filter", 1)]  # fmt: skip
    assert header["sites"][0]["channels"] == ["1", "8"], "their channels do not count from 0"
    assert np.allclose(values, [-0.1, -0.5, 0.3, 0.007]), "where the sign is not known, what the search took it for"
    assert np.allclose(figures, [[-0.1, -0.12, -0.08], [0.004, -0.006, 0.014], [0.3, 0.29, 0.31]]), "fresh first"
    assert [units.STATES[flag & 3] for flag in flags] == ["hurts", "open", "helps", "unsampled"]
    assert [bool(flag & units.ABLATED) for flag in flags] == [True, False, False, False]
    assert [bool(flag & units.RANKED) for flag in flags] == [True, True, False, False]
    assert [bool(flag & units.FRESH) for flag in flags] == [True, False, False, False]


def test_where_the_metric_is_to_be_lowered_the_sign_turns(world, job):
    stored(job, ROWS)
    job.result |= {"culprit_sign": 1}
    job.save()
    _, _, _, flags = parsed(world.owner.browser.get(reverse("pages:map", args=[job.pk])).content)
    assert [units.STATES[flag & 3] for flag in flags] == ["helps", "open", "hurts", "unsampled"]


def test_an_explanation_ranks_all_units_and_marks_its_ends(world, job):
    header = "filter,site,channel,value,lower,upper,samples,fresh_value,fresh_lower,fresh_upper,fresh_samples,"
    rows = [
        "conv:0,conv,0,0.3,0.2,0.4,40,0.2,0.1,0.3,90,0.25,1,0.5,1",
        "conv:1,conv,1,,,,0,,,,,0.01,2,0.1,0",
        "conv:2,conv,2,-0.3,-0.4,0.1,40,,,,,-0.2,3,0.1,1",
    ]
    content = "\n".join([header + "ranked_by,rank,constant,known", *rows, ""]).encode()
    Artifact.objects.filter(job=job, name="filters.csv").update(blob=blob_of(content))
    _, values, _, flags = parsed(world.owner.browser.get(reverse("pages:map", args=[job.pk])).content)
    assert np.allclose(values, [0.2, 0.01, -0.2])
    assert [units.STATES[flag & 3] for flag in flags] == ["helps", "unsampled", "open"]
    assert not (flags & (units.ABLATED | units.RANKED)).any()
    found = units.units_of(job)
    assert [row.rank for row in found.rows([0, 1, 2])] == [1, 2, 3]
    assert [(one.words, one.rows[0].id) for one in units.marked(found)] == [
        ("Hurts most", "conv:2"), ("Helps most", "conv:0")]  # fmt: skip


def test_of_a_valuation_its_document_is_drawn(world, job):
    rows = [
        {"id": "conv:0", "kind": "filter", "value": -0.2, "lower": -0.3, "upper": -0.1, "samples": 9, "constant": 0.5},
        {"id": "attention:head0", "kind": "head", "value": None, "lower": None, "upper": None, "samples": 0,
         "constant": 0.1, "best": 0.01},
    ]  # fmt: skip
    job.artifacts.all().delete()
    blob = blob_of(json.dumps({"filters": rows}).encode())
    Artifact.objects.create(job=job, name="score.json", media_type="application/json", blob=blob)
    job.request = {"kind": "score", "metric": "attack-success"}
    job.result = {"scored": True, "metric": {"goal": "lower"}}
    job.save()
    header, values, figures, flags = parsed(world.owner.browser.get(reverse("pages:map", args=[job.pk])).content)
    assert [(site["name"], site["kind"]) for site in header["sites"]] == [("conv", "filter"), ("attention", "head")]
    assert np.allclose(values, [-0.2, 0.01])
    assert np.allclose(figures, [[-0.2, -0.3, -0.1]])
    assert [units.STATES[flag & 3] for flag in flags] == ["helps", "unsampled"], "it is to be lowered"
    (hurts, helps) = units.marked(units.units_of(job))
    assert (hurts.words, hurts.rows[0].id) == ("Hurts most", "attention:head0")
    assert (helps.words, helps.rows[0].id) == ("Helps most", "conv:0")


def test_it_is_sent_once(world, job, django_assert_max_num_queries):
    url = reverse("pages:map", args=[job.pk])
    first = world.owner.browser.get(url)
    assert first["Cache-Control"] == "private, no-cache"
    browser = world.owner.browser
    with django_assert_max_num_queries(4):
        again = browser.get(url, headers={"If-None-Match": first["ETag"]})
    assert (again.status_code, again.content) == (304, b"")
    stored(job, ROWS)
    changed = world.owner.browser.get(url, headers={"If-None-Match": first["ETag"]})
    assert changed.status_code == 200
    assert changed["ETag"] != first["ETag"]


def test_a_run_without_values_has_none(world):
    url = reverse("pages:map", args=[world.team_mate.job.pk])
    assert world.team_mate.browser.get(url).status_code == 404


@pytest.mark.parametrize(
    ("sites", "expected"),
    [
        ([], []),
        (["conv"], ["conv"]),
        ([f"layer{i // 2}.{i % 2}.conv{j}" for i in range(8) for j in (1, 2)], None),  # 16: each its own
        ([f"layer{i // 8}.{i % 8}.conv{j}" for i in range(16) for j in range(3)],
         [f"layer{i // 8}.{i % 8}" for i in range(16)]),
        ([f"block{i}.conv" for i in range(60)], [f"block{i}.conv" for i in range(60)]),  # nothing is coarser
    ],
)  # fmt: skip
def test_bands_are_as_fine_as_they_can_be(sites, expected):
    found = units.bands(sites)
    assert [i for _, inside in found for i in inside] == list(range(len(sites)))
    if expected != sites:
        assert [name for name, _ in found] == (expected if expected is not None else sites)
