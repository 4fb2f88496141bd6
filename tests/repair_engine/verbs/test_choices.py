"""What a run keeps for choosing again: outcomes of every prefix, other sets, and values to go on from."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from repair_engine.choosing.outcomes import FILE, Choice, figures
from repair_engine.choosing.plan import masked_predictions
from repair_engine.data.pixels import Rows
from repair_engine.errors import BadInput
from repair_engine.question.attacks import AttackSettings
from repair_engine.support.outputs import sha256
from repair_engine.verbs import pipeline
from repair_engine.verbs.choices import VALUES, what_if
from tests.repair_engine.search.test_exact_values import request_of
from tests.repair_engine.tiny import World, call, images

pytestmark = pytest.mark.usefixtures("quick_module")
METRIC = "subgroup-recall:ground"


@pytest.fixture(scope="module")
def found(sabotaged: World, tmp_path_factory: pytest.TempPathFactory) -> tuple[pipeline.Job, Path, dict]:
    """A finished repair with a guard set, whose stepwise order was tried, too."""
    guard = images(60, seed=9).zip(sabotaged.folder / "guard.zip")
    request = replace(request_of(sabotaged, METRIC, budget=20_000), guard=str(guard))
    job = pipeline.prepare_job(request, tmp_path_factory.mktemp("work"))
    state = pipeline.run_phase(job, pipeline.phase_settings(job, "search"))
    again = pipeline.phase_settings(job, "confirm", state)
    confirm = pipeline.run_phase(job, again) if again is not None else None
    out = tmp_path_factory.mktemp("out")
    return job, out, pipeline.run_finish(job, state, confirm, out)


def test_stored_outcomes_are_those_of_the_masked_network(found: tuple[pipeline.Job, Path, dict]) -> None:
    job, out, document = found
    case, choice = job.case, Choice.read(out / FILE)
    tried = [row["order"] for row in document["orders"]["rows"]]
    assert {walk.order for walk in choice.walks} == set(tried)
    assert len(choice.walks) == len(tried) >= 2
    assert (choice.walks[0].order == "value") == (document["orders"]["used"] == "value")
    assert choice.units[0] == tuple(row["id"] for row in document["culprits"])
    assert choice.limits == case.request.limits
    images = case.images
    select, guard = images.splits.select, images.guard.parts.select
    assert choice.judges.labels.tolist() == images.labels[select].tolist()
    guard_pixels = np.array(images.guard.dataset.images[guard])
    for walk, units in zip(choice.walks, choice.units, strict=True):
        assert [case.subject.network.player(name) for name in units] == walk.players.tolist()
        for k in range(len(units) + 1):
            masked = masked_predictions(case, Rows(images.pixels, select), walk.players[:k])
            assert walk.clean[k].tolist() == masked.tolist(), (walk.order, k)
            masked = masked_predictions(case, torch.from_numpy(guard_pixels), walk.players[:k])
            assert walk.guard[k].tolist() == masked.tolist()


def test_figures_from_the_file_are_those_of_the_report(found: tuple[pipeline.Job, Path, dict]) -> None:
    _, out, document = found
    choice = Choice.read(out / FILE)
    now = figures(choice.judges, choice.walks[0])
    for key, of in (("objective", now.metric), ("clean", now.clean), ("guard", now.guard), ("subgroup_drop", now.drop)):
        assert [step[key] for step in document["curve"]] == of.tolist(), key
    assert [step["feasible"] for step in document["curve"]] == now.within(choice.limits).tolist()
    labels, groups = choice.judges.labels, choice.judges.groups
    for k, row in enumerate(choice.walks[0].clean):
        right = row == labels
        assert now.classes[k].tolist() == [int((right & (labels == c)).sum()) for c in range(3)]
        assert now.subgroups[k].tolist() == [int((right & (groups == g)).sum()) for g in range(2)]
        assert now.won[k] - now.lost[k] == right.sum() - (choice.walks[0].clean[0] == labels).sum()
    assert choice.judges.subgroups == ("dark", "light")


def test_another_set_has_the_figures_of_a_run_by_hand(found: tuple[pipeline.Job, Path, dict], tmp_path: Path) -> None:
    job, _, _ = found
    units = ("stem:1", "spy:0", "last:0")
    told: list[float] = []
    now = what_if(job.case, units, lambda _, share: told.append(share))
    by_hand = replace(job.case.request, by_hand=units)
    again = pipeline.prepare_job(by_hand, tmp_path / "work")
    confirm = pipeline.run_phase(again, pipeline.phase_settings(again, "confirm"))
    document = pipeline.run_finish(again, None, confirm, tmp_path / "out")
    last = document["curve"][-1]
    assert now.metric[1] == last["objective"]
    assert (now.clean[1], now.guard[1], now.drop[1]) == (last["clean"], last["guard"], last["subgroup_drop"])
    assert told[-1] == 1.0
    assert sorted(told) == told
    assert (tmp_path / "out" / "repaired.safetensors").exists()
    with pytest.raises(BadInput, match="ghost"):
        what_if(job.case, ("ghost:0",))


def test_of_an_attack_both_kinds_of_images_are_kept(sabotaged: World, tmp_path: Path) -> None:
    settings = AttackSettings.of("standard", 0.1, 4)
    request = request_of(sabotaged, "attack-success", attack=settings, estimator="exact")
    job = pipeline.prepare_job(replace(request, queries=0), tmp_path / "work")
    document = pipeline.run_finish(job, None, None, tmp_path / "out")
    choice = Choice.read(tmp_path / "out" / FILE)
    now = figures(choice.judges, choice.walks[0])
    assert [step["objective"] for step in document["curve"]] == now.metric.tolist()
    assert [step["true_label"] for step in document["curve"]] == now.true_label.tolist()
    assert choice.judges.complement
    assert choice.judges.lower
    attacked = job.case.question.attacked["select"]
    for k, row in enumerate(choice.walks[0].attacked):
        assert row.tolist() == masked_predictions(job.case, attacked.pixels, choice.walks[0].players[:k]).tolist()


def test_the_files_are_vouched_for_and_a_repair_goes_on_from_the_values(
    found: tuple[pipeline.Job, Path, dict], sabotaged: World, tmp_path: Path
) -> None:
    """A repair with other limits from the stored values searches nothing, and tries the same order by value."""
    job, out, document = found
    for role, name in (("choice", FILE), ("values", VALUES)):
        assert document["files"][role] == {"name": name, "sha256": sha256(out / name)}
    where = str(out / VALUES)
    options = {"metric": METRIC, "budget": "6000", "values": where, "guard": job.case.request.guard}
    again = call(sabotaged.argv("repair", "--json", max_clean_drop="0.5", out=str(tmp_path / "out"), **options))
    assert again.code in (0, 5), again.err
    before = next(walk for walk in Choice.read(out / FILE).walks if walk.order == "value")
    after = next(walk for walk in Choice.read(tmp_path / "out" / FILE).walks if walk.order == "value")
    assert after.players.tolist() == before.players.tolist()
    assert json.loads((tmp_path / "out" / "report.json").read_text())["run"]["values_from"]["evaluations"]


def test_no_torch_is_needed_to_read_it(found: tuple[pipeline.Job, Path, dict]) -> None:
    code = (
        "import sys; from pathlib import Path; from repair_engine.choosing.outcomes import Choice, figures; "
        "c = Choice.read(Path(sys.argv[1])); print(figures(c.judges, c.walks[0]).metric[0], 'torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(found[1] / FILE)], capture_output=True, text=True, check=True
    )
    assert done.stdout.split()[1] == "False"


@pytest.mark.parametrize("damage", ["cut", "empty", "other"])
def test_a_damaged_file_is_refused(found: tuple[pipeline.Job, Path, dict], tmp_path: Path, damage: str) -> None:
    content = (found[1] / FILE).read_bytes()
    path = tmp_path / FILE
    if damage == "other":
        np.savez(path, head=np.array(json.dumps({"schema": 99})))
    else:
        path.write_bytes(content[: len(content) // 2] if damage == "cut" else b"")
    with pytest.raises(BadInput, match=r"choice\.npz is no file of a choice"):
        Choice.read(path)
