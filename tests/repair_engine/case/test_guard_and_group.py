"""The guard set limits the repair and its cheapest rival alike; --group keeps its values together."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from tests.repair_engine import tiny
from tests.repair_engine.tiny import CLASSES, World, call, images, rows_of

pytestmark = pytest.mark.usefixtures("quick_module")
OPTIONS = {"metric": "subgroup-recall:ground", "budget": "8000"}


def only(shown: tiny.Images, rows: np.ndarray, relabel: str = "") -> tiny.Images:
    """Some of the images, put into another class's folder if `relabel`."""
    kept = np.flatnonzero(rows)
    labels = np.full(len(kept), CLASSES.index(relabel)) if relabel else shown.labels[kept]
    names = [f"{CLASSES[c]}/{shown.names[i].replace('/', '_')}" for c, i in zip(labels, kept)]
    return tiny.Images(shown.pixels[kept], labels, shown.ground[kept], tuple(names))


def test_the_guard_set_limits_k(sabotaged: World, tmp_path: Path) -> None:
    """On a guard set where all that is light is an ant, the culprit is right."""
    other = images(576, seed=8)
    guard = only(other, (other.ground == "light") & (other.labels == 1), relabel="ant").zip(tmp_path / "guard.zip")
    free = call(sabotaged.argv("repair", "--json", out=str(tmp_path / "free"), **OPTIONS)).document
    assert free["k"] > 0
    guarded = call(sabotaged.argv("repair", "--json", out=str(tmp_path / "g"), guard=str(guard), **OPTIONS))
    document = guarded.document
    assert document["k"] != free["k"]
    assert not document["curve"][free["k"]]["feasible"]
    for step in document["curve"]:
        within = document["curve"][0]["guard"] - step["guard"] <= 0.02 + 1e-9
        assert step["feasible"] <= within
    assert any(step["guard"] < document["curve"][0]["guard"] - 0.02 for step in document["curve"])
    rows = rows_of(tmp_path / "g" / "guard_predictions.csv")
    assert len(rows) == document["data"]["guard"]["select"] + document["data"]["guard"]["report"] == 64
    assert {row["split"] for row in rows} == {"select", "report"}
    # With the limit lifted the same prefixes are feasible as without a guard set.
    lifted = call(
        sabotaged.argv("repair", "--json", out=str(tmp_path / "l"), guard=str(guard), max_clean_drop="1", **OPTIONS)
    ).document
    assert lifted["k"] > 0
    assert lifted["guard"]["after"] < lifted["guard"]["before"]


def test_the_logit_shift_keeps_the_guard_limit_too(sabotaged: World, tmp_path: Path) -> None:
    """Without ants among the images, never saying "ant" would be the best shift; the guard set is all ants."""
    main, other = images(288, seed=1), images(144, seed=8)
    data = only(main, main.labels != 0).zip(tmp_path / "data.zip")
    guard = only(other, (other.ground == "dark") & (other.labels == 0)).zip(tmp_path / "guard.zip")
    (tmp_path / "classes.txt").write_text("\n".join(CLASSES))
    options = {"data": str(data), "classes": str(tmp_path / "classes.txt"), "budget": "8000"}
    rows = {}
    for name, more in (("free", {}), ("guarded", {"guard": str(guard)})):
        document = call(sabotaged.argv("repair", "--json", out=str(tmp_path / name), **options, **more)).document
        assert document["k"] > 0
        rows[name] = next(row for row in document["controls"] if row["name"] == "logit shift")
    assert rows["free"]["metric"] > 0.95
    assert document["guard"]["before"] > 0.9
    assert rows["guarded"]["guard"] >= document["guard"]["before"] - 0.15  # the limit is kept on select
    assert rows["guarded"]["metric"] <= rows["free"]["metric"]
    assert "guard" not in rows["free"]


def test_images_of_the_main_set_do_not_guard(sabotaged: World, tmp_path: Path) -> None:
    other = images(30, seed=9)
    both = tiny.Images(
        np.concatenate([sabotaged.images.pixels[:12], other.pixels]),
        np.concatenate([sabotaged.images.labels[:12], other.labels]),
        np.concatenate([sabotaged.images.ground[:12], other.ground]),
        tuple(f"ant/{i}.png" for i in range(42)),
    )
    guard = both.zip(tmp_path / "guard.zip")
    result = call(sabotaged.argv("repair", "--json", out=str(tmp_path / "o"), guard=str(guard), **OPTIONS))
    document = result.document
    assert document["data"]["guard"]["excluded"] == 12
    assert any("pixel-identical" in warning for warning in document["warnings"])
    parts = [row["split"] for row in rows_of(tmp_path / "o" / "guard_predictions.csv")]
    assert parts.count("excluded") == 12


def test_no_group_crosses_the_splits(sabotaged: World, tmp_path: Path) -> None:
    writers = [f"w{i % 20}" for i in range(144)]
    data = sabotaged.images.zip(tmp_path / "data.zip", extra="writer", column=writers)
    world = dataclasses.replace(sabotaged, data=data)
    parts: dict[str, dict[str, set[str]]] = {}
    for name, more in (("grouped", {"group": "writer"}), ("free", {})):
        out = tmp_path / name
        document = call(world.argv("repair", "--json", out=str(out), **OPTIONS, **more)).document
        assert document["data"]["group"] == more.get("group")
        parts[name] = {writer: set() for writer in writers}
        for row in rows_of(out / "predictions.csv"):
            parts[name][writers[sabotaged.images.names.index(row["file_name"])]].add(row["split"])
    assert all(len(found) == 1 for found in parts["grouped"].values())
    assert any(len(found) > 1 for found in parts["free"].values())
    assert {part for found in parts["grouped"].values() for part in found} == {"score", "select", "report"}
