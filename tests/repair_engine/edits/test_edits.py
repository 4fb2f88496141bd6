"""Each kind of edit from its tuning to the written file: what it may change, limits, undoing, plain torch's word."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from repair_engine.choosing.plan import make_plan
from repair_engine.edits import rivals
from repair_engine.edits.kinds import KINDS, touched
from repair_engine.edits.workshop import Made, NotMade, Workshop
from repair_engine.question.request import Limits
from repair_engine.search.phases import Ranking
from repair_engine.support.progress import silent
from repair_engine.verbs import pipeline
from repair_engine.verbs.finish import finish
from tests.repair_engine.edits.spied import Spied, make_spied
from tests.repair_engine.search.test_exact_values import request_of
from tests.repair_engine.tiny import CLASSES, World, call, images, rows_of

pytestmark = pytest.mark.usefixtures("quick_module")
BUDGET = 8000
METRIC = "subgroup-recall:ground"
EDITS = ("constants", "culprits", "head", "biases", "ablate+head", "ablate+biases")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_spied(tmp_path_factory.mktemp("edits"), images(144, seed=1))


@dataclass(frozen=True)
class Ranked:
    """A prepared case with its filters' exact values."""

    job: pipeline.Job
    ranking: Ranking
    run: dict

    def finished(self, edit: str, out: Path, **limits: object) -> dict:
        """What a repair by an edit leaves in a folder; its report."""
        case = self.job.case
        request = replace(case.request, edit=edit, limits=replace(case.request.limits, **limits))
        return finish(replace(case, request=request), self.ranking, self.run, out, silent)


@pytest.fixture(scope="module")
def ranked(world: World, tmp_path_factory: pytest.TempPathFactory) -> Ranked:
    limits = Limits(max_clean_drop=0.05, max_subgroup_drop=0.5)
    request = replace(request_of(world, METRIC, estimator="exact"), limits=limits)
    job = pipeline.prepare_job(request, tmp_path_factory.mktemp("prepared"))
    ranking, spent = pipeline.ranking_of(job, None, None)
    return Ranked(job, ranking, pipeline.run_of(job, spent, ranking.found, None) | {"budget": BUDGET})


@pytest.fixture(scope="module")
def done(ranked: Ranked, tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[dict, Path]]:
    """Edit -> its report without controls, and its folder."""
    found = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rivals, "rivals", lambda *_: [])
        for edit in (*EDITS, "auto"):
            out = tmp_path_factory.mktemp("done") / edit
            found[edit] = ranked.finished(edit, out), out
    return found


@pytest.mark.parametrize("edit", [*EDITS, "auto"])
def test_what_is_reported_is_what_plain_torch_says_of_the_file(world: World, done: dict, edit: str) -> None:
    document, out = done[edit]
    assert document["outcome"] == "repaired", document["reasons"]
    before, after = load_file(world.model), load_file(out / "repaired.safetensors")
    assert [(k, t.dtype, t.shape) for k, t in before.items()] == [(k, t.dtype, t.shape) for k, t in after.items()]
    net = Spied()
    net.load_state_dict(after)
    with torch.inference_mode():
        predicted = net.eval()(world.images.tensor()).argmax(1).numpy()
    rows = {row["file_name"]: row for row in rows_of(out / "predictions.csv")}
    assert [CLASSES[c] for c in predicted] == [rows[name]["predicted_after"] for name in world.images.names]
    report = np.array([rows[name]["split"] == "report" for name in world.images.names])
    ground, labels = world.images.ground, world.images.labels
    recalls = [
        np.mean([(predicted == c)[report & (ground == g) & (labels == c)].mean() for c in range(3)])
        for g in ("dark", "light")
    ]
    assert document["after"]["report"]["metric"] == pytest.approx(np.mean(recalls))
    assert document["gain"]["lower"] > 0
    used = [row for row in document["edit"]["rows"] if row.get("used")]
    assert used[0]["edit"] == document["edit"]["used"]
    limits = document["limits"]
    assert document["curve"][0]["clean"] - used[0]["clean"] <= limits["max_clean_drop"] + 1e-9
    assert used[0]["subgroup_drop"] <= limits["max_subgroup_drop"] + 1e-9
    assert document["edit"]["evaluations"] > 0


@pytest.mark.parametrize("edit", EDITS)
def test_an_edit_is_made_again_and_undone_bit_for_bit(world: World, done: dict, edit: str, tmp_path: Path) -> None:
    _, out = done[edit]

    def apply(name: str, *more: str) -> dict:
        argv = ["apply", "--model", str(world.model), "--plan", str(out / "repair.json"), "--json", *more]
        return call([*argv, "--register", f"net={world.factory}", "--out", str(tmp_path / name)]).document

    again = apply("again.safetensors")
    assert again["same_as_repaired"] is True
    assert (tmp_path / "again.safetensors").read_bytes() == (out / "repaired.safetensors").read_bytes()
    apply("undone.safetensors", "--without", "all")
    for key, tensor in load_file(world.model).items():
        undone = load_file(tmp_path / "undone.safetensors")[key]
        assert tensor.dtype == undone.dtype
        assert tensor.numpy().tobytes() == undone.numpy().tobytes()
    ablated = [row["id"] for row in json.loads((out / "repair.json").read_text())["filters"]]
    if not (out / "edit.safetensors").exists():  # no candidate did better than ablation alone
        assert KINDS[edit].ablates
        return
    if ablated:
        assert "tuned with all of its culprits" in apply("part.safetensors", "--filters", ablated[0])["error"]
    (out / "edit.safetensors").rename(tmp_path / "kept")
    assert "edit.safetensors is missing" in apply("missing.safetensors")["error"]
    (tmp_path / "kept").rename(out / "edit.safetensors")


MAY_CHANGE = {
    "head": {"head.weight", "head.bias"},
    "biases": {"stem.bias", "bn.weight", "bn.bias", "last.bias", "head.bias", "spy.bias"},
}


@pytest.mark.parametrize("edit", EDITS)
def test_nothing_else_is_changed(world: World, ranked: Ranked, done: dict, edit: str) -> None:
    document, out = done[edit]
    before, after = load_file(world.model), load_file(out / "repaired.safetensors")
    changed = {key for key in before if not torch.equal(before[key], after[key])}
    ablated = [row for row in document["culprits"] if row["ablated"]]
    assert bool(ablated) == KINDS[edit].ablates
    by_ablation = {one["key"] for row in ablated for one in row["edits"]}
    if edit in ("constants", "culprits"):
        network, named = (
            ranked.job.case.subject.network,
            [row["id"] for row in ablated] or document["edit"]["retrained"],
        )
        own = {network.sites[int(network.site_of(np.array([network.player(name)]))[0])].name for name in named}
        own |= {"bn"} if "branch" in own else set()
        assert {key.partition(".")[0] for key in changed} <= own
        channels = {(name.partition(":")[0], int(name.partition(":")[2])) for name in named}
        for key in changed:
            layer = "branch" if key.startswith("bn.") else key.partition(".")[0]
            rows = (before[key] != after[key]).flatten(1).any(1) if before[key].dim() > 1 else before[key] != after[key]
            assert {(layer, int(row)) for row in torch.nonzero(rows).flatten()} <= channels
    else:
        assert changed <= MAY_CHANGE[edit.rpartition("+")[2]] | by_ablation
    for one in (one for row in ablated for one in row["edits"]):
        if one["value"] == 0.0 and edit != "constants":  # what ablation zeroed stays zero
            assert not after[one["key"]][one["channel"]].any()
    assert touched(ranked.job.case.subject.network, before, after) == (
        document["edit"]["units"],
        document["edit"]["parameters"],
    )


def test_ablation_alone_tunes_nothing(
    world: World, ranked: Ranked, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The default: the culprits' own edits, and nothing else, as before there were others."""
    monkeypatch.setattr(rivals, "rivals", lambda *_: [])
    document = ranked.finished("ablate", tmp_path)
    assert document["outcome"] == "repaired"
    state = {key: tensor.clone() for key, tensor in load_file(world.model).items()}
    for row in document["culprits"]:
        for one in row["edits"] if row["ablated"] else ():
            state[one["key"]][one["channel"]] = one["value"]
    for key, tensor in load_file(tmp_path / "repaired.safetensors").items():
        assert torch.equal(state[key], tensor)
    assert not (tmp_path / "edit.safetensors").exists()
    assert document["edit"]["tuned"] == []


def test_the_seed_decides_and_nothing_else(ranked: Ranked) -> None:
    case = ranked.job.case
    plan = make_plan(case, ranked.ranking.players, silent)
    other = replace(case, request=replace(case.request, seed=9))
    one, same, else_ = (Workshop(of, plan, BUDGET, silent).make("biases") for of in (case, case, other))
    assert isinstance(one, Made)
    assert isinstance(same, Made)
    assert isinstance(else_, Made)
    assert all(torch.equal(one.tensors[key], same.tensors[key]) for key in one.tensors)
    assert any(not torch.equal(one.tensors[key], else_.tensors[key]) for key in one.tensors)


def test_candidates_that_break_a_limit_are_not_picked(ranked: Ranked) -> None:
    """No clean accuracy may be lost, though the metric would gain: what is tuned must raise both, or is not made."""
    case = ranked.job.case
    plan = make_plan(case, ranked.ranking.players, silent)
    strict = replace(case.request, limits=Limits(max_clean_drop=0.0, max_subgroup_drop=0.0))
    workshop = Workshop(replace(case, request=strict), plan, BUDGET, silent)
    for name in ("head", "biases"):
        made = workshop.make(name)
        if isinstance(made, Made):
            sweep, _ = workshop.sweep([made])
            assert sweep.clean[1] >= sweep.clean[0]
            assert sweep.drops is not None
            assert sweep.drops[1] <= 0
    impossible = replace(strict, limits=Limits(max_clean_drop=0.0, max_subgroup_drop=0.0))
    figures = lambda self, predicted: (1.0, False) if predicted is not self.intact else (0.0, True)  # noqa: E731
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Workshop, "_figures", figures)
        none = Workshop(replace(case, request=impossible), plan, BUDGET, silent).make("head")
    assert isinstance(none, NotMade)
    assert "within the limits" in none.reason
