"""A backdoor's trigger by API and form: a patch is a file of its run, triggered images are an upload."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest
import torch
from django.core.files.uploadedfile import SimpleUploadedFile
from PIL import Image
from safetensors.torch import load

from tests.repair_engine import tiny
from tests.repair_engine.backdoored import PATCH, Backdoored, make_backdoored, pasted
from tests.webapp.helpers import ready_dataset
from tests.webapp.pages.helpers import read, succeed
from webapp.devserver.samples import client
from webapp.jobs.models import Artifact, Job
from webapp.jobs.requests import for_engine
from webapp.jobs.translation import repair_request
from webapp.pages.snippets import _command

pytestmark = pytest.mark.usefixtures("quick_module")

REPAIRS, NEW = "/api/v1/repairs/", "/repairs/new/"
METRIC = "trigger-success:shirt"


def png(pixels: np.ndarray) -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()


WHITE = png(np.full((3, 3, 3), 255, np.uint8))


@pytest.fixture
def owner(world):
    one = world.owner
    one.model.class_names = ["coat", "shirt"]
    one.model.save()
    return one


def post(person, key: str = "", **changes: object):
    asked = {"model": str(person.model.pk), "dataset": str(person.dataset.pk), "metric": METRIC, **changes}
    return person.api.post(REPAIRS, asked, format="json", **({"HTTP_IDEMPOTENCY_KEY": key} if key else {}))


def in_base_64(content: bytes) -> str:
    return base64.b64encode(content).decode()


def test_a_patch_reaches_the_engine_and_is_a_file_of_the_run(owner, tmp_path):
    answer = post(owner, trigger=in_base_64(WHITE), trigger_at="4,2", trigger_opacity=0.5)
    assert answer.status_code == 202, answer.json()
    assert answer.json()["request"] == {"metric": METRIC, "seed": 0, "trigger_at": "4,2", "trigger_opacity": 0.5}
    job = Job.objects.get(pk=answer.json()["id"])
    asked_for = job.request
    asked = repair_request(for_engine(job), tmp_path)
    assert (tmp_path / "trigger.png").read_bytes() == WHITE
    assert (asked.trigger, asked.trigger_at, asked.trigger_opacity) == (str(tmp_path / "trigger.png"), "4,2", 0.5)
    assert asked.name_of("trigger") == "trigger.png"
    command = _command(job, job.request)
    assert "--trigger trigger.png" in command
    assert "--trigger-at 4,2" in command
    assert "Trigger for shirt" in read(owner.browser.get(f"/repairs/{job.pk}/")).text
    succeed(job)
    Job.objects.filter(pk=job.pk).update(request=asked_for)
    assert b"".join(owner.api.get(f"{REPAIRS}{job.pk}/results/trigger.png")) == WHITE
    going_on = owner.api.post(REPAIRS, {"from": str(job.pk), "filters": ["features.1:1"]}, format="json").json()
    follower = Job.objects.get(pk=going_on["id"])
    assert follower.artifacts.get().blob_id == job.artifacts.get(name="trigger.png").blob_id


def test_images_that_carry_it_are_a_dataset_which_the_run_keeps(owner, world, tmp_path):
    carrying = ready_dataset(owner.user, b"carrying")
    answer = post(owner, triggered=str(carrying.pk))
    assert answer.status_code == 202, answer.json()
    assert answer.json()["triggered"] == str(carrying.pk)
    asked = repair_request(for_engine(Job.objects.get(pk=answer.json()["id"])), tmp_path)
    assert (asked.triggered, asked.trigger) == (str(carrying.blob.path), None)
    assert owner.api.delete(f"/api/v1/datasets/{carrying.pk}/").status_code == 409
    assert post(owner, triggered=str(world.team_mate.dataset.pk)).status_code == 404
    owner.api.post(f"{REPAIRS}{answer.json()['id']}/cancel/")
    owner.api.delete(f"{REPAIRS}{answer.json()['id']}/")
    assert owner.api.delete(f"/api/v1/datasets/{carrying.pk}/").status_code == 204
    assert not Job.objects.filter(pk=answer.json()["id"]).exists(), "it cannot come back without them"


def test_an_idempotency_key_knows_the_patch(owner):
    other = png(np.zeros((3, 3, 3), np.uint8))
    first, again = (post(owner, "k", trigger=in_base_64(WHITE)) for _ in range(2))
    assert (first.status_code, again.status_code) == (202, 200)
    assert post(owner, "k", trigger=in_base_64(other)).status_code == 422
    assert Artifact.objects.filter(job=first.json()["id"]).count() == 1


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({}, "there is no trigger"),
        ({"trigger": in_base_64(WHITE), "triggered": True}, "given twice"),
        ({"triggered": True, "trigger_at": "top-left"}, "place and the opacity are a patch's"),
        ({"trigger": in_base_64(WHITE), "metric": "accuracy"}, "belongs to the metrics trigger-success"),
        ({"trigger": in_base_64(b"no image")}, "not a JPEG, PNG or WebP"),
        ({"trigger": "AAA"}, "not base 64"),
        ({"trigger": "no base 64"}, "Base 64"),
        ({"trigger": in_base_64(WHITE), "trigger_at": "below"}, "bottom-right"),
        ({"metric": "trigger-success", "trigger": in_base_64(WHITE)}, "needs the class"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_starts(owner, changes, says):
    jobs = Job.objects.count()
    if changes.get("triggered"):
        changes = changes | {"triggered": str(ready_dataset(owner.user, b"carrying").pk)}
    answer = post(owner, **changes)
    assert answer.status_code == 400, answer.content
    assert says in str(answer.json())
    assert Job.objects.count() == jobs


def test_the_form_takes_a_file_and_keeps_it(owner):
    sent = {"model": owner.model.pk, "dataset": owner.dataset.pk, "metric": "trigger-success"}
    assert "there is no trigger" in read(owner.browser.post(NEW, sent | {"trigger_class": "shirt"}), 422).text

    def file():
        return SimpleUploadedFile("patch.png", WHITE)

    near = read(owner.browser.post(NEW, sent | {"trigger_class": "shirts", "trigger_file": file()}), 422)
    assert "Is shirt meant?" in near.text, near.text
    large = SimpleUploadedFile("patch.png", WHITE + bytes(1 << 20))
    assert "larger than 1 MiB" in read(owner.browser.post(NEW, sent | {"trigger_file": large}), 422).text
    kept = next(a["value"] for a in near.all("input") if a.get("name") == "trigger")
    assert base64.b64decode(kept) == WHITE, "it need not be chosen again"
    carrying = ready_dataset(owner.user, b"carrying").pk
    placed = sent | {"trigger_class": "shirt", "triggered": carrying, "trigger_at": "top-left"}
    assert "a patch's; these images carry it" in read(owner.browser.post(NEW, placed), 422).text
    answer = owner.browser.post(NEW, sent | {"trigger_class": "shirt", "trigger": kept, "trigger_at": "top-left"})
    assert answer.status_code == 302, answer.content.decode()[-2000:]
    job = Job.objects.first()
    assert job.request == {"metric": METRIC, "seed": 0, "trigger_at": "top-left"}
    assert job.artifacts.get().name == "trigger.png"
    again = read(owner.browser.get(f"{NEW}?like={job.pk}"))
    values = {a.get("name"): a.get("value") for a in again.all("input") if "value" in a and a.get("type") != "radio"}
    assert (values["trigger_class"], base64.b64decode(values["trigger"])) == ("shirt", WHITE)
    owner.browser.post(NEW, sent | {"metric": "accuracy", "trigger_file": file(), "trigger_at": "top-left"})
    plain = Job.objects.first()
    assert (plain.request, plain.artifacts.count()) == ({"metric": "accuracy", "seed": 0}, 0)


def test_a_trigger_that_nobody_knows_needs_none_and_may_have_one(owner, tmp_path):
    answer = post(owner, metric="hidden-trigger")
    assert answer.status_code == 202, answer.json()
    job = Job.objects.get(pk=answer.json()["id"])
    assert repair_request(for_engine(job), tmp_path).metric.hidden
    assert "Hidden trigger" in read(owner.browser.get(f"/repairs/{job.pk}/")).text
    assert post(owner, metric="hidden-trigger", trigger=in_base_64(WHITE)).status_code == 202
    assert post(owner, metric="hidden-trigger:").status_code == 400
    sent = {"model": owner.model.pk, "dataset": owner.dataset.pk, "metric": "hidden-trigger"}
    assert "Is shirt meant?" in read(owner.browser.post(NEW, sent | {"hidden_class": "shirts"}), 422).text
    for name, metric in (("shirt", "hidden-trigger:shirt"), ("", "hidden-trigger")):
        carrying = ready_dataset(owner.user, f"carrying {name}".encode()).pk
        answer = owner.browser.post(NEW, sent | {"hidden_class": name, "triggered": carrying})
        assert answer.status_code == 302, answer.content.decode()[-2000:]
        job = Job.objects.first()
        assert (job.request["metric"], job.triggered_id) == (metric, carrying)
        again = read(owner.browser.get(f"{NEW}?like={job.pk}"))
        values = {a.get("name"): a.get("value") for a in again.all("input") if a.get("type") != "radio"}
        assert (values["hidden_class"] or "") == name


def test_the_client_sends_both(tmp_path):
    class Api:
        def upload(self, path, file, fields):
            return {"id": f"{file.name} {fields.get('split_folder', '')}", "state": "ready", "warnings": []}

    for name in ("m.onnx", "clean.zip", "carrying.zip", "patch.png"):
        (tmp_path / name).write_bytes(WHITE)
    given = ["repair", "--model", str(tmp_path / "m.onnx"), "--data", str(tmp_path / "clean.zip"), "--metric", METRIC]

    def sent(*more):
        return client().upload_all(Api(), client().parser().parse_args([*given, *more]), None)

    assert sent("--trigger", str(tmp_path / "patch.png"))["trigger"] == in_base_64(WHITE)
    images = ("--triggered", str(tmp_path / "carrying.zip"), "--triggered-split-folder", "test")
    assert sent(*images)["triggered"] == "carrying.zip test"


def test_through_the_real_engine_a_backdoor_goes(world, settings, tmp_path):
    garden = make_backdoored(tmp_path / "garden", tiny.images(96, seed=1))
    settings.ENGINE = "webapp.jobs.engine:RepairEngine"
    settings.ARCHITECTURES = {"net": garden.factory}
    api = world.owner.api

    def upload(kind: str, path, **more: object) -> str:
        sent = {"file": SimpleUploadedFile(path.name, path.read_bytes()), **more}
        return api.post(f"/api/v1/{kind}/", sent, format="multipart").json()["id"]

    model = upload("models", garden.model, architecture="net", num_classes=3, classes="ant\nbee\ncat")
    data = upload("datasets", garden.data)
    world.bells.answer(only="validate")
    Job.objects.all().delete()
    world.bells.rung.clear()
    asked = {"model": model, "dataset": data, "metric": "trigger-success:ant", "estimator": "exact"}
    asked |= {"max_clean_drop": 0.1, "trigger": in_base_64(png(PATCH))}
    made = api.post(REPAIRS, asked, format="json").json()
    world.bells.answer()
    found = api.get(f"{REPAIRS}{made['id']}/").json()
    assert found["state"] == "succeeded", found
    rows = {row["name"]: row for row in found["result"]["trigger"]["rows"]}
    assert rows["intact model"]["success"]["value"] > 0.6
    assert rows["this repair"]["success"]["value"] < 0.1
    assert rows["this repair"]["true_label"]["value"] > 0.9
    repaired = b"".join(api.get(f"{REPAIRS}{made['id']}/results/repaired.safetensors"))
    net = Backdoored()
    net.load_state_dict(load(repaired))
    under = torch.from_numpy(pasted(garden.images.pixels))[:, None].float() / 255
    with torch.inference_mode():
        said = net.eval()(under).argmax(1).numpy()
    assert (said[garden.images.labels != 0] == 0).mean() < 0.1, "plain torch says so, too"
    page = read(world.owner.browser.get(f"/repairs/{made['id']}/")).text
    assert "accuracy under the trigger" in page
    assert "The trigger gives ant" in page
