"""Forgetting as a task: plain torch's word for every figure, limits on the retain set, the probe by other code."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from scipy.optimize import minimize
from torch import nn

import repair_engine as nr
from repair_engine.documents.edits import clean_words
from repair_engine.parties.weights import party_weights
from repair_engine.verbs import pipeline
from tests.repair_engine.image_sets import encoded, make_zip
from tests.repair_engine.search.test_exact_values import exact_job, request_of
from tests.repair_engine.tiny import CLASSES, Tiny, World, call, check_verified, images, make_world, rows_of

pytestmark = pytest.mark.usefixtures("quick_module")
CLASS, GROUP = "forget:ant", "forget:ground=light"


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> World:
    """A network that is right on nearly all of 480 images: 80, 40 and 40 of each class."""
    return make_world(tmp_path_factory.mktemp("known"), images(480, seed=2))


def repair(world: World, metric: str, name: str, **options: str) -> tuple[dict, Path]:
    out = world.folder / name
    given = {"metric": metric, "budget": "20000", "max_clean_drop": "0.05", "out": str(out)} | options
    result = call(world.argv("repair", "--json", **given))
    assert result.code == 0, result.err
    return result.document, out


@pytest.fixture(scope="module")
def of_class(known: World) -> tuple[dict, Path]:
    return repair(known, CLASS, "class")


@pytest.fixture(scope="module")
def of_group(known: World) -> tuple[dict, Path]:
    return repair(known, GROUP, "group")


def predicted(state: dict[str, torch.Tensor], pixels: torch.Tensor) -> np.ndarray:
    net = Tiny().eval()
    net.load_state_dict(state)
    with torch.inference_mode():
        return net(pixels).argmax(1).numpy()


def features(state: dict[str, torch.Tensor], pixels: torch.Tensor) -> np.ndarray:
    """What the last layer reads, float64 [N, F]."""
    net = Tiny().eval()
    net.load_state_dict(state)
    with torch.inference_mode():
        x = torch.relu(net.stem(pixels))
        x = x + torch.relu(net.bn(net.branch(x)))
        return nn.functional.silu(net.last(x)).flatten(1).double().numpy()


def split_of(world: World, out: Path, part: str) -> tuple[torch.Tensor, np.ndarray, np.ndarray]:
    """Pixels, labels and grounds of a split's images."""
    names = [row["file_name"] for row in rows_of(out / "predictions.csv") if row["split"] == part]
    at = [world.images.names.index(name) for name in names]
    return world.images.tensor(names), world.images.labels[at], world.images.ground[at]


def forgotten(labels: np.ndarray, grounds: np.ndarray, metric: str) -> np.ndarray:
    return labels == CLASSES.index("ant") if metric == CLASS else grounds == "light"


@pytest.mark.parametrize("metric", [CLASS, GROUP])
def test_figures_are_plain_torchs(known: World, metric: str, request: pytest.FixtureRequest) -> None:
    document, out = request.getfixturevalue("of_class" if metric == CLASS else "of_group")
    assert document["outcome"] == "repaired"
    assert document["metric"]["goal"] == "lower"
    states = {"before": known.module.state_dict(), "after": load_file(out / "repaired.safetensors")}
    for part in ("score", "select", "report"):
        pixels, labels, grounds = split_of(known, out, part)
        mask = forgotten(labels, grounds, metric)
        assert document["metric"]["forgetting"]["images"][part] == {"forget": mask.sum(), "retain": (~mask).sum()}
        for when, state in states.items():
            right = predicted(state, pixels) == labels
            assert document[when][part]["metric"] == pytest.approx(right[mask].mean())
            assert document[when][part]["accuracy"] == pytest.approx(right[~mask].mean())
    n = int((~mask).sum())
    assert document["images_right"]["n"] == document["calibration"]["n"] == n
    assert document["clean_change"]["value"] == pytest.approx(
        document["after"]["report"]["accuracy"] - document["before"]["report"]["accuracy"]
    )
    assert document["gain"]["upper"] < 0
    called = {row["name"]: (row["before"], row["after"]) for row in document["forgetting"]["called"]}
    for c, name in enumerate(CLASSES):
        counts = tuple(int((predicted(state, pixels)[mask] == c).sum()) for state in states.values())
        assert called.get(name, (0, 0)) == counts


def test_limits_hold_on_the_retain_set_alone(known: World, of_class: tuple[dict, Path]) -> None:
    document, out = of_class
    pixels, labels, _ = split_of(known, out, "select")
    kept = labels != CLASSES.index("ant")
    before, after = (
        (predicted(state, pixels) == labels)[kept].mean()
        for state in (known.module.state_dict(), load_file(out / "repaired.safetensors"))
    )
    first, chosen = document["curve"][0], document["curve"][document["k"]]
    assert (first["clean"], chosen["clean"]) == (pytest.approx(before), pytest.approx(after))
    assert before - after <= 0.05 + 1e-9
    # All images together lose more than the limit allows: with them nothing could be forgotten.
    lost = [(predicted(state, pixels) == labels).mean() for state in (
        known.module.state_dict(), load_file(out / "repaired.safetensors"),
    )]  # fmt: skip
    assert lost[0] - lost[1] > 0.05
    assert chosen["feasible"]
    for step in document["curve"]:
        assert step["feasible"] == (first["clean"] - step["clean"] <= 0.05 + 1e-9)


def test_the_values_are_those_of_the_class_s_recall(known: World, tmp_path: Path) -> None:
    job, found = exact_job(known, CLASS, tmp_path / "forget")
    other, recall = exact_job(known, "recall:ant", tmp_path / "recall")
    assert np.allclose(found.values, recall.values, atol=1e-12)
    assert job.case.question.objective("score").culprit_sign == 1
    assert other.case.question.objective("score").culprit_sign == -1
    again = pipeline.open_job(tmp_path / "forget")
    assert again.case.question.describe() == job.case.question.describe()


def weights_of(labels: np.ndarray) -> np.ndarray:
    """Classes weigh the same."""
    return np.array([1 / (3 * (labels == c).sum()) for c in labels])


def fitted(read: np.ndarray, labels: np.ndarray, weights: np.ndarray, ridge: float) -> np.ndarray:
    """Weight and bias [3, F + 1] of multinomial logistic regression, by SciPy."""
    design = np.concatenate([read, np.ones((len(read), 1))], axis=1)
    hot = np.eye(3)[labels]

    def loss(flat: np.ndarray) -> tuple[float, np.ndarray]:
        w = flat.reshape(3, -1)
        logits = design @ w.T
        top = logits.max(1, keepdims=True)
        log = logits - top - np.log(np.exp(logits - top).sum(1, keepdims=True))
        slope = (weights[:, None] * (np.exp(log) - hot)).T @ design + 2 * ridge * w / 3
        return -(weights * (log * hot).sum(1)).sum() + ridge * (w**2).sum() / 3, slope.ravel()

    return minimize(loss, np.zeros(3 * design.shape[1]), jac=True, method="L-BFGS-B", tol=1e-12).x.reshape(3, -1)


@pytest.mark.parametrize("metric", [CLASS, GROUP])
def test_the_probe_is_a_regression_on_what_the_last_layer_reads(
    known: World, metric: str, request: pytest.FixtureRequest
) -> None:
    document, out = request.getfixturevalue("of_class" if metric == CLASS else "of_group")
    told, rows = {row["name"]: row for row in document["forgetting"]["probe"]["rows"]}, rows_of(out / "probe.csv")
    pixels, labels, _ = split_of(known, out, "score")
    weights = weights_of(labels)
    seen, true, ground = split_of(known, out, "report")
    mask = forgotten(true, ground, metric)
    states = {"intact model": known.module.state_dict(), "this repair": load_file(out / "repaired.safetensors")}
    for name, state in states.items():
        read, asked = features(state, pixels), features(state, seen)
        mean = weights @ read
        scale = np.sqrt(weights @ (read - mean) ** 2)
        scale[scale == 0] = np.inf
        found = fitted((read - mean) / scale, labels, weights, told[name]["ridge"])
        said = (((asked - mean) / scale) @ found[:, :-1].T + found[:, -1]).argmax(1)
        own = [CLASSES.index(row["predicted"]) for row in rows if row["features"] == name]
        assert (np.array(own) == said).mean() > 0.99
        right = np.array(own) == true
        assert told[name]["forget"]["value"] == pytest.approx(right[mask].mean())
        assert told[name]["retain"]["value"] == pytest.approx(right[~mask].mean())
    change = told["this repair"]["change"]
    assert change["value"] == pytest.approx(
        told["this repair"]["forget"]["value"] - told["intact model"]["forget"]["value"]
    )
    assert change["lower"] <= change["value"] <= change["upper"]


def test_what_only_hides_is_said_to(known: World) -> None:
    document, out = repair(known, CLASS, "head", edit="head")
    assert document["after"]["report"]["metric"] < 0.2
    probe = document["forgetting"]["probe"]
    rows = {row["name"]: row for row in probe["rows"]}
    assert probe["verdict"] == "same features"
    for name in ("this repair", "logit shift"):
        assert rows[name]["same"]
        assert rows[name]["forget"] == rows["intact model"]["forget"]
    page, said = (out / "report.html").read_text(), "it is hidden, not forgotten"
    assert "Hidden, not forgotten" in page
    assert said in page
    text = call(known.argv("repair", metric=CLASS, edit="head", budget="20000", out=str(known.folder / "text"))).out
    assert said in text
    assert text.startswith("Hidden, not forgotten")
    assert "accuracy on the retain set" in text


def test_auto_tries_no_other_last_layer(known: World) -> None:
    document, _ = repair(known, CLASS, "auto", edit="auto")
    rows = {row["edit"]: row for row in document["edit"]["rows"]}
    for name in ("head", "ablate+head"):
        assert "leaves it in the features" in rows[name]["not_made"]
    assert "not_made" not in rows["ablate"]
    assert document["edit"]["used"] not in ("head", "ablate+head")


def test_of_a_group_chance_is_where_forgetting_ends(known: World, of_group: tuple[dict, Path]) -> None:
    document, out = of_group
    for part in ("score", "select", "report"):
        _, labels, grounds = split_of(known, out, part)
        light = grounds == "light"
        share = [(labels[~light] == c).mean() for c in range(3)]
        expected = np.mean([share[c] for c in labels[light]])
        assert document["metric"]["forgetting"]["chance"][part] == pytest.approx(expected)
    chance = document["metric"]["forgetting"]["chance"]["select"]
    assert chance > 0.3
    curve = [max(step["objective"], chance) for step in document["curve"] if step["feasible"]]
    chosen = document["curve"][document["k"]]
    assert max(chosen["objective"], chance) == min(curve)
    assert {row["subgroup"] for row in rows_of(out / "predictions.csv")} == {"light", "dark"}
    assert "subgroups" not in document["groups"]


def test_pages_say_which_images_are_which(of_class: tuple[dict, Path], of_group: tuple[dict, Path]) -> None:
    for (document, out), name in ((of_class, "class ant"), (of_group, "ground = light")):
        page = (out / "report.html").read_text()
        for said in (f"accuracy on the forget set ({name})", f"The forget set is {name}", "accuracy on the retain set",
                     "What the report images of the forget set are called", "probe.csv", "the pixels, av"):  # fmt: skip
            assert said in page
        assert "clean accuracy" not in page.replace("clean accuracy is told of it", "").replace(
            "clean accuracy may", ""
        )
        assert clean_words(document) == "accuracy on the retain set"


@pytest.mark.parametrize("which", ["of_class", "of_group"])
def test_verify_derives_all_of_it(which: str, known: World, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    _, out = request.getfixturevalue(which)
    given = ["--model", str(known.model), "--data", str(known.data), "--register", f"net={known.factory}"]
    assert set(check_verified(out, *given).values()) == {"passed"}
    assert check_verified(out)["probes"] == "not checked"

    def tampered(change) -> dict[str, str]:
        other = tmp_path / change.__name__
        shutil.copytree(out, other)
        change(other)
        found = call(["verify", str(other), "--json", "--device", "cpu", *given]).document
        return {check["name"]: check["text"] for check in found["checks"] if check["verdict"] == "failed"}

    def in_reports(folder: Path, change) -> None:
        for name in ("report.json", "repair.json"):
            document = json.loads((folder / name).read_text())
            change(document)
            (folder / name).write_text(json.dumps(document))

    def chance(folder: Path) -> None:
        in_reports(folder, lambda d: d["metric"]["forgetting"]["chance"].update(report=0.9))

    def called(folder: Path) -> None:
        in_reports(folder, lambda d: "forgetting" in d and d["forgetting"]["called"][0].update(after=3999))

    def probe(folder: Path) -> None:
        path = folder / "probe.csv"
        lines = path.read_text().splitlines(keepends=True)
        path.write_text("".join(line.replace(",this repair,cat", ",this repair,ant") for line in lines))

    def verdict(folder: Path) -> None:
        in_reports(folder, lambda d: "forgetting" in d and d["forgetting"]["probe"].update(verdict="not found"))

    def other_class(folder: Path) -> None:
        name = "of_class" if which == "of_class" else "value"
        in_reports(folder, lambda d: d["metric"]["forgetting"].update({name: "bee" if name == "of_class" else "dark"}))

    assert "verdict on its probe is 'not found'" in tampered(verdict)["figures"]
    assert "another forget set" in tampered(other_class)["figures"]
    assert "chance level, report" in tampered(chance)["figures"].lower()
    assert "forgotten images called" in tampered(called)["figures"].lower()
    wrong = tampered(probe)
    assert "by the probe on this repair" in wrong["figures"]
    assert "says otherwise" in wrong["probes"]


def test_a_guard_set_keeps_its_other_images(known: World, tmp_path: Path) -> None:
    shown = images(90, seed=9)
    guard = shown.zip(tmp_path / "guard.zip")
    document, out = repair(known, CLASS, "guarded", guard=str(guard))
    n = int((shown.labels != CLASSES.index("ant")).sum())
    assert document["data"]["guard"]["select"] + document["data"]["guard"]["report"] == n
    assert any("30 images of class ant are to be forgotten" in warning for warning in document["warnings"])
    rows = rows_of(out / "guard_predictions.csv")
    kept = [row for row in rows if row["split"] == "report"]
    assert "ant" not in {row["label"] for row in kept}
    assert document["guard"]["n"] == len(kept)
    assert document["guard"]["after"] == pytest.approx(
        np.mean([row["predicted_after"] == row["label"] for row in kept])
    )
    only = make_zip(
        tmp_path / "only.zip", {f"ant/{i}.png": encoded(shown.pixels[i]) for i in np.flatnonzero(shown.labels == 0)}
    )
    names = tmp_path / "classes.txt"
    names.write_text("\n".join(CLASSES))
    refused = call(known.argv("repair", metric=CLASS, guard=str(only), classes=str(names), budget="20000",
                              out=str(tmp_path / "x")))  # fmt: skip
    assert refused.code == 2
    assert "no images but those of class ant" in refused.err


def test_values_of_the_class_s_recall_serve(known: World, tmp_path: Path) -> None:
    out = tmp_path / "scored"
    scored = call(known.argv("score", metric="accuracy", also="classes", budget="20000", out=str(out)))
    assert scored.code == 0, scored.err
    document, _ = repair(known, CLASS, "valued", values=str(out))
    assert document["outcome"] == "repaired"
    assert document["run"]["values_from"]["objectives"][0] == CLASS
    refused = call(known.argv("repair", metric=GROUP, values=str(out), budget="20000", out=str(tmp_path / "x")))
    assert refused.code == 2
    assert f"no values of {GROUP}" in refused.err


def test_parties_values_of_a_group_add_up_by_their_images(known: World, tmp_path: Path) -> None:
    from repair_engine.documents.estimates import read_estimate

    folders = []
    for seed, n in ((3, 480), (4, 540)):
        data = images(n, seed=seed).zip(tmp_path / f"{seed}.zip")
        folders.append(tmp_path / str(seed))
        scored = call(known.argv("score", metric=GROUP, data=str(data), budget="4000", out=str(folders[-1])))
        assert scored.code == 0, scored.err
    found = [read_estimate(folder) for folder in folders]
    sizes = np.array([one.images for one in found])
    assert party_weights(found) == pytest.approx(sizes / sizes.sum())


def test_a_gate_counts_the_right_images(of_class: tuple[dict, Path], tmp_path: Path) -> None:
    document, out = of_class
    gates = tmp_path / "gates.yml"
    gates.write_text("gates:\n- {metric: metric, max: 0.9}\n- {metric: accuracy, min: 0.5}\n")
    judged = call(["gate", str(out), "--gates", str(gates), "--json"])
    assert judged.code == 0, judged.err
    rows = judged.document["gates"]
    sizes = document["metric"]["forgetting"]["images"]["report"]
    assert [row["n"] for row in rows] == [sizes["forget"], sizes["retain"]]
    assert rows[1]["value"] == document["after"]["report"]["accuracy"]


def test_an_explanation_is_of_the_retain_set_beside_it(known: World, tmp_path: Path) -> None:
    out = tmp_path / "explained"
    result = call(
        known.argv(
            "explain",
            "--json",
            metric=CLASS,
            budget="30000",
            out=str(out),
            pictures="0",
            visualize="0",
            curve_images="200",
        )
    )
    assert result.code == 0, result.err
    assert result.document["curves"]["images"]["accuracy"] == 80
    assert "accuracy on the retain set" in (out / "explain.html").read_text()


def test_python_gives_what_the_command_line_gives(known: World) -> None:
    model = nr.open_model(known.model, architecture="net", register=[f"net={known.factory}"], num_classes=3)
    found = nr.evaluate(model, known.data, metric=GROUP).document
    told = call(known.argv("evaluate", "--json", metric=GROUP)).document
    assert found["figures"] == told["figures"]
    held = nr.repair(
        known.module, (known.images.tensor(), known.images.labels), metric=CLASS, classes=list(CLASSES), budget=20_000,
        max_clean_drop=0.05, normalized=True,
    )  # fmt: skip
    assert held.document["forgetting"]["probe"]["rows"]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"metric": "forget"}, "forget needs a class or a group"),
        ({"metric": "forget:"}, "forget needs a class or a group"),
        ({"metric": "forget:dog"}, "no class 'dog'"),
        ({"metric": "forget:age=4"}, "no column 'age'"),
        ({"metric": "forget:ground=grey"}, "The values of ground are: dark, light"),
        ({"metric": CLASS, "goal": "gap"}, "no subgroups"),
        ({"metric": CLASS, "severity": "4"}, "belongs to the metric corrupted-accuracy"),
        ({"metric": CLASS, "trigger": "patch.png"}, "A trigger belongs to the metrics"),
    ],
)
def test_what_cannot_be_is_refused(known: World, options: dict[str, str], says: str) -> None:
    result = call(known.argv("repair", budget="20000", out=str(known.folder / "refused"), **options))
    assert result.code == 2
    assert says in result.err, result.err


def test_a_class_that_is_never_recognised_cannot_be_forgotten(known: World, tmp_path: Path) -> None:
    state = known.module.state_dict()
    state["head.bias"] = state["head.bias"] - 1e3 * torch.eye(3)[0]
    from safetensors.torch import save_file

    save_file(state, tmp_path / "never.safetensors")
    result = call(known.argv("score", metric=CLASS, model=str(tmp_path / "never.safetensors"), budget="4000"))
    assert result.code == 2
    assert "there is nothing to forget. The intact model is right on 0.0% of 80 score images" in result.err


def test_a_request_that_a_worker_reads_is_the_same(known: World) -> None:
    asked = request_of(known, GROUP)
    assert type(asked).from_json(asked.to_json()) == asked
