"""The command line: JSON alone on stdout, errors that name what is missing, tables that say what was not measured."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from benchmarks import __main__ as command
from benchmarks import parts, tables
from benchmarks.sources import SOURCES


def test_a_missing_folder_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    elsewhere = replace(SOURCES["resnet8"], folder=tmp_path / "nowhere")
    monkeypatch.setitem(SOURCES, "resnet8", elsewhere)
    assert command.main(["memory", "--case", "resnet8", "--device", "cpu", "--json"]) == 2
    out, err = capsys.readouterr()
    assert str(tmp_path / "nowhere") in err
    assert str(tmp_path / "nowhere") in json.loads(out)["error"]


def test_json_alone_is_on_stdout(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    def noisy(name: str, options: parts.Options, say: object) -> dict:
        print("a library talks")
        return {"case": name, "records": [{"method": "m", "size": options.size}]}

    monkeypatch.setitem(parts.PARTS, "memory", noisy)
    assert command.main(["memory", "--case", "inception_v3", "--size", "full", "--device", "cpu", "--json"]) == 0
    out, err = capsys.readouterr()
    document = json.loads(out)
    assert document["results"] == [{"case": "inception_v3", "records": [{"method": "m", "size": "full"}]}]
    assert document["machine"]["device"] == "cpu"
    assert "a library talks" in err


def test_all_writes_a_table_per_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(given: list[str], **_: object) -> SimpleNamespace:
        case = given[given.index("--case") + 1]
        if case == "resnet8":
            return SimpleNamespace(returncode=2, stdout='{"error": "there is no folder x"}')
        if case == "resnet20":
            return SimpleNamespace(returncode=-9, stdout="")
        return SimpleNamespace(returncode=0, stdout=json.dumps({"results": [{"case": case, "records": []}]}))

    monkeypatch.setattr(command, "subprocess", SimpleNamespace(run=run, PIPE=-1))
    monkeypatch.setattr(tables, "RENDER", dict.fromkeys(tables.RENDER, lambda result: f"a table of {result['case']}"))
    assert command.main(["all", "--size", "full", "--device", "cpu", "--folder", str(tmp_path)]) == 0
    assert {path.name for path in tmp_path.iterdir()} == {f"{part}-cpu.md" for part in parts.PARTS}
    speed, quality = ((tmp_path / f"{part}-cpu.md").read_text() for part in ("throughput", "quality"))
    assert "## resnet8\n\nNot measured: there is no folder x" in speed
    assert "## resnet20\n\nNot measured: it ended with exit code -9." in speed
    assert "a table of inception_v3" in speed
    assert "inception_v3" not in quality


def test_small_is_brief_unless_cases_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[str]] = []

    def run(given: list[str], **_: object) -> SimpleNamespace:
        asked.append(given[3:])
        return SimpleNamespace(returncode=2, stdout='{"error": "no"}')

    monkeypatch.setattr(command, "subprocess", SimpleNamespace(run=run, PIPE=-1))
    assert command.main(["all", "--device", "cpu", "--folder", str(tmp_path)]) == 0
    assert [given[0] for given in asked] == list(parts.BRIEF)
    assert asked[0][-2:] == ["--seconds", str(parts.BRIEF_SECONDS)]
    asked.clear()
    assert command.main(["all", "--device", "cpu", "--folder", str(tmp_path), "--case", "stock_tags"]) == 0
    assert {given[2] for given in asked} == {"stock_tags"}
    assert "--seconds" not in asked[0]


@pytest.mark.parametrize("part", parts.NEED_REAL)
def test_random_weights_are_for_speed_only(part: str) -> None:
    with pytest.raises(SystemExit):
        command.main([part, "--case", "inception_v3"])
