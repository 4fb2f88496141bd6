"""A Hugging Face folder as one zip: uploaded, checked, refused where it should be, repaired and attacked."""

from __future__ import annotations

import io
import json
import stat
import warnings
import zipfile
from pathlib import Path

import pytest
import torch
from django.core.files.uploadedfile import SimpleUploadedFile

from repair_engine.errors import BadInput
from repair_engine.models import hf_archive
from tests.repair_engine import tiny
from tests.repair_engine.models.test_huggingface import PROCESSOR, resnet
from tests.repair_engine.tiny import CLASSES
from tests.webapp.pages.helpers import read
from webapp.jobs.models import Job
from webapp.library import architectures

MODELS, DATASETS, REPAIRS, ATTACKS = (f"/api/v1/{name}/" for name in ("models", "datasets", "repairs", "attacks"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A small ResNet that knows the tiny images a little."""
    transformers = pytest.importorskip("transformers")
    out = tmp_path_factory.mktemp("hf") / "my-resnet"
    shown = tiny.images(96, seed=1)
    module = resnet(transformers)
    torch.manual_seed(0)
    target = torch.from_numpy(shown.labels)
    pixels = torch.nn.functional.interpolate(shown.tensor(), size=(16, 16))
    optimizer = torch.optim.Adam(module.parameters(), lr=0.01)
    module.train()
    for _ in range(40):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(module(pixel_values=(pixels - 0.4) / 0.3).logits, target).backward()
        optimizer.step()
    module.eval().save_pretrained(out)
    (out / "preprocessor_config.json").write_text(json.dumps(PROCESSOR))
    return out


def zipped(folder: Path, top: str = "", **changed: bytes | None) -> bytes:
    """The folder's files; `changed`: other contents by name with _ for the dot, None leaves the file out."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(folder.iterdir()):
            found = changed.get(path.name.replace(".", "_"), path.read_bytes())
            if found is not None:
                archive.writestr(f"{top}{path.name}", found)
    return content.getvalue()


def with_entry(content: bytes, entry: zipfile.ZipInfo | str, data: bytes = b"x") -> bytes:
    stream = io.BytesIO(content)
    with zipfile.ZipFile(stream, "a", zipfile.ZIP_DEFLATED) as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a name that is there twice
        archive.writestr(entry, data)
    return stream.getvalue()


def link(name: str) -> zipfile.ZipInfo:
    made = zipfile.ZipInfo(name)
    made.external_attr = (stat.S_IFLNK | 0o777) << 16
    return made


def unpack(content: bytes, tmp_path: Path):
    path = tmp_path / "sent"
    path.write_bytes(content)
    return hf_archive.unpack(path, tmp_path / "out", "my-resnet.zip")


@pytest.mark.parametrize("top", ["", "my-resnet/"])
def test_the_three_files_are_unpacked_and_nothing_else(folder, tmp_path, top):
    found = unpack(with_entry(zipped(folder, top), f"{top}training_args.bin"), tmp_path)
    three = set(hf_archive.NAMES) - {"processor_config.json"}
    assert {path.name for path in (tmp_path / "out").iterdir()} == three
    for name in three:
        assert (found.path / name).read_bytes() == (folder / name).read_bytes()
    assert found.num_classes == 3


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda z, f: b"no zip", "is not a zip archive"),
        (lambda z, f: with_entry(z, "../config.json"), "leaves the archive"),
        (lambda z, f: with_entry(z, "/etc/config.json"), "leaves the archive"),
        (lambda z, f: with_entry(z, link("model")), "is a link or a special file"),
        (lambda z, f: with_entry(z, "config.json"), "twice"),
        (lambda z, f: with_entry(z, "other/config.json"), "config.json at 2 places"),
        (lambda z, f: zipped(f, config_json=None), "no config.json"),
        (lambda z, f: zipped(f, model_safetensors=None), "has no model.safetensors"),
        (lambda z, f: zipped(f, "deep/er/"), "deep/er/"),
        (lambda z, f: zipped(f, preprocessor_config_json=bytes(32 << 20)), "archive bomb"),
        (lambda z, f: zipped(f, config_json=b'{"auto_map": {"AutoModel": "evil.Model"}}'), "code of its own"),
        (lambda z, f: zipped(f, config_json=b"[" * 100_000), "cannot be read as JSON"),
    ],
)
def test_zips_that_are_refused(folder, tmp_path, spoil, says):
    with pytest.raises(BadInput) as caught:
        unpack(spoil(zipped(folder), folder), tmp_path)
    assert says in caught.value.problem
    assert {path.name for path in tmp_path.iterdir()} <= {"sent", "out"}


def test_packing_gives_the_same_bytes_again(folder, tmp_path):
    for name in ("a.zip", "b.zip"):
        hf_archive.pack(folder, tmp_path / name)
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        assert archive.read("my-resnet/config.json") == (folder / "config.json").read_bytes()


def send(person, content: bytes, **fields: str):
    file = SimpleUploadedFile("my-resnet.zip", content)
    return person.api.post(MODELS, {"file": file, **fields}, format="multipart")


def test_upload_without_transformers_says_what_can_be_done(world, monkeypatch):
    monkeypatch.setattr(architectures, "find_spec", lambda name: None)
    answer = send(world.owner, b"any zip")
    assert answer.status_code == 400
    assert answer["Content-Type"] == "application/problem+json"
    assert "transformers is not installed on this server" in answer.json()["detail"]
    page = world.owner.browser.post("/models/new/", {"file": SimpleUploadedFile("my-resnet.zip", b"any zip")})
    assert "transformers is not installed on this server" in read(page, 422).text


def test_an_architecture_beside_it_is_refused(world, folder):
    answer = send(world.owner, zipped(folder), architecture="resnet18")
    assert [error["field"] for error in answer.json()["errors"]] == ["architecture"]


@pytest.mark.usefixtures("quick")
def test_it_is_checked_with_its_own_classes_and_preprocessing(world, folder):
    made, wrong = send(world.owner, zipped(folder)).json(), send(world.owner, zipped(folder), num_classes="7").json()
    optioned = send(world.owner, zipped(folder), options='{"depth": 3}').json()
    world.bells.answer(only="validate")
    assert "no architecture options" in world.owner.api.get(f"{MODELS}{optioned['id']}/").json()["error"]
    found, other = (world.owner.api.get(f"{MODELS}{one['id']}/").json() for one in (made, wrong))
    assert found["state"] == "ready", found
    assert (found["architecture"], found["num_classes"]) == ("huggingface", 3)
    assert found["class_names"] == list(CLASSES)
    assert found["facts"]["network"] == "huggingface:ResNetForImageClassification"
    assert found["facts"]["preprocessing"]["mean"] == [0.4]
    assert found["facts"]["filters"] > 0
    assert other["state"] == "rejected"
    assert "has 3 classes, not 7" in other["error"]
    assert "ResNetForImageClassification" in read(world.owner.browser.get(f"/models/{found['id']}/")).text


@pytest.mark.slow
@pytest.mark.usefixtures("quick")
def test_through_the_engine_it_is_repaired_attacked_and_comes_back(world, settings, folder, tmp_path):
    """With the command line's figures; the compact export is asked for, and what became of it is said."""
    settings.ENGINE = "webapp.jobs.engine:RepairEngine"
    api, data = world.owner.api, tiny.images(96, seed=1).zip(tmp_path / "data.zip")

    def finished(where: str, asked: dict) -> dict:
        made = api.post(where, asked, format="json")
        assert made.status_code == 202, made.json()
        world.bells.answer()
        return api.get(f"{REPAIRS}{made.json()['id']}/").json()

    model = send(world.owner, zipped(folder)).json()["id"]
    file = SimpleUploadedFile("data.zip", data.read_bytes())
    dataset = api.post(DATASETS, {"file": file}, format="multipart").json()["id"]
    world.bells.answer(only="validate")
    Job.objects.all().delete()
    world.bells.rung.clear()
    asked = {"model": model, "dataset": dataset, "metric": "attack-success", "epsilon": 0.1, "steps": 3, "queries": 0,
             "max_clean_drop": 0.5, "max_filters": 4, "budget": 20_000, "compact": True}  # fmt: skip
    found = finished(REPAIRS, asked)
    assert found["state"] == "succeeded", found
    argv = ["repair", "--model", str(folder), "--data", str(data), "--metric", "attack-success", "--epsilon", "0.1",
            "--steps", "3", "--queries", "0", "--max-clean-drop", "0.5", "--max-filters", "4", "--budget", "20000",
            "--compact", "--json", "--out", str(tmp_path / "out")]  # fmt: skip
    plain = tiny.call(argv).document
    for key in ("outcome", "k", "before", "after", "gain", "curve", "culprits"):
        assert found["result"][key] == plain[key], key
    assert found["outcome"] == "repaired", "this seed is one where it helps"
    assert found["result"]["compact"] == plain["compact"]
    results = {row["name"]: row["url"] for row in found["results"]}
    repaired = b"".join(api.get(results["repaired.zip"]).streaming_content)
    with zipfile.ZipFile(io.BytesIO(repaired)) as archive:
        for name in hf_archive.NAMES:
            assert archive.read(f"repaired/{name}") == (tmp_path / "out" / "repaired" / name).read_bytes(), name
    shown = read(world.owner.browser.get(f"/repairs/{found['id']}/"))
    assert "Compact export" in shown.text
    small = {"repair": found["id"], "epsilon": 0.1, "steps": 3, "subset": 9, "queries": 0}
    attacked = finished(ATTACKS, small)
    assert attacked["outcome"] == "attacked", attacked
    rows = {row["kind"]: row for row in attacked["result"]["rows"]}
    assert rows["replay"]["success"] == found["result"]["after"]["report"]["metric"]
