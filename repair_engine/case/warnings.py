"""What an auditor must be told of a prepared case before its figures are read."""

from __future__ import annotations

import numpy as np

from repair_engine.network import constant_of
from repair_engine.network.subject import Subject
from repair_engine.question.question import Question
from repair_engine.support.statistics import REFUSE_BELOW

_NEAR_CHANCE = 0.1  # of the way from chance to perfect


def warnings_of(question: Question, subject: Subject, intact: np.ndarray) -> list[str]:
    """Sentences for the report; `intact`: the intact network's predictions of all images, int64 [N]."""
    return [
        *chance_warning(
            float((intact == question.images.labels).mean()),
            subject.checkpoint.architecture.num_classes,
            question.metric.triggered,
        ),
        *_few_warning(question),
        *_coverage_warning(subject),
        *_constant_warning(subject),
    ]


def _few_warning(question: Question) -> list[str]:
    """Subgroups have warnings of their own."""
    n = len(question.labels("report"))
    if question.subgroups is not None or n >= REFUSE_BELOW:
        return []
    return [
        f"The report measures {question.metric} on {n} {'image' if n == 1 else 'images'}: intervals are wide, and "
        f"whatever is gained is shown on these alone. {REFUSE_BELOW} are the least that should decide anything."
    ]


def chance_warning(accuracy: float, num_classes: int, triggered: bool = False) -> list[str]:
    """Of a model that hardly does better than chance: what is mostly wrong then.

    Args:
        triggered: a trigger is declared, which images that are taken for clean may carry.
    """
    chance = 1.0 / max(num_classes, 2)
    if accuracy > chance + _NEAR_CHANCE * (1.0 - chance):
        return []
    carrying = ", images that carry the trigger among the clean ones" if triggered else ""
    return [
        f"The intact model is right on {accuracy:.1%} of the images; chance is {chance:.1%}. Usual mistakes: "
        "normalization (--mean, --std), class order (--classes), input size (--resize, --crop), channel order "
        f"(RGB or BGR){carrying}."
    ]


def _constant_warning(subject: Subject) -> list[str]:
    network = subject.network
    without = [s for s in network.sites if constant_of(s, "bn_beta") == "mean"]
    if subject.constant == "mean" or not without:
        return []
    return [
        f"--constant bn_beta: {sum(s.channels for s in without):,} of {network.n_filters:,} filters have no batch "
        "norm of their own and are ablated to their mean."
    ]


def _coverage_warning(subject: Subject) -> list[str]:
    share = subject.network.coverage.share
    if share >= 0.5:
        return []
    return [f"The units cover {share:.0%} of the network's parameters; what the rest does cannot be repaired here."]
