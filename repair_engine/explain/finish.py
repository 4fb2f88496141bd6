"""From values to an explanation: rankings, removal curves, pictures, page."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from repair_engine.calibrate import LEAVE_ONE_OUT_SHARE, Rates
from repair_engine.case import Case, Progress
from repair_engine.explain import page
from repair_engine.explain.curves import curve_images, evaluations_per_image, images_for, removal_curves
from repair_engine.explain.document import explain_document
from repair_engine.explain.files import write_curves, write_filters
from repair_engine.explain.names import SHAPLEY
from repair_engine.explain.pictures import make_pictures
from repair_engine.explain.rankings import make_rankings, values_of
from repair_engine.explain.shift import logit_shift
from repair_engine.explain.visualize import COPIES, STEPS
from repair_engine.memory import give_back
from repair_engine.outputs import sha256
from shapley import Estimate

_CURVE_SECONDS = 90.0  # set aside of a calibrated run for the curves
_BACKWARD = 3  # forwards that a forward with its backward takes


def finish(
    case: Case, found: Estimate, fresh: Estimate | None, run: dict[str, Any], out: Path, progress: Progress
) -> dict[str, Any]:
    """Leaves explain.json, explain.html, filters.csv and curves.csv in `out`; the document.

    Args:
        found, fresh: of the search and the confirm phase (`found` twice where values are exact).
        run: how they were obtained (`documents.describe_run`), for the record.
    """
    asked = case.request.explain
    assert asked is not None
    out.mkdir(parents=True, exist_ok=True)
    loo = int(np.clip(LEAVE_ONE_OUT_SHARE * run["budget"] / case.network.n_filters, 4, 128))
    loo = min(loo, len(case.objective("score")))
    rankings = make_rankings(case, values_of(found, fresh), loo, asked.draws, progress)
    give_back()
    images = curve_images(case, images_for(case, run["budget"]))
    curves = removal_curves(case, rankings, images, asked.remove, progress)
    give_back()
    progress("shifting the logits, for comparison", 0.0)
    document = explain_document(case, found, fresh, rankings, curves, images, run)
    document["curves"]["logit_shift"] = logit_shift(case, images)
    pictures = make_pictures(case, rankings.order(SHAPLEY), progress)
    document["pictures"] = pictures.rows
    write_filters(document["filters"], out / "filters.csv")
    write_curves(curves, out / "curves.csv")
    for name in ("filters.csv", "curves.csv"):
        document["files"][name.removesuffix(".csv")] = {"name": name, "sha256": sha256(out / name)}
    (out / "explain.json").write_text(json.dumps(document, indent=1))
    (out / "explain.html").write_text(page.render(document, pictures), encoding="utf-8")
    return document


def finish_seconds(case: Case, rates: Rates) -> float:
    """About how long all this takes, for the calibration of a budget."""
    asked, network = case.request.explain, case.network
    assert asked is not None
    curves = len(case.splits.report) * evaluations_per_image(network.n_filters, asked.remove, asked.draws)
    leave_one_out = 4 * network.n_filters / rates.toggle
    ascents = 2 * 2 * asked.visualize * STEPS * COPIES * _BACKWARD / rates.forward
    return 10.0 + min(curves / rates.forward, _CURVE_SECONDS) + leave_one_out + ascents
