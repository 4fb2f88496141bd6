"""The dropout effect: two networks trained alike, one of them with filter dropout.

The paper (§4, Fig. 4), SqueezeNet on CelebA with p = 0.5: values with dropout are more concentrated around zero, the
network is more robust to the removal of its most valuable filters (30 of them still destroy it) and of almost half of
the least.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F

import repair_engine as nr
from benchmarks.sources import SOURCES
from experiments.charts import Series, histogram, lines
from experiments.common import (
    Options,
    Result,
    Say,
    grid,
    job_of,
    report_images,
    right_after,
    said_of,
    share,
    values_of,
)

P_DROP = 0.5  # the paper's
TRAINED = 0.6  # of the images; the others are the experiment's
EPOCHS = 24
BATCH = 64
RATE = 3e-3
TOP = (0, 1, 2, 3, 5, 8, 12, 20, 30)
BOTTOM = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)


def run(options: Options, say: Say) -> Result:
    """Trains both, values both, removes from both ends."""
    found = {}
    model, images = SOURCES[options.network].open()
    pixels, labels = torch.from_numpy(np.array(images.dataset.images)), images.labels
    rng = np.random.default_rng([options.seed, 0xE5])
    training = np.zeros(len(labels), dtype=bool)
    for c in np.unique(labels):
        inside = rng.permutation(np.flatnonzero(labels == c))
        training[inside[: round(TRAINED * len(inside))]] = True
    rest = nr.open_images((pixels[~training], labels[~training]), classes=images.class_names)
    for twin, p in (("without dropout", 0.0), ("with dropout", P_DROP)):
        say(f"training {twin}")
        build = partial(model.checkpoint.architecture.build, random_init=True)
        network, fit = _train(build, pixels[training], labels[training], p, options.seed, EPOCHS)
        say(f"values {twin}")
        asked = {"budget": options.budget, "seed": options.seed, "side": "both"}
        with job_of("score", network, rest, "accuracy", **asked) as job:
            case, n = job.case, job.game.n_players
            values = values_of(job)
            report = report_images(case, options.images)
            order = np.argsort(-values.best, kind="stable")
            bottom = [round(s * n) for s in BOTTOM]
            found[twin] = {
                "fit": fit,
                "values": values,
                "most": right_after(case, report, order, TOP),
                "least": right_after(case, report, order[::-1].copy(), bottom),
                "smallest": right_after(case, report, np.argsort(np.abs(values.best), kind="stable"), bottom),
            }
    return _tell(options, found, int(training.sum()), n, bottom)


def _train(
    build: Callable[[], torch.nn.Module], pixels: torch.Tensor, labels: np.ndarray, p: float, seed: int, epochs: int
) -> tuple[torch.nn.Module, float]:
    """The network after these epochs of Adam, in eval mode, and its accuracy on the training images.

    A dropped filter is zero over its whole map (Tompson et al., arXiv 1411.4280), at the place where it is ablated.
    """
    torch.manual_seed(seed)
    network = build()
    norms = [m for m in network.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    places = norms or [m for m in network.modules() if isinstance(m, torch.nn.Conv2d)]
    hooks = [m.register_forward_hook(lambda m, _, out: F.dropout2d(out, p, m.training)) for m in places] if p else []
    truth, order = torch.from_numpy(labels), torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(network.parameters(), lr=RATE)
    steps = len(labels) // BATCH
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=epochs * steps)
    for _ in range(epochs):
        network.train()
        for chosen in torch.randperm(len(labels), generator=order)[: steps * BATCH].split(BATCH):
            images = pixels[chosen].float().div(255)
            flip = torch.rand(len(images), generator=order) < 0.5
            images[flip] = images[flip].flip(3)
            loss = F.cross_entropy(network(images), truth[chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    for hook in hooks:
        hook.remove()
    network.eval()
    with torch.inference_mode():
        right = torch.cat([network(part.float().div(255)).argmax(1) for part in pixels.split(250)]) == truth
    return network, float(right.float().mean())


def _tell(options: Options, found: dict, trained: int, n: int, bottom: list[int]) -> Result:  # type: ignore[type-arg]
    result = Result()
    images = next(iter(found.values()))["most"].shape[1]
    rows = []
    for twin, of in found.items():
        values = of["values"].best
        scale = np.abs(values).sum()
        first = np.sort(values)[::-1]
        near = float((np.abs(values) < 0.1 * np.abs(values).max()).mean())
        kurtosis = float(((values - values.mean()) ** 4).mean() / values.var() ** 2)
        rows.append(
            [twin, f"{100 * of['fit']:.1f}", share(of["most"][0]), f"{values.std():.4f}",
             f"{near:.0%}", f"{kurtosis:.1f}",
             f"{first[:10].sum() / scale:.0%}", f"{100 * of['values'].reliability:.0f}%"]
        )  # fmt: skip
    result.sections = [
        f"{options.network} ({n} filters), both trained from scratch on the same {trained} images for {EPOCHS} epochs "
        f"of Adam, one with filter dropout (p = {P_DROP}); {images} report images that neither training nor the "
        "values saw.",
        grid(["network", "accuracy on training images", "on report images [95%]", "standard deviation of values",
              "values below a tenth of the largest",
              "kurtosis", "top 10's share of the sum of absolute values", "not sampling noise"],
             rows),
    ]  # fmt: skip
    for end, what in (
        ("most", "most valuable"),
        ("least", "least valuable"),
        ("smallest", "smallest in size of value"),
    ):
        depths = TOP if end == "most" else tuple(bottom)
        cells = [[d, *(share(of[end][i]) for of in found.values())] for i, d in enumerate(depths)]
        title = f"Accuracy as the filters are removed, the {what} first"
        result.sections += [f"### {title}", grid(["filters removed", *found], cells)]
        series = [Series(t, list(zip(depths, of[end].mean(axis=1).tolist()))) for t, of in found.items()]
        ident = f"dropout-{options.network}-{end}"
        result.plots[f"{ident}.svg"] = lines(series, title, "filters removed", "accuracy", ident)
    result.sections.append(" ".join(f"{t.capitalize()}: {said_of(of['values'])}" for t, of in found.items()))
    ident = f"dropout-{options.network}-values"
    result.plots[f"{ident}.svg"] = histogram(
        {t: of["values"].best for t, of in found.items()}, "Values of all filters", "value", ident
    )
    result.figures = {
        t: {"fit": of["fit"], "values": of["values"].best.tolist()}
        | {end: of[end].mean(axis=1).tolist() for end in ("most", "least", "smallest")}
        for t, of in found.items()
    }
    return result
