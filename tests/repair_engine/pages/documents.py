"""Report documents as the engine writes them, made by hand so that every number in them is known."""

from __future__ import annotations

import copy
from functools import cache
from typing import Any

import numpy as np
import torch

from repair_engine.documents.measures import group_table
from repair_engine.documents.repair import judge
from repair_engine.question.attacks import AttackSettings
from repair_engine.question.victims import AttackImages
from repair_engine.studies.attack_rows import BLACK_BOX, REPLAY, WHITE_BOX, Row, describe_rows
from repair_engine.studies.calibration import describe

Document = dict[str, Any]
METRICS = ("accuracy", "recall:shirt", "subgroup-recall:ground", "attack-success")


def change(value: float, half: float = 0.02) -> Document:
    return {
        "value": value,
        "lower": value - half,
        "upper": value + half,
        "level": 0.95,
        "method": "paired stratified percentile bootstrap",
        "mcnemar": {"lost": 7, "won": 31, "p_value": 0.00012, "method": "asymptotic"},
    }


def groups(names: list[str], sizes: list[int], gained: list[int]) -> list[Document]:
    """A table of groups of which three quarters were right, and then `gained` more of each."""
    return copy.deepcopy(_groups(tuple(names), tuple(sizes), tuple(gained)))


@cache
def _calibration(changed: bool, subgroups: bool) -> Document:
    """Of a model twice too sure; a change makes it half as sure."""
    rng = np.random.default_rng(4)
    logits = rng.normal(0, 3, (563, 3)).astype(np.float32)
    labels = np.where(rng.random(563) < 0.75, logits.argmax(1), rng.integers(0, 3, 563))
    after = logits / 2 if changed else logits
    groups = ["dark"] * 263 + ["light"] * 300 if subgroups else None
    return dict(describe(labels, logits, after, groups, (labels, logits, after), 5))


@cache
def _groups(names: tuple[str, ...], sizes: tuple[int, ...], gained: tuple[int, ...]) -> list[Document]:
    codes = np.repeat(np.arange(len(sizes)), sizes)
    before = np.concatenate([np.arange(n) < (3 * n) // 4 for n in sizes])
    after = np.concatenate([np.arange(n) < (3 * n) // 4 + g for n, g in zip(sizes, gained)])
    return group_table(names, before, after, codes)


def document(metric: str = "recall:shirt", k: int = 2, culprits: int = 4, gain: float | None = None) -> Document:
    """A report document with `k` of `culprits` ablated; `gain` defaults to a clear improvement."""
    kind, _, argument = metric.partition(":")
    attack = kind == "attack-success"
    if gain is None:
        gain = (-0.2 if attack else 0.1) if k else 0.0
    sign = 1 if attack else -1
    text = {
        "accuracy": "accuracy",
        "recall": f"recall of {argument}",
        "subgroup-recall": f"mean recall over the values of {argument}",
        "attack-success": "success of the attack",
    }[kind]
    before = {part: {"metric": 0.55, "accuracy": 0.81} for part in ("score", "select", "report", "all")}
    after = {part: {"metric": 0.55 + gain, "accuracy": 0.8} if k else dict(row) for part, row in before.items()}
    made: Document = {
        "schema": 1,
        "verb": "repair",
        "outcome": "",
        "reasons": [],
        "k": k,
        "metric": {"name": metric, "text": text, "goal": "lower" if attack else "raise"},
        "model": {
            "file": "model.safetensors",
            "sha256": "a" * 64,
            "architecture": "resnet18",
            "num_classes": 3,
            "options": {"width": 64},
            "registered": None,
            "logits": 3,
            "filters": 688,
            "sites": 19,
            "parameter_share": 0.9714,
            "not_players": [{"name": "fc", "filters": 3, "reason": "its channels are the logits"}],
        },
        "data": {
            "file": "images.zip",
            "sha256": "b" * 64,
            "images": 2250,
            "classes": [{"name": n, "images": 750} for n in ("shirt", "coat", "bag")],
            "splits": {"score": 1125, "select": 562, "report": 563},
            "group": None,
            "preprocessing": {"resize": None, "crop": None, "mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25]},
            "notes": [],
        },
        "limits": {"max_clean_drop": 0.02, "max_subgroup_drop": 0.1, "max_filters": 50},
        "run": {
            "estimator": "cmcs",
            "ablation": "activation_mean",
            "images_per_draw": 32,
            "budget": 300_000,
            "budget_was": "given",
            "evaluations": 299_123,
            "rounds": 7,
            "stopped": "budget",
            "depth": 84,
            "seed": 5,
            "device": "cpu",
            "threads": 1,
            "instruction_set": "AVX512",
            "seconds": 141.5,
            "interval": {"name": "clt", "claims": 4, "text": "asymptotic, 95% for all 4 intervals together"},
            "reported_values": "fresh samples",
            "estimand": "the Shapley value of each filter for the metric on the score images",
            "certificate": None,
        },
        "culprit_sign": sign,
        "culprits": [
            {
                "id": f"layer{i + 1}.conv1:{7 * i}",
                "rank": i + 1,
                "value": sign * 0.0123 / (i + 1),
                "lower": sign * 0.0123 / (i + 1) - 0.002,
                "upper": sign * 0.0123 / (i + 1) + 0.002,
                "std_error": 0.001,
                "searched_value": sign * 0.0150 / (i + 1),
                "samples": 1234 + i,
                "constant": 0.318_25 + i,
                "ablated": i < k,
            }
            for i in range(culprits)
        ],
        "curve": [
            {
                "k": i,
                "objective": 0.55 + gain * min(i, max(k, 1)) / max(k, 1) if k else 0.55 - 0.01 * i,
                "clean": 0.81 - 0.005 * i,
                "guard": None,
                "subgroup_drop": 0.01 * i if kind == "subgroup-recall" else None,
                "feasible": i <= max(k, 1),
            }
            for i in range(culprits + 1)
        ],
        "controls": [],
        "groups": {"classes": groups(["shirt", "coat", "bag"], [200, 80, 20], [24, -3, 0] if k else [0, 0, 0])},
        "report_uses": 1,
        "warnings": [],
        "versions": {"python": "3.11.2", "torch": "2.14.1"},
        "files": {},
        "verification": {
            "images": 2250,
            "different_predictions": 0,
            "largest_logit_difference": 1.5e-6,
            "how": "the written file, reloaded into the plain module in a fresh process, against the masked network",
        },
        "before": before,
        "after": after,
        "gain": change(gain, 0.02 if k else 0.0),
        "clean_change": change(-0.01 if k else 0.0, 0.005 if k else 0.0),
        "images_right": {"before": 456, "after": 450 if k else 456, "n": 563},
    }
    made["calibration"] = _calibration(bool(k), kind == "subgroup-recall")
    if kind == "subgroup-recall":
        made["groups"]["subgroups"] = groups(["dark", "light"], [263, 300], [-4, 60] if k else [0, 0])
    if attack:
        made["attack"] = {
            "settings": AttackSettings.of("paper").to_json(),
            "images": {"score": 1100, "select": 550, "report": 551},
            "left_out": {"score": 25, "select": 12, "report": 12},
            "rows": attack_rows() if k else [],
            "self_tests": [
                {
                    "key": "black-box-is-not-better",
                    "model": "repaired",
                    "warns": True,
                    "text": "Queries beat gradients: the gradients mislead the attack.",
                    "figures": {"n": 100},
                }
            ]
            if k
            else [],
            "note": "A repaired model stays open to new attacks made on it.",
        }
    if k:
        made["controls"] = controls(made["after"]["report"]["metric"], -sign)
    judge(made)
    if made["outcome"] == "repaired":
        made["files"]["checkpoint"] = {"name": "repaired.safetensors", "sha256": "c" * 64}
    return made


def attack_rows() -> list[Document]:
    """The four rows without a surrogate; shares of 551 images, and of 100 that are queried."""
    images = AttackImages(
        np.arange(551), torch.zeros(551, 1, 1, 1, dtype=torch.uint8), np.zeros(551, int), np.ones(551, int), True
    )

    def predicted(hits: int, right: int, n: int = 551) -> np.ndarray:
        return np.repeat([1, 0, 2], [hits, right, n - hits - right])

    before = predicted(303, 100)
    how = {"seed": 5, **{key: value for key, value in AttackSettings.of("paper").to_json().items() if key != "preset"}}
    asked = {
        "seed": 5, "norm": "linf", "epsilon": 16 / 255, "queries": 500,
        "queries_used": {"before": 210.4, "after": 402.6},
    }  # fmt: skip
    few = images.subset(images.spread(100))
    rows = [
        Row("replay", REPLAY, images, before, predicted(193, 226), "the intact model", how),
        Row("white-box", WHITE_BOX, images, before, predicted(276, 121), "each model itself", {**how, "seed": 6}),
        Row("black-box", BLACK_BOX, few, predicted(60, 20, 100), predicted(40, 30, 100), "each model itself", asked),
    ]
    return describe_rows(rows, 5, 0.95)


def controls(metric: float, up: int) -> list[Document]:
    """Random picks that lose, leave-one-out that cannot be told apart, and a logit shift that wins."""
    return [
        {
            "name": "random",
            "metric": metric - up * 0.11,
            "accuracy": 0.80,
            "picks": 10,
            "metric_range": sorted([metric - up * 0.13, metric - up * 0.09]),
            "accuracy_range": [0.78, 0.81],
        },
        {
            "name": "leave-one-out",
            "metric": metric - up * 0.01,
            "accuracy": 0.79,
            "picks": 1,
            "advantage": change(up * 0.01),
            "note": "ranked on 64 score images",
        },
        {
            "name": "logit shift",
            "metric": metric + up * 0.05,
            "accuracy": 0.8,
            "picks": 1,
            "advantage": change(-up * 0.05),
            "note": "coordinate search over per-class offsets",
        },
    ]


def with_guard(made: Document) -> Document:
    made["guard"] = {"n": 400, "before": 0.9, "after": 0.85}
    made["data"]["guard"] = {
        "file": "guard.zip", "sha256": "d" * 64, "select": 400, "report": 400, "excluded": 3,
    }  # fmt: skip
    for step in made["curve"]:
        step["guard"] = 0.9 - 0.01 * step["k"]
    return made
