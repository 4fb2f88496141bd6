"""The folder of results: stopped at any moment, it holds no checkpoint beside another run's report."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import pytest

from repair_engine.support.outputs import check_folder, publish

NAMES = ("repaired.pth", "filters.csv", "predictions.csv", "report.html", "report.json", "repair.json")


def run(folder: Path, which: str, repaired: bool = True) -> Path:
    """What a run leaves in its own folder before it is published."""
    folder.mkdir()
    vouched = {"predictions": "predictions.csv", "filters": "filters.csv"} | (
        {"checkpoint": "repaired.pth"} if repaired else {}
    )
    files = {}
    for role, name in vouched.items():
        (folder / name).write_text(f"{name} of {which}")
        files[role] = {"name": name, "sha256": hashlib.sha256(f"{name} of {which}".encode()).hexdigest()}
    for name in ("report.html", "report.json"):
        (folder / name).write_text(f"{name} of {which}")
    (folder / "repair.json").write_text(json.dumps({"run": which, "files": files}))
    return folder


@pytest.mark.parametrize("at", range(len(NAMES) + 1))
def test_killed_at_any_file(at: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the files change places."""
    out = tmp_path / "out"
    out.mkdir()
    publish(run(tmp_path / "first", "first"), out)
    assert sorted(p.name for p in out.iterdir()) == sorted(NAMES)
    moved, move = [], Path.replace

    def stopping(source: Path, target: Path) -> None:
        if len(moved) == at:
            raise SystemExit
        moved.append(move(source, target))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", stopping)
        if at < len(NAMES):
            with pytest.raises(SystemExit):
                publish(run(tmp_path / "second", "second"), out)
        else:
            publish(run(tmp_path / "second", "second"), out)
    there = {p.name: p.read_text() for p in out.iterdir() if not p.name.startswith(".")}
    assert not [name for name, text in there.items() if "first" in text]
    assert ("repaired.pth" in there) == (at == len(NAMES)), "the checkpoint comes last"
    check_folder(out, ())  # the next run may have the folder
    publish(run(tmp_path / "third", "third", repaired=False), out)
    assert sorted(p.name for p in out.iterdir()) == sorted(set(NAMES) - {"repaired.pth"})


@pytest.mark.parametrize("at", range(len(NAMES)))
def test_no_room_for_any_file(at: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Until all of the new run is there, the earlier one stays."""
    out = tmp_path / "out"
    out.mkdir()
    publish(run(tmp_path / "first", "first"), out)
    copied, copy = [], shutil.copyfile

    def full(source: Path, target: Path) -> None:
        if len(copied) == at:
            Path(target).write_text("half")
            raise OSError("No space left on device")
        copied.append(copy(source, target))

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "copyfile", full)
        with pytest.raises(OSError, match="No space left"):
            publish(run(tmp_path / "second", "second"), out)
    there = {p.name: p.read_text() for p in out.iterdir()}
    assert sorted(there) == sorted(NAMES)
    assert not [name for name, text in there.items() if "second" in text]


def test_what_nobody_vouches_for_stays(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    publish(run(tmp_path / "first", "first"), out)
    (out / "notes.txt").write_text("mine")
    (out / "predictions.csv").write_text("edited")
    publish(run(tmp_path / "second", "second", repaired=False), out)
    assert (out / "notes.txt").read_text() == "mine"
    assert (out / "predictions.csv").read_text() == "predictions.csv of second"
    assert not (out / "repaired.pth").exists()
