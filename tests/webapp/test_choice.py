"""Choosing filters on a finished run: prefixes from its file, other sets from a worker, and the export of a choice."""

from __future__ import annotations

import json
import os
import time
from datetime import timedelta

import numpy as np
import pytest
from django.utils import timezone

from repair_engine.choosing.outcomes import BY_HAND, FILE, VALUE, Choice, Judges, Walk
from repair_engine.settings import Limits
from tests.webapp.helpers import blob_of
from tests.webapp.pages.helpers import read, succeed
from webapp.jobs import choice, cleanup, reaper, removal, reopened
from webapp.jobs.engine import get_engine
from webapp.jobs.models import Artifact, Job, WhatIf
from webapp.library.errors import Refused

pytestmark = pytest.mark.usefixtures("quick_module")

REPAIRS = "/api/v1/repairs/"
UNITS = ("features.1:1", "features.2:3", "features.2:0", "features.1:2")
BREAKS = {"broken": ["clean accuracy falls by 30.0 points, where 2 may be lost"], "feasible": False}


@pytest.fixture
def job(world, tmp_path) -> Job:
    """A finished repair of the owner's with outcomes of 40 select images in two orders; k = 2 was chosen."""
    job = world.owner.job
    succeed(job)
    world.owner.model.facts = {"sites": [{"name": "features.1", "filters": 4}, {"name": "features.2", "filters": 4}]}
    world.owner.model.save()
    labels = np.arange(40) % 2
    wrong = np.zeros((5, 40), bool)
    for k, some in enumerate((slice(0, 20), slice(0, 10), slice(0, 4), slice(0, 14), slice(0, 30))):
        wrong[k, some] = True
    judges = Judges(
        ("coat", "shirt"), labels, ("dark", "light"), np.arange(40) // 20, np.flatnonzero(labels == 1),
        labels[labels == 1], np.full(20, 1 / 20), None, None, False, False,
    )  # fmt: skip
    predicted = np.where(wrong, 1 - labels, labels)
    walks = (Walk(VALUE, np.arange(4), predicted), Walk("stepwise", np.arange(4)[::-1], predicted))
    made = Choice(judges, Limits(max_clean_drop=0.02), walks, (UNITS, UNITS[::-1]))
    made.write(tmp_path / FILE)
    Artifact.objects.create(job=job, name=FILE, media_type="x/y", blob=blob_of((tmp_path / FILE).read_bytes()))
    job.refresh_from_db()
    return job


@pytest.fixture
def answers(monkeypatch) -> list[list[str]]:
    """A worker's engine that notes which sets it was asked for."""
    asked: list[list[str]] = []

    def what_if(self, request, work, units, note) -> dict:
        note("looking at the select images", 0.5)
        asked.append(units)
        step = {"k": 1, "objective": 0.9, "clean": 0.2, "guard": None, "subgroup_drop": 0.3, "true_label": None}
        return step | {"won": 3, "lost": 9, "classes": [4, 4], "subgroups": [8, 0]} | BREAKS

    monkeypatch.setattr("tests.webapp.tiny_engine.TinyEngine.what_if", what_if, raising=False)
    return asked


def ask(person, job: Job, *units: str):
    return person.api.post(f"{REPAIRS}{job.pk}/choice/", {"filters": list(units)}, format="json")


def test_every_prefix_with_its_figures(world, job):
    found = world.owner.api.get(f"{REPAIRS}{job.pk}/choice/").json()
    assert found["k"] == 2
    assert [order["order"] for order in found["orders"]] == ["value", "stepwise"]
    assert found["orders"][1]["units"] == list(UNITS[::-1])
    steps = found["orders"][0]["steps"]
    assert [step["clean"] for step in steps] == [0.5, 0.75, 0.9, 0.65, 0.25]
    assert [step["objective"] for step in steps] == pytest.approx([0.5, 0.75, 0.9, 0.65, 0.25])
    assert steps[2]["subgroups"] == [16, 20]
    assert steps[2]["classes"] == [18, 18]
    assert (steps[2]["won"], steps[2]["lost"]) == (16, 0)
    assert [step["feasible"] for step in steps] == [True, True, True, True, False]
    assert steps[4]["broken"] == ["clean accuracy falls by 25.0 points, where 2 may be lost"]
    assert found["images"] == {"select": 40, "metric": 20, "guard": None}
    assert found["subgroups"] == [{"name": "dark", "n": 20}, {"name": "light", "n": 20}]
    page = world.owner.browser.get(f"/repairs/{job.pk}/choice/")
    assert page.json() == json.loads(json.dumps(found))


def test_a_prefix_in_any_order_needs_no_worker(world, job, answers):
    answer = ask(world.owner, job, UNITS[1], UNITS[0])
    assert answer.status_code == 200
    assert answer.json()["figures"]["objective"] == pytest.approx(0.9)
    assert ask(world.owner, job, UNITS[3]).json()["figures"]["objective"] == 0.75, "of the other order"
    assert ask(world.owner, job).json()["figures"]["k"] == 0
    assert not WhatIf.objects.exists()
    assert "what_if" not in world.bells.names()


def test_another_set_is_answered_once_for_all_who_ask(world, job, answers):
    """Two people who change the same choice at the same time ask one question, and see one answer."""
    world.bells.rung.clear()
    first, second = ask(world.owner, job, UNITS[2], UNITS[0]), ask(world.owner, job, UNITS[0], UNITS[2])
    assert (first.status_code, second.status_code) == (202, 202)
    assert first.json()["figures"] is None
    assert [(name, queue) for name, (_, _, queue) in zip(world.bells.names(), world.bells.rung, strict=True)] == [
        ("what_if", "light")
    ]
    browser = world.owner.browser.get(f"/repairs/{job.pk}/choice/set/", {"pick": [UNITS[2], UNITS[0]]})
    assert browser.status_code == 202
    world.bells.answer()
    assert answers == [sorted([UNITS[0], UNITS[2]])]
    answer = ask(world.owner, job, UNITS[0], UNITS[2])
    assert answer.status_code == 200
    assert answer.json()["figures"]["broken"] == BREAKS["broken"], "a set that breaks a limit is shown, not refused"
    again = world.owner.browser.get(f"/repairs/{job.pk}/choice/set/", {"pick": [UNITS[2], UNITS[0]]}).json()
    assert again["figures"] == answer.json()["figures"]
    assert WhatIf.objects.count() == len(answers) == 1
    page = read(world.owner.browser.get(f"/repairs/{job.pk}/", {"pick": [UNITS[2], UNITS[0]]}))
    assert "2 filters, another set" in page.text
    assert "Breaks a limit: clean accuracy falls by 30.0 points" in page.text


def test_the_page_shows_the_set_that_its_address_names(world, job):
    url = f"/repairs/{job.pk}/"
    page = read(world.owner.browser.get(url))
    assert "k = 2 of 4, as the run chose" in page.text
    ticked = [a["value"] for a in page.all("input") if a.get("name") == "pick" and "checked" in a]
    assert ticked == list(UNITS[:2])
    slider = next(a for a in page.all("input") if a.get("type") == "range")
    assert (slider["min"], slider["max"], slider["value"]) == ("0", "4", "2")
    handles = [a for a in page.all("g") if a.get("class") == "handle"]
    assert len(handles) == 4, "two orders, wide and narrow"
    rows = page.tables["Every number of filters on the select images, order by value"]
    assert [row[0] for row in rows[1:]] == ["0", "1", "2", "3", "4"]
    assert rows[5][-1].startswith("broken: clean accuracy falls by 25.0 points")
    page = read(world.owner.browser.get(url, {"k": "4", "order": "1"}))
    assert "k = 4 of 4" in page.text
    assert "Breaks a limit" in page.text
    for nonsense in ({"k": "99"}, {"k": "-1"}, {"order": "7", "k": "²"}):
        assert "as the run chose" in read(world.owner.browser.get(url, nonsense)).text
    page = read(world.owner.browser.get(url, {"pick": "ghost:0"}))
    assert "no such filter: ghost:0" in page.text
    assert not WhatIf.objects.exists()


@pytest.mark.parametrize(
    ("units", "said"), [(["ghost:0"], "ghost:0"), ([UNITS[0], UNITS[0]], "twice"), (["features.1:9"], "no such filter")]
)
def test_bad_sets_say_what_is_wrong(world, job, units, said):
    answer = ask(world.owner, job, *units)
    assert answer.status_code == 400
    assert said in json.dumps(answer.json())
    page = world.owner.browser.get(f"/repairs/{job.pk}/choice/set/", {"pick": units})
    assert page.status_code == (422 if len(set(units)) == len(units) else 200)


def test_what_is_anothers(world, job):
    for answer in (
        world.team_mate.api.get(f"{REPAIRS}{job.pk}/choice/"),
        ask(world.team_mate, job, UNITS[2]),
        world.team_mate.browser.get(f"/repairs/{job.pk}/choice/"),
        world.team_mate.browser.get(f"/repairs/{job.pk}/choice/set/", {"pick": UNITS[2]}),
    ):
        assert answer.status_code == 404
    assert world.stranger.get(f"{REPAIRS}{job.pk}/choice/").status_code == 401
    assert not WhatIf.objects.exists()


def test_a_run_that_kept_nothing(world, job):
    job.artifacts.filter(name=FILE).delete()
    assert ask(world.owner, job, UNITS[2]).status_code == 409
    answer = world.owner.browser.get(f"/repairs/{job.pk}/choice/")
    assert answer.status_code == 409
    assert "kept no outcomes" in answer.json()["error"]
    page = read(world.owner.browser.get(f"/repairs/{job.pk}/"))
    assert "choosing" not in [a.get("id") for a in page.all("form")]
    assert "Every prefix" in " ".join(page.tables), "what its report has stays"
    assert ask(world.team_mate, world.team_mate.job, UNITS[2]).status_code == 409, "it has not finished"


def test_a_damaged_file_leaves_the_page_standing(world, job):
    blob = job.artifacts.get(name=FILE).blob
    os.chmod(blob.path, 0o600)
    blob.path.write_bytes(b"PK\x03\x04")
    read(world.owner.browser.get(f"/repairs/{job.pk}/"))
    assert world.owner.browser.get(f"/repairs/{job.pk}/choice/").status_code == 422


def test_a_run_that_is_deleted_while_somebody_looks(world, job, answers):
    ask(world.owner, job, UNITS[2])
    removal.delete_job(job)
    world.bells.answer()
    assert answers == [], "the worker stops at its first word"
    assert ask(world.owner, job, UNITS[2]).status_code == 404
    assert world.owner.browser.get(f"/repairs/{job.pk}/choice/set/", {"pick": UNITS[2]}).status_code == 404
    folder = reopened.folder(job)
    folder.mkdir(parents=True)
    Job.objects.filter(pk=job.pk).update(deleted_at=timezone.now() - timedelta(days=1))
    cleanup.often()
    assert not Job.objects.filter(pk=job.pk).exists()
    assert not WhatIf.objects.exists()
    assert not folder.exists()
    with pytest.raises(WhatIf.DoesNotExist):
        choice.answer(WhatIf(job=job, units=[UNITS[2]]))


def test_a_worker_that_fails_is_asked_again_and_then_no_more(world, job, settings, monkeypatch):
    def fails(*_: object) -> dict:
        raise RuntimeError("the disk is on fire")

    monkeypatch.setattr("tests.webapp.tiny_engine.TinyEngine.what_if", fails, raising=False)
    for _ in range(settings.MAX_ATTEMPTS):
        assert ask(world.owner, job, UNITS[2]).status_code == 202
        world.bells.answer(only="what_if")
    answer = ask(world.owner, job, UNITS[2])
    assert answer.status_code == 200
    assert "could not be computed" in answer.json()["error"]
    assert "on fire" in WhatIf.objects.get().detail


def test_the_oldest_sets_give_way(world, job, answers, monkeypatch):
    monkeypatch.setattr(choice, "MOST_KEPT", 2)
    for units in ([UNITS[2]], [UNITS[1]], [UNITS[0], UNITS[2]]):
        ask(world.owner, job, *units)
    assert [row.units for row in WhatIf.objects.all()] == [[UNITS[1]], sorted([UNITS[0], UNITS[2]])]


def test_other_sets_of_a_real_run_and_their_export(world, real):
    """What-if figures are those of a run by hand; every export gives its file; the report's looks are counted."""
    post, files, _ = real
    found = post(metric="subgroup-recall:ground", budget=9_000, seed=1)
    job = Job.objects.get(pk=found["id"])
    document = world.owner.api.get(f"{found['url']}choice/").json()
    steps = document["orders"][0]["steps"]
    assert [step["objective"] for step in steps] == [step["objective"] for step in found["result"]["curve"]]
    units = ["stem:2", "spy:0", "stem:0"]
    assert ask(world.owner, job, *units).status_code == 202
    world.bells.answer()
    step = ask(world.owner, job, *units).json()["figures"]
    assert not job.directory.joinpath("what-if").exists()
    assert reopened.folder(job).is_dir()

    exported = post(**{"from": found["id"], "filters": units})
    last = exported["result"]["curve"][-1]
    for key in ("objective", "clean", "guard", "subgroup_drop", "feasible"):
        assert step[key] == last[key], key
    assert exported["result"]["report_uses"] == 2
    harm = post(**{"from": found["id"], "filters": ["stem:0", "stem:1", "stem:2"]})
    assert harm["outcome"] == "not_shown_to_help"
    assert harm["result"]["report_uses"] == 3
    assert harm["result"]["reasons"]
    assert "repaired.onnx" in files(harm)
    assert Job.objects.get(pk=harm["id"]).checkpoint is not None
    page = read(world.owner.browser.get(f"/repairs/{harm['id']}/"))
    assert "Written, not shown to help" in page.text
    assert "Download the written checkpoint" in page.text
    assert "not shown to help" in read(world.owner.browser.get("/repairs/")).text
    walks = world.owner.api.get(f"{harm['url']}choice/").json()["orders"]
    assert [walk["order"] for walk in walks] == [BY_HAND]

    # A second question finds the network ready; what rests is swept, and made anew when it is asked for.
    folder = reopened.folder(job)
    before = (folder / "ready").stat().st_mtime_ns
    ask(world.owner, job, "stem:2", "spy:0")
    world.bells.answer()
    assert (folder / "ready").stat().st_mtime_ns == before
    old = time.time() - cleanup.KINDS["cases"].keep.total_seconds() - 60
    os.utime(folder, (old, old))
    reaper.reap(force=True)
    assert not folder.exists()
    ask(world.owner, job, "stem:2", "stem:1")
    world.bells.answer()
    assert ask(world.owner, job, "stem:2", "stem:1").status_code == 200
    get_engine.cache_clear()


def test_no_repair_found_offers_what_looser_limits_allow(world, real):
    """A button away: the stored values, the limit filled in, and the repair that comes of it."""
    post, _, _ = real
    found = post(metric="recall:ant", budget=9_000, seed=1)
    job = Job.objects.get(pk=found["id"])
    assert found["outcome"] == "no_repair_found"
    assert "values.npz" in [row["name"] for row in found["results"]]
    job.result["curve"] = [
        {"k": 0, "objective": 0.5, "clean": 0.9, "guard": None, "subgroup_drop": None, "feasible": True},
        {"k": 1, "objective": 0.552, "clean": 0.869, "guard": None, "subgroup_drop": None, "feasible": False},
    ]
    job.save()
    page = read(world.owner.browser.get(f"/repairs/{job.pk}/"))
    assert "With a clean drop of 3.1 points allowed, k = 1 changes the recall of ant by +5.2 points" in page.text
    link = next(a["href"] for a in page.all("a") if "max_clean_drop=0.031" in (a.get("href") or ""))
    form = read(world.owner.browser.get(link))
    assert next(a["value"] for a in form.all("input") if a.get("name") == "max_clean_drop") == "3.1"
    more = next(a["href"] for a in page.all("a") if "budget=36000" in (a.get("href") or ""))
    again = read(world.owner.browser.get(more))
    assert next(a["value"] for a in again.all("input") if a.get("name") == "budget") == "36000"
    went_on = post(**{"from": found["id"], "metric": "recall:ant", "max_clean_drop": 0.4})
    assert went_on["result"]["run"]["values_from"]["evaluations"] > 0


def test_a_set_of_nothing_to_export(world, job):
    answer = world.owner.browser.get(f"/repairs/{job.pk}/follow/", follow=True)
    assert "No filter is ticked" in read(answer).text
    with pytest.raises(Refused):
        choice.document(world.team_mate.job)
