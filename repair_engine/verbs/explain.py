"""From values to an explanation: rankings, removal curves, pictures, page."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from repair_engine.case.case import Case
from repair_engine.documents.explain import ExplainRecord, explain_document
from repair_engine.documents.explain_files import write_curves, write_filters
from repair_engine.pages import explain_page as page
from repair_engine.search.calibrate import LEAVE_ONE_OUT_SHARE, Rates
from repair_engine.search.records import RunRecord
from repair_engine.studies.explain_curves import curve_images, evaluations_per_image, images_for, removal_curves
from repair_engine.studies.names import SHAPLEY
from repair_engine.studies.pictures import make_pictures
from repair_engine.studies.rankings import make_rankings, values_of
from repair_engine.studies.shift import logit_shift
from repair_engine.studies.visualize import COPIES, STEPS
from repair_engine.support.memory import give_back
from repair_engine.support.outputs import listed, write_json
from repair_engine.support.progress import Progress
from shapley import Estimate

_SEARCH = 1.5  # what a search takes against single flips: its filters lie early, and a screen goes before
_FIXED_SECONDS = 10.0  # document, page, small forwards
_BACKWARD = 3  # forwards that a forward with its backward takes


def finish(
    case: Case, found: Estimate, fresh: Estimate | None, run: RunRecord, out: Path, progress: Progress
) -> ExplainRecord:
    """Leaves explain.json, explain.html, filters.csv and curves.csv in `out`; the document.

    Args:
        found, fresh: of the search and the confirm phase (`found` twice where values are exact).
        run: how they were obtained (`documents.describe_run`), for the record.
    """
    asked = case.settings.explain
    assert asked is not None
    out.mkdir(parents=True, exist_ok=True)
    loo = int(np.clip(LEAVE_ONE_OUT_SHARE * run["budget"] / case.subject.network.n_filters, 4, 128))
    loo = min(loo, len(case.question.objective("score")))
    rankings = make_rankings(case, values_of(found, fresh), loo, asked.draws, progress)
    give_back()
    images = curve_images(case.question, images_for(case, run["budget"]), case.settings.seed)
    curves = removal_curves(case, rankings, images, asked.remove, progress)
    give_back()
    progress("shifting the logits, for comparison", 0.0)
    document = explain_document(case, found, fresh, rankings, curves, images, run)
    document["curves"]["logit_shift"] = logit_shift(case, images)
    give_back()
    pictures = make_pictures(case, rankings.order(SHAPLEY), progress)
    document["pictures"] = pictures.rows
    write_filters(document["filters"], out / "filters.csv")
    write_curves(curves, out / "curves.csv")
    document["files"] |= listed(out, {"filters": "filters.csv", "curves": "curves.csv"})
    write_json(document, out / "explain.json")
    (out / "explain.html").write_text(page.render(document, pictures), encoding="utf-8")
    return document


def seconds_of(case: Case, rates: Rates, budget: int) -> dict[str, float]:
    """About how long each part takes with a budget: the search, and all that follows it."""
    asked, network = case.settings.explain, case.subject.network
    assert asked is not None
    sets = 1 if case.settings.metric.kind == "accuracy" else 2
    images = sets * min(images_for(case, budget), len(case.images.splits.report))
    curves = images * evaluations_per_image(network, asked.remove, asked.draws)
    loo = min(int(np.clip(LEAVE_ONE_OUT_SHARE * budget / network.n_filters, 4, 128)), len(case.images.splits.score))
    ascents = 2 * 2 * asked.visualize * STEPS * COPIES * _BACKWARD
    looked_at = len(case.images.splits.select) + len(case.images.splits.report)
    looked_at += len(case.images.splits.score) if asked.pictures or asked.visualize else 0
    speed = rates.toggle if case.settings.estimator in ("cmcs", "fast") else rates.walk
    return {
        "search": _SEARCH * budget / speed,
        "rankings": loo * network.n_filters / rates.toggle,
        "curves": curves / rates.masked,
        "pictures": ascents / rates.forward + looked_at / rates.forward + _FIXED_SECONDS,
    }


def forecast_text(seconds: dict[str, float], spent: float) -> str:
    """How long the whole run will take, and what of it."""
    parts = ", ".join(f"{name} {_duration(value)}" for name, value in seconds.items())
    return f"About {_duration(sum(seconds.values()) + spent)} in all on this machine as it is now: {parts}."


def _duration(seconds: float) -> str:
    return f"{seconds / 60:.1f} min" if seconds >= 60 else f"{max(seconds, 1):.0f} s"
