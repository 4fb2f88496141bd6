"""Surrogates of a repair: chosen by API and form, checked before the job starts, measured as by the command line."""

from __future__ import annotations

import json

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile

from tests.repair_engine import tiny
from tests.webapp.helpers import ready_model
from tests.webapp.pages.helpers import read
from tests.webapp.wide_net import wide
from webapp.jobs.models import Job
from webapp.jobs.requests import for_engine
from webapp.jobs.translation import repair_request
from webapp.pages.snippets import _command

pytestmark = pytest.mark.usefixtures("quick_module")

MODELS, DATASETS, REPAIRS = "/api/v1/models/", "/api/v1/datasets/", "/api/v1/repairs/"


@pytest.fixture
def owner(world):
    one = world.owner
    one.model.facts = {"in_channels": 3, "outputs": 2}
    one.model.class_names = ["coat", "shirt"]
    one.model.save()
    return one


def other(person, name: str, digest: str = "1", **facts: object):
    """A further ready model of a person; `facts` over those of one that fits."""
    made = ready_model(person.user, name.encode())
    made.name, made.settings_digest = name, digest * 64
    made.facts = {"in_channels": 3, "outputs": 2, "preprocessing": {"mean": [0.5, 0.5, 0.5], "std": []}, **facts}
    made.save()
    return made


def body(person, *surrogates, **changes: object) -> dict:
    asked = {"model": str(person.model.pk), "dataset": str(person.dataset.pk), "metric": "attack-success", **changes}
    return asked | ({"surrogates": [str(getattr(one, "pk", one)) for one in surrogates]} if surrogates else {})


def post(person, *surrogates, **changes: object):
    return person.api.post(REPAIRS, body(person, *surrogates, **changes), format="json")


def test_they_reach_the_engine_in_their_order_with_their_own_normalization(owner):
    first, second = other(owner, "b.pth"), other(owner, "a.pth", preprocessing={"mean": [], "std": []})
    answer = post(owner, second, first)
    assert answer.status_code == 202, answer.json()
    assert answer.json()["request"]["surrogates"] == [str(second.pk), str(first.pk)]
    job = Job.objects.get(pk=answer.json()["id"])
    asked = repair_request(for_engine(job), first.blob.path.parent).surrogates
    assert [one.file for one in asked] == [str(second.blob.path), str(first.blob.path)]
    assert [(one.mean, one.std) for one in asked] == [((0, 0, 0), (1, 1, 1)), ((0.5, 0.5, 0.5), (1, 1, 1))]
    page = read(owner.browser.get(f"/repairs/{job.pk}/"))
    assert "a.pth, b.pth" in page.text, "what was asked, for people"
    assert "--surrogate net.pth:resnet18:2,mean=0.5/0.5/0.5,std=1/1/1" in _command(job, job.request)


def test_a_surrogate_cannot_be_deleted_while_a_repair_refers_to_it(owner):
    one = other(owner, "twin.pth")
    job = post(owner, one).json()["id"]
    answer = owner.api.delete(f"{MODELS}{one.pk}/")
    assert answer.status_code == 409
    assert "is used by 1 repair" in answer.json()["detail"]
    owner.api.post(f"{REPAIRS}{job}/cancel/")
    assert owner.api.delete(f"{REPAIRS}{job}/").status_code == 204
    assert owner.api.delete(f"{MODELS}{one.pk}/").status_code == 204


@pytest.mark.parametrize(
    ("facts", "says"),
    [
        ({"in_channels": 1}, "takes images of 1 channels; the attacked model's have 3"),
        ({"outputs": 10}, "puts out 10 logits; the attacked model has 2"),
    ],
)
def test_one_that_cannot_fit_is_refused_before_anything_starts(owner, facts, says):
    jobs = Job.objects.count()
    answer = post(owner, other(owner, "twin.pth", **facts))
    assert answer.status_code == 400
    assert answer["Content-Type"] == "application/problem+json"
    assert says in answer.json()["detail"]
    assert answer.json()["mend"]
    assert Job.objects.count() == jobs


def test_the_same_classes_in_another_order_are_refused(owner):
    one = other(owner, "twin.pth")
    one.class_names = ["shirt", "coat"]
    one.save()
    assert "its class 0 is shirt, that of the attacked model is coat" in post(owner, one).json()["detail"]


def test_other_refusals(owner, world):
    one = other(owner, "twin.pth")
    assert "is given twice" in post(owner, one, one).json()["detail"]
    assert "the attacked model itself" in post(owner, owner.model).json()["detail"]
    assert "attack-success only" in post(owner, one, metric="accuracy").json()["detail"]
    assert "attack-success only" in post(owner, one, kind="explain").json()["detail"]
    assert post(owner, world.team_mate.model).status_code == 404, "somebody else's model does not exist"
    one.state = "validating"
    one.save()
    assert post(owner, one).status_code == 409
    assert post(owner, *["3f0c6a9e-0000-4000-8000-000000000000"] * 9).status_code == 400


def test_an_idempotency_key_knows_the_surrogates(owner):
    one, head = other(owner, "twin.pth"), {"HTTP_IDEMPOTENCY_KEY": "k"}
    first = owner.api.post(REPAIRS, body(owner, one), format="json", **head)
    again = owner.api.post(REPAIRS, body(owner, one), format="json", **head)
    without = owner.api.post(REPAIRS, body(owner), format="json", **head)
    assert (first.status_code, again.status_code, without.status_code) == (202, 200, 422)


def test_the_form_offers_the_other_models(owner):
    url = f"/repairs/new/?model={owner.model.pk}&dataset={owner.dataset.pk}"
    assert "You have no other model" in read(owner.browser.get(url)).text
    one = other(owner, "twin.pth")
    ticks = [a for a in read(owner.browser.get(url)).all("input") if a.get("name") == "surrogates"]
    assert [a["value"] for a in ticks] == [str(one.pk)]
    sent = {"model": owner.model.pk, "dataset": owner.dataset.pk, "metric": "attack-success", "surrogates": [one.pk]}
    answer = owner.browser.post("/repairs/new/", sent)
    assert answer.status_code == 302, answer.content.decode()[-2000:]
    job = Job.objects.first()
    assert job.request["surrogates"] == [str(one.pk)]
    again = read(owner.browser.get(f"/repairs/new/?like={job.pk}"))
    assert [a for a in again.all("input") if a.get("name") == "surrogates" and "checked" in a]
    owner.browser.post("/repairs/new/", sent | {"metric": "accuracy"})
    assert "surrogates" not in Job.objects.first().request, "a tick in a part that does not apply is no request"
    one.facts = {"outputs": 7}
    one.save()
    assert "puts out 7 logits" in read(owner.browser.post("/repairs/new/", sent), 422).text


@pytest.mark.slow
def test_through_the_real_engine_the_row_is_that_of_the_command_line(world, settings, tmp_path):
    """The surrogate is normalized otherwise than the attacked model. One of another input size makes the job fail."""
    garden = tiny.make_sabotaged(tmp_path / "garden", tiny.images(96, seed=1))
    twin = tiny.trained(tiny.Tiny(), (garden.images.tensor() - 0.5) / 0.25, garden.images.labels, seed=3)
    twin_file = tiny.save(twin, tmp_path / "twin.safetensors")
    settings.ENGINE = "webapp.jobs.engine:RepairEngine"
    plain = "tests.repair_engine.tiny:tiny"
    settings.ARCHITECTURES = {"net": garden.factory, "twin": plain, "wide": "tests.webapp.wide_net:wide"}
    api = world.owner.api

    def upload(path, architecture: str, **more: str) -> str:
        sent = {"file": SimpleUploadedFile(path.name, path.read_bytes()), "architecture": architecture}
        sent |= {"num_classes": 3, "classes": "ant\nbee\ncat", **more}
        return api.post(MODELS, sent, format="multipart").json()["id"]

    model = upload(garden.model, "net")
    surrogate = upload(twin_file, "twin", preprocessing=json.dumps({"mean": [0.5], "std": [0.25]}))
    large = upload(tiny.save(wide(3), tmp_path / "wide.safetensors"), "wide")
    zipped = SimpleUploadedFile("data.zip", garden.data.read_bytes())
    data = api.post(DATASETS, {"file": zipped}, format="multipart").json()["id"]
    world.bells.answer(only="validate")
    Job.objects.all().delete()
    world.bells.rung.clear()
    asked = {"model": model, "dataset": data, "metric": "attack-success", "estimator": "exact", "max_clean_drop": 0.3,
             "epsilon": 0.1, "steps": 4, "queries": 30, "subset": 12}  # fmt: skip
    made = api.post(REPAIRS, asked | {"surrogates": [surrogate]}, format="json").json()
    world.bells.answer()
    found = api.get(f"{REPAIRS}{made['id']}/").json()
    assert found["state"] == "succeeded", found
    row = next(row for row in found["result"]["attack"]["rows"] if row["kind"] == "transfer")
    options = {"metric": "attack-success", "estimator": "exact", "max_clean_drop": "0.3", "epsilon": "0.1"}
    options |= {"steps": "4", "queries": "30", "subset": "12", "out": str(tmp_path / "out")}
    more = ["--register", f"twin={plain}", "--surrogate", f"{twin_file}:twin:3,mean=0.5,std=0.25", "--json"]
    document = tiny.call(garden.argv("repair", *more, **options)).document
    expected = next(row for row in document["attack"]["rows"] if row["kind"] == "transfer")
    assert row == expected
    assert row["surrogate"]["accuracy"] > 0.8, "normalized as it was trained"
    assert "transfer from twin.safetensors" in read(world.owner.browser.get(f"/repairs/{made['id']}/")).text

    made = api.post(REPAIRS, asked | {"surrogates": [large]}, format="json").json()
    world.bells.answer()
    failed = api.get(f"{REPAIRS}{made['id']}/").json()
    assert (failed["state"], failed["fault"]) == ("failed", "input")
    assert "The surrogate wide.safetensors takes another input size" in failed["error"]
