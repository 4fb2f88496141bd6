"""attack.html: well-formed, with the document's figures, for a model alone, with its repair, and without any change."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from repair_engine.pages import attack_page as page
from tests.repair_engine.pages.pages import Page
from tests.repair_engine.tiny import Sabotaged, World, call, save
from tests.repair_engine.verbs.test_attack_verb import SMALL, argv


def written(world: World, out: Path, *more: str, **options: str) -> tuple[dict, Page]:
    result = call(argv(world, *more, **{**SMALL, "out": str(out), **options}))
    assert result.code == 0, result.err
    shown = Page((out / "attack.html").read_text())
    ids = [a["id"] for _, a in shown.elements if "id" in a]
    assert len(ids) == len(set(ids))
    assert not [a for _, a in shown.elements if str(a.get("src", "")).startswith("http")]
    return json.loads((out / "attack.json").read_text()), shown


def test_a_model_alone(sabotaged: World, tmp_path: Path, quick: None) -> None:
    document, shown = written(sabotaged, tmp_path, epsilon="0.1", norm="l2", attack="standard")
    table = shown.tables["Images of the report split, 95% Wilson intervals"]
    assert table[1][1:3] == [
        str(document["figures"]["success"]["n"]), f"{document['figures']['success']['value']:.1%}"
    ]  # fmt: skip
    points = shown.tables["Success against steps, 95% Wilson intervals"]
    assert [row[0] for row in points[1:]] == ["1", "2", "4", "8"]
    assert "Before and after the repair" not in shown.text
    for test in document["self_tests"]:
        assert test["text"] in shown.text


def test_with_its_repair(sabotaged: World, tmp_path: Path, quick: None) -> None:
    mended = Sabotaged().eval()
    mended.load_state_dict({**sabotaged.module.state_dict(), "spy.weight": sabotaged.module.spy.weight * 0})
    file = save(mended, tmp_path / "mended.safetensors")
    document, shown = written(sabotaged, tmp_path, epsilon="0.1", repaired=str(file))
    rows = shown.tables["The same images, targets and ε before and after, 95% Wilson intervals"]
    assert rows[1][0] == "replay of the fixed set"
    assert "not measured: no surrogate given" in rows[2][0]
    assert f"{document['rows'][0]['success']:.1%}" in rows[1][3]
    assert "mended.safetensors" in shown.text
    header = shown.tables["Success against ε, 95% Wilson intervals"][0]
    assert header[1:] == ["success, the model", "true label, the model", "success, the repaired model",
                          "true label, the repaired model"]  # fmt: skip


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_without_any_change(sabotaged: World, tmp_path: Path, quick: None, norm: str) -> None:
    document, shown = written(sabotaged, tmp_path, epsilon="0", norm=norm)
    assert document["curves"]["steps"] == []
    assert "an adversary may change nothing" in shown.text
    assert "Success against steps, 95% Wilson intervals" not in shown.tables
    assert len(shown.tables["Success against ε, 95% Wilson intervals"]) == 2


def test_what_a_user_named_cannot_write_into_the_page(sabotaged: World, tmp_path: Path, quick: None) -> None:
    document, _ = written(sabotaged, tmp_path, epsilon="0.1")
    document["model"]["file"] = document["data"]["file"] = "<script>alert(1)</script>"
    document["warnings"] = ["<b>bold</b>"]
    text = page.render(document)
    assert "<script" not in text
    assert "<b>bold" not in text
