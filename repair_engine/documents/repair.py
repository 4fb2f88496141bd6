"""report.json and repair.json as dictionaries. Their keys are part of the product's interface."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from importlib import metadata
from typing import Any, cast

import numpy as np
import torch

from repair_engine import __version__
from repair_engine.case.case import Case
from repair_engine.case.inspection import describe_onnx, kinds_of
from repair_engine.choosing.plan import Plan
from repair_engine.choosing.selection import describe as describe_selection
from repair_engine.data import SPLITS
from repair_engine.documents.edits import is_changed, rivals_said, standing
from repair_engine.documents.reasons import JUDGED_BY, beyond_limits, goal_of, points, reasons_of
from repair_engine.documents.records import (
    CulpritRow,
    DataRecord,
    FilterRow,
    LimitsRecord,
    ModelRecord,
    PlanRecord,
    RepairRecord,
    some_of,
)
from repair_engine.models.hf_models import config_sha256
from repair_engine.network import constant_of
from repair_engine.question.subgroups import size_warnings
from repair_engine.search.phases import Ranking
from repair_engine.search.records import Certificate, RunRecord, interval_words
from repair_engine.studies.calibration import surer
from repair_engine.support.words import first_few
from shapley import Estimate

SCHEMA = 1
REPAIRED, NO_REPAIR, NOT_SHOWN = "repaired", "no_repair_found", "not_shown_to_help"  # outcomes


def versions() -> dict[str, str]:
    packages = ("torch", "torchvision", "numpy", "pillow", "safetensors")
    installed = {name: metadata.version(name) for name in packages}
    return {"neuron-repair": __version__, "python": platform.python_version(), **installed}


def instruction_set() -> str:
    """The widest vector instructions that this process lets torch use: sums of float32 round by it.

    oneDNN, which computes convolutions on a CPU, has a limit of its own.
    """
    limit = os.environ.get("ONEDNN_MAX_CPU_ISA") or os.environ.get("DNNL_MAX_CPU_ISA")
    return torch.backends.cpu.get_cpu_capability() + (f", oneDNN at most {limit}" if limit else "")


def describe_model(case: Case) -> ModelRecord:
    architecture, network = case.subject.checkpoint.architecture, case.subject.network
    return {
        "file": case.sources.name_of("model"),
        "sha256": case.subject.checkpoint.sha256,
        "architecture": architecture.name,
        "num_classes": architecture.num_classes,
        "options": dict(architecture.options),
        "weights": case.sources.weights,
        "key": architecture.key,
        "strip_prefix": architecture.strip_prefix,
        "registered": architecture.register.get(architecture.name),
        "onnx": describe_onnx(case.subject.checkpoint),
        "config_sha256": None if architecture.config is None else config_sha256(architecture.config),
        "logits": network.classes,
        "filters": network.n_filters,
        "sites": len(network.sites),
        "parameter_share": round(network.coverage.share, 4),
        "kinds": kinds_of(network),
        "not_players": [p.to_json() for p in network.not_players],
    }


_INPUTS = ("file", "sha256", "split_folder", "images", "splits", "group", "preprocessing")


def describe_data(case: Case) -> DataRecord:
    dataset = case.images.dataset
    counts = np.bincount(dataset.labels, minlength=len(dataset.class_names))
    document: DataRecord = {
        "file": case.sources.name_of("data"),
        "sha256": dataset.sha256,
        "images": len(dataset),
        "classes": [{"name": n, "images": int(c)} for n, c in zip(dataset.class_names, counts)],
        "splits": {part: len(case.images.indices(part)) for part in SPLITS},
        "group": case.settings.group,
        "preprocessing": dataset.preprocessing.to_json(),
        "notes": list(dataset.notes),
    }
    if dataset.split:
        document["split_folder"] = dataset.split
    if (guard := case.images.guard) is not None:
        document["guard"] = {
            "file": case.sources.name_of("guard"),
            "sha256": guard.dataset.sha256,
            **({"split_folder": guard.dataset.split} if guard.dataset.split else {}),  # type: ignore[typeddict-item]
            "select": len(guard.parts.select),
            "report": len(guard.parts.report),
            "excluded": len(guard.parts.excluded),
        }
    return document


def describe_run(
    case: Case,
    batch_size: int,
    budget: int,
    evaluations: int,
    found: Estimate,
    fresh: Estimate | None,
    seconds: float,
) -> RunRecord:
    """How the estimate was obtained."""
    settings = case.settings
    shown = fresh or found
    certificate: Certificate | None = None
    if found.certificate is not None:
        c = found.certificate
        certificate = {
            "walks": c.walks,
            "intact": float(c.intact[0]),
            "at_stop": float(c.stop[0]),
            "all_ablated": float(c.empty[0]),
            "missing": float(c.missing[0]),
            "missing_error": None if np.isnan(c.missing_error[0]) else float(c.missing_error[0]),
        }
    return {
        "estimator": settings.estimator,
        "ablation": {"mean": "activation_mean"}.get(settings.constant, settings.constant),
        "constants": _constants(case),
        "constants_from": case.subject.constants_from,
        "images_per_draw": batch_size,
        "budget": budget,
        "budget_was": "given" if settings.budget else "calibrated",
        "evaluations": evaluations,
        "rounds": found.rounds,
        "stopped": found.stopped,
        "depth": found.depth,
        "expected_overlap": found.expected_overlap,
        "seed": settings.seed,
        "device": settings.device,
        "threads": torch.get_num_threads(),
        "instruction_set": instruction_set(),
        "seconds": round(seconds, 1),
        "interval": interval_words(shown.interval),
        "reported_values": "fresh samples" if fresh is not None and fresh is not found else found.estimator,
        "estimand": "the Shapley value of each filter for the metric on the score images",
        "certificate": certificate,
    }


def _constants(case: Case) -> dict[str, int]:
    """How many filters have each kind of constant."""
    counts: dict[str, int] = {}
    for site in case.subject.network.sites:
        kind = constant_of(site, case.subject.constant)
        counts[kind] = counts.get(kind, 0) + site.channels
    return counts


def filter_row(case: Case, player: int, estimate: Estimate) -> FilterRow:
    """One filter as `score --json` gives it; bounds are null where it was never sampled."""

    def number(array: np.ndarray) -> float | None:
        value = float(array[0][player])
        return None if np.isnan(value) else value

    row: FilterRow = {
        "id": case.subject.network.filter_id(player),
        "kind": case.subject.network.kind(player),
        "value": number(estimate.values),
        "lower": number(estimate.lower),
        "upper": number(estimate.upper),
        "std_error": number(estimate.std_errors),
        "samples": int(estimate.samples[player]),
        "constant": case.subject.network.constant(player),
        "constant_from": case.subject.constant_from(player),
    }
    if estimate.best is not None:
        row["best"] = float(estimate.best[player])
    return row


def report_document(case: Case, ranking: Ranking, plan: Plan, run: RunRecord) -> RepairRecord:
    """The report before anything is measured on *report*."""
    shown = ranking.fresh or ranking.found
    culprits: list[CulpritRow] = [
        {
            **filter_row(case, int(player), shown),
            "rank": rank,
            "ablated": rank <= plan.k,
            "searched_value": float(ranking.found.ranked[int(player)]),
            "edits": [edit.to_json() for edit in case.subject.edits(int(player))],
        }
        for rank, player in enumerate(ranking.players, 1)
    ]
    warnings = list(case.warnings)
    warnings += _size_warnings(case)
    if case.settings.report_uses:
        warnings.append(
            f"Before this repair was asked for, {case.settings.report_uses} other report(s) on the same report images "
            "had been made. A choice made after reading them is not judged on unseen images: its figures tend to be "
            "too good."
        )
    document: RepairRecord = {
        "schema": SCHEMA,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "verb": "repair",
        "outcome": "",
        "reasons": [],
        "k": plan.k,
        "metric": case.question.describe(),
        "model": describe_model(case),
        "data": describe_data(case),
        "limits": cast(LimitsRecord, asdict(case.settings.limits)),
        "run": run,
        "culprit_sign": case.settings.metric.culprit_sign,
        "culprits": culprits,
        "curve": [step.to_json() for step in plan.steps],
        "by_hand": bool(case.settings.by_hand),
        "selection": None if plan.stability is None else describe_selection(plan.stability, plan.k),
        "controls": [],
        "groups": {},
        "report_uses": 1 + case.settings.report_uses,
        "warnings": warnings,
        "versions": versions(),
        "files": {},
    }
    if case.question.adversary:
        attacked = case.question.attacked
        document["attack"] = {
            "settings": case.settings.attack.to_json(),
            "images": {part: len(a.indices) for part, a in attacked.items()},
            "left_out": {part: a.excluded for part, a in attacked.items()},
            "rows": [],
            "note": "A repaired model stays open to new attacks made on it (Ghorbani & Zou 2020, §4); "
            "the row of the new white-box attack shows how open.",
        }
    return document


def judge(document: RepairRecord) -> None:
    """Sets `outcome` and `reasons`: "no repair found" is a valid answer, and an improvement must be shown.

    Filters that were chosen by hand give their checkpoint all the same; then the outcome says "not_shown_to_help".
    """
    reasons = reasons_of(document)
    chosen = document.get("by_hand") and is_changed(document)
    document["outcome"] = REPAIRED if not reasons else NOT_SHOWN if chosen else NO_REPAIR
    if document["outcome"] == NO_REPAIR and (said := rivals_said(document)):
        reasons.append(said)
    document["reasons"] = reasons
    document["beyond_limits"] = beyond_limits(document)
    document["findings"] = _findings(document)


def repair_document(document: RepairRecord) -> PlanRecord:
    """What a pipeline needs to trace and repeat the repair."""
    keys = ("schema", "outcome", "reasons", "k", "metric", "limits", "selection", "orders", "edit", "run", "versions",
            "files", "verification")  # fmt: skip
    of_model = ("file", "sha256", "architecture", "num_classes", "options", "weights", "key", "strip_prefix")
    of_others = ("id", "kind", "rank", "constant", "edits")
    rows = document["culprits"]
    made = {
        **some_of(document, keys),
        "inputs": {
            "model": some_of(document["model"], of_model),
            "data": some_of(document["data"], _INPUTS),
            "guard": document["data"].get("guard"),
        },
        "filters": [row for row in rows if row["ablated"]],
        "candidates": [some_of(row, of_others) for row in rows if not row["ablated"]],
        **some_of(document, ("before", "after", "gain")),
        **of_goal(document),
    }
    return cast(PlanRecord, made)


def of_goal(document: Mapping[str, Any]) -> dict[str, Any]:
    """`fairness` of report.json, of it what the repair was judged by; empty where that is the metric."""
    key = JUDGED_BY.get(goal_of(document))
    return {"fairness": some_of(document["fairness"], (key,))} if key else {}


def _findings(document: RepairRecord) -> list[str]:
    """Sentences that an auditor would want to read first."""
    findings = []
    for table, rows in document["groups"].items():
        aim = (
            document["metric"].get("forgetting", {}).get("of_class")
        )  # that it is recognised less is what is asked for
        worse = [r for r in rows if r["change"] < 0 and (table != "classes" or r["name"] != aim)]
        if is_changed(document) and worse and table != "cells":  # many and small: the table says it
            names = [f"{r['name']} ({points(r['change'])}, n = {r['n']})" for r in worse]
            findings.append(f"{table.capitalize()} that got worse: {first_few(names, 10)}.")
    worst = document["fairness"]["worst"] if "fairness" in document else None
    if is_changed(document) and worst and worst["change"]["value"] < 0:
        findings.append(
            f"The worst subgroup is worse off than before: {worst['after']['name']} with "
            f"{worst['after']['recall']:.1%} ({worst['before']['name']} had {worst['before']['recall']:.1%})."
        )
    if is_changed(document) and "calibration" in document and surer(document["calibration"]) == "more":
        excess = document["calibration"]["overconfidence"]
        findings.append(
            f"Confidence exceeds accuracy by more than before: {points(excess['before'])}, now "
            f"{points(excess['after'])} (confidence minus accuracy on the report images)."
        )
    controls = document["controls"] if is_changed(document) else []
    for stands, said in ((-1, "Did better than the repair"), (0, "Not told apart from the repair")):
        rivals = [f"“{row['name']}” ({row['metric']:.1%})" for row in controls if standing(row, document) == stands]
        if rivals:
            findings.append(f"{said}: {first_few(rivals, 10)}.")
    return findings + _attack_findings(document)


def _attack_findings(document: RepairRecord) -> list[str]:
    """How open the repaired model stays, and what the self-tests warn of."""
    if "attack" not in document:
        return []
    attack, found = document["attack"], []
    for row in attack["rows"]:
        if row["kind"] == "white-box":
            found.append(
                f"A new white-box attack on the repaired model wins {row['success']:.1%} of {row['n']} images "
                f"(before the repair: {row['before']['success']:.1%})."
            )
    tests = [test for test in attack.get("self_tests", []) if test["warns"]]
    return found + [f"Attacks on the {test['model']} model: {test['text']}" for test in tests]


def _size_warnings(case: Case) -> list[str]:
    groups = case.question.groups("report")
    if groups is None:
        return []
    return size_warnings(groups, case.images.labels[case.images.splits.report], case.images.class_names)
