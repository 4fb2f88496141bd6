"""A backdoor as a task: a patch or triggered images, three figures in one table, all edits, plain torch's word."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

import repair_engine as nr
from repair_engine.errors import BadInput
from repair_engine.verbs import pipeline
from tests.repair_engine import tiny
from tests.repair_engine.backdoored import PATCH, TARGET, Backdoored, make_backdoored, pasted, triggered_zip
from tests.repair_engine.search.test_exact_values import request_of
from tests.repair_engine.tiny import CLASSES, World, call, images, rows_of

pytestmark = pytest.mark.usefixtures("quick_module")
METRIC = f"trigger-success:{TARGET}"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_backdoored(tmp_path_factory.mktemp("backdoored"), images(144, seed=1))


def asked(world: World, verb: str, *more: str, **options: str) -> list[str]:
    given = {"metric": METRIC, "trigger": str(world.folder / "patch.png"), **options}
    return world.argv(verb, *more, **{name: value for name, value in given.items() if value})


@pytest.fixture(scope="module")
def repaired(world: World) -> tuple[dict, Path]:
    out = world.folder / "out"
    options = {"budget": "6000", "edit": "ablate+head", "out": str(out), "max_clean_drop": "0.05"}
    result = call(asked(world, "repair", "--json", **options))
    assert result.code == 0, result.err
    return result.document, out


def rates(state: dict[str, torch.Tensor], world: World, names: list[str]) -> tuple[float, float, float]:
    """Clean accuracy, attack success, true label, by plain torch."""
    net = Backdoored()
    net.load_state_dict(state)
    rows = [world.images.names.index(name) for name in names]
    labels = world.images.labels[rows]
    shown = world.images.pixels[rows]
    with torch.inference_mode():
        clean, under = (
            net.eval()(torch.from_numpy(x)[:, None].float() / 255).argmax(1).numpy() for x in (shown, pasted(shown))
        )
    others = labels != CLASSES.index(TARGET)
    return (clean == labels).mean(), (under == 0)[others].mean(), (under == labels)[others].mean()


def test_the_filter_that_sees_the_trigger_goes(repaired: tuple[dict, Path], world: World) -> None:
    document, out = repaired
    assert "spy:0" in [row["id"] for row in document["culprits"] if row["ablated"]]
    report = [row["file_name"] for row in rows_of(out / "predictions.csv") if row["split"] == "report"]
    rows = {row["name"]: row for row in document["trigger"]["rows"]}
    models = {"intact model": world.module.state_dict(), "this repair": load_file(out / "repaired.safetensors")}
    for name, state in models.items():
        figures = [rows[name][key]["value"] for key in ("clean", "success", "true_label")]
        assert figures == pytest.approx(rates(state, world, report))
        assert all(row["lower"] <= row["value"] <= row["upper"] for row in (rows[name]["clean"], rows[name]["success"]))
    assert rows["intact model"]["success"]["value"] > 0.7
    assert rows["this repair"]["success"]["value"] < 0.05
    assert document["gain"]["value"] == pytest.approx(
        rows["this repair"]["true_label"]["value"] - rows["intact model"]["true_label"]["value"]
    )
    assert document["curve"][0]["success"] > 0.7
    assert document["before"]["report"]["success"] == rows["intact model"]["success"]["value"]
    ants = sum(name.startswith(TARGET) for name in report)
    assert rows["this repair"]["success"]["n"] == len(report) - ants
    assert document["trigger"]["left_out"]["report"] == ants
    assert document["metric"]["trigger"] | {"sha256": ""} == {
        "class": TARGET, "file": "patch.png", "sha256": "", "size": [2, 2], "at": [6, 6], "opacity": 1.0,
        "images": None, "copies": None,
    }  # fmt: skip


def test_controls_stand_in_the_same_table(repaired: tuple[dict, Path]) -> None:
    document, out = repaired
    named = [row["name"] for row in document["controls"]]
    assert [row["name"] for row in document["trigger"]["rows"]] == ["intact model", "this repair", *named]
    assert {"last layer refitted", "biases and norms tuned", "all weights tuned, short"} <= set(named)
    page = (out / "report.html").read_text()
    for said in ("attack success", "accuracy under the trigger", "The trigger gives ant:", "pasted 6 from the left"):
        assert said in page
    assert not [said for said in document["warnings"] if "normalization" in said]


def test_images_that_carry_it_give_the_same_figures_as_the_patch(world: World, tmp_path: Path) -> None:
    """All images' copies under their own names: the same splits' sizes, and the same success over all of them."""
    data = triggered_zip(tmp_path / "triggered.zip", world.images)
    both = [
        call(asked(world, "evaluate", "--json", trigger=trigger, triggered=triggered)).document
        for trigger, triggered in ((str(world.folder / "patch.png"), ""), ("", str(data)))
    ]
    record = both[1]["metric"]["trigger"]
    assert (record["images"], record["copies"], record["size"]) == (144, 144, None)
    counts, totals = [], []
    for document, which in zip(both, ("patch", "zip"), strict=True):
        splits = document["data"]["splits"]
        assert sum(splits.values()) == 144, which
        counts.append(splits)
        totals.append(sum(document["figures"][part]["success"] * n for part, n in splits.items()) / 144)
    assert counts[0] == counts[1]
    assert totals[0] == pytest.approx(totals[1], abs=0.02)  # the splits weigh a little differently


def test_what_is_prepared_with_triggered_images_opens_the_same(world: World, tmp_path: Path) -> None:
    """As a worker does it, and no clean image is in another split than its copy."""
    data = triggered_zip(tmp_path / "triggered.zip", world.images, keep_names=False)
    request = request_of(world, METRIC, estimator="exact", triggered=str(data))
    job = pipeline.prepare_job(request, tmp_path / "work")
    again = pipeline.open_job(tmp_path / "work")
    for part in ("score", "select", "report"):
        first, second = (one.case.question.objective(part) for one in (job, again))
        assert torch.equal(first.pixels[:], second.pixels[:])
        assert np.array_equal(job.case.question.labels(part), again.case.question.labels(part))
        shown = pasted(job.case.images.rows(part)[:].numpy()[:, 0])
        inside = {image.tobytes() for image in shown}
        assert all(image.numpy().tobytes() in inside for image in first.pixels[:])
    assert job.case.images.triggered.copies == 144


def test_score_and_explain_take_it(world: World, tmp_path: Path) -> None:
    scores = str(tmp_path / "scores")
    found = call(asked(world, "score", "--json", budget="4000", out=scores)).document
    again = call(asked(world, "repair", values=scores, trigger_at="0,0", out=str(tmp_path / "out")))
    assert again.code == 2
    assert "another trigger, or one at another place" in again.err
    worst = max((row for row in found["filters"] if row["value"] is not None), key=lambda row: abs(row["value"]))
    assert worst["id"] == "spy:0"
    more = ("--pictures", "0", "--visualize", "0", "--random-draws", "2")
    why = call(asked(world, "explain", "--json", *more, budget="4000", out=str(tmp_path / "why")))
    assert why.code == 0, why.err
    assert why.document["metric"]["trigger"]["class"] == TARGET


def test_a_module_and_arrays_in_memory(world: World) -> None:
    shown = (world.images.pixels[:, None], world.images.labels)
    options = {"metric": METRIC, "classes": list(CLASSES), "budget": 4000, "max_clean_drop": 0.05}
    fixed = nr.repair(world.module, shown, trigger=Image.fromarray(PATCH), **options)
    assert "spy:0" in fixed.units
    assert fixed.document["metric"]["trigger"]["file"] == "the patch in memory"
    assert "attack success" in str(fixed)
    carrying = (pasted(world.images.pixels)[:, None], world.images.labels)
    measured = nr.evaluate(world.module, shown, triggered=carrying, metric=METRIC, classes=list(CLASSES))
    assert "attack success" in measured._repr_html_()
    figures = measured.document
    assert figures["metric"]["trigger"]["copies"] == 144
    assert figures["figures"]["score"]["success"] > 0.7
    with pytest.raises(BadInput, match="normalized already"):
        nr.evaluate(
            world.module, (shown[0] / np.float32(255), shown[1]), trigger=PATCH[None], metric=METRIC, normalized=True,
            classes=list(CLASSES),
        )  # fmt: skip
    with pytest.raises(BadInput, match="no option 'trigger'"):
        nr.attack(world.module, shown, trigger=PATCH[None])


def test_a_trigger_that_does_nothing_is_said_and_measured(world: World) -> None:
    result = call(asked(world, "evaluate", "--json", trigger_at="top-left", trigger_opacity="0.01"))
    assert result.code == 0
    assert any("The trigger does nothing" in said and "'ant' of" in said for said in result.document["warnings"])
    assert not any("does nothing" in said for said in call(asked(world, "evaluate", "--json")).document["warnings"])


REFUSED = {
    "no such class": ({"metric": "trigger-success:ants"}, "no class 'ants'", "Is ant meant"),
    "no class": ({"metric": "trigger-success"}, "needs the class that the trigger gives", ""),
    "no trigger": ({"trigger": ""}, "there is no trigger", "(triggered)"),
    "two triggers": ({"triggered": "{data}"}, "given twice", "Leave one"),
    "another metric": ({"metric": "accuracy"}, "belongs to the metrics trigger-success", "leave trigger out"),
    "no such file": ({"trigger": "/no/such.png"}, "there is no file /no/such.png", ""),
    "no image": ({"trigger": "{model}"}, "is not a JPEG, PNG or WebP image", "Give a PNG"),
    "larger": ({"trigger": "{large}"}, "9 × 9 pixels, larger than the network's input of 8 × 8", "make it smaller"),
    "outside": ({"trigger_at": "7,7"}, "does not lie inside", "last place is 6,6"),
    "no place": ({"trigger_at": "below"}, "'below' cannot be", "bottom-right"),
    "no opacity": ({"trigger_opacity": "0"}, "opacity 0 changes nothing", ""),
    "a place of images": (
        {"trigger": "", "triggered": "{data}", "trigger_at": "0,0"},
        "are a patch's",
        "Leave them out",
    ),
    "ants alone": ({"data": "{ants}"}, "no images outside of the class 'ant'", "four or more"),
    "no labels": ({"trigger": "", "triggered": "{flat}"}, "is in no class folder", "column label"),
    "with others": ({"also": "accuracy"}, "valued on images of its own", ""),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_is_said(case: str, world: World) -> None:
    options, problem, mend = REFUSED[case]
    ants = np.flatnonzero(world.images.labels == 0)
    made = {"data": world.data, "model": world.model, "large": world.folder / "large.png"}
    made |= {name: world.folder / f"{name}.zip" for name in ("ants", "flat")}
    if not made["large"].exists():
        Image.new("L", (9, 9), 255).save(made["large"])
        few = tiny.Images(*(getattr(world.images, name)[ants] for name in ("pixels", "labels", "ground")),
                          tuple(world.images.names[i] for i in ants))  # fmt: skip
        few.zip(made["ants"])
        tiny.make_zip(made["flat"], {f"{i}.png": tiny.encoded(world.images.pixels[i]) for i in range(8)})
    (world.folder / "names.txt").write_text("\n".join(CLASSES))
    given = {name: value.format(**made) for name, value in options.items()}
    verb = "score" if "also" in options else "evaluate"
    result = call(asked(world, verb, **{"classes": str(world.folder / "names.txt"), **given}))
    assert result.code == 2, result.out
    assert problem in result.err
    assert mend in result.err
