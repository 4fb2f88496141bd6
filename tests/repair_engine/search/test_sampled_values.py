"""Sampled values against exact ones, and what they may depend on."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from tests.repair_engine import tiny
from tests.repair_engine.tiny import World, call

pytestmark = pytest.mark.usefixtures("quick_module")


@pytest.fixture(scope="module")
def exact_rows(skewed: World) -> dict[str, list[dict]]:
    """Kept by metric, filled on demand."""
    return {}


def rows(skewed: World, kept: dict[str, list[dict]], metric: str) -> list[dict]:
    if metric not in kept:
        kept[metric] = call(skewed.argv("score", "--json", estimator="exact", metric=metric)).document["filters"]
    return kept[metric]


@pytest.mark.parametrize("metric", ["accuracy", "subgroup-recall:ground"])
@pytest.mark.parametrize("estimator", ["tmab", "monte_carlo", "cmcs"])
def test_intervals_hold_the_exact_values(
    skewed: World, exact_rows: dict[str, list[dict]], estimator: str, metric: str
) -> None:
    exact = np.array([row["value"] for row in rows(skewed, exact_rows, metric)])
    options = {"estimator": estimator, "metric": metric, "budget": "40000", "top_k": "3"}
    document = call(skewed.argv("score", "--json", **options)).document
    assert document["run"]["evaluations"] <= 60_000
    got = document["filters"]
    lower, upper = (np.array([row[end] for row in got]) for end in ("lower", "upper"))
    samples = np.array([row["samples"] for row in got])
    assert (samples > 30).all()
    assert (upper - lower < 0.2).all()
    # Walks past the depth where the network is dead are left out: a bias that no interval covers.
    slack = 0.01
    assert ((lower - slack <= exact) & (exact <= upper + slack)).all(), (lower, exact, upper)
    values = np.array([row["value"] for row in got])
    assert np.corrcoef(values, exact)[0, 1] > 0.9


def altered(world: World, path: Path, names: set[str], seed: int) -> World:
    """The same image set with other pixels in the named images."""
    pixels = world.images.pixels.copy()
    rng = np.random.default_rng(seed)
    for i, name in enumerate(world.images.names):
        if name in names:
            pixels[i] = rng.integers(0, 256, pixels[i].shape)
    shown = tiny.Images(pixels, world.images.labels, world.images.ground, world.images.names)
    return dataclasses.replace(world, data=shown.zip(path), images=shown)


def test_values_and_constants_come_from_the_score_images_alone(skewed: World, tmp_path: Path) -> None:
    options = {"estimator": "tmab", "budget": "8000", "top_k": "2", "seed": "5"}
    before = call(skewed.argv("score", "--json", **options)).document
    score = set(before["constants_from"])
    others = set(skewed.images.names) - score
    assert len(others) == 48
    after = call(altered(skewed, tmp_path / "a.zip", others, 1).argv("score", "--json", **options)).document
    assert after["filters"] == before["filters"]
    assert after["score_images"] == before["score_images"]
    assert after["data"]["sha256"] != before["data"]["sha256"]
    touched = call(altered(skewed, tmp_path / "b.zip", score, 1).argv("score", "--json", **options)).document
    assert touched["filters"] != before["filters"]


@pytest.mark.parametrize("metric", ["subgroup-recall:ground", "attack-success"])
def test_the_plan_never_sees_the_report_images(sabotaged: World, tmp_path: Path, metric: str) -> None:
    options = {"budget": "8000", "metric": metric, "steps": "2", "epsilon": "0.05", "max_clean_drop": "0.2"}
    first = call(sabotaged.argv("repair", "--json", out=str(tmp_path / "1"), **options)).document
    split = {row["file_name"]: row["split"] for row in tiny.rows_of(tmp_path / "1" / "predictions.csv")}
    report = {name for name, part in split.items() if part == "report"}
    assert len(report) == 36
    changed = altered(sabotaged, tmp_path / "a.zip", report, 2)
    second = call(changed.argv("repair", "--json", out=str(tmp_path / "2"), **options)).document
    for key in ("k", "curve", "culprits"):
        assert second[key] == first[key]
    assert first["k"] > 0
    assert second["after"]["select"] == first["after"]["select"]
    assert second["after"]["report"] != first["after"]["report"]
