"""What `same_bits` calls the same, and what it does not."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from benchmarks import same_bits
from repair_engine.cli.main import parser


def written(folder: Path, value: float, seconds: float) -> Path:
    """The files of one side."""
    folder.mkdir()
    run = {"seconds": seconds, "value": value, "nothing": float("nan"), "versions": {"torch": str(seconds)}}
    (folder / "a.json").write_text(json.dumps({"created": str(seconds), "runs": [run]}))
    (folder / "a.csv").write_text(f"unit,value\nconv:1,{value!r}\n")
    (folder / "a.html").write_text(f"<p>{seconds}")
    header = np.frombuffer(json.dumps(run).encode(), np.uint8)
    np.savez(folder / "a.npz", x=np.array([value, np.nan]), header=header, word=np.array(json.dumps(run)))
    save_file({"w": np.array([value], np.float32)}, folder / "a.safetensors")
    return folder


def test_times_and_versions_may_differ(tmp_path: Path) -> None:
    compared = same_bits.compare_folders(written(tmp_path / "b", 0.5, 1.0), written(tmp_path / "a", 0.5, 2.0))
    assert [c.name for c in compared] == ["a.csv", "a.html", "a.json", "a.npz", "a.safetensors"]
    assert not any(c.differences for c in compared)
    assert "0 differences" in same_bits.told("abc", compared)


def test_one_changed_bit_is_named_in_every_kind_of_file(tmp_path: Path) -> None:
    near = float(np.nextafter(np.float32(0.5), np.float32(1)))
    compared = same_bits.compare_folders(written(tmp_path / "b", 0.5, 1.0), written(tmp_path / "a", near, 1.0))
    found = {c.name: [text.partition(":")[0] for text in c.differences] for c in compared}
    assert found == {
        "a.csv": ["row 1"],
        "a.html": [],
        "a.json": [".runs[0].value"],
        "a.npz": ["x", "header.value", "word.value"],
        "a.safetensors": ["w", "bytes"],
    }
    with pytest.raises(same_bits.Different, match=r"7 differences(.|\n)*## a\.json\n\n- \.runs\[0\]\.value: '0\.5' → "):
        same_bits.told("abc", compared)


@pytest.mark.parametrize(
    ("before", "after"),
    [('{"a": 1}', '{"a": 1.0}'), ('{"a": 1}', '{"b": 1}'), ("[1]", "[1, 2]"), ('{"a": 1, "b": 2}', '{"b": 2, "a": 1}')],
)
def test_types_keys_lengths_and_order_count(tmp_path: Path, before: str, after: str) -> None:
    for side, text in (("b", before), ("a", after)):
        (tmp_path / side).mkdir()
        (tmp_path / side / "x.json").write_text(text)
    (found,) = same_bits.compare_folders(tmp_path / "b", tmp_path / "a")
    assert found.differences


def test_a_file_of_one_side_alone_is_a_difference(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x.bin").write_bytes(b"1")
    (found,) = same_bits.compare_folders(tmp_path / "b", tmp_path / "a")
    assert found.differences == ["is not there before"]


def test_what_was_changed_on_purpose_is_left_out_counted_and_named(tmp_path: Path) -> None:
    told = {"k": 1, "controls": [{"metric": 0.5}], "files": {"report": "r"}, "findings": ["Worse: a."]}
    newer = {"edit": {"used": "ablate"}, "k": 1, "controls": [{"metric": 0.6, "p": 0.1}]}
    rivals = {"findings": ["Worse: a.", "Not told apart from the control “random”."]}
    newer |= {"files": {"report": "r", "choice": {"name": "choice.npz"}}, **rivals}
    for side, document in (("b", told), ("a", newer)):
        (tmp_path / side / "repair").mkdir(parents=True)
        (tmp_path / side / "repair" / "report.json").write_text(json.dumps(document))
    (tmp_path / "a" / "repair" / "choice.npz").write_bytes(b"")
    compared = same_bits.compare_folders(tmp_path / "b", tmp_path / "a")
    assert not any(c.differences for c in compared)
    said = same_bits.told("abc", compared)
    assert sum(f"`{pattern}`" in said for pattern in same_bits.ON_PURPOSE) == 6  # each of the changes above
    newer |= {"k": 2, "findings": ["Worse: b.", rivals["findings"][1]]}
    (tmp_path / "a" / "repair" / "report.json").write_text(json.dumps(newer))
    (found,) = [c for c in same_bits.compare_folders(tmp_path / "b", tmp_path / "a") if c.differences]
    assert [text.partition(":")[0] for text in found.differences] == [".k", ".findings[0]"]


def test_its_commands_are_commands() -> None:
    for command in same_bits.commands().values():
        parser().parse_args([*command, "--json"])


def test_an_unknown_commit_is_refused_and_leaves_no_worktree(tmp_path: Path) -> None:
    with pytest.raises(KeyError, match="cannot check out"):
        same_bits.same_bits("no-such-commit", print, ["inspect"])
    with pytest.raises(KeyError, match="no command"):
        same_bits.same_bits("HEAD", print, ["inspekt"])
