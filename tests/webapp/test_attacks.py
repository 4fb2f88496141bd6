"""Jobs of the kind attack: asked for by API and form, run by the same workers, with the command line's figures."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch
from django.core.files.uploadedfile import SimpleUploadedFile

from repair_engine.errors import BadInput
from repair_engine.settings import Attack
from tests.repair_engine import tiny
from tests.webapp.helpers import ready_model
from tests.webapp.pages.helpers import read, succeed
from webapp.jobs.models import Job
from webapp.jobs.requests import asked, for_engine, stored, to_row
from webapp.jobs.translation import repair_request

pytestmark = pytest.mark.usefixtures("quick_module")

MODELS, DATASETS, REPAIRS, ATTACKS = (f"/api/v1/{name}/" for name in ("models", "datasets", "repairs", "attacks"))
NOBODY = "3f0c6a9e-0000-4000-8000-000000000000"


def body(person, **changes: object) -> dict:
    asked = {"model": str(person.model.pk), "dataset": str(person.dataset.pk), **changes}
    return {key: value for key, value in asked.items() if value is not None}


def post(person, **changes: object):
    return person.api.post(ATTACKS, body(person, **changes), format="json")


def repaired(person) -> Job:
    """The person's repair, ended as repaired."""
    succeed(person.job)
    return person.job


def test_the_api_takes_it_and_the_engine_is_told(world):
    owner = world.owner
    answer = post(owner, norm="l2", epsilon=1.5, steps=7, targeted=False, queries=0, subset=9, all_images=True)
    assert answer.status_code == 202, answer.json()
    assert answer["Location"].endswith(f"{REPAIRS}{answer.json()['id']}/")
    job = Job.objects.get(pk=answer.json()["id"])
    assert job.request == {"kind": "attack", "metric": "attack-success", "seed": 0, "norm": "l2", "epsilon": 1.5,
                           "steps": 7, "targeted": False, "queries": 0, "subset": 9, "all_images": True}  # fmt: skip
    asked = repair_request(for_engine(job), owner.model.blob.path.parent)
    assert (asked.attack.norm, asked.attack.epsilon, asked.attack.targeted, asked.queries) == ("l2", 1.5, False, 0)
    page = read(owner.browser.get(f"/repairs/{job.pk}/"))
    assert "Attack: net.pth" in page.text
    assert "Cancel the attack" in page.text
    assert "Leading culprits" not in page.text
    assert "382.5 of 255 levels (1.5)" in page.text
    texts = re.findall(r"<pre>(.*?)</pre>", owner.browser.get(f"/repairs/{job.pk}/").content.decode(), re.S)
    api, command = texts
    assert "/api/v1/attacks/" in api
    assert '"kind"' not in api.replace("&quot;", '"')
    assert "neuron-repair attack" in command
    for option in ("--norm l2", "--epsilon 1.5", "--untargeted", "--all-images", "--queries 0"):
        assert option in command
    assert not re.search(r"--(kind|metric) ", command)


def test_no_change_at_all_may_be_asked_for(world):
    for norm in ("linf", "l2"):
        answer = post(world.owner, epsilon=0, norm=norm)
        assert answer.status_code == 202, answer.json()
        job = Job.objects.get(pk=answer.json()["id"])
        assert repair_request(for_engine(job), world.owner.model.blob.path.parent).attack.epsilon == 0


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"attack": "wish"}, "attack"),
        ({"epsilon": 2}, "epsilon"),
        ({"norm": "l2", "epsilon": 0.001}, "epsilon"),
        ({"norm": "l2"}, "epsilon"),
        ({"restarts": 3}, "restarts"),
        ({"queries": 1}, "queries"),
        ({"steps": 0}, "steps"),
        ({"budget": 10_000}, "budget"),
    ],
)
def test_what_cannot_be_asked(world, changes, field):
    answer = post(world.owner, **changes)
    assert answer.status_code == 400
    assert answer["Content-Type"] == "application/problem+json"
    assert field in [error["field"] for error in answer.json()["errors"]]


def test_the_limits_are_those_of_repairs_but_for_no_change():
    assert Attack(attack="standard", restarts=3).restarts == 3
    with pytest.raises(BadInput):
        Attack(restarts=3)
    assert stored(to_row(Attack(epsilon=0.0, targeted=False))) == Attack(epsilon=0.0, targeted=False)
    with pytest.raises(BadInput, match="no attack can succeed"):
        asked({"metric": "attack-success", "epsilon": 0.0})


def test_a_repair_gives_model_dataset_and_the_checkpoint_after(world):
    owner, repair = world.owner, repaired(world.owner)
    answer = post(owner, model=None, dataset=None, repair=str(repair.pk))
    assert answer.status_code == 202, answer.json()
    found = answer.json()
    assert (found["model"], found["dataset"]) == (str(owner.model.pk), str(owner.dataset.pk))
    assert found["audited"] == str(repair.pk)
    told = for_engine(Job.objects.get(pk=found["id"]))["repaired"]
    assert told["file_name"] == "repaired.safetensors"
    assert Path(told["path"]).read_bytes() == b"weights"
    page = read(owner.browser.get(f"/repairs/{found['id']}/"))
    assert "and its repair" in page.text
    assert "beside its repair" in page.text
    refused = owner.api.delete(f"{REPAIRS}{repair.pk}/")
    assert refused.status_code == 409
    assert "Delete that first" in refused.json()["mend"]
    owner.api.post(f"{REPAIRS}{found['id']}/cancel/")
    assert owner.api.delete(f"{REPAIRS}{found['id']}/").status_code == 204
    assert owner.api.delete(f"{REPAIRS}{repair.pk}/").status_code == 204


def test_refusals(world):
    owner, mate = world.owner, world.team_mate
    assert "left no repaired checkpoint" in post(owner, repair=str(owner.job.pk)).json()["detail"]
    repair = repaired(owner)
    other = ready_model(owner.user, b"other")
    assert "not of" in post(owner, repair=str(repair.pk), model=str(other.pk)).json()["detail"]
    assert "No dataset is named" in post(owner, dataset=None).json()["detail"]
    assert "none is named" in post(owner, surrogates=[str(other.pk)]).json()["detail"]
    assert post(owner, repair=str(repair.pk), surrogates=[str(other.pk)]).status_code == 202
    for changes in ({"repair": str(repair.pk)}, {"model": str(owner.model.pk)}, {"repair": NOBODY}):
        assert post(mate, **changes).status_code == 404, "what is not theirs does not exist"
    assert world.stranger.post(ATTACKS, body(owner), format="json").status_code == 401


def test_the_form_of_a_model(world):
    owner = world.owner
    url = f"/attacks/new/?model={owner.model.pk}&dataset={owner.dataset.pk}"
    assert "choose one above" in read(owner.browser.get(url)).text
    sent = {"model": owner.model.pk, "dataset": owner.dataset.pk, "attack": "standard", "norm": "l2",
            "epsilon": "127.5", "step_size": "25.5", "targeted": "yes", "random_start": "yes", "restarts": 2, "seed": 3,
            "all_images": "on"}  # fmt: skip
    answer = owner.browser.post("/attacks/new/", sent)
    assert answer.status_code == 302, answer.content.decode()[-2000:]
    job = Job.objects.first()
    assert job.request == {"kind": "attack", "metric": "attack-success", "attack": "standard", "norm": "l2",
                           "epsilon": 0.5, "step_size": 0.1, "targeted": True, "random_start": True, "restarts": 2,
                           "seed": 3, "all_images": True}  # fmt: skip
    again = read(owner.browser.get(f"/attacks/new/?like={job.pk}"))
    shown = {a.get("name"): a.get("value") for a in again.all("input")}
    assert (shown["epsilon"], shown["step_size"], shown["seed"]) == ("127.5", "25.5", "3")
    assert any(a.get("name") == "all_images" and "checked" in a for a in again.all("input"))
    wrong = read(owner.browser.post("/attacks/new/", sent | {"epsilon": "0.5"}), 422)
    assert "less than one grey level" in wrong.text


def test_the_form_of_a_repair_takes_over_what_it_attacked(world):
    owner, repair = world.owner, repaired(world.owner)
    repair.request = {
        "metric": "attack-success",
        "seed": 5,
        "attack": "standard",
        "epsilon": 8 / 255,
        "group": "patient",
    }
    repair.save()
    owner.dataset.facts = {"columns": {"patient": {"a": 1, "b": 1}}}
    owner.dataset.save()
    other = ready_model(owner.user, b"other")
    page = read(owner.browser.get(f"/attacks/new/?repair={repair.pk}"))
    shown = {a.get("name"): a.get("value") for a in page.all("input")}
    assert (shown["seed"], shown["epsilon"], shown["repair"]) == ("5", "8", str(repair.pk))
    chosen = [a["value"] for a in page.all("option") if "selected" in a]
    assert {"patient", "standard", str(repair.pk), str(owner.dataset.pk)} <= set(chosen)
    sent = {"repair": repair.pk, "model": owner.model.pk, "dataset": owner.dataset.pk, "seed": 5,
            "surrogates": [other.pk]}  # fmt: skip
    answer = owner.browser.post("/attacks/new/", sent)
    assert answer.status_code == 302, answer.content.decode()[-2000:]
    job = Job.objects.first()
    assert (job.audited, list(job.surrogates.all())) == (repair, [other])
    assert "Attack it, before and after" in read(owner.browser.get(f"/repairs/{repair.pk}/")).text
    strange = world.team_mate.browser.get(f"/attacks/new/?repair={repair.pk}")
    assert strange.status_code == 404


def test_without_uploads_the_page_says_what_is_missing(world):
    Job.objects.all().delete()
    world.owner.model.delete()
    assert "An attack needs a model" in read(world.owner.browser.get("/attacks/new/")).text


@pytest.mark.slow
def test_through_the_engine_the_figures_are_those_of_the_command_line(world, settings, tmp_path):
    """A model alone; with its repair; without any change; and one that is never right, which fails with the reason."""
    garden = tiny.make_sabotaged(tmp_path / "garden", tiny.images(96, seed=1))
    settings.ENGINE = "webapp.jobs.engine:RepairEngine"
    settings.ARCHITECTURES = {"net": garden.factory}
    api = world.owner.api

    def upload(path: Path, classes: int = 3) -> str:
        file, names = SimpleUploadedFile(path.name, path.read_bytes()), ["ant", "bee", "cat", "dog"][:classes]
        sent = {"file": file, "architecture": "net", "num_classes": classes, "classes": "\n".join(names)}
        return api.post(MODELS, sent, format="multipart").json()["id"]

    def finished(where: str, asked: dict) -> dict:
        made = api.post(where, asked, format="json")
        assert made.status_code == 202, made.json()
        world.bells.answer()
        return api.get(f"{REPAIRS}{made.json()['id']}/").json()

    model, hopeless = upload(garden.model), upload(tiny.save(never_right(), tmp_path / "hopeless.safetensors"), 4)
    zipped = SimpleUploadedFile("data.zip", garden.data.read_bytes())
    data = api.post(DATASETS, {"file": zipped}, format="multipart").json()["id"]
    world.bells.answer(only="validate")
    Job.objects.all().delete()
    world.bells.rung.clear()
    wanted = {"metric": "attack-success", "estimator": "exact", "max_clean_drop": 0.3, "epsilon": 0.1, "steps": 4,
              "queries": 0}  # fmt: skip
    repair = finished(REPAIRS, {"model": model, "dataset": data, **wanted})
    assert repair["outcome"] == "repaired", repair
    checkpoint = next(row for row in repair["results"] if row["name"] == "repaired.safetensors")
    written = tmp_path / "repaired.safetensors"
    written.write_bytes(b"".join(api.get(checkpoint["url"]).streaming_content))

    small = {"epsilon": 0.1, "steps": 4, "subset": 12, "queries": 30}
    argv = garden.argv("attack", "--json", "--epsilon", "0.1", "--steps", "4", "--subset", "12", "--queries", "30")
    del argv[argv.index("--metric") : argv.index("--metric") + 2]
    kept = ("attack", "images", "figures", "curves", "self_tests", "rows", "black_box", "warnings")
    for wanted, more in (
        ({"repair": repair["id"]}, ["--repaired", str(written)]),
        ({"model": model, "dataset": data}, []),
    ):
        found = finished(ATTACKS, wanted | small)
        assert (found["state"], found["outcome"]) == ("succeeded", "attacked"), found
        plain = tiny.call([*argv, *more]).document
        results = {row["name"]: row["url"] for row in found["results"]}
        assert set(results) == {"attack.json", "attack.html", "attack.csv", "attack.npz", "adversarial.pack"}
        document = json.loads(b"".join(api.get(results["attack.json"]).streaming_content))
        for key in kept:
            assert document[key] == plain[key] == found["result"][key], key
        assert len(document["rows"]) == (4 if more else 0)
        page = read(world.owner.browser.get(f"/repairs/{found['id']}/"))
        assert ("Before and after the repair" in page.text) == bool(more)
        assert ("What adversaries achieve before and after the repair" in page.text) == bool(more)
        for heading in ("At a glance", "Success against ε and steps", "Self-tests, and signs of masked gradients"):
            assert heading in page.text
        assert f"{document['figures']['success']['value']:.1%}" in page.text
        assert "No repair found" not in page.text
        assert "There is no checkpoint" not in page.text
        shown = world.owner.browser.get(f"/repairs/{found['id']}/files/attack.html?inline=1")
        assert b"At a glance" in b"".join(shown.streaming_content)

    nothing = finished(ATTACKS, {"model": model, "dataset": data, "epsilon": 0, "steps": 4, "subset": 12})
    assert nothing["outcome"] == "attacked", nothing
    assert nothing["result"]["figures"]["success"]["value"] == 0
    assert "an adversary may change nothing" in read(world.owner.browser.get(f"/repairs/{nothing['id']}/")).text
    failed = finished(ATTACKS, {"model": hopeless, "dataset": data, **small})
    assert (failed["state"], failed["fault"]) == ("failed", "input"), failed
    assert "the intact model is right on none of the" in failed["error"]
    assert "class order" in failed["mend"]
    assert "The input cannot be used" in read(world.owner.browser.get(f"/repairs/{failed['id']}/")).text


def never_right() -> tiny.Sabotaged:
    """Calls everything a fourth class, of which there are no images."""
    module = tiny.Sabotaged(4).eval().requires_grad_(False)
    module.head.bias.copy_(torch.tensor([0.0, 0.0, 0.0, 1e4]))
    return module
