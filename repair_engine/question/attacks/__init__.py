"""Attacks on the intact (and, for honesty, on the repaired) network."""

from repair_engine.question.attacks.pgd import pgd, predicted_classes, random_point, skip_starts
from repair_engine.question.attacks.settings import AttackSettings, random_targets
from repair_engine.question.attacks.square import Queried, square

__all__ = [
    "AttackSettings",
    "Queried",
    "pgd",
    "predicted_classes",
    "random_point",
    "random_targets",
    "skip_starts",
    "square",
]
