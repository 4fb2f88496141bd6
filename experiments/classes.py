"""Class-specific critical filters: recall of one class, and accuracy on the others, as its critical filters go.

The paper (§4, Fig. 2): removing the top 40 filters for one of four ImageNet classes destroys that class's recall
while the accuracy over all classes stays; class-specific filters lie in deeper layers.
"""

from __future__ import annotations

import numpy as np

from experiments.charts import Series, lines
from experiments.common import (
    RANDOM,
    SHAPLEY,
    Options,
    Result,
    Say,
    grid,
    importances,
    opened,
    orders,
    report_images,
    right_after,
    said_of,
    share,
    spread,
    values_of,
)

CLASS = "truck"
DEPTHS = (0, 1, 2, 5, 10, 15, 20, 40)
LOO_IMAGES = 100
TOP = 20


def run(options: Options, say: Say) -> Result:
    """Recall by all rankings; accuracy on the other classes by Shapley values and at random."""
    result = Result()
    with opened(options.network, f"recall:{CLASS}", options, side="top") as job:
        case, n = job.case, job.game.n_players
        depths = tuple(d for d in DEPTHS if d <= n)
        say("values")
        values = values_of(job)
        importance = importances(case, values, LOO_IMAGES, options.seed)
        label = case.settings.metric.class_index(case.images.class_names)
        report = case.images.splits.report
        mine = report[case.images.labels[report] == label]
        others = report_images(case, options.images)
        others = others[case.images.labels[others] != label]
        recall: dict[str, np.ndarray] = {}
        accuracy: dict[str, np.ndarray] = {}
        for name, some in orders(importance, options.seed, True).items():
            say(name)
            recall[name] = np.stack([right_after(case, mine, o, depths) for o in some])
            if name in (SHAPLEY, "response norm"):
                accuracy[name] = right_after(case, others, some[0], depths)
        sites = [
            case.subject.network.sites[s].name for s in case.subject.network.site_of(np.argsort(-values.best)[:TOP])
        ]
        names = [s.name for s in case.subject.network.sites]
    rows = []
    for i, depth in enumerate(depths):
        cells = [share(of[0, i]) for name, of in recall.items() if name != RANDOM]
        rows.append([depth, *cells, spread(recall[RANDOM][:, i]),
                     *(share(of[i]) for of in accuracy.values())])  # fmt: skip
    result.sections = [
        f"{options.network}, {n} filters, CIFAR-10, class {CLASS!r}: recall on its {len(mine)} report images and "
        f"accuracy on {len(others)} report images of the other classes, in percent with 95% Wilson intervals; "
        f"{RANDOM}: mean (least to most). Leave-one-out on {LOO_IMAGES} score images of the class. {said_of(values)}",
        grid(["filters removed", *(f"recall: {r}" for r in recall), *(f"others: {a}" for a in accuracy)], rows),
        f"Sites of the top {TOP}: " + ", ".join(f"{s} {sites.count(s)}" for s in names) + ".",
    ]
    series = [Series(f"recall, {k}", list(zip(depths, v.mean(axis=(0, 2)).tolist()))) for k, v in recall.items()]
    series.append(Series("other classes, Shapley value", list(zip(depths, accuracy[SHAPLEY].mean(axis=1).tolist()))))
    title = f"Recall of {CLASS} as its critical filters are removed"
    result.plots["classes.svg"] = lines(series, title, "filters removed", "share right", "classes")
    result.figures = {
        "class": CLASS,
        "filters_removed": list(depths),
        "recall": {k: v.mean(axis=2).tolist() for k, v in recall.items()},
        "others": {k: v.mean(axis=1).tolist() for k, v in accuracy.items()},
        "top_sites": sites,
    }
    return result
