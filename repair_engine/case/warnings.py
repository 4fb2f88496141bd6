"""What an auditor must be told of a prepared case before its figures are read."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from repair_engine.network import constant_of
from repair_engine.support.statistics import REFUSE_BELOW

if TYPE_CHECKING:
    from repair_engine.case.case import Case

_NEAR_CHANCE = 0.1  # of the way from chance to perfect


def warnings_of(case: Case, intact: np.ndarray, attacked: int | None) -> list[str]:
    """Sentences for the report.

    Args:
        intact: the intact network's predictions of all images, int64 [N].
        attacked: report images that are attacked; None: the metric is not about attacks.
    """
    return [
        *_chance_warning(case, intact),
        *_few_warning(case, attacked),
        *_coverage_warning(case),
        *_constant_warning(case),
    ]


def _few_warning(case: Case, attacked: int | None) -> list[str]:
    """Subgroups have warnings of their own."""
    metric = case.request.metric
    labels = case.dataset.labels[case.indices("report")]
    if metric.kind == "recall":
        labels = labels[labels == metric.class_index(case.dataset.class_names)]
    n = len(labels) if attacked is None else attacked
    if metric.kind == "subgroup-recall" or n >= REFUSE_BELOW:
        return []
    return [
        f"The report measures {metric} on {n} {'image' if n == 1 else 'images'}: intervals are wide, and whatever is "
        f"gained is shown on these alone. {REFUSE_BELOW} are the least that should decide anything."
    ]


def _chance_warning(case: Case, intact: np.ndarray) -> list[str]:
    accuracy = float((intact == case.dataset.labels).mean())
    chance = 1.0 / max(case.checkpoint.architecture.num_classes, 2)
    if accuracy > chance + _NEAR_CHANCE * (1.0 - chance):
        return []
    return [
        f"The intact model is right on {accuracy:.1%} of the images; chance is {chance:.1%}. Usual mistakes: "
        "normalization (--mean, --std), class order (--classes), input size (--resize, --crop), channel order "
        "(RGB or BGR)."
    ]


def _constant_warning(case: Case) -> list[str]:
    sites = case.network.sites
    without = [s for s in sites if constant_of(s, "bn_beta") == "mean"]
    if case.request.constant == "mean" or not without:
        return []
    return [
        f"--constant bn_beta: {sum(s.channels for s in without):,} of {case.network.n_filters:,} filters have no batch "
        "norm of their own and are ablated to their mean."
    ]


def _coverage_warning(case: Case) -> list[str]:
    share = case.network.coverage.share
    if share >= 0.5:
        return []
    return [f"The units cover {share:.0%} of the network's parameters; what the rest does cannot be repaired here."]
