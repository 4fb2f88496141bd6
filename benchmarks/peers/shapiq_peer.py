"""shapiq's estimators of Shapley values.

`PermutationSamplingSV` is run one permutation at a time on fresh images, and averaged. SVARM, KernelSHAP and ProxySPEX
answer for a budget of coalitions as a whole, so they are run afresh for doubling budgets, each run a snapshot with its
own time alone. Their images are drawn once per run and shared by its coalitions, as paired comparisons ask: 32, or as
few as let two least budgets fit, but 8.
"""

from __future__ import annotations

import signal
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from benchmarks.cases import IMAGES, BenchCase
from benchmarks.masked import MaskedValue, best_rows
from benchmarks.methods import Cannot, Recorder, Samples, Snapshot, images_per_draw

_PERMUTATIONS = 4  # that should fit into the allotment
_PATIENCE = 3.0  # times the allotment, for one permutation
_LEAST_IMAGES = 8  # of a run at one budget
_WHOLE_PATIENCE = 2.0  # times the allotment, for a least budget


class OutOfTime(Exception):
    """Raised by the alarm within other people's code."""


def permutation(case: BenchCase, seconds: float, seed: int) -> list[Snapshot]:
    """`PermutationSamplingSV`, one permutation a call.

    Raises:
        Cannot: shapiq is not installed; or not one permutation of one image fits into thrice the time.
    """
    approximators = _shapiq()
    _, rate = best_rows(case, IMAGES)
    images = images_per_draw(IMAGES, case.n, rate, seconds, _PERMUTATIONS)
    rows, rate = best_rows(case, images)
    value = MaskedValue(case.base, images, rows)
    rng = np.random.default_rng([seed, 0x5A])
    recorder = Recorder(seconds)
    samples = Samples(case.n)
    sampling = approximators.PermutationSamplingSV(case.n, random_state=seed)
    with alarm(_PATIENCE * seconds), _quiet():
        try:
            while recorder.time_left or not samples.count.any():
                value.fresh(rng)
                found = sampling.approximate(case.n + 1, _as_game(value), batch_size=1)
                samples.add(_values(found, case.n))
                recorder.offer(lambda: samples.snapshot(recorder.seconds, value.evaluations))
        except OutOfTime:
            pass
    if not samples.count.any():
        raise Cannot(
            f"one permutation of {images} image(s) is {images * case.n:,} full forwards: about "
            f"{images * case.n / rate:,.0f} s here, more than {_PATIENCE:g} × the {seconds:.0f} s given"
        )
    recorder.offer(lambda: samples.snapshot(recorder.seconds, value.evaluations), last=True)
    return recorder.snapshots


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


@contextmanager
def alarm(seconds: float) -> Iterator[None]:
    """Raises `OutOfTime` in the main thread after `seconds`, between two Python instructions."""

    def ring(*_: object) -> None:
        raise OutOfTime

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, before)
