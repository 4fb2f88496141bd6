"""A finished repair is checked from its files, the original and the images; whatever is changed in it is found."""

from __future__ import annotations

import csv
import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file, save_file

from tests.repair_engine.tiny import Result, World, call, images, make_world

pytestmark = pytest.mark.usefixtures("quick_module")


@pytest.fixture(scope="module")
def original(sabotaged: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("repaired")
    argv = sabotaged.argv("repair", "--json", metric="subgroup-recall:ground", budget="8000", seed="3", out=str(out))
    assert call(argv).code == 0
    return out


@pytest.fixture
def repaired(original: Path, tmp_path: Path) -> Path:
    """A copy, to be tampered with."""
    return Path(shutil.copytree(original, tmp_path / "got"))


def verify(folder: Path, *more: str) -> Result:
    return call(["verify", str(folder), "--json", "--device", "cpu", *more])


def with_files(world: World) -> list[str]:
    return ["--model", str(world.model), "--data", str(world.data), "--register", f"net={world.factory}"]


def verdicts(result: Result) -> dict[str, str]:
    return {check["name"]: check["verdict"] for check in result.document["checks"]}


def text_of(result: Result, name: str) -> str:
    return next(check["text"] for check in result.document["checks"] if check["name"] == name)


def change(path: Path, how: Callable[[dict], object]) -> None:
    document = json.loads(path.read_text())
    how(document)
    path.write_text(json.dumps(document))


def relist(folder: Path, role: str) -> None:
    """As somebody would who covers up a change: the hash of the changed file, wherever it stands."""
    name = json.loads((folder / "report.json").read_text())["files"][role]["name"]
    digest = hashlib.sha256((folder / name).read_bytes()).hexdigest()
    for file in ("report.json", "repair.json"):
        change(folder / file, lambda document: document["files"][role].update(sha256=digest))


def test_a_repair_holds_with_all_that_it_was_made_of(sabotaged: World, repaired: Path) -> None:
    result = verify(repaired, *with_files(sabotaged))
    assert result.code == 0, result.out
    assert set(verdicts(result).values()) == {"passed"}
    assert result.document["report"] == hashlib.sha256((repaired / "report.json").read_bytes()).hexdigest()
    said = call(["verify", str(repaired)])
    assert said.code == 0
    assert "what was checked holds" in said.out
    assert said.out.count("give --model") == 1


def test_with_its_files_alone_the_rest_is_not_checked(repaired: Path) -> None:
    result = verify(repaired)
    assert result.code == 0
    found = verdicts(result)
    assert [name for name, verdict in found.items() if verdict == "passed"] == ["files", "plan", "figures"]
    assert found["made again"] == found["predictions"] == "not checked"


def test_a_changed_checkpoint_is_found_also_with_its_hash_rewritten(sabotaged: World, repaired: Path) -> None:
    path = repaired / "repaired.safetensors"
    tensors = load_file(path)
    key = next(key for key, tensor in tensors.items() if tensor.is_floating_point())
    tensors[key].view(-1)[0] += 1e-3
    save_file(tensors, path)
    result = verify(repaired)
    assert result.code == 1
    assert verdicts(result)["files"] == "failed"
    relist(repaired, "checkpoint")
    assert verify(repaired).code == 0  # from the files alone nobody can tell
    result = verify(repaired, *with_files(sabotaged))
    assert verdicts(result)["files"] == "passed"
    assert verdicts(result)["made again"] == "failed"


@pytest.mark.parametrize(
    ("place", "said"),
    [
        (("after", "report", "metric"), "Metric after, report images"),
        (("before", "select", "accuracy"), "Accuracy before, select images"),
        (("images_right", "after"), "Images right after"),
        (("groups", "classes", 0, "after"), "Recall of"),
        (("groups", "subgroups", 1, "n"), "Images of"),
        (("calibration", "before", "ece"), "Expected calibration error before"),
        (("calibration", "overconfidence", "after"), "Confidence minus accuracy after"),
    ],
)
def test_a_figure_that_was_changed_is_found(repaired: Path, place: tuple, said: str) -> None:
    def raise_it(document: dict) -> None:
        for key in place[:-1]:
            document = document[key]
        document[place[-1]] += 1

    change(repaired / "report.json", raise_it)
    result = verify(repaired)
    assert result.code == 1
    assert text_of(result, "figures").startswith(said)


@pytest.mark.parametrize("score", ["nll", "brier"])
def test_a_score_that_was_changed_is_found_with_the_model(sabotaged: World, repaired: Path, score: str) -> None:
    def raise_it(document: dict) -> None:
        document["calibration"][score]["after"] += 0.01

    change(repaired / "report.json", raise_it)
    assert verify(repaired).code == 0  # from the files alone nobody can tell
    result = verify(repaired, *with_files(sabotaged))
    assert verdicts(result)["predictions"] == "failed"
    assert "the predictions made again give" in text_of(result, "predictions")


def test_rows_that_were_changed_with_all_figures_are_found_by_the_images(sabotaged: World, repaired: Path) -> None:
    path = repaired / "predictions.csv"
    rows = list(csv.reader(path.open()))
    row = next(row for row in rows[1:] if row[1] == "score" and row[2] != row[5])
    row[5] = row[2]
    path.write_text("".join(",".join(row) + "\n" for row in rows))
    relist(repaired, "predictions")

    def recount(document: dict) -> None:
        own = [row for row in rows[1:] if row[1] == "score"]
        document["after"]["score"]["accuracy"] = float(np.mean([row[2] == row[5] for row in own]))

    change(repaired / "report.json", recount)
    result = verify(repaired, *with_files(sabotaged))
    assert verdicts(result)["files"] == "passed"
    assert verdicts(result)["predictions"] == "failed"
    assert f"the first of {row[0]}" in text_of(result, "predictions")


def test_a_plan_of_another_repair_is_found(sabotaged: World, repaired: Path) -> None:
    change(repaired / "repair.json", lambda plan: plan["filters"].pop())
    assert verdicts(verify(repaired))["plan"] == "failed"


def test_an_edit_that_was_changed_is_found(sabotaged: World, repaired: Path) -> None:
    def nudge(plan: dict) -> None:
        plan["filters"][0]["edits"][0]["value"] += 0.25

    change(repaired / "repair.json", nudge)
    result = verify(repaired, *with_files(sabotaged))
    assert "another file than repaired.safetensors" in text_of(result, "made again")


def test_another_original_or_other_images_are_said(sabotaged: World, repaired: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.safetensors"
    save_file({key: tensor + 1 for key, tensor in load_file(sabotaged.model).items()}, other)
    given = ["--model", str(other), "--register", f"net={sabotaged.factory}"]
    result = verify(repaired, *given)
    assert result.code == 1
    assert "the repair was made of" in text_of(result, "made again")
    others = images(n=48, seed=9).zip(tmp_path / "others.zip")
    result = verify(repaired, "--data", str(others), "--register", f"net={sabotaged.factory}")
    assert "does not hold the images" in text_of(result, "predictions")


def test_a_file_outside_of_the_folder_is_not_looked_at(repaired: Path) -> None:
    change(repaired / "report.json", lambda document: document["files"]["filters"].update(name="../../etc/passwd"))
    assert "outside of its folder" in text_of(verify(repaired), "files")


@pytest.mark.parametrize("broken", ["{}", "[", '{"verb": "score"}', '{"verb": "repair", "files": 3}'])
def test_what_is_no_report_is_refused(repaired: Path, broken: str) -> None:
    (repaired / "report.json").write_text(broken)
    result = verify(repaired)
    assert result.code == 2
    assert "is no report of a repair" in result.document["error"]


def test_parts_of_another_form_are_a_failed_check_and_no_crash(repaired: Path) -> None:
    change(repaired / "report.json", lambda document: document.update(groups=[]))
    assert "do not have the form" in text_of(verify(repaired), "figures")


def test_no_repair_found_can_be_checked_too(tmp_path: Path) -> None:
    world = make_world(tmp_path)
    out = tmp_path / "none"
    argv = world.argv("repair", "--json", "--max-clean-drop", "0", metric="accuracy", budget="3000", out=str(out))
    argv += ["--max-filters", "1"]
    assert call(argv).code == 5
    result = verify(out, *with_files(world))
    assert result.code == 0, result.out
    assert verdicts(result)["made again"] == "not checked"
    assert verdicts(result)["predictions"] == "passed"


def test_what_was_measured_and_not_written_is_no_fault(repaired: Path) -> None:
    """A number of filters may be chosen on *select* and not be shown to help on *report*: rows after, no checkpoint."""
    for file in ("report.json", "repair.json"):
        change(repaired / file, lambda document: document["files"].pop("checkpoint"))
        change(repaired / file, lambda document: document.update(outcome="no_repair_found"))
    result = verify(repaired)
    assert result.code == 0, result.out
    assert "no checkpoint was written" in text_of(result, "made again")


def test_an_architecture_that_was_not_registered_is_asked_for(sabotaged: World, repaired: Path) -> None:
    result = verify(repaired, "--data", str(sabotaged.data))
    assert result.code == 2
    assert "register your own" in result.document["mend"]


def test_a_folder_without_a_report_is_refused(tmp_path: Path) -> None:
    result = verify(tmp_path)
    assert result.code == 2
    assert "There is no" in result.document["error"]
