"""A repair's page while it runs: progress from the server alone, the same in every tab, until it ends."""

from __future__ import annotations

import re
from html import unescape

import pytest
from django.urls import reverse

from tests.webapp.pages.helpers import read
from webapp.jobs import access
from webapp.jobs.models import Job, PhaseState

HTMX = {"HTTP_HX_REQUEST": "true"}


@pytest.fixture
def urls(world):
    pk = world.owner.job.pk
    return {name: reverse(f"pages:{name}", args=[pk]) for name in ("repair", "progress", "cancel", "delete_repair")}


def live(page):
    return next(a for a in page.all("div") if a.get("id") == "live")


def test_progress_is_the_servers_and_the_same_everywhere(world, urls):
    world.bells.answer(most=4)
    pages = [read(world.owner.browser.get(urls["repair"])) for _ in range(2)]
    texts = [re.sub(r"for\s*\d+ s", "for … s", page.text) for page in pages]  # the clock goes on between the two
    assert texts[0] == texts[1], "another tab, another device, a refresh"
    page = pages[0]
    assert live(page)["hx-get"].startswith(urls["progress"])
    assert any(a.get("http-equiv") == "refresh" for a in page.all("meta")), "it moves without scripts too"
    current = [a for a in page.all("li") if a.get("aria-current") == "step"]
    assert len(current) == 1
    bar = page.all("progress")[0]
    assert float(bar["value"]) > 0
    assert bar["aria-label"]


def test_shows_leaders_and_convergence_with_a_table(world, urls):
    row = {"id": "layer1.conv:3", "value": -0.0123, "lower": -0.02, "upper": -0.004, "samples": 1234}
    point = {"evaluations": 500, "budget": 900, "half_width": 0.01, "leaders": [row]}
    job = world.owner.job
    Job.objects.filter(pk=job.pk).update(state="processing", phase="search")
    PhaseState.objects.create(job=job, phase="search", round=1, sha256="0" * 64, snapshot=point)
    page = read(world.owner.browser.get(urls["repair"]))
    assert "layer1.conv:3" in page.text
    assert "−0.01230" in page.text
    titles = page.text
    assert "Leading culprits so far" in titles
    assert "Half-width of the leading culprits' intervals" in titles


def test_the_polled_part_speaks_only_when_there_is_something_new(world, urls):
    world.bells.answer(most=4)
    first = world.owner.browser.get(urls["progress"], {"said": ""}, **HTMX).content.decode()
    assert 'role="status"' in first
    assert 'id="charts"' in first
    following = unescape(re.search(r'hx-get="([^"]+)"', first)[1])
    again = world.owner.browser.get(following, **HTMX).content.decode()
    assert 'role="status"' not in again
    assert 'id="charts"' not in again, "no round was merged since, so the charts stay"
    assert 'hx-trigger="every 2s"' in again


def test_polling_ends_with_the_repair(world, urls):
    world.bells.answer()
    answer = world.owner.browser.get(urls["progress"], **HTMX)
    assert answer["HX-Refresh"] == "true"
    page = read(world.owner.browser.get(urls["repair"]))
    assert not any(a.get("hx-get") for _, a in page.elements)
    assert not any(a.get("http-equiv") == "refresh" for a in page.all("meta"))


def test_the_polled_address_in_a_browser_leads_to_the_page(world, urls):
    assert world.owner.browser.get(urls["progress"])["Location"] == urls["repair"]


def test_a_missing_worker_is_said(world, urls):
    assert "No worker for cpu has been heard of lately" in read(world.owner.browser.get(urls["repair"])).text


@pytest.mark.parametrize("handled", [0, 1, 4])
def test_cancel_at_any_stage(world, urls, handled):
    world.bells.answer(most=handled)
    page = read(world.owner.browser.post(urls["cancel"], follow=True))
    assert "The repair was canceled" in page.text
    assert "Nothing was written" in page.text
    assert not any(a.get("hx-get") for _, a in page.elements)
    world.owner.job.refresh_from_db()
    assert world.owner.job.state == Job.State.CANCELED
    assert "had ended before" in read(world.owner.browser.post(urls["cancel"], follow=True)).text


def test_a_failure_says_whose_fault_it_is_and_what_to_do(world, urls):
    failed = {"state": "failed", "fault": "input", "error": "There is no class <hat>.", "mend": "Use coat."}
    Job.objects.filter(pk=world.owner.job.pk).update(**failed, detail="Traceback: secret")
    page = read(world.owner.browser.get(urls["repair"]))
    for said in ("The input cannot be used as it is.", "There is no class <hat>.", "Use coat."):
        assert said in page.text
    assert "secret" not in page.text
    Job.objects.filter(pk=world.owner.job.pk).update(fault="server")
    assert "failed on our side" in read(world.owner.browser.get(urls["repair"])).text


def test_a_running_repair_is_not_deleted(world, urls):
    assert "still running" in read(world.owner.browser.post(urls["delete_repair"], follow=True)).text
    world.bells.answer()
    page = read(world.owner.browser.post(urls["delete_repair"], follow=True))
    assert "was deleted. For 10 minutes that can be taken back" in page.text
    assert not access.jobs_of(world.owner.user).exists()
