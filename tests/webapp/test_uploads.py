"""Uploading models and datasets: streamed, hashed, stored once, checked by the real engine in a child process."""

from __future__ import annotations

import hashlib
import io
import json
import tempfile
import zipfile
from pathlib import Path

import pytest
import torch
import torchvision
from django.core.files.uploadedfile import SimpleUploadedFile
from safetensors.torch import save

from tests.repair_engine.image_sets import png
from webapp.jobs import requests, translation
from webapp.library.models import Blob, DatasetUpload, ModelUpload

MODELS, DATASETS = "/api/v1/models/", "/api/v1/datasets/"


@pytest.fixture(scope="module")
def checkpoint() -> bytes:
    """A squeezenet for two classes, as safetensors."""
    torch.manual_seed(0)
    module = torchvision.models.squeezenet1_1(num_classes=2)
    return save({name: tensor.contiguous() for name, tensor in module.state_dict().items()})


def send_model(person, content: bytes, name: str = "net.safetensors", **fields):
    data = {"architecture": "squeezenet1_1", "num_classes": "2", **fields}
    file = SimpleUploadedFile(name, content, "application/octet-stream")
    return person.api.post(MODELS, {**data, "file": file}, format="multipart")


def send_dataset(person, content: bytes, name: str = "images.zip", **fields):
    return person.api.post(DATASETS, {"file": SimpleUploadedFile(name, content), **fields}, format="multipart")


def checked(person, kind: str, answer) -> dict:
    """The upload after the worker has looked at it."""
    assert answer.status_code in (200, 201), answer.json()
    return person.api.get(f"/api/v1/{kind}/{answer.json()['id']}/").json()


def test_a_model_is_stored_hashed_and_checked(world, checkpoint):
    owner = world.owner
    answer = send_model(owner, checkpoint, options=json.dumps({"dropout": 0.25}), classes="cat\ndog\n")
    assert answer.status_code == 201
    made = answer.json()
    assert (made["state"], made["size"]) == ("validating", len(checkpoint))
    assert made["sha256"] == hashlib.sha256(checkpoint).hexdigest()
    assert answer["Location"].endswith(f"{MODELS}{made['id']}/")
    assert Blob(sha256=made["sha256"]).path.read_bytes() == checkpoint
    world.bells.answer(only="validate")
    found = checked(owner, "models", answer)
    assert (found["state"], found["error"]) == ("ready", "")
    assert found["class_names"] == ["cat", "dog"]
    assert found["facts"]["format"] == "safetensors"
    assert found["facts"]["parameters"] == 723522


def test_key_and_strip_prefix_reach_the_check_and_the_jobs(world):
    torch.manual_seed(0)
    net = torchvision.models.squeezenet1_1(num_classes=2).state_dict()
    inside = {"temperature": torch.ones(1), **{f"net.{key}": value for key, value in net.items()}}
    written = io.BytesIO()
    torch.save({"student": {"x": torch.ones(1)}, "teacher": inside}, written)
    blind = send_model(world.owner, written.getvalue(), "net.pth")
    told = send_model(world.owner, written.getvalue(), "net.pth", key="teacher", strip_prefix="net.")
    assert blind.json()["id"] != told.json()["id"]
    world.bells.answer(only="validate")
    assert "--key student" in checked(world.owner, "models", blind)["mend"]
    found = checked(world.owner, "models", told)
    assert (found["state"], found["key"], found["strip_prefix"]) == ("ready", "teacher", "net.")
    assert found["facts"]["unwrapped"] == ["teacher", "net."]
    described = requests._model(ModelUpload.objects.get(pk=found["id"]))
    with tempfile.TemporaryDirectory() as folder:
        opened = translation._open(described, Path(folder))
        old = translation._open({k: v for k, v in described.items() if k not in ("key", "strip_prefix")}, Path(folder))
    assert (opened.architecture.key, opened.architecture.strip_prefix) == ("teacher", "net.")
    assert (old.architecture.key, old.architecture.strip_prefix) == ("", "")  # a job from before there were options


def test_the_same_file_with_the_same_settings_is_the_same_model(world, checkpoint):
    owner, mate = world.owner, world.team_mate
    first, again = send_model(owner, checkpoint), send_model(owner, checkpoint, name="copy.safetensors")
    assert (first.status_code, again.status_code) == (201, 200)
    assert first.json()["id"] == again.json()["id"]
    other = send_model(owner, checkpoint, num_classes="3")
    theirs = send_model(mate, checkpoint)
    assert (other.status_code, theirs.status_code) == (201, 201)
    assert len({one.json()["id"] for one in (first, other, theirs)}) == 3
    assert Blob.objects.filter(sha256=first.json()["sha256"]).count() == 1
    stored = Blob.objects.get(pk=first.json()["sha256"]).path
    # The file goes when the last one that uses it goes.
    for person, made in ((owner, first), (owner, other), (mate, theirs)):
        assert stored.exists()
        assert person.api.delete(f"{MODELS}{made.json()['id']}/").status_code == 204
    assert not stored.exists()


def test_what_does_not_fit_is_rejected_with_what_differs_and_kept(world, checkpoint):
    answer = send_model(world.owner, checkpoint, num_classes="10")
    world.bells.answer(only="validate")
    found = checked(world.owner, "models", answer)
    assert found["state"] == "rejected"
    assert "classifier.1.weight" in found["error"]
    assert Blob(sha256=found["sha256"]).path.exists()
    again = send_model(world.owner, checkpoint, num_classes="10")
    assert (again.status_code, again.json()["state"]) == (200, "validating")


def test_a_pickle_that_would_run_code_is_refused_and_runs_nothing(world, tmp_path):
    witness = tmp_path / "ran"

    class Evil:
        def __reduce__(self):
            return (open, (str(witness), "w"))

    content = io.BytesIO()
    torch.save({"conv.weight": Evil()}, content)
    answer = send_model(world.owner, content.getvalue(), "net.pth")
    world.bells.answer(only="validate")
    found = checked(world.owner, "models", answer)
    assert found["state"] == "rejected"
    assert found["mend"] or found["error"]
    assert not witness.exists()


@pytest.mark.parametrize("content", [b"PK\x03\x04 cut short", b"not a model at all"])
def test_files_that_are_no_checkpoints(world, content):
    answer = send_model(world.owner, content, "net.pth")
    world.bells.answer(only="validate")
    assert checked(world.owner, "models", answer)["state"] == "rejected"


def test_a_field_that_takes_one_value_is_not_given_twice(world):
    """Django would keep the last one."""
    answer = send_dataset(world.owner, b"zip", split_folder=["train", "test"])
    assert answer.status_code == 400
    assert "more than once" in answer.content.decode()
    assert not DatasetUpload.objects.filter(owner=world.owner.user, split_folder="test").exists()


def test_unknown_architecture_says_what_is_near(world, checkpoint):
    answer = send_model(world.owner, checkpoint, architecture="squeezenet1_2")
    world.bells.answer(only="validate")
    found = checked(world.owner, "models", answer)
    assert found["state"] == "rejected"
    assert "squeezenet1_1" in found["mend"]


def test_class_list_of_another_length(world, checkpoint):
    answer = send_model(world.owner, checkpoint, classes="cat\ndog\nbird")
    world.bells.answer(only="validate")
    found = checked(world.owner, "models", answer)
    assert found["state"] == "rejected"
    assert "3 class names" in found["error"]


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"architecture": "../../etc"}, "architecture"),
        ({"num_classes": "none"}, "num_classes"),
        ({"num_classes": "0"}, "num_classes"),
        ({"options": "[1]"}, "options"),
        ({"options": "{broken"}, "options"),
        ({"preprocessing": '{"zoom": 3}'}, "preprocessing"),
        ({"preprocessing": '{"std": [0, 1, 1]}'}, "preprocessing.std"),
        ({"weights": "best"}, "weights"),
    ],
)
def test_bad_fields_are_named(world, checkpoint, fields, field):
    answer = send_model(world.owner, checkpoint, **fields)
    assert answer.status_code == 400
    assert any(error["field"].startswith(field) for error in answer.json()["errors"])


def test_empty_and_missing_files(world):
    assert send_model(world.owner, b"").status_code == 400
    answer = world.owner.api.post(MODELS, {"architecture": "resnet18", "num_classes": "2"}, format="multipart")
    assert [error["field"] for error in answer.json()["errors"]] == ["file"]


@pytest.mark.parametrize("kind", ["model", "dataset"])
def test_too_large_is_said_clearly_and_leaves_nothing(world, settings, kind):
    settings.MAX_MODEL_BYTES = settings.MAX_DATASET_BYTES = 1000
    send = send_model if kind == "model" else send_dataset
    answer = send(world.owner, b"x" * 1001)
    assert answer.status_code == 413
    assert "1,001 bytes" in answer.json()["detail"]
    assert list(settings.INCOMING_DIR.iterdir()) == []
    assert send(world.owner, b"x" * 1000).status_code == 201


def test_quota(world, settings, image_zip):
    settings.USER_QUOTA_BYTES = len(image_zip) + 100
    assert send_dataset(world.owner, image_zip).status_code == 201
    assert send_dataset(world.owner, image_zip).status_code == 200  # nothing new
    answer = send_dataset(world.owner, image_zip + b"\0" * 200)
    assert answer.status_code == 413
    assert "Delete" in answer.json()["mend"]


def test_a_dataset_is_counted(world, image_zip):
    answer = send_dataset(world.owner, image_zip)
    assert answer.status_code == 201
    assert send_dataset(world.owner, image_zip).status_code == 200
    world.bells.answer(only="validate")
    found = checked(world.owner, "datasets", answer)
    assert found["state"] == "ready"
    assert found["facts"]["images"] == 8
    assert found["facts"]["folders"] == {"cat": 4, "dog": 4}


def test_one_split_of_a_zip_is_a_dataset_of_its_own(world):
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for i, name in enumerate(f"{top}/{sub}/1.png" for top in ("one", "two") for sub in ("cat", "dog")):
            archive.writestr(name, png(i))
    whole = send_dataset(world.owner, content.getvalue())
    one, two = (send_dataset(world.owner, content.getvalue(), split_folder=split) for split in ("one", "two"))
    assert [answer.status_code for answer in (whole, one, two)] == [201, 201, 201]
    assert send_dataset(world.owner, content.getvalue(), split_folder="two").status_code == 200
    for _ in range(3):
        world.bells.answer(only="validate")
    refused = checked(world.owner, "datasets", whole)
    assert (refused["state"], "splits, not classes" in refused["error"]) == ("rejected", True)
    assert "split folder" in refused["mend"]
    for answer, split in ((one, "one"), (two, "two")):
        found = checked(world.owner, "datasets", answer)
        assert (found["state"], found["split_folder"]) == ("ready", split)
        assert found["facts"]["folders"] == {"cat": 1, "dog": 1}


def test_a_zip_without_images(world):
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("readme.txt", "nothing here")
    answer = send_dataset(world.owner, content.getvalue())
    world.bells.answer(only="validate")
    found = checked(world.owner, "datasets", answer)
    assert found["state"] == "rejected"
    assert "image" in found["error"]


def test_a_check_that_fails_by_itself_is_tried_three_times(world, monkeypatch, image_zip):
    monkeypatch.setattr("webapp.library.tasks.check", lambda upload: 1 / 0)
    answer = send_dataset(world.owner, image_zip)
    for _ in range(3):
        world.bells.answer(only="validate")
        upload = DatasetUpload.objects.get(pk=answer.json()["id"])
        if upload.state == "validating":
            from webapp.library import services

            services.ring(upload)
    assert (upload.state, upload.attempts) == ("rejected", 3)
    assert "may be fine" in upload.error
    assert "ZeroDivisionError" in upload.detail
    assert "ZeroDivisionError" not in json.dumps(checked(world.owner, "datasets", answer))


def test_deleting_while_the_check_runs_is_no_error(world, monkeypatch, checkpoint):
    from webapp.library import validation

    plain = validation.check

    def slow(upload):
        world.owner.api.delete(f"{MODELS}{upload.pk}/")
        return plain(upload) if upload.blob.path.exists() else validation.Found()

    monkeypatch.setattr("webapp.library.tasks.check", slow)
    answer = send_model(world.owner, checkpoint)
    world.bells.answer(only="validate")
    assert not ModelUpload.objects.filter(pk=answer.json()["id"]).exists()


def test_no_file_reaches_the_disk_for_a_stranger(world, settings):
    file = SimpleUploadedFile("net.pth", b"x" * 5000)
    data = {"architecture": "resnet18", "num_classes": "2", "file": file}
    assert world.stranger.post(MODELS, data, format="multipart").status_code == 401
    assert list(settings.INCOMING_DIR.iterdir()) == []
