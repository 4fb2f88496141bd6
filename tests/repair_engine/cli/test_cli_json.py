"""`--json`: one document on stdout and nothing else, whatever happens; exit codes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from torch import nn

from repair_engine.cli import verbs
from repair_engine.errors import VerificationFailed
from tests.repair_engine.tiny import Tiny, World, call

pytestmark = pytest.mark.usefixtures("quick_module")


def talkative(num_classes: int) -> nn.Module:
    print("building the network")
    return Tiny(num_classes)


@pytest.mark.parametrize("verb", ["inspect", "score", "evaluate"])
def test_every_verb_prints_one_document(skewed: World, verb: str) -> None:
    more = {"budget": "2000"} if verb == "score" else {}
    document = call(skewed.argv(verb, "--json", **more)).document
    assert document["verb"] == verb
    assert document["schema"] == 1


@pytest.mark.parametrize("verb", ["inspect", "score", "evaluate"])
def test_every_verb_speaks_to_people(skewed: World, verb: str) -> None:
    more = {"budget": "2000"} if verb == "score" else {}
    result = call(skewed.argv(verb, **more))
    assert result.code == 0
    assert len(result.out.splitlines()) > 4
    assert not result.out.startswith("{")


def test_what_a_factory_prints_does_not_mix_with_the_document(skewed: World) -> None:
    argv = skewed.argv("inspect", "--json", register=f"net={__name__}:talkative")
    result = call(argv)
    assert result.document["filters"] == 8
    assert "building the network" in result.err


def test_inspect_takes_the_input_size_from_the_images(skewed: World) -> None:
    """The sizes that are tried where nothing tells one do not include 8 × 8."""
    document = call(skewed.argv("inspect", "--json")).document
    assert document["input"] == [1, 8, 8]
    assert document["data"]["images"] == 96
    assert document["data"]["columns"] == {"ground": ["dark", "light"]}


@pytest.mark.parametrize(
    ("argv", "named"),
    [
        pytest.param(["score", "--json"], "--model", id="options missing"),
        pytest.param(["score", "--json", "--budget", "many"], "many", id="no number"),
        pytest.param(["paint", "--json"], "paint", id="no such verb"),
    ],
)
def test_usage_errors_are_documents_too(argv: list[str], named: str) -> None:
    result = call(argv)
    assert result.code == 2
    assert result.document["exit_code"] == 2
    assert named in result.document["error"]
    assert named in result.err


def test_usage_errors_for_people() -> None:
    result = call(["score", "--budget", "many"])
    assert (result.code, result.out) == (2, "")
    assert "usage:" in result.err
    assert call(["--help"]).code == 0


def test_bad_input_is_a_document(skewed: World) -> None:
    result = call(skewed.argv("score", "--json", metric="beauty"))
    assert result.code == 2
    assert set(result.document) == {"error", "mend", "exit_code"}
    assert "beauty" in result.document["error"]
    assert "error: " in result.err


@pytest.mark.parametrize("error", [RuntimeError("the disk is on fire"), VerificationFailed("not the same")])
def test_our_errors_are_documents_with_exit_code_3(
    skewed: World, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(*_: object) -> int:
        raise error

    monkeypatch.setitem(verbs.VERBS, "score", fail)
    result = call(skewed.argv("score", "--json"))
    assert result.code == 3
    assert str(error) in result.document["error"]
    assert ("Traceback" in result.err) == (type(error) is RuntimeError)
    assert call(skewed.argv("score")).code == 3


def test_the_module_as_a_program(tmp_path: Path) -> None:
    argv = ["inspect", "--json", "--model", str(tmp_path / "none.pth"), "--architecture", "resnet18", "--num-classes"]
    done = subprocess.run([sys.executable, "-m", "repair_engine", *argv, "10"], capture_output=True, text=True)
    assert done.returncode == 2
    assert json.loads(done.stdout)["exit_code"] == 2
    assert "none.pth" in done.stderr


def test_evaluate_with_filters_ablated(skewed: World) -> None:
    plain = call(skewed.argv("evaluate", "--json", metric="subgroup-recall:ground")).document
    assert "figures_ablated" not in plain
    ablated = call(
        skewed.argv("evaluate", "--json", "--ablate", "stem:0, last:1,stem:0", metric="subgroup-recall:ground")
    ).document
    assert ablated["figures"] == plain["figures"]
    assert [row["id"] for row in ablated["ablated"]] == ["stem:0", "last:1"]
    assert set(ablated["figures_ablated"]) == {"score", "select", "report", "all"}
    assert ablated["figures_ablated"] != plain["figures"]
    assert not list(skewed.folder.glob("repaired*"))


def test_score_out_leaves_the_document(skewed: World, tmp_path: Path) -> None:
    result = call(skewed.argv("score", "--json", budget="2000", out=str(tmp_path / "new" / "folder")))
    assert json.loads((tmp_path / "new" / "folder" / "score.json").read_text()) == result.document
