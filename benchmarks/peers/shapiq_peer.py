"""shapiq's estimators of Shapley values.

`PermutationSamplingSV` is run one permutation at a time on fresh images, and averaged. The others answer for a budget
of coalitions as a whole, so they are run afresh for doubling budgets, each run a snapshot with its own time alone.
Their images are drawn once per run and shared by its coalitions, as paired comparisons ask: 32, or as few as let two
least budgets fit, but 8.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from typing import Any

import numpy as np

from benchmarks.cases import IMAGES, BenchCase
from benchmarks.masked import MaskedValue, best_rows
from benchmarks.methods import Cannot, Recorder, Snapshot, images_per_draw
from benchmarks.peers import permutations
from benchmarks.peers.permutations import OutOfTime, alarm

_LEAST_IMAGES = 8  # of a run at one budget
_WHOLE_PATIENCE = 2.0  # times the allotment, for a least budget


def permutation(case: BenchCase, seconds: float, seed: int) -> list[Snapshot]:
    """`PermutationSamplingSV`, one permutation a call.

    Raises:
        Cannot: shapiq is not installed; or see `permutations.average`.
    """
    sampling = _shapiq().PermutationSamplingSV(case.n, random_state=seed)

    def one(value: MaskedValue, rows: int) -> np.ndarray:
        return _values(sampling.approximate(case.n + 1, _as_game(value), batch_size=1), case.n)

    with _quiet():
        return permutations.average(case, seconds, (seed, 0x5A), one)


def svarm(case: BenchCase, seconds: float, seed: int) -> list[Snapshot]:
    """`SVARM`; its least budget covers the border coalitions."""
    return _whole(case, seconds, seed, lambda a: a.SVARM(case.n, random_state=seed), 2 * case.n + 2)


def kernel_shap(case: BenchCase, seconds: float, seed: int) -> list[Snapshot]:
    """`KernelSHAP`."""
    return _whole(case, seconds, seed, lambda a: a.KernelSHAP(case.n, random_state=seed), 2 * case.n + 2)


def proxy(case: BenchCase, seconds: float, seed: int) -> list[Snapshot]:
    """`ProxySPEX`: gradient-boosted trees as a proxy, its first-order Shapley values."""

    def make(approximators: Any) -> Any:
        return approximators.ProxySPEX(n=case.n, index="SV", max_order=1, random_state=seed)

    return _whole(case, seconds, seed, make, case.n)


def leverage(case: BenchCase, seconds: float, seed: int) -> list[Snapshot]:
    """`LeverageSHAP` (arXiv 2410.01917)."""
    return _newer("LeverageSHAP", case, seconds, seed, n=case.n)


def regression_msr(case: BenchCase, seconds: float, seed: int) -> list[Snapshot]:
    """`RegressionMSR`: boosted trees, and what they miss by maximum sample reuse (arXiv 2506.11849)."""
    return _newer("RegressionMSR", case, seconds, seed, n=case.n, index="SV")


def proxy_shap(case: BenchCase, seconds: float, seed: int) -> list[Snapshot]:
    """`ProxySHAP`, with the adjustment that makes it unbiased."""
    return _newer("ProxySHAP", case, seconds, seed, n=case.n, index="SV", max_order=1, adjustment=True)


def odd_shap(case: BenchCase, seconds: float, seed: int) -> list[Snapshot]:
    """`OddSHAP` (arXiv 2602.01399)."""
    return _newer("OddSHAP", case, seconds, seed, n=case.n)


def _newer(name: str, case: BenchCase, seconds: float, seed: int, **options: Any) -> list[Snapshot]:
    """Of what came after version 1.4.1. Raises Cannot: this version does not have it; see `_whole`."""
    if not hasattr(_shapiq(), name):
        raise Cannot(f"shapiq {version('shapiq')} has none; 1.4.1 is the last for Python 3.11")

    def make(approximators: Any) -> Any:
        return getattr(approximators, name)(**options, random_state=seed)

    return _whole(case, seconds, seed, make, 2 * case.n + 2)


def _whole(case: BenchCase, seconds: float, seed: int, make: Callable[[Any], Any], least: int) -> list[Snapshot]:
    """Runs at budgets least, 2·least, … while the next is expected to end within the time.

    Raises:
        Cannot: shapiq is not installed, refuses or fails at this number of players, or takes more than twice the
            time for its least budget.
    """
    approximators = _shapiq()
    _, rate = best_rows(case, IMAGES)
    images = images_per_draw(IMAGES, least, rate, seconds, draws=2, least=_LEAST_IMAGES)
    rows, _ = best_rows(case, images)
    value = MaskedValue(case.base, images, rows)
    rng = np.random.default_rng([seed, 0x5A])
    snapshots: list[Snapshot] = []
    total = Recorder(seconds)
    coalitions = least
    while not snapshots or total.seconds + 2.2 * snapshots[-1].seconds < seconds:
        value.fresh(rng)
        value.evaluations = 0
        recorder = Recorder(seconds)
        try:
            with alarm(max(_WHOLE_PATIENCE * seconds - total.seconds, 1.0)), _quiet():
                values = _values(make(approximators).approximate(coalitions, _as_game(value)), case.n)
        except OutOfTime:
            if snapshots:
                break
            raise Cannot(
                f"its least budget, {coalitions:,} coalitions, did not end in {_WHOLE_PATIENCE:g} × the "
                f"{seconds:.0f} s given; the network took {value.evaluations:,} evaluations of that"
            ) from None
        except (ArithmeticError, ValueError, MemoryError, IndexError, KeyError, np.linalg.LinAlgError) as error:
            if snapshots:
                break
            raise Cannot(f"{type(error).__name__} at {case.n:,} players: {str(error)[:160]}") from error
        if not np.isfinite(values).all():
            if snapshots:
                break
            bad = int((~np.isfinite(values)).sum())
            raise Cannot(f"{bad:,} of its {case.n:,} values are not finite (its weights use binomials as floats)")
        snapshots.append(Snapshot(recorder.seconds, value.evaluations, values))
        coalitions *= 2
    return snapshots


def _shapiq() -> Any:
    try:
        import shapiq.approximator
    except ImportError as error:
        raise Cannot(f"shapiq cannot be imported ({error}); `make bench` installs it") from error
    return shapiq.approximator


def _as_game(value: MaskedValue) -> Callable[[np.ndarray], np.ndarray]:
    return lambda masks: value(np.atleast_2d(np.asarray(masks, dtype=bool)))


def _values(found: Any, n: int) -> np.ndarray:
    """First-order values float64 [n] of shapiq's `InteractionValues`; what it leaves out is 0."""
    return np.array([found[(player,)] for player in range(n)], dtype=np.float64)


@contextmanager
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
