"""captum's `ShapleyValueSampling` with the filters as features: permutations, nothing truncated."""

from __future__ import annotations

import warnings

import numpy as np
import torch

from benchmarks.cases import IMAGES, BenchCase
from benchmarks.masked import MaskedValue, best_rows
from benchmarks.methods import Cannot, Recorder, Samples, Snapshot, images_per_draw

_PERMUTATIONS = 4  # that should fit into the allotment
_PATIENCE = 3.0  # times the allotment, for the first permutation


class _OutOfTime(Exception):
    pass


def run(case: BenchCase, seconds: float, seed: int) -> list[Snapshot]:
    """One permutation per call (`n_samples=1`) on a fresh batch of images, averaged.

    Images per permutation: 32, or as few as lets four permutations fit; coalitions per forward
    (`perturbations_per_eval`): the fastest of a few.

    Raises:
        Cannot: captum is not installed; or not even one permutation of one image fits into thrice the time.
    """
    try:
        from captum.attr import ShapleyValueSampling
    except ImportError as error:
        raise Cannot(f"captum cannot be imported ({error}); `make bench` installs it") from error
    _, rate = best_rows(case, IMAGES)
    images = images_per_draw(IMAGES, case.n, rate, seconds, _PERMUTATIONS)
    rows, rate = best_rows(case, images)
    value = MaskedValue(case.base, images, rows)
    rng = np.random.default_rng([seed, 0xCA])
    recorder = Recorder(seconds)
    samples = Samples(case.n)

    def forward(masks: torch.Tensor) -> torch.Tensor:
        if recorder.seconds > _PATIENCE * seconds:
            raise _OutOfTime
        return torch.from_numpy(value(masks.numpy() > 0.5))

    sampling = ShapleyValueSampling(forward)
    everyone = torch.ones(1, case.n)
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.manual_seed(seed)
        while recorder.time_left or not samples.count.any():
            value.fresh(rng)
            try:
                found = sampling.attribute(
                    everyone, baselines=0, n_samples=1, perturbations_per_eval=rows, show_progress=False
                )
            except _OutOfTime:
                break
            samples.add(found[0].double().numpy())
            recorder.offer(lambda: samples.snapshot(recorder.seconds, value.evaluations))
    if not samples.count.any():
        raise Cannot(
            f"one permutation of {images} image(s) is {images * case.n:,} full forwards: about "
            f"{images * case.n / rate:,.0f} s here, more than {_PATIENCE:g} × the {seconds:.0f} s given"
        )
    recorder.offer(lambda: samples.snapshot(recorder.seconds, value.evaluations), last=True)
    return recorder.snapshots
