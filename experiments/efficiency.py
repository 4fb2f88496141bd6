"""Sample efficiency: the paper's bandit against plain Monte Carlo at the same tolerance.

The paper (appendix E, Fig. 8), on SqueezeNet at a tolerance of 0.0001: TMAB-Shapley needs 8.7% of the samples of Monte
Carlo; rank correlation of the values 0.988, R² 0.975.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from experiments.charts import Series, lines
from experiments.common import Options, Result, Say, grid, opened, search_settings, spearman
from shapley import Estimate, Settings, estimate, merge_round, next_round, run_block, start

K = 10
TOLERANCE = 0.012
SEEDS = 2
MOST = 5_000_000  # evaluations: the tolerance stops the runs, not the budget
BATCH = 32


def run(options: Options, say: Say) -> Result:
    """Both estimators with the same walks, truncation, intervals and tolerance; only who is sampled on differs."""
    runs: dict[str, list[Estimate]] = {"monte_carlo": [], "tmab": []}
    tracks: dict[str, list[list[tuple[int, np.ndarray]]]] = {"monte_carlo": [], "tmab": []}
    asked = {"estimator": "tmab", "top_k": K, "side": "top", "batch_size": BATCH}
    with opened(options.network, "accuracy", options, **asked) as job:
        base = search_settings(job)
        for seed in range(options.seed, options.seed + SEEDS):
            for name in runs:
                say(f"{name}, seed {seed}")
                settings = replace(
                    base, estimator=name, seed=seed, tol=TOLERANCE, budget=min(MOST, options.budget), draws_per_block=1
                )
                found, track = _tracked(job.game, settings)
                runs[name].append(found)
                tracks[name].append(track)
                say(f"{found.evaluations:,} evaluations, {found.stopped}")
        n = job.game.n_players
    return _tell(options, n, runs, tracks)


def _tracked(game, settings: Settings):  # type: ignore[no-untyped-def]
    """The run's estimate, and (evaluations, values) after each round."""
    state, track = start(settings), []
    while tasks := next_round(state, settings):
        state = merge_round(state, settings, [run_block(game, settings, state, task) for task in tasks])
        track.append((state.evaluations, np.nan_to_num(estimate(state, settings).values[0])))
    return estimate(state, settings), track


def _top(values: np.ndarray) -> set[int]:
    return set(np.argsort(-values, kind="stable")[:K].tolist())


def _tell(options: Options, n: int, runs: dict, tracks: dict) -> Result:  # type: ignore[type-arg]
    result = Result()
    rows, series = [], {name: [] for name in runs}
    for i in range(SEEDS):
        # The reference of a run is plain Monte Carlo with the other seeds: no sample of its own.
        others = [runs["monte_carlo"][j].values[0] for j in range(SEEDS) if j != i]
        reference = np.mean(others, axis=0)
        for name in runs:
            of: Estimate = runs[name][i]
            values = of.values[0]
            overlap = len(_top(values) & _top(reference)) / K
            r2 = float(np.corrcoef(values, reference)[0, 1] ** 2)
            rows.append(
                [f"{name}, seed {options.seed + i}", f"{of.evaluations:,}", str(of.stopped), f"{of.samples.mean():.0f}",
                 f"{np.median(of.samples):.0f}", f"{of.samples.max()}", f"{overlap:.0%}",
                 f"{spearman(values, reference):.3f}", f"{r2:.3f}"]
            )  # fmt: skip
            series[name].append([(e, len(_top(v) & _top(reference)) / K) for e, v in tracks[name][i]])
    mean = {k: np.mean([(r.evaluations, r.samples.mean()) for r in of], axis=0) for k, of in runs.items()}
    ratio = mean["tmab"] / mean["monte_carlo"]
    result.sections = [
        f"{options.network}, {n} filters, accuracy, top {K}, draws of {BATCH} images, walks truncated alike, CLT "
        f"intervals at 95%, tolerance {TOLERANCE}: Monte Carlo stops when no filter's half-width exceeds it, `tmab` "
        f"when no filter is left whose interval, narrowed by it, straddles the border of the top {K}. Compared with "
        "the mean of Monte Carlo's runs with the other seeds.",
        grid(
            ["run", "evaluations", "ended", "samples a filter, mean", "median", "most", f"top-{K} overlap", "Spearman",
             "R²"],
            rows,
        ),
        f"`tmab` took **{ratio[1]:.0%} of the samples** of Monte Carlo and **{ratio[0]:.0%} of its evaluations**.",
    ]  # fmt: skip
    drawn = [
        Series(f"{name}, seed {options.seed + i}", track) for name, of in series.items() for i, track in enumerate(of)
    ][:: 1 if SEEDS < 4 else 2][:6]
    title = f"Overlap of the top {K} with other Monte Carlo runs"
    result.plots["efficiency.svg"] = lines(drawn, title, "evaluations", "overlap", "efficiency")
    by_rank = []
    for name, of in runs.items():
        order = np.argsort(-np.mean([r.values[0] for r in of], axis=0), kind="stable")
        samples = np.mean([r.samples for r in of], axis=0)[order]
        by_rank.append(Series(name, [(i + 1, float(s)) for i, s in enumerate(samples)]))
    result.plots["efficiency-samples.svg"] = lines(
        by_rank, "Samples of each filter, by rank", "rank of the filter", "samples", "efficiency-samples", shares=False
    )
    result.figures = {
        name: [
            {"seed": options.seed + i, "evaluations": r.evaluations, "samples": r.samples.tolist(),
             "stopped": r.stopped,
             "values": r.values[0].tolist()} for i, r in enumerate(of)
        ] for name, of in runs.items()
    }  # fmt: skip
    result.figures["ratio"] = {"evaluations": float(ratio[0]), "samples": float(ratio[1])}
    return result
