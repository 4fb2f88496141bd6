"""Estimators that value all players from one permutation at a time: fresh images for each, and the mean of them."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np

from benchmarks.cases import IMAGES, BenchCase
from benchmarks.masked import MaskedValue, best_rows
from benchmarks.methods import Cannot, Recorder, Samples, Snapshot, images_per_draw

_PERMUTATIONS = 4  # that should fit into the allotment
_PATIENCE = 3.0  # times the allotment, for one permutation


class OutOfTime(Exception):
    """Raised by the alarm within other people's code."""


def average(
    case: BenchCase,
    seconds: float,
    seed: tuple[int, int],
    one: Callable[[MaskedValue, int], np.ndarray],
) -> list[Snapshot]:
    """Snapshots of the mean over permutations, as many as fit into `seconds`.

    Images per permutation: 32, or as few as lets four permutations fit; coalitions per forward: the fastest of a few.

    Args:
        one: (value of masks, coalitions per forward) -> values of one permutation, float64 [n].

    Raises:
        Cannot: not even one permutation of so few images fits into thrice the time.
    """
    _, rate = best_rows(case, IMAGES)
    images = images_per_draw(IMAGES, case.n, rate, seconds, _PERMUTATIONS)
    rows, rate = best_rows(case, images)
    value = MaskedValue(case.base, images, rows)
    rng = np.random.default_rng(seed)
    recorder = Recorder(seconds)
    samples = Samples(case.n)
    try:
        with alarm(_PATIENCE * seconds):
            while recorder.time_left or not samples.count.any():
                value.fresh(rng)
                samples.add(one(value, rows))
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
