"""Truncation: V along random permutations as filters are removed, and where the engine calls the network dead.

The paper (appendix B, Fig. 5), 100 trajectories: Inception-v3 breaks after about 10% of its filters, SqueezeNet after
about 20%.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from experiments.charts import Series, lines
from experiments.common import Job, Options, Result, Say, grid, opened, right_after, search_settings
from shapley import merge_round, next_round, run_block, start

SHARES = (0.0, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.6, 1.0)
WALKS = 20
LARGE = 1000  # filters: from there on fewer walks and images, and no pilot, which would take most of an hour on a CPU
FEW_WALKS, FEW_IMAGES = 6, 40
DEAD = 0.1  # the paper truncates where accuracy falls below this


def run(options: Options, say: Say) -> Result:
    """Trajectories on score images: that is where values are sampled."""
    result, series = Result(), []
    rows: list[list[object]] = []
    for name in options.network.split(","):
        say(name)
        small = f"{name}-128px" if name == "squeezenet1_0" else name
        with opened(small, "accuracy", options, estimator="monte_carlo") as job:
            case, n = job.case, job.game.n_players
            rng = np.random.default_rng([options.seed, 0xE3])
            score = case.images.splits.score
            large = n >= LARGE
            most = min(options.images, FEW_IMAGES if large else len(score), len(score))
            chosen = np.sort(rng.choice(score, most, replace=False))
            depths = tuple(round(s * n) for s in SHARES)
            walks = np.stack(
                [
                    right_after(case, chosen, rng.permutation(n), depths).mean(axis=1)
                    for _ in range(FEW_WALKS if large else WALKS)
                ]
            )
            say(f"{name}: the engine's own depth")
            learned = None if large else _learned_depth(job)
        low, middle, high = np.quantile(walks, [0.1, 0.5, 0.9], axis=0)
        points = [(100 * s, float(v)) for s, v in zip(SHARES, walks.mean(axis=0))]
        series.append(Series(name, points, [(100 * s, a, b) for s, a, b in zip(SHARES, low, high)]))
        dead = next((s for s, v in zip(SHARES, walks.mean(axis=0)) if v < max(DEAD, 1.2 * walks[:, -1].mean())), None)
        cells = [f"{100 * m:.0f} ({100 * a:.0f} to {100 * b:.0f})" for m, a, b in zip(middle, low, high)]
        rows.append(
            [f"{name} ({n})", f"{len(walks)} × {most}", *cells, "none" if dead is None else f"{dead:.0%}",
             "not run" if learned is None else f"{learned} ({learned / n:.0%})"]
        )  # fmt: skip
        result.figures[name] = {"filters": n, "removed": list(depths), "accuracy": walks.tolist(), "depth": learned}
    result.sections = [
        "Accuracy in percent on score images, median (10% to 90%) over random orders, by the share of the filters "
        "removed. Dead: the first of these shares at which the mean accuracy is below 10%, or within a fifth of that "
        "of the network with all filters ablated. Depth: filters that the engine's pilot removes in a draw (it "
        "judges death by agreement with the intact network's predictions, not by accuracy).",
        grid(["network (filters)", "orders × images", *(f"{s:.0%}" for s in SHARES), "dead", "engine's depth"], rows),
    ]
    title = "Accuracy as random filters are removed"
    result.plots["truncation.svg"] = lines(series, title, "% of filters removed", "accuracy", "truncation")
    return result


def _learned_depth(job: Job) -> int:
    """What the pilot round of `monte_carlo` learns; nothing is sampled behind it."""
    settings = replace(search_settings(job), budget=10**9)
    state = start(settings)
    blocks = [run_block(job.game, settings, state, task) for task in next_round(state, settings)]
    depth = merge_round(state, settings, blocks).depth
    assert depth is not None
    return depth
