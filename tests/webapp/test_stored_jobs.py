"""Rows that version 0.1 stored, before options were declared once: each asks the engine for the same as then."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from repair_engine.models.preprocessing import Preprocessing
from repair_engine.question.request import RepairRequest
from repair_engine.settings import Limits
from webapp.jobs import requests, translation

KEPT = json.loads(Path(__file__).with_name("jobs_of_0_1.json").read_text(encoding="utf-8"))
ROWS = KEPT["rows"]


def for_engine(row: dict, kept: dict) -> dict:
    data = {"path": "images.zip", "file_name": "images.zip", "split_folder": "test", "sha256": "1" * 64}
    return {
        **row, "model": KEPT["model"], "surrogates": [], "data": data, "guard": None, "repaired": None, "device": "cpu",
        "threads": 1, "parent": kept["parent"],
    }  # fmt: skip


def part(found: dict, kept: dict) -> dict:
    """What was there then; what came later must say that nothing is unusual."""
    for name, usual in (("preprocessing", Preprocessing()), ("limits", Limits())):
        then = kept[name]
        if then is not None:
            added = {key: value for key, value in found[name].items() if key not in then}
            assert added == {key: asdict(usual)[key] for key in added}
            found = found | {name: {key: found[name][key] for key in then}}
    return {name: found[name] for name in kept}


@pytest.mark.parametrize("kept", ROWS, ids=lambda kept: json.dumps(kept["request"])[:60])
def test_the_engine_is_asked_for_the_same(kept: dict, tmp_path: Path) -> None:
    found = json.loads(translation.repair_request(for_engine(kept["request"], kept), tmp_path).to_json())
    assert part(found, kept["engine"]) == kept["engine"]
    written = requests.to_row(requests.stored(kept["request"]))
    again = json.loads(translation.repair_request(for_engine(written, kept), tmp_path).to_json())
    assert again == found, "as a row of today, without defaults"


@pytest.mark.parametrize("kept", ROWS, ids=lambda kept: json.dumps(kept["request"])[:60])
def test_a_run_that_was_prepared_then_goes_on_now(kept: dict) -> None:
    before = RepairRequest.from_json(json.dumps(kept["engine"]))
    assert part(json.loads(before.to_json()), kept["engine"]) == kept["engine"]
