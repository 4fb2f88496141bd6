"""The attack verb: figures that an outsider computes again, curves, self-tests, rows before and after a repair."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from repair_engine.choosing.plan import make_plan, masked_predictions
from repair_engine.models.architectures import Architecture
from repair_engine.question.attacks import AttackSettings
from repair_engine.question.objectives import Metric
from repair_engine.question.request import RepairRequest
from repair_engine.question.surrogates import Surrogate
from repair_engine.studies.attack_rows import BLACK_BOX, NO_QUERIES, NO_SURROGATE
from repair_engine.support.progress import silent
from repair_engine.verbs import pipeline
from tests.repair_engine import tiny
from tests.repair_engine.search.test_exact_values import request_of
from tests.repair_engine.tiny import Result, Sabotaged, World, call, images, rows_of, save, trained

SMALL = {"steps": "4", "subset": "12", "queries": "30"}
REPAIR = {"metric": "attack-success", "estimator": "exact", "max_clean_drop": "0.3", "epsilon": "0.1", "steps": "4"}


def argv(world: World, *more: str, verb: str = "attack", **options: str) -> list[str]:
    made = world.argv(verb, *more, **options)
    if verb == "attack":
        at = made.index("--metric")
        del made[at : at + 2]
    return made


def run(world: World, *more: str, **options: str) -> dict:
    result = call(argv(world, "--json", *more, **{**SMALL, **options}))
    assert result.code == 0, result.err
    return result.document


@pytest.mark.parametrize("preset", ["paper", "standard"])
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_figures_are_those_of_plain_torch_on_the_written_images(
    sabotaged: World, tmp_path: Path, quick: None, preset: str, norm: str
) -> None:
    epsilon = {"linf": "0.1", "l2": "1.5"}[norm]
    document = run(sabotaged, attack=preset, norm=norm, epsilon=epsilon, out=str(tmp_path))
    with np.load(tmp_path / "attack.npz") as found:
        names, pixels, labels, targets = (found[key] for key in ("file_names", "pixels", "labels", "targets"))
    clean = sabotaged.images.tensor(list(names))
    change = (torch.from_numpy(pixels) - clean).flatten(1)
    size = change.abs().amax(1) if norm == "linf" else change.norm(dim=1)
    assert float(size.max()) <= float(epsilon) * (1 + 1e-5)
    predicted = sabotaged.module(torch.from_numpy(pixels)).argmax(1).numpy()
    hit = predicted == targets
    figures, n = document["figures"], len(labels)
    assert figures["success"]["value"] == pytest.approx((hit if preset == "paper" else ~hit).mean())
    assert figures["success"]["n"] == figures["true_label"]["n"] == n == document["images"]["attacked"]
    assert figures["true_label"]["value"] == pytest.approx((predicted == labels).mean())
    picked = document["images"]["picked"]
    assert figures["accuracy_under_attack"]["value"] == pytest.approx((predicted == labels).sum() / picked)
    assert figures["accuracy_under_attack"]["n"] == figures["clean_accuracy"]["n"] == picked
    for figure in figures.values():
        assert figure["lower"] <= figure["value"] <= figure["upper"]
    written = rows_of(tmp_path / "attack.csv")
    assert [row["file_name"] for row in written] == list(names)
    assert [tiny.CLASSES.index(row["predicted_before"]) for row in written] == list(predicted)
    assert {row["predicted_after"] for row in written} == {""}


@pytest.mark.parametrize("preset", ["paper", "standard"])
def test_curves_start_at_clean_and_grow(sabotaged: World, quick: None, preset: str) -> None:
    document = run(sabotaged, attack=preset, epsilon="0.2", subset="30")
    points = document["curves"]["epsilon"]
    assert [p["epsilon"] for p in points] == pytest.approx([0, 0.05, 0.1, 0.2, 0.4])
    assert points[0]["success"] == 0
    assert points[-1]["success"] > points[1]["success"]
    assert [p["steps"] for p in document["curves"]["steps"]] == [1, 2, 4, 8]
    tests = {test["key"]: test for test in document["self_tests"]}
    assert set(tests) == {
        "epsilon-zero-equals-clean", "grows-with-epsilon", "grows-with-steps", "black-box-is-not-better",
        "random-points-are-not-better", "unbounded-wins-all",
    }  # fmt: skip
    assert not tests["epsilon-zero-equals-clean"]["warns"]
    assert not tests["grows-with-epsilon"]["warns"]


@pytest.mark.parametrize("preset", ["paper", "standard"])
def test_epsilon_zero_equals_clean(sabotaged: World, quick: None, preset: str) -> None:
    document = run(sabotaged, attack=preset, epsilon="0")
    figures = document["figures"]
    assert figures["success"]["value"] == 0
    assert figures["accuracy_under_attack"] == figures["clean_accuracy"]
    assert [p["epsilon"] for p in document["curves"]["epsilon"]] == [0]
    assert [(t["key"], t["warns"]) for t in document["self_tests"]] == [("epsilon-zero-equals-clean", False)]


def test_all_images_and_the_report_split(sabotaged: World, quick: None) -> None:
    everything = run(sabotaged, "--all-images", epsilon="0.1", queries="0")["images"]
    report = run(sabotaged, epsilon="0.1", queries="0")["images"]
    assert (everything["part"], everything["picked"]) == ("all", len(sabotaged.images.labels))
    assert report["part"] == "report"
    assert report["picked"] < everything["picked"] / 3


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A surrogate: the same architecture without the culprit, trained from another start."""
    shown = images(144, seed=1)
    module = trained(Sabotaged(), shown.tensor(), shown.labels, seed=7)
    return f"{save(module, tmp_path_factory.mktemp('other') / 'other.safetensors')}:net"


@pytest.mark.parametrize("preset", ["paper", "standard"])
def test_the_rows_of_a_repair_come_again_from_its_file(
    sabotaged: World, other: str, tmp_path: Path, quick: None, preset: str
) -> None:
    """`repair` and `attack --repaired` measure the same images from the same seeds: all four rows agree."""
    again = {"epsilon": "0.1", "attack": preset, "surrogate": other, **{k: SMALL[k] for k in ("subset", "queries")}}
    out = tmp_path / "out"
    repaired = call(argv(sabotaged, "--json", verb="repair", out=str(out), order="value", **{**REPAIR, **again}))
    assert repaired.code == 0, repaired.err
    rows = repaired.document["attack"]["rows"]
    assert [row["kind"] for row in rows] == ["replay", "transfer", "white-box", "black-box"]
    document = run(sabotaged, repaired=str(out / "repaired.safetensors"), out=str(tmp_path / "a"), **again)
    assert document["rows"] == rows
    # the tables of both are the same, and give every rate
    lines = rows_of(out / "attacks.csv")
    assert lines == rows_of(tmp_path / "a" / "attack.csv")
    for row in rows:
        mine = [line for line in lines if line["attack"] == row["name"]]
        assert len(mine) == row["n"]
        for column, rates in (("predicted_before", row["before"]), ("predicted_after", row)):
            won = [
                line[column] == line["target"] if preset == "paper" else line[column] != line["label"] for line in mine
            ]
            assert rates["success"] == pytest.approx(np.mean(won))
            assert rates["true_label"] == pytest.approx(np.mean([line[column] == line["label"] for line in mine]))
    assert {t["model"] for t in document["self_tests"]} == {"intact", "repaired"}
    gain = repaired.document["gain"]
    assert {key: rows[0]["change"][key] for key in ("value", "lower", "upper")} == pytest.approx(
        {key: gain[key] for key in ("value", "lower", "upper")}
    )
    curve = repaired.document["curve"]
    assert all(0 <= step["true_label"] <= 1 for step in curve)
    assert curve[0]["true_label"] <= 1 - curve[0]["objective"] + 1e-9  # a recovered image is not the adversary's
    assert repaired.document["after"]["report"]["metric"] == rows[0]["success"]
    assert repaired.document["before"]["report"]["metric"] == rows[0]["before"]["success"]


def test_the_curve_against_k_is_that_of_the_ablated_network(sabotaged: World, tmp_path: Path, quick: None) -> None:
    """Success and true labels on *select* for every prefix, once more by the masked network, prefix by prefix."""
    settings = AttackSettings.of("standard", 0.1, 4)
    job = pipeline.prepare_job(request_of(sabotaged, "attack-success", attack=settings, estimator="exact"), tmp_path)
    ranking, _ = pipeline.ranking_of(job, None, None)
    plan, attacked = make_plan(job.case, ranking.players, silent), job.case.question.attacked["select"]
    labels = job.case.images.labels[attacked.indices]
    assert len(plan.steps) == len(ranking.players) + 1 > 2
    for step in plan.steps:
        predicted = masked_predictions(job.case, attacked.pixels, ranking.players[: step.k])
        assert step.true_label == pytest.approx((predicted == labels).mean())
        assert step.objective == pytest.approx((predicted != labels).mean())


def test_what_was_not_measured_says_so(sabotaged: World, tmp_path: Path, quick: None) -> None:
    out = tmp_path / "out"
    repaired = call(argv(sabotaged, "--json", verb="repair", out=str(out), queries="0", **REPAIR))
    assert repaired.code == 0, repaired.err
    kinds = {row["kind"]: row for row in repaired.document["attack"]["rows"]}
    assert kinds["transfer"]["not_measured"] == NO_SURROGATE
    assert kinds["black-box"]["not_measured"] == NO_QUERIES
    assert kinds["black-box"]["success"] is None
    text = call(argv(sabotaged, repaired=str(out / "repaired.safetensors"), **SMALL, epsilon="0.1"))
    assert text.code == 0, text.err
    assert NO_SURROGATE in text.out
    assert f"{BLACK_BOX}" in text.out


def test_text_for_people(sabotaged: World, quick: None) -> None:
    said = call(argv(sabotaged, **SMALL, epsilon="0.1")).out
    for word in ("clean accuracy", "attack success", "true label recovered", "accuracy under attack", "n = "):
        assert word in said
    assert Counter(line.split(" ")[0] for line in said.splitlines())["self-test"] >= 4


def refused(result: Result, *said: str) -> None:
    assert result.code == 2, result.out
    for words in said:
        assert words in result.err


def test_bad_surrogates(sabotaged: World, skewed: World, tmp_path: Path, quick: None) -> None:
    """Another input size, other channels, other classes, another form: each says both sides."""
    model = str(sabotaged.model)
    refused(call(argv(sabotaged, surrogate="nowhere.safetensors:net")), "there is no file nowhere.safetensors")
    refused(call(argv(sabotaged, surrogate=model)), "FILE:ARCHITECTURE")
    refused(call(argv(sabotaged, surrogate=f"{model}:net,gamma=2")), "gamma=2")
    two = save(trained(Sabotaged(2), images(60).tensor(), images(60).labels % 2, steps=1), tmp_path / "two.safetensors")
    refused(call(argv(sabotaged, surrogate=f"{two}:net:2", **SMALL)), "puts out 2 logits", "has 3")
    colour = save(Sabotaged(3, channels=3), tmp_path / "rgb.safetensors")
    register = ["--register", "rgb=tests.repair_engine.verbs.test_attack_verb:rgb"]
    refused(call(argv(sabotaged, *register, surrogate=f"{colour}:rgb", **SMALL)), "3 channels", "have 1 (1×8×8)")
    large = save(Large(), tmp_path / "large.safetensors")
    register = ["--register", "large=tests.repair_engine.verbs.test_attack_verb:Large"]
    refused(call(argv(sabotaged, *register, surrogate=f"{large}:large", **SMALL)), "images are 1×8×8", "takes 1×28×28")


class Large(torch.nn.Module):
    """A classifier of 28×28 images."""

    def __init__(self, num_classes: int = 3) -> None:
        super().__init__()
        self.conv = torch.nn.Conv2d(1, 2, 3, padding=1)
        self.head = torch.nn.Linear(2 * 28 * 28, num_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(torch.relu(self.conv(x)).flatten(1))


def rgb(num_classes: int) -> torch.nn.Module:
    return Sabotaged(num_classes, channels=3)


def test_bad_input(sabotaged: World, tmp_path: Path, quick: None) -> None:
    refused(call(argv(sabotaged, queries="1")), "--queries: One query")
    refused(call(argv(sabotaged, subset="0")), "--subset")
    refused(call(argv(sabotaged, repaired=str(sabotaged.model), **SMALL)), "same file as --model")
    refused(call(argv(sabotaged, repaired="nowhere.pth")), "there is no file nowhere.pth")
    refused(call(argv(sabotaged, norm="l2", epsilon="100", **SMALL)), "longer than any change of a 1×8×8 image")
    never = argv(sabotaged, verb="repair", **{**REPAIR, "epsilon": "0.00001"}, out=str(tmp_path / "o"))
    refused(call(never), "never succeeds")
    refused(call(argv(sabotaged, verb="repair", **{**REPAIR, "epsilon": "0"})), "no attack can succeed")


def test_a_model_that_is_never_right(tmp_path: Path, quick: None) -> None:
    shown = images(60)
    world = tiny.make_world(tmp_path, shown)
    module = trained(tiny.Tiny(), shown.tensor(), (shown.labels + 1) % 3, steps=120)
    assert not (module(shown.tensor()).argmax(1).numpy() == shown.labels).all()
    with torch.no_grad():
        module.head.weight.zero_()
        module.head.bias.copy_(torch.tensor([-9.0, -9.0, 9.0]))
    save(module, world.model)
    only = tiny.Images(*(part[shown.labels != 2] for part in (shown.pixels, shown.labels, shown.ground)),
                       tuple(n for n, label in zip(shown.names, shown.labels) if label != 2))  # fmt: skip
    only.zip(world.data)
    (tmp_path / "classes.txt").write_text("\n".join(tiny.CLASSES))
    for preset in ("paper", "standard"):
        found = call(argv(world, classes=str(tmp_path / "classes.txt"), attack=preset, **SMALL))
        refused(found, "right on none of the", "--mean")


def test_a_single_logit(tmp_path: Path, quick: None) -> None:
    """Two classes at one logit: attacked as they are, and no target can be asked."""
    shown = images(96)
    two = tiny.Images(*(part[shown.labels < 2] for part in (shown.pixels, shown.labels, shown.ground)),
                      tuple(n for n, label in zip(shown.names, shown.labels) if label < 2))  # fmt: skip
    world = tiny.make_world(tmp_path, shown)
    two.zip(world.data)
    module, x = tiny.Tiny(1), two.tensor()
    torch.manual_seed(0)
    optimizer = torch.optim.Adam(module.parameters(), lr=0.02)
    for _ in range(60):
        optimizer.zero_grad()
        wanted = torch.from_numpy(two.labels).float()
        torch.nn.functional.binary_cross_entropy_with_logits(module(x)[:, 0], wanted).backward()
        optimizer.step()
    save(module.eval(), world.model)
    figures = run(world, "--untargeted", num_classes="2", epsilon="0.2", attack="standard", subset="20")["figures"]
    assert figures["clean_accuracy"]["value"] > 0.7
    assert figures["success"]["value"] > 0.3
    assert run(world, num_classes="2", epsilon="0.2")["attack"]["targeted"]  # the preset's aim: the other class
    refused(call(argv(world, "--targeted", num_classes="2", **SMALL)), "single logit", "--untargeted")
    refused(call(argv(world, "--targeted", verb="repair", **{**REPAIR, "num_classes": "2"})), "single logit")


def test_a_request_with_surrogates_is_the_same_after_json() -> None:
    architecture = Architecture("resnet18", 10, register={"mine": "package.module:net"})
    surrogate = Surrogate("x.pth", architecture, (0.1, 0.2, 0.3), (1.0, 1.0, 2.0))
    request = RepairRequest(
        "m.pth", "d.zip", architecture, metric=Metric("attack-success"), surrogates=(surrogate,), queries=7, subset=3,
        attack=AttackSettings.of("standard", 0.5, norm="l2"),
    )  # fmt: skip
    assert RepairRequest.from_json(request.to_json()) == request
    assert surrogate.called == "x.pth"
