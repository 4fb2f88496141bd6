"""Two people who change the same thing: nothing is lost without being told."""

from __future__ import annotations

import threading

import pytest
from django.db import connection
from django.urls import reverse

from tests.webapp.pages.helpers import read
from tests.webapp.teams.conftest import fresh
from webapp.jobs import services
from webapp.jobs.models import Job


def tags(job: Job) -> set[str]:
    return set(job.tags.values_list("word", flat=True))


def shown(client, job) -> dict[str, str]:
    """The form, as somebody has it open."""
    page = read(client.get(reverse("pages:edit", args=[job.pk])))
    fields = {a["name"]: a.get("value", "") for a in page.all("input") if a.get("name")}
    return {name: fields[name] for name in ("name", "tags", "seen")}


def test_on_the_page_the_second_one_is_told(company):
    job = company.things("team")["job"]
    url = reverse("pages:edit", args=[job.pk])
    one, other = company.browser("editor"), company.browser("owner")
    first, second = shown(one, job), shown(other, job)
    assert one.post(url, first | {"name": "Baseline", "tags": "paper"}).status_code == 302
    answer = read(other.post(url, second | {"name": "Candidate"}), 409)
    assert "Somebody changed this run meanwhile" in answer.text
    assert "As it is now: Baseline; tags paper" in answer.text
    assert fresh(job).name == "Baseline", "nothing was overwritten"
    again = {a["name"]: a.get("value", "") for a in answer.all("input") if a.get("name")}
    assert again["name"] == "Candidate", "and nothing typed is lost"
    sent = {name: again[name] for name in ("name", "tags", "seen")}
    assert other.post(url, sent).status_code == 302, "who saves again has seen it"
    assert fresh(job).name == "Candidate"


def test_by_the_api_with_the_revision_that_was_seen(company):
    job = company.things("team")["job"]
    url = reverse("api:repair", args=[job.pk])
    one, other = company.api("editor"), company.api("owner")
    seen = other.get(url).json()["revision"]
    changed = one.patch(url, {"name": "Baseline", "revision": seen}, format="json")
    assert changed.json()["revision"] == seen + 1
    late = other.patch(url, {"tags": ["x"], "revision": seen}, format="json")
    assert late.status_code == 409
    assert "nothing was overwritten" in late.json()["detail"]
    assert tags(job) == set()
    without = other.patch(url, {"archived": True}, format="json").json()
    assert (without["name"], without["archived"]) == ("Baseline", True), "without it, what is not named stays"


def test_tags_are_added_and_taken_off_one_by_one(company):
    job = company.things("team")["job"]
    url = reverse("api:repair", args=[job.pk])
    company.api("editor").patch(url, {"add_tags": ["a", "b"]}, format="json")
    company.api("owner").patch(url, {"add_tags": ["c"], "remove_tags": ["a"]}, format="json")
    assert tags(job) == {"b", "c"}
    company.browser("editor").post(reverse("pages:selected"), {"do": "tag", "run": job.pk, "words": "d"})
    company.browser("owner").post(reverse("pages:selected"), {"do": "untag", "run": job.pk, "words": "b"})
    assert tags(job) == {"c", "d"}


@pytest.mark.parametrize("seen", [None, 0])
def test_at_the_same_moment(world, seen):
    """`seen`: all but one are refused; without it every tag is there in the end."""
    job, start, said = world.owner.job, threading.Barrier(4), []

    def change(word: str) -> None:
        start.wait()
        try:
            services.edit_job(job=Job.objects.get(pk=job.pk), add=[word], seen=seen)
            said.append("done")
        except services.Changed:
            said.append("refused")
        finally:
            connection.close()

    threads = [threading.Thread(target=change, args=(word,)) for word in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if seen is None:
        assert tags(job) == set("abcd")
        assert fresh(job).revision == 4
    else:
        assert sorted(said) == ["done", "refused", "refused", "refused"]
        assert len(tags(job)) == 1
