"""Between the web application's JSON and the engine's records. Imported by workers only (it needs torch)."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from repair_engine.pages.explain_page import at_ends
from repair_engine.question.objectives import Metric
from repair_engine.question.request import RepairRequest
from repair_engine.question.surrogates import Surrogate
from repair_engine.question.verb import Verb
from repair_engine.search.phases import reported
from repair_engine.settings import Repair
from repair_engine.support.statistics import finite
from shapley import Settings, State
from webapp.jobs.requests import VALUES, stored
from webapp.library.checkpoints import Opened, open_upload

LEADERS = 12  # shown while a repair runs
MOST_ROWS = 200  # of a table that is kept in the database; the report has them all


def repair_request(asked: dict, work: Path) -> RepairRequest:
    """The engine's request for what `requests.for_engine` gives. Raises BadInput."""
    model, guard = asked["model"], asked["guard"]
    opened = _open(model, work / "model")
    classes = None
    if model["classes_text"]:
        classes = work / "class list"  # as messages call it
        classes.write_text(model["classes_text"], encoding="utf-8")
    record = stored(asked)
    parent = asked.get("parent") or {}
    given: dict[str, Any] = {"report_uses": asked.get("report_uses", 0)}
    given["looked_before"] = asked.get("looked_before", False)
    if guard:
        given |= {"guard": guard["path"], "guard_split_folder": guard.get("split_folder", "")}
    triggered, trigger = asked.get("triggered"), asked.get("trigger")  # a job from before has neither
    if triggered:
        given |= {"triggered": triggered["path"], "triggered_split_folder": triggered["split_folder"]}
    if trigger:
        given["trigger"] = str(shutil.copyfile(trigger["path"], work / trigger["file_name"]))
    if isinstance(record, Repair):
        budget = record.budget or parent.get("budget")
        if parent.get("values"):
            given["values"] = str(shutil.copyfile(parent["values"], work / VALUES))  # the parent may be deleted
            if record.estimator != "exact" and budget:  # the fresh samples' share of what a search would have
                budget = record.budget or max(1, int(budget * Verb.REPAIR.fresh))
        record = replace(record, budget=budget, attack_images=record.attack_images or parent.get("attack_images"))
    return RepairRequest.of(
        record,
        model=str(opened.path),
        data=asked["data"]["path"],
        architecture=opened.architecture,
        metric=Metric.parse(record.metric),
        classes=str(classes) if classes else None,
        split_folder=asked["data"].get("split_folder", ""),
        preprocessing=opened.preprocessing,
        surrogates=tuple(_surrogate(one, work / f"surrogate-{i}") for i, one in enumerate(asked["surrogates"])),
        weights=model["weights"],
        device=asked["device"],
        apart=True,
        names={
            "model": model["file_name"],
            "data": asked["data"]["file_name"],
            **({"guard": guard["file_name"]} if guard else {}),
            **({"triggered": triggered["file_name"]} if triggered else {}),
            **({"trigger": trigger["file_name"]} if trigger else {}),
        },
        **given,
    )


def _open(model: dict, folder: Path) -> Opened:
    keys = ("file_name", "architecture", "num_classes", "options", "register", "preprocessing")
    place = {key: model.get(key, "") for key in ("key", "strip_prefix")}  # a job from before has neither
    return open_upload(Path(model["path"]), **{key: model[key] for key in keys}, **place, folder=folder)


def _surrogate(model: dict, folder: Path) -> Surrogate:
    opened, mean, std = _open(model, folder), model.get("mean", ()), model.get("std", ())
    return Surrogate(
        str(opened.path), opened.architecture, tuple(mean), tuple(std), model["file_name"], model["weights"]
    )


def summary(found: dict[str, Any]) -> dict[str, Any]:
    """What preparing found, short enough for a row."""
    model = {**found["model"], "not_players": found["model"]["not_players"][:MOST_ROWS]}
    data = {**found["data"], "classes": found["data"]["classes"][:MOST_ROWS]}
    return {**found, "model": model, "data": data}


def snapshot(settings: Settings, state: State, filters: list[str], sign: int) -> dict[str, Any]:
    """A point of the convergence chart, and the present leaders, the worst culprit first."""
    point: dict[str, Any] = {
        "evaluations": state.evaluations,
        "budget": settings.budget,
        "stopped": state.stopped,
        "depth": state.depth,
        "leaders": [],
        "half_width": None,
    }
    if state.round == 0 or not (state.moments.count > 0).any():
        return point
    now = reported(state, settings)
    values, lower, upper = now.values[0], now.lower[0], now.upper[0]
    ranked = np.where(np.isnan(values), np.nan, now.ranked)
    order = np.argsort(np.where(np.isnan(ranked), np.inf, -sign * ranked), kind="stable")[:LEADERS]
    leaders = [
        {
            "id": filters[player],
            "value": finite(values[player]),
            "lower": finite(lower[player]),
            "upper": finite(upper[player]),
            "samples": int(now.samples[player]),
        }
        for player in order
        if np.isfinite(values[player])
    ]
    widths = [
        (row["upper"] - row["lower"]) / 2 for row in leaders if row["upper"] is not None and row["lower"] is not None
    ]
    point["leaders"] = leaders
    point["half_width"] = float(np.median(widths)) if widths else None
    return point


def headline(document: dict[str, Any]) -> dict[str, Any]:
    """The report without its long tables and what `summary` has; `repaired` says what came of it."""
    if document.get("verb") == "explain":
        return _explained(document)
    if document.get("verb") == "score":
        return _scored(document)
    left_out = ("schema", "verb", "model", "data", "versions")
    kept = {key: value for key, value in document.items() if key not in left_out}
    kept["groups"] = {name: rows[:MOST_ROWS] for name, rows in document.get("groups", {}).items()}
    if "fairness" in kept:
        fairness = kept["fairness"]
        kept["fairness"] = fairness | {key: fairness[key][:MOST_ROWS] for key in ("rows", "rates") if key in fairness}
    return {"repaired": document["outcome"] == "repaired", **kept}


def _scored(document: dict[str, Any]) -> dict[str, Any]:
    """The values of every objective's ends alone; the files have them all."""
    left_out = ("schema", "verb", "model", "data", "versions", "filters", "score_images", "constants_from")
    kept = {key: value for key, value in document.items() if key not in left_out}
    lists = ("values", "std_errors", "lower", "upper")
    kept["objectives"] = [
        {key: value for key, value in row.items() if key not in lists} for row in document["objectives"]
    ]
    return {"repaired": False, "scored": True, **kept}


def _explained(document: dict[str, Any]) -> dict[str, Any]:
    """An explanation with the filters of both ends alone, of which the pages show no more."""
    left_out = ("schema", "verb", "model", "data", "versions", "pictures")
    kept = {key: value for key, value in document.items() if key not in left_out}
    ends = [row for rows in at_ends(document) for row in rows]
    kept["filters"] = list({row["id"]: row for row in ends}.values())
    kept["layers"], kept["blocks"] = document["layers"][:MOST_ROWS], document["blocks"][:MOST_ROWS]
    return {"repaired": False, "explained": True, **kept}
