"""The table of edits: who is called better, worse and behind, from intervals."""

from __future__ import annotations

import argparse

from benchmarks import repairs


def change(value: float, spread: float) -> dict:
    return {"value": value, "lower": value - spread, "upper": value + spread}


def rows(case: str, seed: int, ahead: dict[str, float]) -> list[dict]:
    """All edits at the gain of ablation, +5 points, but for those that are ahead of it, by so much, ± 1 point."""
    auto = ahead.get("auto", 0.0)
    return [
        {
            "case": case, "seed": seed, "edit": edit, "made": True, "kind": "head" if edit == "auto" else edit,
            "note": "", "units": 1, "parameters": 1, "evaluations": 10, "seconds": 1.0, "metric": 0.6, "accuracy": 0.7,
            "guard": None, "gain": change(0.05 + ahead.get(edit, 0.0), 0.01), "drops": -0.01,
            "behind_ablation": change(-ahead.get(edit, 0.0), 0.01),
            "behind_auto": change(auto - ahead.get(edit, 0.0), 0.01),
        }
        for edit in repairs.EDITS
    ]  # fmt: skip


def test_better_worse_and_behind() -> None:
    seen = rows("catdog", 0, {"head": 0.03, "biases": -0.03, "auto": 0.03, "all weights, short": 0.05})
    seen += rows("catdog", 1, {"head": 0.005, "biases": 0.04, "auto": 0.0})
    text = repairs.document(seen, argparse.Namespace(seeds=2, budget=1000, case=None))
    table = {line.split(" | ")[0].strip("| "): line for line in text.splitlines() if line.startswith("| ")}
    assert "clean accuracy 2 points (catdog: 5)" in text
    assert "+6.8 (1/0)" in table["head"]  # ahead beyond the interval in one seed, not told apart in the other
    assert "+5.5 (1/1)" in table["biases"]
    assert table["ablate"].endswith("+5.0 |")
    assert "behind a shift, the last layer or biases in 1 of 6 comparisons (catdog, seed 1: biases)" in text
    assert "Against all weights it stands -1.0 points on average, against ablation +1.5." in text
    assert text.count("| catdog | ") == 2 * len(repairs.EDITS)
