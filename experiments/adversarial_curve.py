"""What a repair against an attack can buy: success and clean accuracy by filters removed, by value and stepwise.

The paper (§4, Fig. 3b) measures the replay of the attacked images: without 16 filters success falls from nearly 100% to
0.1%, clean accuracy from 74% to 67%. Here: by value, and by the stepwise order within two limits of clean accuracy.
"""

from __future__ import annotations

import numpy as np

from experiments.adversarial import ATTACKED, PRICES
from experiments.charts import Series, lines
from experiments.common import (
    MARGIN,
    RANDOM_ORDERS,
    Case,
    Greedy,
    Options,
    Result,
    Say,
    after_removals,
    grid,
    make_plan,
    opened,
    pipeline,
    report_images,
    right_after,
    searched,
    share,
    silent,
    within,
)

DEPTHS = (0, 1, 2, 3, 4, 6, 8, 12, 16)
LOOKS = 150_000  # the stepwise order takes its share of this budget: it looks at few filters, on many images
MEASURED = ("success", "true label", "clean accuracy")


def run(options: Options, say: Say) -> Result:
    """Curves on report images; k of each order by *select*, as a repair chooses it."""
    curves: dict[str, dict[str, np.ndarray]] = {}
    chosen: list[list[object]] = []
    say("attacking")
    with opened(
        options.network,
        "attack-success",
        options,
        "repair",
        attack="paper",
        attack_images=ATTACKED,
        queries=0,
        max_clean_drop=PRICES[0],
        max_filters=DEPTHS[-1],
    ) as job:
        case, n = job.case, job.game.n_players
        say("values")
        ranking, _ = pipeline.ranking_of(job, *searched(job))
        clean = report_images(case, options.images)
        curves["by value"] = _follow(case, ranking.players, clean)
        for price in PRICES:
            say(f"stepwise, at most {price:.0%} of clean accuracy")
            dearer = within(job, max_clean_drop=price).case
            greedy = Greedy.of(dearer, ranking, LOOKS, silent)
            assert greedy is not None, "this budget is enough"
            orders = {"by value": ranking.players}
            for name, margin in (("stepwise", 0.0), ("stepwise with a margin", MARGIN)):
                found = greedy.order(margin)
                orders[name] = found.players[: found.picked]
                if found.picked and not margin:
                    curves[f"stepwise within {100 * price:.0f} points"] = _follow(case, orders[name], clean)
            for name, order in orders.items():
                if len(order):
                    chosen.append([f"{name}, {100 * price:.0f} points", *_chosen(dearer, order, clean)])
        rng = np.random.default_rng([options.seed, 0xE4])
        say("random orders")
        random = [_follow(case, rng.permutation(n)[: DEPTHS[-1]], clean) for _ in range(RANDOM_ORDERS)]
        sizes = len(case.question.attacked["report"].targets), len(clean)
    return _tell(options, curves, random, chosen, sizes)


def _follow(case: Case, order: np.ndarray, clean: np.ndarray) -> dict[str, np.ndarray]:
    """Outcomes bool [depths, images] after each depth of an order, on attacked and on these clean report images."""
    attacked, depths = case.question.attacked["report"], tuple(d for d in DEPTHS if d <= len(order))
    fooled = after_removals(case, attacked.pixels, order, depths)
    found = fooled == attacked.targets, fooled == case.images.labels[attacked.indices]
    return {"removed": np.array(depths), **dict(zip(MEASURED, (*found, right_after(case, clean, order, depths))))}


def _chosen(case: Case, order: np.ndarray, clean: np.ndarray) -> list[object]:
    """What *select* chooses of an order: k, the filters, and success and clean accuracy on report images."""
    k = make_plan(case, order, silent).k
    attacked, depths = case.question.attacked["report"], (0, k) if k else (0,)
    success = after_removals(case, attacked.pixels, order, depths)[-1] == attacked.targets
    names = ", ".join(case.subject.network.filter_id(int(p)) for p in order[:k])
    return [k, names or "no repair found", share(success), share(right_after(case, clean, order, depths)[-1])]


def _tell(
    options: Options,
    curves: dict[str, dict[str, np.ndarray]],
    random: list[dict[str, np.ndarray]],
    chosen: list[list[object]],
    sizes: tuple[int, int],
) -> Result:
    result = Result()
    result.sections.append(
        f"{options.network}, CIFAR-10, PGD preset *paper* (ε = 16/255); {sizes[0]} attacked and {sizes[1]} clean "
        "report images, in percent, with 95% Wilson intervals. Stepwise: after each removal the candidates are looked "
        "at again on score images by the targets' probability, and what breaks the limit of clean accuracy there is "
        f"passed over; with a margin: what does not keep it by {MARGIN:.2f} standard errors."
    )
    for name, of in curves.items():
        rows = [[int(d), *(share(of[key][i]) for key in MEASURED)] for i, d in enumerate(of["removed"])]
        result.sections += [f"### {name[0].upper()}{name[1:]}", grid(["filters removed", *MEASURED], rows)]
    rows = []
    for i, depth in enumerate(DEPTHS):
        cells = [100 * np.array([of[key][i].mean() for of in random]) for key in MEASURED]
        rows.append([depth, *(f"{c.mean():.0f} ({c.min():.0f} to {c.max():.0f})" for c in cells)])
    result.sections += [
        f"### Random, mean (least to most) of {RANDOM_ORDERS} orders",
        grid(["filters removed", *MEASURED], rows),
        "### What is chosen on the select images",
        grid(
            ["order, limit of clean accuracy", "k", "filters", "success on report", "clean accuracy on report"], chosen
        ),
    ]
    series = [
        Series(f"{name}: {key}", [(float(d), float(v)) for d, v in zip(of["removed"], of[key].mean(axis=1))])
        for key in ("success", "clean accuracy")
        for name, of in curves.items()
    ]
    title = "Attack success and clean accuracy as filters are removed (report images)"
    result.plots["adversarial-curve.svg"] = lines(series, title, "filters removed", "share", "adversarial-curve")
    shares = {name: {key: of[key].mean(axis=1).tolist() for key in MEASURED} for name, of in curves.items()}
    result.figures = {"filters_removed": list(DEPTHS), "curves": shares, "chosen": chosen}
    return result
