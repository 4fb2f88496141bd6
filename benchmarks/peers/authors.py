"""The loop of Ghorbani & Zou's published code (github amiratag/neuronshapley, TensorFlow 1), its logic in PyTorch.

What it does, slips included:

- 128 fresh images per permutation, drawn uniformly without replacement; V is their accuracy.
- Filters are removed one after the other; after each removal of an active filter a full forward of the 128 images.
  V before it is evaluated anew where inactive filters were removed since.
- The permutation ends when V minus 1/classes has been at most 0.2 in more than 5 consecutive evaluated steps; what is
  left counts as 0.
- After each permutation: empirical Bernstein bounds with R = 1, δ = 0.2 (ln(2/δ), t − 1); the threshold is the value of
  rank k + 1 from the top; active are the filters whose interval contains it. The top end only: nothing is done for the
  bottom. It ends when one filter is active.

Of the original only what a single process makes moot is left out: the files through which its workers talk.
"""

from __future__ import annotations

import math

import numpy as np

from benchmarks.cases import BenchCase
from benchmarks.engine import ImageBatch, Objective
from benchmarks.masked import MaskedValue, forward_rate
from benchmarks.methods import Recorder, Samples, Snapshot, images_per_draw

IMAGES = 128
TRUNCATION = 0.2
PATIENCE = 5
DELTA = 0.2
TOP_K = 100
_LEAST_IMAGES = 8  # below, truncation looks at noise


def run(case: BenchCase, seconds: float, seed: int) -> list[Snapshot]:
    """Snapshots of the loop. The first permutation is finished whatever it takes.

    Where two permutations of 128 images would not fit into the time (at a guess of n/8 steps each), fewer images are
    taken. That favours the loop: per evaluation, fewer images of more permutations tell more.
    """
    rate = forward_rate(case, 32, 1)
    count = images_per_draw(IMAGES, case.n / 8, rate, seconds, draws=2, least=_LEAST_IMAGES)
    value = MaskedValue(case.base, count)
    rng = np.random.default_rng([seed, 0xA0])
    base = 1.0 / max(case.network.classes, 2)
    recorder = Recorder(seconds)
    samples = Samples(case.n)
    active = np.ones(case.n, dtype=bool)
    while (recorder.time_left or not samples.count.any()) and active.sum() > 1:
        value.use(uniform_batch(case.base.objective, count, rng))
        marginals = permutation(value, rng.permutation(case.n), active, base)
        samples.add(marginals, active)
        active = contenders(samples, min(TOP_K, case.n // 4))
        recorder.offer(lambda: samples.snapshot(recorder.seconds, value.evaluations))
    recorder.offer(lambda: samples.snapshot(recorder.seconds, value.evaluations), last=True)
    return recorder.snapshots


def uniform_batch(objective: Objective, count: int, rng: np.random.Generator) -> ImageBatch:
    """`count` images (at most all), each as likely, with weights that keep V unbiased for any objective."""
    total = len(objective)
    picked = np.sort(rng.choice(total, min(count, total), replace=False))
    weights = objective.rows[:, picked] * (total / len(picked))
    return ImageBatch(picked, weights)


def permutation(value: MaskedValue, order: np.ndarray, active: np.ndarray, base: float) -> np.ndarray:
    """Marginals [n] of the active filters when they are removed in `order` [n]; 0 past the truncation."""
    present = np.ones(len(order), dtype=bool)
    marginals = np.zeros(len(order))
    before: float | None = float(value(present[None])[0])
    dead = 0
    for player in order:
        if not active[player]:
            before = None
            present[player] = False
            continue
        if before is None:
            before = float(value(present[None])[0])
        present[player] = False
        after = float(value(present[None])[0])
        marginals[player] = before - after
        before = after
        dead = dead + 1 if after - base <= TRUNCATION else 0
        if dead > PATIENCE:
            break
    return marginals


def contenders(samples: Samples, top_k: int) -> np.ndarray:
    """Filters [n] whose interval contains the value of rank top_k + 1."""
    t = np.maximum(samples.count, 1)
    log = math.log(2.0 / DELTA)
    known = samples.count > 1
    variance = np.where(known, samples.variance, 1.0)
    half = np.where(known, np.sqrt(2.0 * variance * log / t) + 7.0 / 3.0 * log / np.maximum(t - 1, 1), 1.0)
    values = np.nan_to_num(samples.mean)
    threshold = np.sort(values)[-top_k - 1]
    return (values - half < threshold) & (values + half > threshold)
