"""Claims where there is nothing to claim: the table, exact intervals, and one real run against the product's own."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import binom

import repair_engine as nr
from benchmarks import nulls
from tests.repair_engine import tiny


@pytest.mark.parametrize(("successes", "n"), [(0, 40), (1, 40), (2, 40), (20, 40), (40, 40)])
def test_exact_intervals(successes: int, n: int) -> None:
    """Each end leaves a tail of 2.5%, by the binomial distribution."""
    low, high = nulls.clopper_pearson(successes, n)
    assert low <= successes / n <= high
    assert low == 0 if successes == 0 else binom.sf(successes - 1, n, low) == pytest.approx(0.025)
    assert high == 1 if successes == n else binom.cdf(successes, n, high) == pytest.approx(0.025)


def row(seed: int, edit: str, claimed: bool, truly: float) -> dict:
    def change(value: float) -> dict:
        return {"value": value, "lower": value - 0.01, "upper": value + 0.01}

    return {"size": 600, "seed": seed, "edit": edit, "commit": "abc", "kind": edit * claimed, "claimed": claimed,
            "gain": change(0.03) if claimed else None, "unseen": change(truly) if claimed else None}  # fmt: skip


def test_the_table_counts_claims_and_what_they_truly_change() -> None:
    rows = [row(0, "ablate", False, 0), row(0, "auto", True, 0.02), row(1, "ablate", False, 0), row(1, "auto", True, 0)]
    text = nulls.document(rows, 1000)
    table = {line.split(" | ")[1]: line for line in text.splitlines() if line.startswith("| 600 ")}
    assert "| 600 | ablate | 2 | 0 | 0 | 0.0% | 0.0% to 84.2% | 0 | +0.00 |" in text
    assert "| 600 | auto | 2 | 2 | 2 | 100.0% | 15.8% to 100.0% | 1 | +1.00 |" in text
    assert "Claimed in all: 2 of 4 (50.0%, 95% interval 6.8% to 93.2%" in text
    assert "ablate" not in "".join(line for line in text.splitlines() if line.startswith("| 600 | 0"))
    assert table


def test_runs_are_kept_and_gone_on_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    measured = []

    def measure(model: object, dataset: object, size: int, seed: int, budget: int) -> list[dict]:
        measured.append((size, seed))
        return [row(seed, edit, False, 0) | {"size": size} for edit in nulls.EDITS]

    class Opened:
        def open(self) -> tuple:
            return None, argparse.Namespace(dataset=None)

    monkeypatch.setattr(nulls, "measure", measure)
    monkeypatch.setitem(nulls.SOURCES, nulls.SOURCE, Opened())
    args = argparse.Namespace(seeds=2, budget=1000, work=tmp_path / "kept", table=tmp_path / "table.md")
    text = nulls.nulls(args, lambda _: None)
    assert measured == [(600, 0), (2000, 0), (600, 1), (2000, 1)]
    assert args.table.read_text() == text
    (args.work / "null-600-1.json").unlink()
    measured.clear()
    assert nulls.nulls(args, lambda _: None) == text
    assert measured == [(600, 1)]
    assert len(json.loads((args.work / "null-600-1.json").read_text())) == 2


def test_a_claim_is_the_products_own(tmp_path: Path) -> None:
    """On a network that one filter spoils: what `repair` says of the same images, and a true gain on the others."""
    sabotaged = tiny.make_sabotaged(tmp_path, tiny.images(144, seed=1))
    shown, classes = sabotaged.images, list(tiny.CLASSES)
    model = nr.open_model(sabotaged.model, "net", 3, register=[f"net={sabotaged.factory}"])
    pixels = torch.from_numpy(shown.pixels)[:, None]
    dataset = nr.open_images((pixels, shown.labels), model, classes=classes).dataset
    size, seed, budget = 96, 0, 8000
    found = {one["edit"]: one for one in nulls.measure(model, dataset, size, seed, budget)}
    drawn = np.zeros(len(shown.labels), bool)
    rng = np.random.default_rng([nulls._STREAM, size, seed])
    drawn[rng.permutation(len(drawn))[:size]] = True
    coin = rng.integers(0, 2, size).astype(str)
    for edit in nulls.EDITS:
        mine = nr.repair(
            model, (dataset.images[drawn], dataset.labels[drawn]), metric="subgroup-recall:coin", seed=seed,
            budget=budget, edit=edit, columns={"coin": coin}, classes=classes,
        ).document  # fmt: skip
        assert found[edit]["claimed"] == (mine["outcome"] == "repaired")
        for key in ("value", "lower", "upper"):
            assert found[edit]["gain"][key] == pytest.approx(mine["gain"][key])
        assert found[edit]["unseen"]["value"] > 0.05
