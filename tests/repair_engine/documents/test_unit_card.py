"""A unit by itself: what ablating it alone does, against the plain module with its weights edited by hand."""

from __future__ import annotations

import base64
import copy
import dataclasses
import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.models import VisionTransformer

from repair_engine.case.case import Case
from repair_engine.case.preparing import prepare
from repair_engine.documents import unit_card
from repair_engine.errors import BadInput
from repair_engine.models.architectures import Architecture
from repair_engine.question.objectives import Metric
from repair_engine.question.request import RepairRequest
from repair_engine.support.progress import silent
from tests.repair_engine.tiny import CLASSES, SIDE, Sabotaged, World, images, save

pytestmark = pytest.mark.usefixtures("quick_module")
SPY = "spy:0"


def vit(num_classes: int) -> VisionTransformer:
    return VisionTransformer(SIDE, 4, num_layers=1, num_heads=2, hidden_dim=8, mlp_dim=12, num_classes=num_classes)


def asked(model: Path, data: Path, factory: str, metric: str) -> RepairRequest:
    architecture = Architecture("net", 3, register={"net": factory})
    return RepairRequest(str(model), str(data), architecture, metric=Metric.parse(metric))


@pytest.fixture(scope="module")
def case(sabotaged: World, tmp_path_factory: pytest.TempPathFactory) -> Case:
    request = asked(sabotaged.model, sabotaged.data, sabotaged.factory, "subgroup-recall:ground")
    return prepare(request, tmp_path_factory.mktemp("case"))


@pytest.fixture(scope="module")
def effect(case: Case) -> dict:
    return unit_card.effect(case, SPY, silent)


def right(world: World, module: torch.nn.Module, names: list[str]) -> np.ndarray:
    labels = np.array([CLASSES.index(name.split("/")[0]) for name in names])
    with torch.inference_mode():
        return module(world.images.tensor(names)).argmax(1).numpy() == labels


def test_each_class_and_subgroup_is_as_the_edited_module_has_it(sabotaged: World, case: Case, effect: dict) -> None:
    names = [case.images.dataset.file_names[i] for i in case.images.splits.select]
    blinded: Sabotaged = copy.deepcopy(sabotaged.module)  # type: ignore[assignment]
    blinded.spy.weight.zero_()
    blinded.spy.bias.fill_(case.subject.network.constant(case.subject.network.player(SPY)))
    before, after = right(sabotaged, sabotaged.module, names), right(sabotaged, blinded, names)
    assert (after != before).sum() > 3
    grounds = dict(zip(sabotaged.images.names, sabotaged.images.ground))
    inside = {name.split("/")[0]: [] for name in names} | {"light": [], "dark": []}
    for i, name in enumerate(names):
        inside[name.split("/")[0]].append(i)
        inside[grounds[name]].append(i)
    rows = {row["name"]: row for group in effect["groups"] for row in group["rows"]}
    assert [group["title"] for group in effect["groups"]] == ["class", "ground"]
    assert set(rows) == set(inside)
    for name, at in inside.items():
        assert rows[name]["n"] == len(at)
        assert rows[name]["before"] == pytest.approx(before[at].mean())
        assert rows[name]["after"] == pytest.approx(after[at].mean())
        assert (rows[name]["won"], rows[name]["lost"]) == ((~before & after)[at].sum(), (before & ~after)[at].sum())
    assert effect["accuracy"]["before"] == pytest.approx(before.mean())
    assert effect["accuracy"]["lower"] <= after.mean() - before.mean() <= effect["accuracy"]["upper"]
    assert effect["images"] == len(names)
    assert effect["turned_right_count"] == (~before & after).sum()
    turned = {row["file"] for row in effect["turned_right"]}
    assert turned <= {name for name, b, a in zip(names, before, after) if a and not b}
    assert len(turned) == min(unit_card.FLIPPED, effect["turned_right_count"])


def test_the_metric_is_the_mean_over_subgroups_of_the_mean_over_classes(
    effect: dict, sabotaged: World, case: Case
) -> None:
    names = [case.images.dataset.file_names[i] for i in case.images.splits.select]
    before = right(sabotaged, sabotaged.module, names)
    grounds = dict(zip(sabotaged.images.names, sabotaged.images.ground))
    cells: dict[tuple[str, str], list[bool]] = {}
    for name, hit in zip(names, before):
        cells.setdefault((grounds[name], name.split("/")[0]), []).append(bool(hit))
    assert effect["metric"]["before"] == pytest.approx(np.mean([np.mean(cell) for cell in cells.values()]))
    assert effect["metric"]["after"] - effect["metric"]["before"] == pytest.approx(effect["metric"]["change"])


def test_images_and_the_place_in_them(sabotaged: World, case: Case) -> None:
    found = unit_card.effect(case, "stem:1", silent)
    names = [case.images.dataset.file_names[i] for i in case.images.splits.score]
    with torch.inference_mode():
        maps = sabotaged.module.stem(sabotaged.images.tensor(names))[:, 1]  # type: ignore[operator]
    means = dict(zip(names, maps.mean((1, 2)).tolist()))
    ordered = sorted(names, key=lambda name: -means[name])
    assert [row["file"] for row in found["responses"]["most"]] == ordered[:5]
    assert [row["file"] for row in found["responses"]["least"]] == ordered[::-1][:5]
    assert found["responses"]["range"] == pytest.approx([min(means.values()), max(means.values())], abs=1e-5)
    for end, extreme in (("most", torch.Tensor.argmax), ("least", torch.Tensor.argmin)):
        for row in found["responses"][end]:
            y, x = divmod(int(extreme(maps[names.index(row["file"])])), SIDE)
            assert row["at"] == pytest.approx([(x + 0.5) / SIDE, (y + 0.5) / SIDE])
    assert found["shape"] == [SIDE, SIDE]
    shown = found["pictures"][ordered[0]]
    pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(shown.partition(",")[2]))).convert("L"))
    assert np.array_equal(pixels, sabotaged.images.pixels[sabotaged.images.names.index(ordered[0])]), "every pixel"


def test_a_unit_of_one_number_an_image_has_no_place(effect: dict) -> None:
    assert [row["at"] for row in effect["responses"]["most"]] == [None] * 5


def test_a_picture_goes_beyond_what_it_started_from(case: Case) -> None:
    told: list[float] = []
    up, down = unit_card.picture(case, "stem:1", lambda words, share: told.append(share))["rows"]
    assert (up["sign"], down["sign"]) == (1, -1)
    assert up["response"] > up["start"]
    assert down["response"] < down["start"]
    assert told[-1] == 1.0


def test_without_subgroups_the_columns_of_few_values_are_shown(sabotaged: World, tmp_path: Path) -> None:
    case = prepare(asked(sabotaged.model, sabotaged.data, sabotaged.factory, "accuracy"), tmp_path)
    found = unit_card.effect(case, SPY, silent)
    assert [group["title"] for group in found["groups"]] == ["class", "ground"]
    assert found["metric"] == pytest.approx(found["accuracy"])


def test_an_attack_is_judged_on_its_own_images(sabotaged: World, tmp_path: Path) -> None:
    request = asked(sabotaged.model, sabotaged.data, sabotaged.factory, "attack-success")
    case = prepare(dataclasses.replace(request, attack_images=40), tmp_path)
    told: list[float] = []
    found = unit_card.effect(case, "stem:0", lambda _, share: told.append(share))
    ablated = np.ones((2, case.subject.network.n_filters), dtype=bool)
    ablated[1, case.subject.network.player("stem:0")] = False
    objective, splits = case.question.objective("select"), case.images.splits
    for pixels, figure, right in (
        (objective.pixels[:], found["metric"], lambda k: objective.value(k)),
        (case.images.rows("select")[:], found["accuracy"], lambda k: (k == case.images.labels[splits.select]).mean(1)),
    ):
        logits = case.subject.network.masked_logits(case.images.normalize(pixels), ablated)
        expected = right(logits.argmax(-1).numpy())
        assert [figure["before"], figure["after"]] == pytest.approx(expected)
    assert max(told) <= 1.0


def test_a_head_as_the_masked_network_has_it(tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = vit(3).eval()
    for parameter in module.parameters():  # its head starts at zero: all would be one class
        torch.nn.init.normal_(parameter, std=0.5)
    data = images(60, seed=2).zip(tmp_path / "data.zip")
    case = prepare(
        asked(save(module, tmp_path / "model.safetensors"), data, f"{__name__}:vit", "accuracy"), tmp_path / "case"
    )
    network = case.subject.network
    head = next(name for name in map(network.filter_id, range(network.n_filters)) if ":head" in name)
    without = np.ones((1, network.n_filters), dtype=bool)
    without[0, network.player(head)] = False
    logits = network.masked_logits(case.images.normalize(case.images.rows("select")[:]), without)
    right = (logits[0].argmax(-1).numpy() == case.images.labels[case.images.splits.select]).mean()
    assert unit_card.effect(case, head, silent)["accuracy"]["after"] == pytest.approx(right)


def test_a_unit_that_the_network_does_not_have(case: Case) -> None:
    with pytest.raises(BadInput, match="names no filter"):
        unit_card.effect(case, "ghost:0", silent)
