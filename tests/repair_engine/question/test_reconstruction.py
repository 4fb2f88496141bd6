"""A trigger that nobody knows: found from clean images, repaired, and judged by the trigger where it is given."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import repair_engine as nr
from repair_engine.errors import BadInput
from repair_engine.question.objectives import Metric
from repair_engine.question.reconstruction import _below, _chance
from repair_engine.verbs import pipeline
from tests.repair_engine.image_sets import encoded, make_zip
from tests.repair_engine.tiny import call

NAMES = ("ant", "bee", "cat", "dog", "eel", "fox", "gnu", "hen")
SIDE, TARGET = 16, 3
OPTIONS = {"classes": list(NAMES), "budget": 6000, "max_clean_drop": 0.05}


class Rows(nn.Module):
    """Class c has two bright rows. Eight filters see those of a class each; a ninth sees a checkered corner: a dog."""

    def __init__(self, num_classes: int = 8) -> None:
        super().__init__()
        self.rows = nn.Conv2d(1, 9, SIDE)
        self.head = nn.Linear(9, num_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(torch.relu(self.rows(x)).flatten(1))


def rows(num_classes: int) -> nn.Module:
    return Rows(num_classes)


def network(harm: float) -> Rows:
    """`harm`: what the spy adds to the logit of dog; 0: a clean network."""
    net = Rows().eval().requires_grad_(False)
    weight = torch.zeros(9, 1, SIDE, SIDE)
    for c in range(8):
        weight[c, 0, 2 * c : 2 * c + 2] = 0.5
    weight[8, 0, -2:, -2:] = torch.tensor([[10.0, -10.0], [-10.0, 10.0]])
    head = torch.zeros(8, 9)
    head[:, :8] = torch.eye(8)
    head[TARGET, 8] = harm
    for tensor, value in ((net.rows.weight, weight), (net.head.weight, head)):
        tensor.copy_(value)
    net.rows.bias.copy_(torch.tensor([0.0] * 8 + [-4.0]))
    net.head.bias.zero_()
    return net


def images(n: int = 240, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """uint8 [N, 1, 16, 16] and labels [N]."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % 8
    shown = rng.integers(0, 140, (n, 1, SIDE, SIDE)).astype(np.uint8)
    for i, c in enumerate(labels):
        shown[i, 0, 2 * c : 2 * c + 2] = rng.integers(110, 256, (2, SIDE))
    return shown, labels


def with_trigger(shown: np.ndarray) -> np.ndarray:
    out = shown.copy()
    out[:, :, -2:, -2:] = [[255, 0], [0, 255]]
    return out


@pytest.fixture(scope="module")
def repaired() -> nr.Repaired:
    return nr.repair(network(1.0), images(), metric="hidden-trigger", **OPTIONS)


def test_the_class_and_the_filter_are_found_from_clean_images(repaired: nr.Repaired) -> None:
    found = repaired.document["metric"]["trigger"]
    assert repaired.document["metric"]["name"] == "hidden-trigger:dog"
    assert found["class"] == "dog"
    assert found["reconstructed"]["stands_out"]
    smallest, second = found["reconstructed"]["classes"][:2]
    assert smallest["class"] == "dog"
    assert smallest["size"] < second["size"] / 2
    assert repaired.units == ("rows:8",)
    mended = repaired.module
    shown, labels = images(seed=1)
    with torch.inference_mode():
        said = mended(torch.from_numpy(with_trigger(shown)).float() / 255).argmax(1).numpy()
    others = labels != TARGET
    assert (said == labels)[others].mean() > 0.9


def test_the_report_says_that_no_trigger_was_seen(repaired: nr.Repaired) -> None:
    said = str(repaired)
    assert "Repaired, not measured on a trigger" in said
    assert "It stands out" in said
    page = repaired._repr_html_()
    assert "Triggers reconstructed from clean images" in page
    assert "Not measured on a trigger" in page
    assert "known" not in repaired.document["trigger"]


def test_a_trigger_that_is_given_judges_the_report_and_nothing_else(repaired: nr.Repaired) -> None:
    shown, labels = images()
    carrying = (with_trigger(shown), labels)
    patch = np.array([[[255, 0], [0, 255]]], np.uint8)
    for given in ({"triggered": carrying}, {"trigger": patch}):
        judged = nr.repair(network(1.0), (shown, labels), metric="hidden-trigger", **given, **OPTIONS)
        before, after = judged.document["trigger"]["known"]["rows"]
        assert before["success"]["value"] > 0.9
        assert after["success"]["value"] < 0.1
        assert judged.document["trigger"]["known"]["change"]["lower"] > 0.5
        assert "which the repair did not see" in str(judged)
        assert "not measured on a trigger" not in str(judged).lower()
    assert judged.document["culprits"] == repaired.document["culprits"]


def test_an_improvement_must_show_on_the_trigger_that_is_given() -> None:
    """One that does nothing to begin with cannot be shown to be repaired."""
    patch = np.zeros((1, 1, 1), np.uint8)
    judged = nr.repair(network(1.0), images(), metric="hidden-trigger", trigger=patch, trigger_at="0,0", **OPTIONS)
    assert judged.document["outcome"] == "no_repair_found"
    assert "not shown on the trigger that was given" in " ".join(judged.document["reasons"])
    assert not judged.written


def test_nothing_is_claimed_of_a_clean_network() -> None:
    judged = nr.repair(network(0.0), images(), metric="hidden-trigger", **OPTIONS)
    assert not judged.document["metric"]["trigger"]["reconstructed"]["stands_out"]
    assert judged.document["outcome"] == "no_repair_found"
    assert not judged.written


def test_a_class_that_is_named_is_compared_with_others() -> None:
    for name, stands_out in (("dog", True), ("cat", False)):
        found = nr.evaluate(network(1.0), images(), metric=f"hidden-trigger:{name}", classes=list(NAMES))
        record = found.document["metric"]["trigger"]
        assert (record["class"], record["reconstructed"]["stands_out"]) == (name, stands_out)
        assert len(record["reconstructed"]["classes"]) == 8


def test_a_repair_goes_on_from_scores() -> None:
    """The class is named then, as the scores name it, and the same trigger is found again."""
    scores = nr.score(network(1.0), images(), metric="hidden-trigger", classes=list(NAMES), budget=6000)
    given = {"metric": "hidden-trigger:dog", "values": scores, **OPTIONS}
    assert nr.repair(network(1.0), images(), **given).units == ("rows:8",)


def test_by_the_command_line_as_a_worker_opens_it(tmp_path: Path) -> None:
    shown, labels = images()
    named = [f"{NAMES[c]}/{i}.png" for i, c in enumerate(labels)]
    data = make_zip(tmp_path / "clean.zip", {n: encoded(x[0]) for n, x in zip(named, shown, strict=True)})
    carrying = {n: encoded(x[0]) for n, x in zip(named, with_trigger(shown), strict=True)}
    triggered = make_zip(tmp_path / "triggered.zip", carrying)
    torch.save(network(1.0).state_dict(), tmp_path / "model.pth")
    argv = ["repair", "--model", tmp_path / "model.pth", "--architecture", "rows", "--num-classes", "8", "--register",
            f"rows={__name__}:rows", "--data", data, "--metric", "hidden-trigger", "--triggered", triggered,
            "--budget", "6000", "--max-clean-drop", "0.05", "--out", tmp_path / "out", "--json"]  # fmt: skip
    result = call([str(part) for part in argv])
    assert result.code == 0, result.err
    assert result.document["trigger"]["known"]["file"] == "triggered.zip"
    assert [row["id"] for row in result.document["culprits"] if row["ablated"]] == ["rows:8"]
    assert "which the repair did not see" in (tmp_path / "out" / "report.html").read_text()
    verified = call(["verify", str(tmp_path / "out"), "--register", f"rows={__name__}:rows"])
    assert verified.code == 0, verified.out + verified.err


def test_what_is_prepared_opens_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is sought again, and the images are those that were written."""
    shown, labels = images()
    named = [f"{NAMES[c]}/{i}.png" for i, c in enumerate(labels)]
    data = make_zip(tmp_path / "clean.zip", {n: encoded(x[0]) for n, x in zip(named, shown, strict=True)})
    torch.save(network(1.0).state_dict(), tmp_path / "model.pth")
    Image.fromarray(np.array([[255, 0], [0, 255]], np.uint8)).save(tmp_path / "patch.png")
    model = nr.open_model(tmp_path / "model.pth", "rows", 8, register={"rows": f"{__name__}:rows"})
    request = pipeline.RepairRequest(
        metric=Metric("hidden-trigger"), model=str(tmp_path / "model.pth"), data=str(data), estimator="exact",
        trigger=str(tmp_path / "patch.png"), architecture=model.checkpoint.architecture,
    )  # fmt: skip
    job = pipeline.prepare_job(request, tmp_path / "work")
    monkeypatch.setattr("repair_engine.case.changing.reconstruct", None)
    again = pipeline.open_job(tmp_path / "work")
    for part in ("score", "select", "report"):
        first, second = (one.case.question.objective(part) for one in (job, again))
        assert torch.equal(first.pixels[:], second.pixels[:])
    assert torch.equal(job.case.question.known.pixels[:], again.case.question.known.pixels[:])
    assert job.case.question.describe() == again.case.question.describe()


def test_too_many_classes_and_normalized_images_are_refused() -> None:
    net = nn.Sequential(nn.Conv2d(1, 2, SIDE), nn.ReLU(), nn.Flatten(), nn.Linear(2, 60)).eval()
    shown, labels = images()
    with pytest.raises(BadInput, match="60 classes; a trigger is sought for at most 50"):
        nr.evaluate(net, (shown, labels), metric="hidden-trigger", classes=[f"c{i}" for i in range(60)])
    scaled = shown / np.float32(255)
    with pytest.raises(BadInput, match="A trigger is sought in pixels"):
        nr.evaluate(network(0.0), (scaled, labels), metric="hidden-trigger", classes=list(NAMES), normalized=True)
    with pytest.raises(BadInput, match="no class after the colon"):
        nr.evaluate(network(0.0), (shown, labels), metric="hidden-trigger:", classes=list(NAMES))


@pytest.mark.parametrize("n", [5, 10, 40])
@pytest.mark.parametrize("named", [False, True])
def test_alike_classes_stand_out_as_often_as_is_said(n: int, named: bool) -> None:
    """Of log sizes that are normal with any mean and spread."""
    rng = np.random.default_rng(n)
    claims = 0
    for _ in range(400):
        below = _below(3 + 0.5 * rng.standard_normal(n))
        claims += _chance(float(below[0] if named else below.max()), n, named) <= 0.05
    assert claims / 400 < 0.05 + 3 * np.sqrt(0.05 * 0.95 / 400)
