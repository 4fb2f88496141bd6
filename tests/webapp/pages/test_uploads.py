"""Models and datasets: the forms refuse with reasons, and the pages say what the check found."""

from __future__ import annotations

import json

import pytest
from django.core.exceptions import ValidationError
from django.core.files.uploadedfile import SimpleUploadedFile
from django.urls import reverse

from tests.webapp.pages.helpers import read
from webapp.library.models import DatasetUpload, ModelUpload, Upload
from webapp.pages.forms.uploads import ModelForm

NEW_MODEL, NEW_DATASET = "/models/new/", "/datasets/new/"
HTMX = {"HTTP_HX_REQUEST": "true"}


@pytest.fixture(autouse=True)
def names(monkeypatch):
    known = {"registered": ["house_net"], "torchvision": ["resnet18", "resnet50", "squeezenet1_0"]}
    monkeypatch.setattr("webapp.pages.forms.uploads.architectures", lambda: known)
    monkeypatch.setattr("webapp.pages.views.uploads.architectures", lambda: known)


def checkpoint(content: bytes = b"weights") -> SimpleUploadedFile:
    return SimpleUploadedFile("net.pth", content)


def test_architectures_are_offered_to_search(world):
    page = read(world.owner.browser.get(NEW_MODEL))
    assert {"house_net", "resnet18"} <= {a["value"] for a in page.all("option")}
    assert next(a for a in page.all("input") if a.get("name") == "architecture")["list"] == "architectures"


def test_a_model_is_taken_on_and_checked(world):
    sent = {
        "file": checkpoint(),
        "architecture": "resnet18",
        "num_classes": 3,
        "options": "transform_input = true\nwidth=64",
        "classes_file": SimpleUploadedFile("names.txt", b"coat\nshirt\nbag\n"),
        "resize": "none",
        "crop": "28",
        "mean": "0.5, 0.4 0.3",
        "std": "0.2 0.2 0.2",
        "key": "teacher",
        "strip_prefix": "backbone.",
    }
    answer = world.owner.browser.post(NEW_MODEL, sent)
    made = ModelUpload.objects.get(owner=world.owner.user, file_name="net.pth", architecture="resnet18", num_classes=3)
    assert answer["Location"] == reverse("pages:model", args=[made.pk])
    assert made.options == {"transform_input": True, "width": 64}
    assert (made.key, made.strip_prefix) == ("teacher", "backbone.")
    assert made.classes_text == "coat\nshirt\nbag\n"
    assert made.preprocessing == {"resize": None, "crop": 28, "mean": [0.5, 0.4, 0.3], "std": [0.2, 0.2, 0.2]}
    assert made.state == Upload.State.VALIDATING
    assert "validate" in world.bells.names()


def test_blank_preprocessing_is_the_architectures_default(world):
    world.owner.browser.post(NEW_MODEL, {"file": checkpoint(), "architecture": "house_net", "num_classes": 2})
    made = ModelUpload.objects.get(architecture="house_net")
    assert (made.preprocessing, made.options, made.classes_text) == (None, {}, "")


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("architecture", "resnet19", "Similar: resnet18"),
        ("architecture", "os.system", "neither a torchvision classifier nor registered"),
        ("num_classes", "0", "0 is not between 1 and 1000000"),
        ("num_classes", "many", "whole number"),
        ("options", "just words", "not of the form KEY=VALUE"),
        ("resize", "large", "is not pixels, such as 224 or 224,224, or none"),
        ("std", "0.2 0", "above 0"),
        ("mean", "a b c", "one per channel"),
        ("std", "0.2 0.2", "one per channel in both"),
        ("classes_file", SimpleUploadedFile("names.txt", b"\xff\xfe\xff"), "not UTF-8 text"),
    ],
)
def test_what_cannot_be_is_said_at_its_field(world, field, value, said):
    sent = {"file": checkpoint(), "architecture": "resnet18", "num_classes": 3, "mean": "0 0 0", field: value}
    answer = world.owner.browser.post(NEW_MODEL, sent)
    page = read(answer, 422)
    assert said in page.text
    bad = next(a for tag, a in page.elements if a.get("name") == field)
    assert bad.get("aria-invalid") == "true"
    assert any(a.get("role") == "alert" for a in page.all("div"))
    assert ModelUpload.objects.filter(owner=world.owner.user).count() == 1, "nothing was taken on"


def test_an_empty_file_and_none_at_all(world):
    for file in ({"file": checkpoint(b"")}, {}):
        answer = world.owner.browser.post(NEW_MODEL, {**file, "architecture": "resnet18", "num_classes": 3})
        assert "file" in read(answer, 422).text


def test_a_file_that_is_too_large_is_named(world, settings):
    settings.MAX_DATASET_BYTES = 10
    answer = world.owner.browser.post(NEW_DATASET, {"file": SimpleUploadedFile("images.zip", b"x" * 11)})
    assert "images.zip has 11 bytes; the most that is accepted is 10" in read(answer, 422).text


def test_the_same_file_twice_is_one_dataset(world):
    for _ in range(2):
        answer = world.owner.browser.post(NEW_DATASET, {"file": SimpleUploadedFile("more.zip", b"zip")}, follow=True)
    assert DatasetUpload.objects.filter(owner=world.owner.user, file_name="more.zip").count() == 1
    assert "uploaded this very file before" in answer.content.decode()


def set_state(upload, state, **values):
    for key, value in {"state": state, **values}.items():
        setattr(upload, key, value)
    upload.save()


@pytest.mark.parametrize("kind", ["model", "dataset"])
def test_the_check_is_followed_until_it_ends(world, kind):
    upload = getattr(world.owner, kind)
    url = reverse(f"pages:{kind}", args=[upload.pk])
    set_state(upload, "validating")
    page = read(world.owner.browser.get(url))
    poll = reverse(f"pages:{kind}_state", args=[upload.pk])
    assert poll in [a.get("hx-get") for a in page.all("div")]
    assert any(a.get("http-equiv") == "refresh" for a in page.all("meta")), "without scripts too"
    assert world.owner.browser.get(poll, **HTMX).status_code == 204
    set_state(upload, "rejected", error="conv1.weight has NaN in it.", mend="Train again.\nAnd save.")
    assert world.owner.browser.get(poll, **HTMX)["HX-Refresh"] == "true"
    page = read(world.owner.browser.get(url))
    assert "conv1.weight has NaN in it." in page.text
    assert "Train again.\nAnd save." in page.text
    assert not any(a.get("hx-get") for _, a in page.elements), "what has ended is not polled"


def test_a_model_shows_its_sites_and_what_is_not_a_player(world):
    facts = {
        "filters": 17216,
        "parameter_share": 0.912,
        "sites": [{"name": "Mixed_7c.branch1x1", "filters": 320, "norm": "batch", "activation": "relu"}],
        "not_players": [{"name": "fc", "channels": 10, "reason": "its channels are the logits"}],
        "input": [3, 299, 299],
        "options": {"transform_input": True},
        "parameters": 25_000_000,
        "tensors": 400,
        "dtypes": ["float32"],
    }
    set_state(world.owner.model, "ready", facts=facts, class_names=["coat", "<b>bag</b>"], warnings=["few players"])
    page = read(world.owner.browser.get(reverse("pages:model", args=[world.owner.model.pk])))
    for said in ("17,216 at 1 sites", "91.2%", "Mixed_7c.branch1x1", "its channels are the logits", "3 × 299 × 299",
                 "<b>bag</b>", "few players", "transform_input=True"):  # fmt: skip
        assert said in page.text, said


def test_a_dataset_shows_classes_columns_counts_and_warnings(world):
    facts = {
        "images": 1234,
        "folders": {"coat": 1000, "shirt": 234},
        "columns": {"ground": {"dark": 1200, "light": 34}},
        "distinct": {"ground": 5},
        "sizes": {"28x28": 1234},
        "modes": {"L": 1234},
    }
    set_state(world.owner.dataset, "ready", facts=facts, warnings=["shirt has few images"])
    page = read(world.owner.browser.get(reverse("pages:dataset", args=[world.owner.dataset.pk])))
    for said in ("1,234 in 2 folders", "1,000", "ground", "light", "5 different values", "shirt has few images"):
        assert said in page.text, said


@pytest.mark.parametrize("kind", ["model", "dataset"])
def test_what_a_repair_uses_is_not_deleted(world, kind):
    upload = getattr(world.owner, kind)
    answer = world.owner.browser.post(reverse(f"pages:delete_{kind}", args=[upload.pk]), follow=True)
    assert "is used by 1 repair(s)" in answer.content.decode()
    world.bells.answer()
    world.owner.browser.post(reverse("pages:delete_repair", args=[world.owner.job.pk]))
    answer = world.owner.browser.post(reverse(f"pages:delete_{kind}", args=[upload.pk]), follow=True)
    assert "was deleted" in answer.content.decode()
    assert not type(upload).objects.filter(pk=upload.pk).exists()


def test_options_keep_their_kind():
    found = ModelForm().fields["options"].clean("a=1\nb=0.5\nc=True\nd=false\ne=words\nf=[1]")
    assert found == {"a": 1, "b": 0.5, "c": True, "d": False, "e": "words", "f": "[1]"}
    assert json.dumps(found)


@pytest.mark.parametrize("text", ["²", "-1", "10001", "1e3", "8,9,10"])
def test_pixels_that_are_no_number(text):
    """A superscript two is a digit to Python, and no number."""
    with pytest.raises(ValidationError, match="is not pixels"):
        ModelForm().fields["resize"].clean(text)


def test_a_height_and_a_width_and_a_timm_network(world):
    sent = {"file": checkpoint(), "architecture": "timm:resnet18", "num_classes": 3, "resize": "20,24", "crop": "16x20",
            "interpolation": "hamming"}  # fmt: skip
    assert world.owner.browser.post(NEW_MODEL, sent).status_code == 302
    made = ModelUpload.objects.get(architecture="timm:resnet18")
    assert made.preprocessing == {"resize": [20, 24], "crop": [16, 20], "interpolation": "hamming"}
    described = {"architecture": "timm:resnet18", "num_classes": 3, "sha256": made.blob_id,
                 "preprocessing": made.preprocessing}  # fmt: skip
    again = world.owner.api.post("/api/v1/models/", described, format="json")
    assert (again.status_code, again.json()["id"]) == (200, str(made.pk)), "by the API it is the same model"
