"""ONNX models: taken without architecture and number of classes, checked, repaired, given back as ONNX."""

from __future__ import annotations

import csv
import io

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile

from tests.repair_engine import tiny
from tests.repair_engine.cli.test_cli_onnx import model_of
from tests.repair_engine.onnx_models import run
from webapp.jobs.models import Job
from webapp.library.models import ModelUpload
from webapp.pages.snippets import ONNX

pytestmark = pytest.mark.usefixtures("quick_module")

MODELS, DATASETS, REPAIRS = "/api/v1/models/", "/api/v1/datasets/", "/api/v1/repairs/"


@pytest.fixture(scope="module")
def garden(tmp_path_factory) -> tiny.World:
    return tiny.make_sabotaged(tmp_path_factory.mktemp("garden"), tiny.images(144, seed=1))


@pytest.fixture(scope="module")
def graph(garden, tmp_path_factory) -> bytes:
    return model_of(garden, tmp_path_factory.mktemp("onnx")).read_bytes()


def send(person, content: bytes, name: str = "net.onnx", **fields):
    return person.api.post(MODELS, {"file": SimpleUploadedFile(name, content), **fields}, format="multipart")


def checked(world, answer) -> dict:
    assert answer.status_code == 201, answer.json()
    world.bells.answer(only="validate")
    return world.owner.api.get(f"{MODELS}{answer.json()['id']}/").json()


def test_nothing_but_the_file_is_needed(world, graph):
    found = checked(world, send(world.owner, graph))
    assert (found["state"], found["error"]) == ("ready", "")
    assert (found["architecture"], found["num_classes"]) == ("onnx", 3)
    facts = found["facts"]
    assert (facts["format"], facts["filters"], facts["onnx"]["opset"]) == ("onnx", 9, 18)
    page = world.owner.browser.get(f"/models/{found['id']}/").content.decode()
    assert "onnx, 3 classes" in page


def test_class_names_must_be_as_many_as_the_graph_has(world, graph):
    named = checked(world, send(world.owner, graph, classes="ant\nbee\ncat\n"))
    assert (named["state"], named["class_names"]) == ("ready", ["ant", "bee", "cat"])
    few = checked(world, send(world.owner, graph, classes="ant\nbee\n"))
    assert few["state"] == "rejected"
    assert "2" in few["error"]
    assert "3" in few["error"]


def test_a_number_of_classes_that_the_graph_does_not_have(world, graph):
    found = checked(world, send(world.owner, graph, num_classes="5"))
    assert found["state"] == "rejected"
    assert "3 logits" in found["error"]


def test_another_format_needs_architecture_and_classes(world, graph):
    for fields, missing in (({}, "architecture"), ({"architecture": "resnet18"}, "num_classes")):
        answer = send(world.owner, b"weights", "net.safetensors", **fields)
        assert answer.status_code == 400
        assert missing in str(answer.json())
        assert "ONNX" in str(answer.json())


def test_the_form_takes_an_onnx_model_alone(world, graph):
    answer = world.owner.browser.post("/models/new/", {"file": SimpleUploadedFile("net.onnx", graph)})
    made = ModelUpload.objects.get(owner=world.owner.user, file_name="net.onnx")
    assert answer["Location"] == f"/models/{made.pk}/"
    assert (made.architecture, made.num_classes) == (ONNX, 0)
    assert "classes as the file has" in world.owner.browser.get(answer["Location"]).content.decode()
    refused = world.owner.browser.post("/models/new/", {"file": SimpleUploadedFile("net.pth", b"x")})
    assert refused.status_code == 422
    assert "Only an ONNX model" in refused.content.decode()


@pytest.mark.slow
def test_a_repair_gives_the_graph_back(world, garden, graph, settings, tmp_path):
    """Through the real engine, in this process; the written file is then run by onnxruntime."""
    settings.ENGINE = "webapp.jobs.engine:RepairEngine"
    model = checked(world, send(world.owner, graph))
    data = world.owner.api.post(
        DATASETS, {"file": SimpleUploadedFile("data.zip", garden.data.read_bytes())}, format="multipart"
    ).json()
    world.bells.answer(only="validate")
    asked = {"model": model["id"], "dataset": data["id"], "metric": "subgroup-recall:ground", "budget": 6000}
    Job.objects.all().delete()
    world.bells.rung.clear()
    job = world.owner.api.post(REPAIRS, {**asked, "constant": "bn_beta"}, format="json").json()
    world.bells.answer()
    repair = world.owner.api.get(f"{REPAIRS}{job['id']}/").json()
    assert (repair["state"], repair["outcome"]) == ("succeeded", "repaired"), repair
    assert repair["result"]["run"]["ablation"] == "bn_beta"
    results = {row["name"]: row for row in repair["results"]}

    def get(name: str) -> bytes:
        return b"".join(world.owner.api.get(results[name]["url"]).streaming_content)

    (tmp_path / "repaired.onnx").write_bytes(get("repaired.onnx"))
    rows = list(csv.DictReader(io.StringIO(get("predictions.csv").decode())))
    outputs = run(tmp_path / "repaired.onnx", garden.images.tensor([row["file_name"] for row in rows]))
    assert [row["predicted_after"] for row in rows] == [tiny.CLASSES[i] for i in outputs.argmax(1)]
    page = world.owner.browser.get(f"/repairs/{job['id']}/").content.decode()
    assert "--architecture" not in page
    assert "--constant bn_beta" in page
