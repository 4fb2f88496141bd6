"""Critical filters: accuracy as the filters with the largest (or smallest) values go, against four other rankings.

The paper (§4, Fig. 4b, 4c): the top 10 of Inception-v3's 17,216 filters take it from 74% to 38%, the top 20 to 8%; 20
random filters, or those with the largest response, change little; almost half of the least valuable can go.
"""

from __future__ import annotations

import numpy as np

from benchmarks.sources import SOURCES
from experiments.charts import Series, lines
from experiments.common import (
    LONG_RUN,
    RANDOM,
    RANDOM_ORDERS,
    SHAPLEY,
    Options,
    Result,
    Say,
    difference,
    grid,
    importances,
    long_run,
    opened,
    orders,
    report_images,
    right_after,
    said_of,
    share,
    spread,
    values_of,
)

FROM_TOP = (0, 1, 2, 5, 10, 15, 20, 30, 50)
FROM_BOTTOM = (0, 20, 50, 100, 150, 200, 250, 344, 450)
LOO_IMAGES = 60
LARGE, LOO_IMAGES_OF_LARGE = 1000, 8  # filters: each costs an evaluation per image
DEPTHS = {"squeezenet1_0-128px": 298}  # a tenth of its filters: dead by then (`truncation`), and the pilot is spared
COMPARED = (5, 20, 100)  # filters removed, where differences are given with intervals


def run(options: Options, say: Say) -> Result:
    """Curves from both ends on report images that no ranking saw."""
    result, depth = Result(), DEPTHS.get(options.network)
    with opened(options.network, "accuracy", options, side="both", depth=depth) as job:
        case, n = job.case, job.game.n_players
        loo_images = LOO_IMAGES_OF_LARGE if n >= LARGE else LOO_IMAGES
        say("values")
        values = values_of(job)
        say("leave-one-out and norms")
        importance = importances(case, values, loo_images, options.seed)
        reference, of_reference = long_run(options.network, case) or (None, "")
        if reference is not None:
            importance = {SHAPLEY: values.best, LONG_RUN: reference, **importance}
        indices = report_images(case, options.images)
        data = f"{SOURCES[options.network].folder.name}/{case.sources.name_of('data')}"
        result.sections.append(
            f"{options.network}, {n} filters, {data}; accuracy on {len(indices)} report images in percent, with 95% "
            f"Wilson intervals; {RANDOM}: mean (least to most) of {RANDOM_ORDERS} orders. Leave-one-out on "
            f"{loo_images} score images, norms as in the report's controls. {said_of(values)} {of_reference}"
        )
        for from_top, depths in ((True, FROM_TOP), (False, FROM_BOTTOM)):
            depths = tuple(d for d in depths if d <= n)
            end = "most" if from_top else "least"
            # Filters of negative value come first by value, yet they do something: so by size of the value, too.
            sizes = {f"{name}, by size": np.abs(v) for name, v in importance.items() if name in (SHAPLEY, LONG_RUN)}
            right: dict[str, np.ndarray] = {}  # [orders, depths, images]
            ranked = importance if from_top else importance | sizes
            for name, some in orders(ranked, options.seed, from_top).items():
                say(f"removing the {end} important first: {name}")
                right[name] = np.stack([right_after(case, indices, o, depths) for o in some])
            _tell(result, right, depths, end, options)
    return result


def _tell(result: Result, right: dict[str, np.ndarray], depths: tuple[int, ...], end: str, options: Options) -> None:
    rows = []
    for i, depth in enumerate(depths):
        cells = [share(of[0, i]) for name, of in right.items() if name != RANDOM]
        rows.append([depth, *cells, spread(right[RANDOM][:, i])])
    title = f"Accuracy as the {end} important filters are removed"
    result.sections += [f"### {title}", grid(["filters removed", *right], rows)]
    n = right[SHAPLEY].shape[2]
    for at in [i for i, depth in enumerate(depths) if depth in COMPARED] or [len(depths) - 1]:
        said = []
        for name in (name for name in right if name not in (SHAPLEY, RANDOM)):
            said.append(f"{name} {difference(right[name][0, at], right[SHAPLEY][0, at], options.seed)}")
        result.sections.append(
            f"At {depths[at]} filters, accuracy by Shapley values minus accuracy by (points, 95%, paired on the "
            f"images): {'; '.join(said)}."
        )
    series = []
    for name, of in right.items():
        mean = of.mean(axis=2)  # [orders, depths]
        band = [(k, float(m.min()), float(m.max())) for k, m in zip(depths, mean.T)] if len(of) > 1 else []
        series.append(Series(name, [(k, float(m.mean())) for k, m in zip(depths, mean.T)], band))
    ident = f"critical-{options.network}-{end}"
    result.plots[f"{ident}.svg"] = lines(series, title, "filters removed", "accuracy", ident)
    result.figures[end] = {
        "filters_removed": list(depths),
        "accuracy": {name: of.mean(axis=2).tolist() for name, of in right.items()},
        "images": n,
    }
