"""A file that was sent once is not asked for again: after a form's error, and for another preprocessing."""

from __future__ import annotations

import io
from datetime import timedelta

import pytest
from django.core import signing
from django.core.files.uploadedfile import SimpleUploadedFile
from django.urls import reverse

from tests.webapp.pages.helpers import read
from webapp.library import kept, quota, resumable
from webapp.library.models import ModelUpload, Reservation

NEW, NEW_DATASET = "/models/new/", "/datasets/new/"
WRONG = {"architecture": "resnet19", "num_classes": 3}
RIGHT = {"architecture": "resnet18", "num_classes": 3}


@pytest.fixture(autouse=True)
def names(monkeypatch):
    known = {"registered": [], "torchvision": ["resnet18"]}
    monkeypatch.setattr("webapp.pages.forms.uploads.architectures", lambda: known)
    monkeypatch.setattr("webapp.pages.views.uploads.architectures", lambda: known)


def refused(one, content=b"weights", url=NEW, **sent) -> str:
    """The name under which the form has kept a file."""
    file = SimpleUploadedFile("net.pth", content)
    page = read(one.browser.post(url, {"file": file, **(sent or WRONG)}), 422)
    assert "net.pth, 7" in page.text.replace("\xa0", " ")
    (field,) = [a for a in page.all("input") if a.get("name") == "file"]
    assert "required" not in field
    return next(a["value"] for a in page.all("input") if a.get("name") == "kept")


def made(one) -> ModelUpload:
    return ModelUpload.objects.get(owner=one.user, file_name="net.pth", architecture="resnet18", num_classes=3)


def files(settings) -> list:
    return list(settings.INCOMING_DIR.glob("up-*"))


def test_after_an_error_the_file_is_there_and_is_taken(world, settings):
    token = refused(world.owner)
    assert len(files(settings)) == 1
    assert quota.usage(world.owner.user).arriving > 0, "it holds its room"
    once_more = read(world.owner.browser.post(NEW, {"kept": token, **WRONG}), 422)
    token = next(a["value"] for a in once_more.all("input") if a.get("name") == "kept")
    answer = world.owner.browser.post(NEW, {"kept": token, **RIGHT})
    assert answer["Location"] == reverse("pages:model", args=[made(world.owner).pk])
    assert made(world.owner).blob.path.read_bytes() == b"weights"
    assert files(settings) == []
    assert not Reservation.objects.exists()


def test_the_class_list_is_not_lost_either(world):
    names = SimpleUploadedFile("names.txt", b"coat\nshirt\nbag\n")
    sent = {"file": SimpleUploadedFile("net.pth", b"weights"), "classes_file": names, **WRONG}
    page = world.owner.browser.post(NEW, sent).content.decode()
    assert "coat\nshirt\nbag" in page


def test_another_file_in_its_place(world, settings):
    token = refused(world.owner)
    sent = {"kept": token, "file": SimpleUploadedFile("other.pth", b"other"), **RIGHT}
    world.owner.browser.post(NEW, sent)
    found = ModelUpload.objects.get(owner=world.owner.user, file_name="other.pth")
    assert found.blob.path.read_bytes() == b"other"


@pytest.mark.parametrize("how", ["anothers", "twice", "forged", "late", "swept"])
def test_what_is_not_there_any_more_is_said(world, settings, monkeypatch, how):
    token = refused(world.owner)
    sender = world.owner
    if how == "anothers":
        sender = world.team_mate
    elif how == "twice":
        world.owner.browser.post(NEW, {"kept": token, **RIGHT})
    elif how == "forged":
        token = signing.dumps({"owner": world.owner.user.pk, "path": "../secret"}, salt="another")
    elif how == "late":
        monkeypatch.setattr(kept, "KEPT", timedelta(0))
    else:
        files(settings)[0].unlink()
    page = read(sender.browser.post(NEW, {"kept": token, **RIGHT}), 422)
    assert "The file that you sent is not here any more: it is kept for an hour, and used once." in page.text
    assert not [a for a in page.all("input") if a.get("name") == "kept"]


def test_what_is_too_large_or_empty_is_not_kept(world, settings):
    settings.MAX_MODEL_BYTES = 3
    page = read(world.owner.browser.post(NEW, {"file": SimpleUploadedFile("net.pth", b"weights"), **WRONG}), 422)
    assert not [a for a in page.all("input") if a.get("name") == "kept"]
    read(world.owner.browser.post(NEW, {"file": SimpleUploadedFile("net.pth", b""), **WRONG}), 422)
    assert files(settings) == []


def test_a_dataset_is_kept_too(world):
    token = refused(world.owner, url=NEW_DATASET, name="x" * 300)
    assert world.owner.browser.post(NEW_DATASET, {"kept": token}).status_code == 302


def test_another_preprocessing_without_sending_the_file(world):
    model = world.owner.model
    model.preprocessing = {"resize": None, "crop": [20, 24], "mean": [0.5, 0.4, 0.3], "std": [0.2, 0.2, 0.2]}
    model.options, model.classes_text = {"width": 64}, "coat\nshirt\n"
    model.save()
    page = read(world.owner.browser.get(NEW, {"like": model.pk}))
    assert "net.pth" in page.text
    sent = {a["name"]: a.get("value") or "" for a in page.all("input") if a.get("name") and a.get("type") != "file"}
    shown = [sent[name] for name in ("resize", "crop", "mean", "architecture", "num_classes")]
    assert shown == ["none", "20,24", "0.5 0.4 0.3", "resnet18", "2"]
    answer = world.owner.browser.post(NEW, sent | {"crop": "28", "options": "width=64", "classes": model.classes_text})
    other = ModelUpload.objects.exclude(pk=model.pk).get(owner=world.owner.user)
    assert answer["Location"] == reverse("pages:model", args=[other.pk])
    assert other.blob == model.blob
    assert other.preprocessing == {**model.preprocessing, "crop": 28}
    assert (other.options, other.classes_text) == (model.options, model.classes_text)
    assert world.owner.browser.get(NEW, {"like": world.team_mate.model.pk}).status_code == 404
    assert world.owner.browser.post(NEW, {"like": world.team_mate.model.pk, **RIGHT}).status_code == 404


def arrived(one, content=b"weights", kind="model") -> str:
    """The id of a file that came by itself."""
    upload = resumable.create(owner=one.user, size=len(content), name="net.pth", kind=kind)
    resumable.append(upload, 0, io.BytesIO(content))
    return str(upload.pk)


def fields(page) -> dict[str, str]:
    return {a["name"]: a.get("value") or "" for a in page.all("input") if a.get("name") and a.get("type") != "file"}


def test_a_file_that_came_by_itself_is_named_by_the_form(world, settings):
    pk = arrived(world.owner)
    page = read(world.owner.browser.post(NEW, {"upload": pk, **WRONG}), 422)
    assert fields(page)["upload"] == pk
    answer = world.owner.browser.post(NEW, {"upload": pk, **RIGHT})
    assert answer["Location"] == reverse("pages:model", args=[made(world.owner).pk])
    assert made(world.owner).blob.path.read_bytes() == b"weights"
    assert list(settings.INCOMING_DIR.iterdir()) == []
    assert not Reservation.objects.exists()


def test_one_that_was_begun_before_is_offered(world):
    pk = arrived(world.owner)
    half = resumable.create(owner=world.owner.user, size=200, name="half.pth", kind="model")
    resumable.append(half, 0, io.BytesIO(b"x" * 50))
    page = read(world.owner.browser.get(NEW))
    assert "half.pth" in page.text
    assert "(25%). Choose the same file again" in page.text
    assert f"?upload={pk}" in [a.get("href") for a in page.all("a")]
    assert "half.pth" not in read(world.owner.browser.get(NEW_DATASET)).text
    assert "half.pth" not in read(world.team_mate.browser.get(NEW)).text
    assert fields(read(world.owner.browser.get(NEW, {"upload": pk})))["upload"] == pk
    assert "You have no upload" in read(world.team_mate.browser.get(NEW, {"upload": pk})).text


@pytest.mark.parametrize("how", ["anothers", "no id", "half", "twice"])
def test_an_upload_that_cannot_be_used_is_said(world, how):
    pk, sender = arrived(world.owner), world.owner
    if how == "anothers":
        sender = world.team_mate
    elif how == "no id":
        pk = "net.pth"
    elif how == "half":
        pk = str(resumable.create(owner=sender.user, size=200, name="half.pth").pk)
    else:
        sender.browser.post(NEW, {"upload": pk, **RIGHT})
    page = read(sender.browser.post(NEW, {"upload": pk, **RIGHT}), 422)
    assert ("0 of 200 bytes are here" if how == "half" else "You have no upload with this id") in page.text
    assert "upload" not in fields(page)


def test_a_file_that_is_known_by_its_hash(world):
    model = world.owner.model
    said = {"sha256": model.blob_id, "file_name": "again.pth"}
    page = read(world.owner.browser.post(NEW, {**said, **WRONG}), 422)
    assert {name: fields(page)[name] for name in said} == said
    world.owner.browser.post(NEW, {**said, **RIGHT})
    assert ModelUpload.objects.get(owner=world.owner.user, file_name="again.pth").blob == model.blob
    read(world.team_mate.browser.post(NEW, {**said, **RIGHT}), 422)
    assert not ModelUpload.objects.filter(owner=world.team_mate.user, file_name="again.pth").exists()


def test_what_has_arrived_of_one_can_be_deleted(world, settings):
    pk = arrived(world.owner, kind="dataset")
    assert world.owner.browser.post(reverse("pages:delete_upload", args=[pk]))["Location"] == NEW_DATASET
    assert list(settings.INCOMING_DIR.iterdir()) == []
