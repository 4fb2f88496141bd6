"""captum's `ShapleyValueSampling` with the filters as features: permutations, nothing truncated."""

from __future__ import annotations

import warnings

import numpy as np
import torch

from benchmarks.cases import BenchCase
from benchmarks.masked import MaskedValue
from benchmarks.methods import Cannot, Snapshot
from benchmarks.peers import permutations


def run(case: BenchCase, seconds: float, seed: int) -> list[Snapshot]:
    """One permutation per call (`n_samples=1`; `perturbations_per_eval` the fastest of a few), averaged.

    Raises:
        Cannot: captum is not installed; or see `permutations.average`.
    """
    try:
        from captum.attr import ShapleyValueSampling
    except ImportError as error:
        raise Cannot(f"captum cannot be imported ({error}); `make bench` installs it") from error
    everyone = torch.ones(1, case.n)

    def one(value: MaskedValue, rows: int) -> np.ndarray:
        sampling = ShapleyValueSampling(lambda masks: torch.from_numpy(value(masks.numpy() > 0.5)))
        found = sampling.attribute(everyone, baselines=0, n_samples=1, perturbations_per_eval=rows, show_progress=False)
        return found[0].double().numpy()

    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.manual_seed(seed)
        return permutations.average(case, seconds, (seed, 0xCA), one)
