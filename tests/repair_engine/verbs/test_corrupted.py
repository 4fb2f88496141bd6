"""Accuracy under corruptions as a task: one set a split, plain torch's word, the table, what cannot be, made again."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import repair_engine as nr
from repair_engine.data.corruptions import PARAMETERS
from repair_engine.errors import BadInput
from repair_engine.question.objectives import Metric
from repair_engine.verbs import pipeline
from tests.repair_engine.search.test_exact_values import request_of
from tests.repair_engine.tiny import CLASSES, Sabotaged, World, call, check_verified, rows_of

pytestmark = pytest.mark.usefixtures("quick_module")
KINDS = ("gaussian_noise", "jpeg_compression", "brightness", "contrast")
METRIC = "corrupted-accuracy:contrast,gaussian_noise"


@pytest.fixture(scope="module")
def repaired(sabotaged: World) -> tuple[dict, Path]:
    out = sabotaged.folder / "corrupted"
    result = call(
        sabotaged.argv("repair", "--json", metric=METRIC, budget="6000", severity="2", seed="5", out=str(out))
    )
    assert result.code == 0, result.err
    return result.document, out


def made_again(world: World, names: list[str], kinds: list[str], severity: int, seed: int) -> np.ndarray:
    """The recipe of docs/corruptions.md, by plain NumPy: uint8 [N, 8, 8]."""
    out = []
    for name, kind in zip(names, kinds, strict=True):
        pixels = world.images.pixels[world.images.names.index(name)]
        share, parameter = pixels[None] / 255, PARAMETERS["CIFAR-10-C"][kind][severity - 1]
        if kind == "gaussian_noise":
            own = hashlib.sha256(f"{seed} {hashlib.sha256(pixels[None].tobytes()).hexdigest()}".encode()).hexdigest()
            share = share + parameter * np.random.default_rng(int(own, 16)).standard_normal((1, 8, 8))
        else:
            share = share.mean() + parameter * (share - share.mean())
        out.append(np.rint(np.clip(share, 0, 1) * 255).astype(np.uint8)[0])
    return np.stack(out)


def predicted(state: dict[str, torch.Tensor], pixels: np.ndarray) -> np.ndarray:
    net = Sabotaged().eval()
    net.load_state_dict(state)
    with torch.inference_mode():
        return net(torch.from_numpy(pixels)[:, None].float() / 255).argmax(1).numpy()


def test_the_culprit_goes_and_plain_torch_says_the_same(repaired: tuple[dict, Path], sabotaged: World) -> None:
    document, out = repaired
    assert document["outcome"] == "repaired"
    assert "spy:0" in [row["id"] for row in document["culprits"] if row["ablated"]]
    states = {"before": sabotaged.module.state_dict(), "after": load_file(out / "repaired.safetensors")}
    rows = rows_of(out / "corrupted.csv")
    assert len(rows) == 144
    for part in ("score", "select", "report"):
        here = [row for row in rows if row["split"] == part]
        names, kinds = [row["file_name"] for row in here], [row["kind"] for row in here]
        pixels = made_again(sabotaged, names, kinds, 2, 5)
        digest = hashlib.sha256(pixels[:, None].tobytes()).hexdigest()
        assert digest == document["metric"]["corruption"]["sha256"][part]
        labels = np.array([CLASSES.index(row["label"]) for row in here])
        for when, state in states.items():
            said = predicted(state, pixels)
            assert [CLASSES[i] for i in said] == [row[f"predicted_{when}"] for row in here]
            assert document[when][part]["metric"] == pytest.approx((said == labels).mean())
    assert document["gain"]["value"] == pytest.approx(
        document["after"]["report"]["metric"] - document["before"]["report"]["metric"]
    )
    assert document["gain"]["lower"] > 0


def test_kinds_take_turns_within_each_class(repaired: tuple[dict, Path]) -> None:
    _, out = repaired
    rows = rows_of(out / "corrupted.csv")
    for part in ("score", "select", "report"):
        of = [[r["kind"] for r in rows if r["split"] == part and r["label"] == name] for name in CLASSES]
        assert all(abs(kinds.count("contrast") - kinds.count("gaussian_noise")) <= 1 for kinds in of)
        whole = [kind for kinds in of for kind in kinds]
        assert abs(whole.count("contrast") - whole.count("gaussian_noise")) <= 1


def test_the_table_has_every_kind_and_severity_and_the_clean_images(
    repaired: tuple[dict, Path], sabotaged: World
) -> None:
    document, out = repaired
    section = document["corruption"]
    report = [row["file_name"] for row in rows_of(out / "predictions.csv") if row["split"] == "report"]
    assert section["shown"] == len(report) == 36
    asked = [(kind, severity) for kind in ("gaussian_noise", "contrast") for severity in range(1, 6)]
    assert [(row["kind"], row["severity"]) for row in section["rows"]] == [("clean", 0), *asked]
    labels = np.array([CLASSES.index(name.split("/")[0]) for name in report])
    states = {"before": sabotaged.module.state_dict(), "after": load_file(out / "repaired.safetensors")}
    for row in section["rows"]:
        pixels = sabotaged.images.pixels[[sabotaged.images.names.index(name) for name in report]]
        if row["severity"]:
            pixels = made_again(sabotaged, report, [row["kind"]] * len(report), row["severity"], 5)
            assert row["parameter"] == PARAMETERS["CIFAR-10-C"][row["kind"]][row["severity"] - 1]
        right = {when: (predicted(state, pixels) == labels).mean() for when, state in states.items()}
        for when, share in right.items():
            assert row[when]["value"] == pytest.approx(share)
            assert row[when]["lower"] <= share <= row[when]["upper"]
        assert row["change"]["value"] == pytest.approx(right["after"] - right["before"])
        assert row["change"]["lower"] <= row["change"]["value"] <= row["change"]["upper"]
    clean = section["rows"][0]
    assert (clean["before"]["value"], clean["after"]["value"]) == (
        document["before"]["report"]["accuracy"], document["after"]["report"]["accuracy"],
    )  # fmt: skip


def test_pages_and_text_say_what_was_made(repaired: tuple[dict, Path], sabotaged: World) -> None:
    document, out = repaired
    page = (out / "report.html").read_text()
    for said in ("accuracy under 2 corruptions at severity 2", "those of CIFAR-10-C", "36 corrupted report images",
                 "contrast (contrast that is kept)", "corrupted.csv"):  # fmt: skip
        assert said in page
    plan = json.loads((out / "repair.json").read_text())
    assert plan["metric"] == document["metric"]
    assert plan["metric"]["corruption"]["images"]["report"] == {"gaussian_noise": 18, "contrast": 18}
    by_hand = {"filters": "spy:0", "budget": "20000", "out": str(out.parent / "by-hand")}
    result = call(sabotaged.argv("repair", metric=METRIC, **by_hand))
    assert result.code == 0, result.err
    text = result.out
    assert "Accuracy by kind and severity on 36 report images" in text
    assert "gaussian_noise    5" in text


def test_verify_makes_the_images_again(repaired: tuple[dict, Path], sabotaged: World, tmp_path: Path) -> None:
    _, out = repaired
    given = ["--model", str(sabotaged.model), "--data", str(sabotaged.data), "--register",
             f"net={sabotaged.factory}"]  # fmt: skip
    verdicts = check_verified(out, *given)
    assert verdicts["corrupted images"] == "passed"
    assert set(verdicts.values()) == {"passed"}
    assert check_verified(out)["corrupted images"] == "not checked"
    for change, says in ((("severity", 2, 4), "have the SHA-256"), (("seed", 5, 6), "other images or kinds")):
        other = tmp_path / says.split()[0]
        other.mkdir()
        for file in out.iterdir():
            (other / file.name).write_bytes(file.read_bytes())
        for name in ("report.json", "repair.json"):
            document = json.loads((other / name).read_text())
            assert document["metric"]["corruption"][change[0]] == change[1]
            document["metric"]["corruption"][change[0]] = change[2]
            (other / name).write_text(json.dumps(document))
        found = call(["verify", str(other), "--json", "--device", "cpu", *given]).document
        check = {check["name"]: check for check in found["checks"]}["corrupted images"]
        assert check["verdict"] == "failed"
        assert says in check["text"]


def test_a_worker_opens_the_same_images(sabotaged: World, tmp_path: Path) -> None:
    request = request_of(sabotaged, "corrupted-accuracy:brightness", estimator="exact", severity=4)
    job = pipeline.prepare_job(request, tmp_path / "work")
    again = pipeline.open_job(tmp_path / "work")
    for part in ("score", "select", "report"):
        one, other = (j.case.question.attacked[part] for j in (job, again))
        assert torch.equal(one.pixels, other.pixels)
        assert np.array_equal(one.kinds, other.kinds)
        assert one.pixels.dtype == torch.uint8
    assert job.case.question.describe() == again.case.question.describe()
    assert again.case.question.text == "accuracy under brightness at severity 4"


def test_python_gives_what_the_command_line_gives(sabotaged: World) -> None:
    given = {"metric": METRIC, "severity": 2, "seed": 5}
    model = nr.open_model(sabotaged.model, architecture="net", register=[f"net={sabotaged.factory}"], num_classes=3)
    found = nr.evaluate(model, sabotaged.data, **given).document
    told = call(sabotaged.argv("evaluate", "--json", metric=METRIC, severity="2", seed="5")).document
    assert found["figures"] == told["figures"]
    assert found["metric"] == told["metric"]
    weaker = nr.evaluate(model, sabotaged.data, **given | {"severity": 1}).document
    assert weaker["metric"]["corruption"]["sha256"] != found["metric"]["corruption"]["sha256"]


def test_values_know_the_severity(sabotaged: World, tmp_path: Path) -> None:
    out = tmp_path / "scored"
    scored = call(sabotaged.argv("score", "--json", metric=METRIC, severity="2", budget="4000", out=str(out)))
    assert scored.code == 0, scored.err
    repair = sabotaged.argv("repair", metric=METRIC, budget="4000", values=str(out), out=str(tmp_path / "r"))
    refused = call(repair)
    assert refused.code == 2
    assert "images that were corrupted otherwise" in refused.err


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"metric": "corrupted-accuracy:snow"}, "no corruption 'snow'"),
        ({"metric": "corrupted-accuracy:gaussian_nois"}, "Is gaussian_noise or gaussian_blur meant?"),
        ({"metric": "corrupted-accuracy:"}, "no kind after the colon"),
        ({"metric": "corrupted-accuracy:contrast,contrast"}, "names contrast twice"),
        ({"metric": METRIC, "severity": "6"}, "6 is not between 1 and 5"),
        ({"metric": METRIC, "severity": "0"}, "0 is not between 1 and 5"),
        ({"metric": "accuracy", "severity": "4"}, "belongs to the metric corrupted-accuracy"),
        ({"metric": "accuracy", "corrupted_images": "40"}, "belongs to the metric corrupted-accuracy"),
        ({"metric": METRIC, "epsilon": "0.1"}, "belongs to attack-success"),
        ({"metric": METRIC, "attack_images": "40"}, "belongs to attack-success"),
        ({"metric": METRIC, "trigger_at": "center"}, "belongs to trigger-success"),
        ({"metric": METRIC, "trigger": "patch.png"}, "A trigger belongs to the metrics"),
        ({"metric": METRIC, "goal": "gap"}, "subgroup"),
        ({"metric": "corrupted-accuracy"}, "too small for gaussian_blur"),
    ],
)
def test_what_cannot_be_is_refused(sabotaged: World, options: dict[str, str], says: str) -> None:
    result = call(sabotaged.argv("repair", budget="4000", out=str(sabotaged.folder / "refused"), **options))
    assert result.code == 2
    assert says in result.err, result.err


def test_other_objectives_do_not_go_beside_it(sabotaged: World) -> None:
    result = call(sabotaged.argv("score", metric="accuracy", also=METRIC, budget="4000"))
    assert (result.code, "valued on images of its own" in result.err) == (2, True)


def test_images_that_are_normalized_are_refused(sabotaged: World) -> None:
    images = sabotaged.images.tensor()
    with pytest.raises(BadInput, match="Corruptions change pixels"):
        nr.evaluate(
            sabotaged.module, (images, sabotaged.images.labels), metric=METRIC, normalized=True, classes=list(CLASSES)
        )


def test_kinds_are_dealt_in_one_order_whatever_was_said_first() -> None:
    said = ("contrast, brightness", "brightness,contrast")
    one, other = (Metric.parse(f"corrupted-accuracy:{kinds}") for kinds in said)
    assert one.corruptions == other.corruptions == ("brightness", "contrast")
    assert Metric.parse("corrupted-accuracy").corruptions == ("gaussian_noise", "gaussian_blur", *KINDS[1:])
