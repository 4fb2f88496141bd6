"""The values of all filters as a result: what `score` leaves in a folder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from repair_engine.case.case import Case
from repair_engine.case.stored_values import FILE as VALUES_FILE
from repair_engine.case.stored_values import write_values
from repair_engine.documents import repair as documents
from repair_engine.documents.estimates import FILE as ESTIMATE_FILE
from repair_engine.documents.estimates import EstimateRecord, estimate_document
from repair_engine.documents.objectives import ScoreRecord, objective_rows
from repair_engine.search.records import ForecastRecord
from repair_engine.studies.noise import noise_of, noise_warning
from repair_engine.support.outputs import write_json
from repair_engine.verbs import pipeline
from shapley import Estimate, State, exact

SCORE_FILE = "score.json"


@dataclass(frozen=True)
class Scored:
    """Values of all filters.

    Attributes:
        document: score.json.
        sent: estimate.json, for `merge`.
        estimate: of the metric and all further objectives, [M, n].
    """

    case: Case
    document: ScoreRecord
    sent: EstimateRecord
    estimate: Estimate

    def write(self, out: Path) -> None:
        """score.json, estimate.json and objectives.npz into a folder, which is made."""
        out.mkdir(parents=True, exist_ok=True)
        write_json(self.document, out / SCORE_FILE)
        write_json(self.sent, out / ESTIMATE_FILE)
        write_values(self.case, self.estimate, out / VALUES_FILE)


def scored(
    job: pipeline.Job,
    search: State | None,
    forecast: ForecastRecord | None = None,
    tick: Callable[[int], None] | None = None,
) -> Scored:
    """From the search's final state (None: the estimator is exact) to the result.

    Args:
        job: of the verb score.
        forecast: what was foretold of the search, for the record.
        tick: told the evaluations of an enumeration.
    """
    case, names = job.case, job.case.images.dataset.file_names
    settings = pipeline.phase_settings(job, "search")
    estimate = exact(job.game, tick) if search is None or settings is None else pipeline.reported(search, settings)
    run = pipeline.run_of(job, estimate.evaluations, estimate, None) | {"forecast": forecast}
    silent = [name for m, name in enumerate(case.question.names) if not np.any(np.nan_to_num(estimate.values[m]))]
    noisy = noise_warning(noise_of(estimate.values[0], estimate.std_errors[0]))
    everyone = np.ones((1, case.subject.network.n_filters), dtype=bool)
    document: ScoreRecord = {
        "schema": documents.SCHEMA,
        "verb": "score",
        "metric": case.question.describe(),
        "model": documents.describe_model(case),
        "data": documents.describe_data(case),
        "run": run,
        "value_of_all": float(job.game.evaluate(everyone, job.game.full_batch()).values[0, 0]),
        "filters": [documents.filter_row(case, p, estimate) for p in range(case.subject.network.n_filters)],
        "score_images": (
            [names[i] for i in case.images.splits.score] if case.question.further else case.question.file_names("score")
        ),
        "constants_from": [names[i] for i in case.images.splits.score],
        "warnings": [*case.warnings, *([noisy] if noisy else []), *([_silence(silent)] if silent else [])],
        "versions": documents.versions(),
        "objectives": objective_rows(case, job.game, estimate),
    }
    sent = estimate_document(case, estimate, settings, run, document["value_of_all"])
    return Scored(case, document, sent, estimate)


def _silence(names: list[str]) -> str:
    return (
        f"All values are 0 for {', '.join(names)}: no filter changed a prediction that counts there in any sample. "
        "With few samples that says nothing about the filters; a larger budget would."
    )
