"""A look before a run, on a tiny network: the plain module's own predictions, and no image of a report."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from repair_engine.data import split
from repair_engine.models.architectures import Architecture
from repair_engine.question.objectives import Metric
from repair_engine.question.request import RepairRequest
from repair_engine.search import calibrate
from repair_engine.support.progress import silent
from repair_engine.verbs import baseline as verb
from tests.repair_engine.pretend_gpu import pretended
from tests.repair_engine.search.test_budgets import Wide
from tests.repair_engine.tiny import World, save

pytestmark = pytest.mark.usefixtures("quick_module")


@pytest.fixture
def look(sabotaged: World, tmp_path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(verb, "_PROBE_SECONDS", 0.005)
    architecture = Architecture("net", 3, register={"net": sabotaged.factory})
    request = RepairRequest(
        str(sabotaged.model), str(sabotaged.data), architecture, metric=Metric.parse("accuracy"), apart=True
    )
    told: list[dict] = []

    def look(**other):
        speed = verb.baseline(dataclasses.replace(request, **other), tmp_path, silent, told.append)
        return told[-1], speed

    return look


def test_figures_of_images_that_no_report_shows(sabotaged: World, look):
    found, speed = look()
    shown = sabotaged.images
    hashes = [str(i) for i in range(len(shown.names))]
    report = [split(shown.labels, groups, None, hashes, 0).report for groups in (None, tuple(shown.ground))]
    free = np.setdiff1d(np.arange(len(hashes)), np.concatenate(report))
    assert found["images"] == {"total": len(hashes), "free": len(free), "used": len(free), "seed": 0}
    with torch.inference_mode():
        right = sabotaged.module(shown.tensor()).argmax(1).numpy() == shown.labels
    assert found["accuracy"]["value"] == pytest.approx(right[free].mean())
    (ground,) = found["columns"]
    recalls = {row["value"]: row["recall"] for row in ground["values"]}
    assert recalls == {
        name: pytest.approx(right[free][shown.ground[free] == name].mean()) for name in ("dark", "light")
    }
    assert speed["units"] == 9
    budgets = [row["budget"] for row in speed["efforts"]]
    assert budgets == sorted(budgets)
    assert budgets[0] < budgets[-1]
    assert [row["overlap"] for row in speed["efforts"]] == [None] * 3, "so few units are not guessed at"


def test_of_many_images_some_are_decoded_and_looked_at(look, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(verb, "MOST_IMAGES", 40)
    found, _ = look()
    assert found["images"]["used"] == 40 < found["images"]["free"] < found["images"]["total"] == 144
    classes = [row["n"] for row in found["classes"]]
    assert max(classes) - min(classes) <= 2, "evenly of each"


def test_on_a_gpu_the_figures_are_the_same(look):
    here, _ = look()
    with pretended():
        there, speed = look(device="cuda")
    assert speed["device"] == "cuda"
    assert there["calibration"]["ece"] == pytest.approx(here["calibration"]["ece"])
    assert [row["right"] for row in there["classes"]] == [row["right"] for row in here["classes"]]


def test_what_a_search_finds_is_foreseen_as_far_as_can_be_seen(look, tmp_path, monkeypatch: pytest.MonkeyPatch):
    torch.manual_seed(0)
    wide = Architecture("net", 3, register={"net": "tests.repair_engine.search.test_budgets:wide"})
    model = str(save(Wide(3), tmp_path / "wide.safetensors"))
    monkeypatch.setattr(calibrate, "LEAST", 6_000)
    monkeypatch.setattr(calibrate, "measure", lambda *_: calibrate.Rates(600.0, 600.0, 600.0, 600.0))
    monkeypatch.setattr(verb, "EFFORTS", {"quick": 0.001, "overnight": 480.0})
    _, speed = look(model=model, architecture=wide)
    (low, high), far = (row["overlap"] for row in speed["efforts"])
    assert 0 <= low <= high <= 1
    assert far is None, "that is too far from what was sampled"
