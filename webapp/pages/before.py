"""A look at a model and a dataset before a run, as its page and the form of a repair show it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.urls import reverse
from django.utils.http import urlencode

from repair_engine.pages import baseline_charts
from repair_engine.pages.calibration import reliability_chart
from webapp.jobs import baselines, naming
from webapp.jobs.selectors import live_workers
from webapp.library.models import DatasetUpload, ModelUpload

SHOWN = 8  # counterparts that an upload's page names


def look(model: ModelUpload, dataset: DatasetUpload, whole: bool = False, asks: bool = True) -> dict[str, Any]:
    """The context of both; a worker is asked where nothing is known yet.

    Args:
        whole: with what the page alone shows.
        asks: whether who looks may ask a worker.
    """
    found = baselines.wanted(model, dataset, asks)
    context: dict[str, Any] = {"model": model, "dataset": dataset, "baseline": found, "asks": asks}
    if found is None:
        return context
    new = reverse("pages:new_repair")
    pair = {"model": model.pk, "dataset": dataset.pk}
    figures, speed = found.figures, found.speed
    context |= {"nobody": found.state in ("nothing", "figures") and not live_workers(), "foreseen": foreseen(speed)}
    if figures:
        context["suggestions"] = [
            {
                "words": naming.metric_words(one["metric"]),
                "why": one["why"],
                "url": f"{new}?{urlencode({**pair, 'metric': one['metric']})}",
            }
            for one in figures["suggestions"]
        ]
    if figures and whole:
        context |= {
            "reliability": reliability_chart({"this model": figures["calibration"]}),
            "recalls": baseline_charts.recalls(figures["classes"]),
            "matrix": [*zip(figures["class_names"], figures["matrix"], strict=True)],
        }
    return context


def foreseen(speed: Mapping[str, Any] | None) -> dict[str, str]:
    """Effort -> what a search of accuracy can find with it here; empty where nothing is known."""
    if speed is None:
        return {}
    return {row["effort"]: _foreseen(row, speed) for row in speed["efforts"]}


def _foreseen(row: Mapping[str, Any], speed: Mapping[str, Any]) -> str:
    units = speed["units"]
    each = row["budget"] / units
    many = f"{_about(each):,}" if each >= 10 else f"{each:.1f}"
    said = f"About {_about(row['budget']):,} evaluations here, {many} for each of {units:,} units"
    if row["overlap"] is None:
        return f"{said}."
    low, high = (f"{end:.2f}" for end in row["overlap"])
    between = low if low == high else f"{low} to {high}"
    return f"{said}: the lowest {speed['top_k']} with an expected overlap of {between}."


def _about(number: float) -> int:
    """Two digits of it."""
    return int(float(f"{number:.2g}"))


def partners(upload: ModelUpload | DatasetUpload, others: Any) -> list[dict[str, str]]:
    """Addresses of the baselines of an upload with the newest of the others that are ready."""
    found = []
    for other in others.filter(state=upload.State.READY)[:SHOWN]:
        pair = (upload, other) if isinstance(upload, ModelUpload) else (other, upload)
        found.append({"name": other.name, "url": address(*pair)})
    return found


def address(model: ModelUpload, dataset: DatasetUpload) -> str:
    return reverse("pages:model_baseline", args=[model.pk, dataset.pk])
