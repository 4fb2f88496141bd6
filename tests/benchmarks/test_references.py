"""The reference sampler is unbiased over all depths; what is stored is continued, and belongs to one case."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks import reference_sampler, references
from benchmarks.cases import BenchCase
from benchmarks.reference_sampler import Pool
from tests.benchmarks.additive import additive_case
from tests.shapley.games import VotingGame


@pytest.mark.parametrize("n", [3, 12, 64, 336, 688, 17_216])
def test_strata_cover_all_depths_once(n: int) -> None:
    for depth in (n, n // 2, n // 3 + 1):
        spans = reference_sampler.strata(n, depth)
        assert [r for a, b in spans for r in range(a, b + 1)] == list(range(depth + 1))
        assert Pool.empty(n, depth).weights.sum() == pytest.approx((depth + 1) / (n + 1))


def test_unbiased_at_every_depth() -> None:
    game = VotingGame(
        [5, 4, 4, 3, 2, 2, 1, 1, 1, 0], quota=5
    )  # its pivots lie far down: a cut-off depth would miss them
    pool = Pool.empty(10, 10)
    for _ in range(150):
        pool = references.run_round(game, pool)
    error = pool.values() - game.shapley
    assert pool.std_errors().max() < 0.02
    assert np.abs(error / pool.std_errors()).max() < 4.0
    assert pool.evaluations == game.accesses


def test_standard_errors_are_those_of_the_values() -> None:
    game = VotingGame([5, 4, 4, 3, 2, 2, 1, 1, 1, 0], quota=5)
    ratios = []
    for first in range(12):
        pool = Pool(
            *(getattr(Pool.empty(10, 10), name) for name in ("count", "mean", "m2", "depth")), draws=10_000 * first
        )
        for _ in range(20):
            pool = references.run_round(game, pool)
        ratios.append((pool.values() - game.shapley)[:9] / pool.std_errors()[:9])
    assert 0.7 < np.sqrt(np.mean(np.square(ratios))) < 1.3


def test_only_what_matters_for_the_ends_goes_on() -> None:
    pool = Pool.empty(400, 400)
    values = np.linspace(-1.0, 1.0, 400)
    for stratum in range(len(pool.weights)):
        for sign in (1.0, -1.0) * 4:
            pool = pool.add(stratum, np.arange(400), values + 0.01 * sign, 0)
    active = reference_sampler.contenders(pool)
    assert set(range(100)) | set(range(300, 400)) <= set(active.tolist())
    assert 200 <= len(active) < 220


def test_stored_and_continued(tmp_path: Path) -> None:
    case, values = additive_case([30, 1, 12, 5, 7, 9])
    path = tmp_path / "additive.npz"
    header = references.make(case, 0.002, lambda _: None, path)
    again = references.make(case, 0.002, lambda _: None, path)
    assert again["draws"] > header["draws"] > 0
    reference, stored = references.load(case, path)
    assert stored["evaluations"] == 7 * 16 * again["draws"]
    assert reference.values == pytest.approx(values, abs=0.2)


def test_a_reference_of_other_images_is_refused(tmp_path: Path) -> None:
    case, _ = additive_case([3, 2, 4])
    path = tmp_path / "additive.npz"
    references.make(case, 0.001, lambda _: None, path)
    other = BenchCase(case.name, case.module, case.base, {"model": "m", "data": "other"})
    with pytest.raises(references.NoReference, match="belongs to another data"):
        references.load(other, path)


def test_no_reference_says_how_to_make_one(tmp_path: Path) -> None:
    case, _ = additive_case([3, 2, 4])
    with pytest.raises(references.NoReference, match="python -m benchmarks reference --case additive"):
        references.load(case, tmp_path / "none.npz")
