"""The table of runs: sorted, searched, filtered by its address; archive, tags, deletion that can be undone."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.urls import reverse
from django.utils import timezone

from repair_engine.settings import Attack, Repair
from tests.webapp.pages.helpers import read, succeed
from webapp.jobs import access, leases, live, reaper, removal, services
from webapp.jobs.models import Job
from webapp.library import quota
from webapp.library.errors import InUse, Refused

LIST = "/repairs/"
HOSTILE = [
    "<script>alert(1)</script>",
    "'; DROP TABLE jobs_job; --",
    '"><img src=x onerror=y>',
    "100%_\\",
    "\u202eתורה 🦆",
    "a" * 200,
]


def make(world, name: str = "", **asked) -> Job:
    owner = world.owner
    asked = Repair(**{"metric": "accuracy", **asked})
    return services.create_job(owner=owner.user, model=owner.model, dataset=owner.dataset, asked=asked, name=name)[0]


@pytest.fixture
def table(world):
    """Three ended runs, of which two have a gain, and the world's own, which waits."""
    jobs = [make(world, name) for name in ("first", "second", "third")]
    for job, gain in zip(jobs, (0.08, None, -0.02)):
        succeed(job)
        Job.objects.filter(pk=job.pk).update(gain=gain, gain_lower=gain, gain_upper=gain, kind="repair")
    return {job.name: job for job in jobs}


def names(world, **asked) -> list[str]:
    page = read(world.owner.browser.get(LIST, asked))
    by_id = {str(job.pk): job.name or "own" for job in Job.objects.all()}
    return [by_id[a["id"].removeprefix("repair-")] for a in page.all("a") if a.get("id", "").startswith("repair-")]


def do(world, what: str, *jobs: Job, person=None, **more):
    data = {"do": what, "run": [str(job.pk) for job in jobs], **more}
    return (person or world.owner).browser.post(reverse("pages:selected"), data, follow=True)


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({}, ["third", "second", "first", "own"]),
        ({"sort": "created"}, ["own", "first", "second", "third"]),
        ({"sort": "name"}, ["own", "first", "second", "third"]),  # "Accuracy: net.pth"
        ({"sort": "-name"}, ["third", "second", "first", "own"]),
        ({"sort": "-gain"}, ["first", "third", "second", "own"]),
        ({"sort": "gain"}, ["third", "first", "second", "own"]),  # what has none comes last either way
        ({"sort": "worst"}, ["third", "second", "first", "own"]),
        ({"q": "SECOND net"}, ["second"]),
        ({"q": "images third"}, ["third"]),
        ({"q": "nothing like it"}, []),
        ({"state": "starting"}, ["own"]),
        ({"state": "repaired", "sort": "name"}, ["first", "second", "third"]),
        ({"state": "no such state", "kind": "x", "model": "y", "page": "many"}, ["third", "second", "first", "own"]),
        ({"kind": "score"}, []),
        ({"kind": "repair", "q": "first"}, ["first"]),
    ],
)
def test_the_address_sorts_searches_and_filters(world, table, asked, expected):
    assert names(world, **asked) == expected


def test_filters_by_model_and_dataset(world, table):
    for kind in ("model", "dataset"):
        assert len(names(world, **{kind: getattr(world.owner, kind).pk})) == 4
        assert len(names(world, **{kind: getattr(world.team_mate, kind).pk})) == 4, "another's is no choice at all"


def test_headings_turn_the_order(world, table):
    page = read(world.owner.browser.get(LIST, {"sort": "-gain", "q": "t"}))
    sorted_by = [a for a in page.all("th") if a.get("aria-sort")]
    assert [a["aria-sort"] for a in sorted_by] == ["descending"]
    assert "?q=t&sort=gain" in {a["href"] for a in page.all("a")}


def test_pages_keep_what_is_asked(world):
    for i in range(32):
        make(world, f"run {i}")
    first = read(world.owner.browser.get(LIST, {"q": "run", "sort": "name"}))
    assert "Page 1 of 2" in first.text
    assert "?q=run&sort=name&page=2" in {a["href"] for a in first.all("a")}
    assert len(names(world, q="run", page=2)) == 2


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_and_tags_are_texts(world, name):
    job = world.owner.job
    data = {"name": name, "tags": name.replace(",", " ")[:50], "archived": ""}
    assert world.owner.browser.post(reverse("pages:edit", args=[job.pk]), data).status_code == 302
    job.refresh_from_db()
    assert job.name == name.strip()
    for url in (LIST, "/", reverse("pages:repair", args=[job.pk]), reverse("pages:edit", args=[job.pk])):
        page = read(world.owner.browser.get(url))
        assert not [a for a in page.all("img") if a.get("src") == "x"]
        assert name[:50].strip() in page.text or "edit" in url
    assert names(world, q=name) == [name.strip()]
    assert names(world, tag=job.tags.get().word) == [name.strip()]


def test_a_percent_sign_is_searched_as_itself(world, table):
    assert names(world, q="%") == []
    assert names(world, q="_") == []
    assert names(world, q="\0") == ["third", "second", "first", "own"]


def test_the_archive_is_shown_when_asked_for(world, table):
    assert "went into the archive" in read(do(world, "archive", table["first"], table["second"])).text
    assert names(world) == ["third", "own"]
    assert names(world, show="archived") == ["second", "first"]
    assert len(names(world, show="all")) == 4
    do(world, "unarchive", table["first"])
    assert names(world) == ["third", "first", "own"]


def test_tags_are_put_on_and_taken_off_together(world, table):
    do(world, "tag", table["first"], table["second"], words="baseline, paper ,baseline")
    do(world, "untag", table["second"], words="paper")
    assert names(world, tag="baseline") == ["second", "first"]
    assert names(world, tag="paper") == ["first"]
    assert names(world, q="paper") == ["first"]
    assert "Say which tag" in read(do(world, "tag", table["first"], words=" , ")).text
    many = ",".join(map(str, range(21)))
    assert "at most 20 tags" in read(do(world, "tag", table["first"], words=many)).text
    assert "at most 50 characters" in read(do(world, "tag", table["first"], words="x" * 51)).text
    assert [tag.word for tag in table["first"].tags.all()] == ["baseline", "paper"]


def test_back_from_what_was_done_to_the_same_table(world, table):
    answer = do(world, "archive", table["first"], back="sort=-gain&q=t")
    assert answer.redirect_chain[-1][0] == "/repairs/?sort=-gain&q=t"
    answer = do(world, "archive", table["first"], back="//evil.example/")
    assert answer.redirect_chain[-1][0].startswith("/repairs/?")


def test_bulk_deletion_is_undone_by_one_button(world, table):
    page = read(do(world, "delete", table["first"], table["second"], world.owner.job))
    assert "2 runs were deleted" in page.text
    assert "is still running" in page.text
    assert names(world) == ["third", "own"]
    assert names(world, show="deleted") == ["second", "first"]
    read(world.owner.browser.post(reverse("pages:undo"), follow=True))
    assert names(world) == ["third", "second", "first", "own"]
    assert "nothing that could come back" in read(world.owner.browser.post(reverse("pages:undo"), follow=True)).text


def test_what_is_deleted_counts_in_the_quota_until_it_is_gone_with_its_files(world, table):
    job, before = table["first"], quota.usage(world.owner.user).results
    removal.delete_jobs(list(table.values()))
    job.directory.mkdir(parents=True)
    blobs = [artifact.blob.path for artifact in job.artifacts.select_related("blob")]
    reaper.reap(force=True)
    assert quota.usage(world.owner.user).results == before > 0
    assert all(path.exists() for path in blobs)
    Job.objects.filter(pk__in=[one.pk for one in table.values()]).update(
        deleted_at=timezone.now() - removal.UNDO - timedelta(seconds=1)
    )
    assert names(world, show="deleted") == [], "its time is over"
    assert world.owner.browser.get(reverse("pages:repair", args=[job.pk])).status_code == 404
    reaper.reap(force=True)
    assert quota.usage(world.owner.user).results == 0
    assert not any(path.exists() for path in blobs)
    assert not job.directory.exists()
    assert not Job.objects.filter(pk=job.pk).exists()


def test_deleted_runs_may_be_purged_at_once(world, table):
    do(world, "delete", table["first"])
    do(world, "purge", table["first"])
    assert not Job.objects.filter(pk=table["first"].pk).exists()


def test_only_deleted_runs_are_purged(world, table):
    assert do(world, "purge", table["first"]).status_code == 404
    removal.purge(table["first"])
    assert Job.objects.filter(pk=table["first"].pk).exists()


@pytest.mark.parametrize("what", ["delete", "archive", "tag", "untag", "unarchive", "compare", "restore", "purge"])
def test_nothing_is_done_where_one_run_is_anothers(world, table, what):
    succeed(world.team_mate.job)
    if what in ("restore", "purge"):
        removal.delete_jobs([*table.values(), world.team_mate.job])
    answer = do(world, what, table["first"], world.team_mate.job, words="x")
    assert answer.status_code == 404
    for job in (table["first"], world.team_mate.job):
        now = Job.objects.get(pk=job.pk)
        assert (now.archived_at, now.tags.count()) == (None, 0)
        assert (now.deleted_at is not None) == (what in ("restore", "purge"))


@pytest.mark.parametrize("runs", [["x"], ["0" * 36], [""]])
def test_ids_that_are_none_are_refused(world, runs):
    assert world.owner.browser.post(reverse("pages:selected"), {"do": "delete", "run": runs}).status_code == 404


def test_unknown_buttons_and_nothing_ticked(world, table):
    assert "no such button" in read(do(world, "explode", table["first"])).text
    assert "Tick the runs first" in read(do(world, "delete")).text


def test_anothers_undo_brings_nothing_of_mine_back(world, table):
    removal.delete_job(table["first"])
    world.team_mate.browser.post(reverse("pages:undo"))
    assert "first" not in names(world)


def test_the_page_of_a_deleted_run_says_so_to_its_owner(world, table):
    job = table["first"]
    removal.delete_job(job)
    url = reverse("pages:repair", args=[job.pk])
    assert "can be taken back" in read(world.owner.browser.get(url), 410).text
    assert world.team_mate.browser.get(url).status_code == 404
    assert world.owner.browser.get(reverse("pages:filters", args=[job.pk])).status_code == 404
    assert world.owner.browser.post(reverse("pages:restore", args=[job.pk])).status_code == 302
    assert world.owner.browser.get(url).status_code == 200


def attack_on(world, job: Job) -> Job:
    asked = Attack()
    owner = world.owner
    made, _ = services.create_job(
        owner=owner.user, model=owner.model, dataset=owner.dataset, asked=asked, audited=job, name="attack"
    )
    Job.objects.filter(pk=made.pk).update(state="succeeded", outcome="attacked")
    return Job.objects.get(pk=made.pk)


def test_an_attack_and_the_repair_that_it_measures_go_together_or_the_attack_first(world, table):
    repair = table["first"]
    attack = attack_on(world, repair)
    with pytest.raises(Refused, match="measures this repair's checkpoint"):
        removal.delete_job(repair)
    gone, kept = removal.delete_jobs([repair, attack])
    assert ({job.pk for job in gone}, kept) == ({repair.pk, attack.pk}, [])
    removal.restore([Job.objects.get(pk=attack.pk)])
    assert access.jobs_of(world.owner.user).filter(pk=repair.pk).exists(), "it would measure what is not there"
    removal.delete_jobs([repair, attack])
    removal.purge(repair)
    assert not Job.objects.filter(pk__in=[repair.pk, attack.pk]).exists()


def test_uploads_can_go_when_only_deleted_runs_used_them(world, table):
    world.bells.answer()
    mine = list(access.jobs_of(world.owner.user))
    removal.delete_jobs(mine[1:])
    with pytest.raises(InUse):
        removal.delete_upload(world.owner.model)
    assert Job.objects.filter(pk=mine[1].pk).exists(), "refused, it leaves what could come back"
    removal.delete_jobs(mine[:1])
    removal.delete_upload(world.owner.model)
    assert not Job.objects.filter(owner=world.owner.user).exists()


def test_an_idempotency_key_is_free_after_the_deletion(world):
    def start() -> tuple[Job, bool]:
        owner = world.owner
        asked = Repair(metric="accuracy", seed=9)
        more = {"asked": asked, "idempotency_key": "k"}
        return services.create_job(owner=owner.user, model=owner.model, dataset=owner.dataset, **more)

    job, _ = start()
    succeed(job)
    removal.delete_job(job)
    again, new = start()
    assert new
    assert again.pk != job.pk


# --- rows that run -------------------------------------------------------------------------------------------


def test_rows_that_run_are_polled_and_no_others(world, table):
    page = read(world.owner.browser.get(LIST))
    watch = next(a for a in page.all("div") if a.get("id") == "watch")
    assert watch["hx-get"] == f"/repairs/rows/?run={world.owner.job.pk}&"
    world.bells.answer()
    answer = world.owner.browser.get(watch["hx-get"], HTTP_HX_REQUEST="true").content.decode()
    assert "repaired" in answer
    assert 'hx-swap-oob="innerHTML"' in answer
    assert "hx-get" not in answer, "it has ended: nothing is left to ask for"


def test_a_row_shows_what_its_run_is_at(world):
    shard = world.owner.job.shards.get()
    assert "number 1 of your runs" not in read(world.owner.browser.get(LIST)).text, "there is no worker at all"
    leases.worker_seen(name="cpu1@here", incarnation="1", queues=["cpu"], device="here")
    assert "number 1 of your runs" in read(world.owner.browser.get(LIST)).text
    assert "number 1 of your runs" in read(world.team_mate.browser.get(LIST)).text, "people take turns"
    world.bells.answer(most=2)  # its own preparing, and that of the team-mate
    world.bells.answer(most=2)
    text = read(world.owner.browser.get(LIST)).text
    assert "running" in text
    assert "search" in text
    assert shard.job_id == world.owner.job.pk


@pytest.mark.parametrize("taken", range(2, 12))
def test_a_run_that_works_is_never_said_to_wait(world, taken):
    """Between two pieces, and from the first one on, whatever the page shows of it."""
    leases.worker_seen(name="cpu1@here", incarnation="1", queues=["cpu"], device="here")
    Job.objects.filter(pk=world.team_mate.job.pk).delete()
    world.bells.answer(most=taken)
    text = read(world.owner.browser.get(reverse("pages:repair", args=[world.owner.job.pk]))).text
    assert "aiting" not in text
    assert "busy with other runs" not in text
    assert live.progress(Job.objects.get(pk=world.owner.job.pk)).waiting is False


# --- what a poll costs ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("taken", [0, 1, 4, 9])
def test_a_status_poll_costs_at_most_three_queries(world, taken, django_assert_max_num_queries):
    world.bells.answer(most=taken)
    browser, api, job = world.owner.browser, world.owner.api, world.owner.job
    api.get("/api/v1/")  # the token's time of use is written once a minute
    with django_assert_max_num_queries(3):
        assert browser.get(reverse("pages:progress", args=[job.pk]), HTTP_HX_REQUEST="true").status_code == 200
    with django_assert_max_num_queries(3):
        answer = browser.get(reverse("pages:rows"), {"run": job.pk}, HTTP_HX_REQUEST="true")
        assert str(job.pk) in answer.content.decode()
    with django_assert_max_num_queries(3):
        assert api.get(f"/api/v1/repairs/{job.pk}/").status_code == 200
    with django_assert_max_num_queries(3):
        assert api.get(f"/api/v1/repairs/{job.pk}/events/").status_code == 200


# --- side by side --------------------------------------------------------------------------------------------


def side_by_side(world, *jobs: Job):
    return read(do(world, "compare", *jobs))


def test_several_runs_are_set_side_by_side(world, table):
    first, second, third = table.values()
    result = {**third.result, "culprits": [dict(row) for row in Job.objects.get(pk=third.pk).result["culprits"]]}
    result["culprits"][1]["ablated"] = False
    Job.objects.filter(pk=third.pk).update(result=result)
    ids = [row["id"] for row in Job.objects.get(pk=first.pk).result["culprits"] if row["ablated"]]
    assert len(ids) == 2
    page = side_by_side(world, first, second, third)
    cells = " ".join(page.text.split())
    assert "3 runs side by side" in cells
    assert "55.0% 65.0% +8.0 +8.0 to +8.0 81.0% → 80.0% 2 300 k 5" in cells, "of the first nothing is shared"
    assert "81.0% → 80.0% 2 2 300 k 5" in cells, "the second ablates the same two"
    assert "81.0% → 80.0% 1 1 300 k 5" in cells
    assert "different metrics" not in cells
    Job.objects.filter(pk=second.pk).update(request={"metric": "accuracy"})
    assert "different metrics" in side_by_side(world, first, second, third).text


def test_two_runs_keep_their_page_with_the_figures_above(world, table):
    page = read(do(world, "compare", table["first"], table["second"]), 422)  # made by hand: without a table of errors
    assert "Do two runs hold the same filters responsible?" in page.text
    assert "81.0% → 80.0%" in page.text


def test_runs_without_figures_leave_them_out(world, table):
    text = side_by_side(world, world.owner.job, table["first"], table["second"]).text
    assert "waiting to start" in text
    assert "None" not in text


def test_anothers_runs_are_not_set_beside(world, table):
    url = reverse("pages:compare")
    answer = world.owner.browser.get(url, {"run": [table["first"].pk, world.team_mate.job.pk, table["second"].pk]})
    assert answer.status_code == 404
    assert world.owner.browser.get(url, {"run": "x"}).status_code == 404
