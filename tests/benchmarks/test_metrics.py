"""Overlap, regret form and ceiling, by hand and in closed form."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks import metrics
from benchmarks.metrics import Reference

REFERENCE = np.array([5.0, 4.0, 3.0, 0.1, 0.0, -0.1, -2.0, -6.0])


def test_overlap_at_both_ends() -> None:
    values = np.array([9.0, 1.0, 0.0, 8.0, 0.5, np.nan, -3.0, -2.0])
    assert metrics.overlap(values, REFERENCE, 2, "top") == 0.5  # 0 and 3 against 0 and 1
    assert metrics.overlap(values, REFERENCE, 2, "bottom") == 1.0


def test_regret_form_forgives_near_ties() -> None:
    values = REFERENCE.copy()
    values[[2, 3]] = values[[3, 2]]
    assert metrics.overlap(values, REFERENCE, 3, "top") == pytest.approx(2 / 3)
    assert metrics.regret_form(values, REFERENCE, 3, "top") == pytest.approx(9.1 / 12.0)
    assert metrics.regret_form(values, REFERENCE, 4, "top") == pytest.approx(1.0)
    assert metrics.regret_form(-REFERENCE, REFERENCE, 1, "bottom") == pytest.approx(-5.0 / 6.0)


def test_spearman() -> None:
    assert metrics.spearman(np.exp(REFERENCE), REFERENCE) == pytest.approx(1.0)
    assert metrics.spearman(-REFERENCE, REFERENCE) == pytest.approx(-1.0)
    assert metrics.spearman(np.zeros(8), REFERENCE) == 0.0


def test_ceiling_of_an_exact_reference_is_one() -> None:
    exact = Reference(REFERENCE, np.zeros(8), np.ones(8))
    found = metrics.ceiling(exact, (2,), runs=5)
    assert found["perfect"]["top2"] == found["two_references"]["bottom2"] == 1.0


def test_ceiling_foretells_the_overlap_with_the_truth() -> None:
    rng = np.random.default_rng(3)
    truth = rng.normal(size=2000)
    references = [Reference(truth + rng.normal(size=2000), np.ones(2000), np.ones(2000)) for _ in range(2)]
    foretold = metrics.ceiling(references[0], (200,), runs=20)
    seen = metrics.overlap(truth, references[0].values, 200, "top")
    again = metrics.overlap(references[0].values, references[1].values, 200, "top")
    assert foretold["perfect"]["top200"] == pytest.approx(seen, abs=0.06)
    assert foretold["two_references"]["top200"] == pytest.approx(again, abs=0.06)
