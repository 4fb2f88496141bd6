"""Attacks on the intact (and, for honesty, on the repaired) network."""

from repair_engine.attacks.pgd import AttackSettings, pgd, random_targets

__all__ = ["AttackSettings", "pgd", "random_targets"]
