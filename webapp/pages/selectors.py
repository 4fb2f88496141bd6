"""Reads: what the pages show of a person's things."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from webapp.accounts.models import User
from webapp.jobs import access, listing, live, triggers
from webapp.jobs.engine import get_engine
from webapp.jobs.models import FINISH, PREPARE, Artifact, Job
from webapp.library.models import DatasetUpload, ModelUpload, Upload

SHOWN = 8  # of each kind on the start page
MEANINGS = {
    PREPARE: "check the input, capture the network",
    "search": "value every filter",
    "confirm": "value the culprits again on fresh samples",
    FINISH: "choose how many, write, verify, report",
}
EXPLAIN_MEANINGS = {
    "confirm": "value the filters of both ends again on fresh samples",
    FINISH: "measure removal curves, picture filters",
}
SCORE_MEANINGS = {FINISH: "write the values of all filters"}
BY_HAND_MEANINGS = {"confirm": "value the chosen filters", FINISH: "ablate, write, verify, report"}
ATTACK_MEANINGS = {PREPARE: "check the request and the model", FINISH: "attack, query, test, report"}
CHECKPOINT = "the repaired checkpoint: same architecture, same keys"
FILES = {
    "report.html": "the report as one page, to read and to pass on",
    "report.json": "the report as data",
    "repair.json": "inputs, filters, constants, seed and versions: what a pipeline needs to repeat it",
    "edit.safetensors": "the tensors that the repair tuned: with repair.json, apply makes or undoes the edit",
    "predictions.csv": "every image's prediction before and after",
    "guard_predictions.csv": "the same for the guard set",
    "corrupted.csv": "every corrupted image's kind, and its prediction before and after",
    "rates.csv": "true and false positive rates of every class in every subgroup, before and after",
    "attacks.csv": "every attacked image's prediction before and after, by each adversary",
    "explain.html": "the explanation as one page, with pictures of filters",
    "explain.json": "the explanation as data; two of them can be compared",
    "curves.csv": "every point of every removal curve",
    "score.json": "every filter's value as data; two of them can be compared",
    "objectives.npz": "the values for every objective: a repair may start from them, here or on the command line",
    "values.npz": "the values that the search found: a repair may start from them, here or on the command line",
    "choice.npz": "what was predicted of every select image after each removal, for numpy.load",
    "estimate.json": "what merging with other parties' runs needs of this one",
    "attack.html": "what was measured as one page, to read and to pass on",
    "attack.json": "what was measured as data",
    "attack.csv": "every attacked image's predictions, by each adversary",
    "adversarial.pack": "pictures of the adversarial images, as this page shows them",
    "attack.npz": "the fixed set: names, labels, targets and adversarial pixels, for numpy.load",
    "repaired_compact.safetensors": "the network without the culprits' channels: not equal to the repaired checkpoint, "
    "measured by itself",
    "repaired_compact.json": "the compact network's widths, and the code that loads it into the original architecture",
    "filters.csv": "every filter's value with its interval",
    **dict.fromkeys(triggers.NAMES, "the trigger's patch, as it was sent"),
}


@dataclass(frozen=True)
class Board:
    """The start page. Counts are of everything, the lists hold the newest.

    Attributes:
        checking: an upload is being checked, so the lists will change.
        first: nobody has done everything once, so the steps are shown.
    """

    models: list[ModelUpload]
    datasets: list[DatasetUpload]
    jobs: list[Job]
    n_models: int
    n_datasets: int
    n_jobs: int
    ready_model: bool
    ready_dataset: bool
    checking: bool

    @property
    def first(self) -> bool:
        return self.n_jobs == 0


def dashboard(user: User) -> Board:
    models, datasets, runs = access.models_of(user), access.datasets_of(user), access.jobs_of(user)
    checking = Upload.State.VALIDATING
    return Board(
        models=list(models[:SHOWN]),
        datasets=list(datasets[:SHOWN]),
        jobs=with_progress(listing.rows(runs.filter(archived_at=None))[:SHOWN]),
        n_models=models.count(),
        n_datasets=datasets.count(),
        n_jobs=runs.count(),
        ready_model=models.filter(state=Upload.State.READY).exists(),
        ready_dataset=datasets.filter(state=Upload.State.READY).exists(),
        checking=models.filter(state=checking).exists() or datasets.filter(state=checking).exists(),
    )


def with_progress(runs: Iterable[Job]) -> list[Job]:
    """Rows of a table; those that still run have `now`, their progress, from one query for all of them."""
    rows = list(runs)
    working = [row.pk for row in rows if not row.ended]
    found = {job.pk: job for job in watched(live.read(working))} if working else {}
    for row in rows:
        seen = found.get(row.pk)
        row.now, row.seen_as, row.live_maker = (seen.now, seen.seen_as, seen.live_maker) if seen else (None, "", None)
    return rows


def watched(rows: list[Job]) -> list[Job]:
    """Of those of `live.watched`, with `now`: its progress, None where it has ended; and `seen_as`: its version."""
    for row in rows:
        row.now = None if row.ended else live.progress(row)
        row.seen_as = live.version(row)
    return rows


@dataclass(frozen=True)
class Phase:
    name: str
    meaning: str
    done: bool
    current: bool


def phases(job: Job) -> list[Phase]:
    """A job's phases in order."""
    left_out = {"confirm"} if job.scores else set() if job.searches else {"search"}
    left_out |= set(get_engine().phases) if job.attacks else set()
    names = [name for name in (PREPARE, *get_engine().phases, FINISH) if name not in left_out]
    at = names.index(job.phase) if job.phase in names else 0
    meanings = MEANINGS | (EXPLAIN_MEANINGS if job.explains else SCORE_MEANINGS if job.scores else {})
    if job.attacks:
        meanings |= ATTACK_MEANINGS
    if job.request.get("filters"):
        meanings |= BY_HAND_MEANINGS
    return [
        Phase(name, meanings.get(name, ""), i < at or job.state == Job.State.SUCCEEDED, i == at and not job.ended)
        for i, name in enumerate(names)
    ]


def rounds(job: Job) -> tuple[list[dict], int]:
    """Points of the convergence chart over all phases: {phase, evaluations, half_width}, and the right edge."""
    points, before, total, phase, last = [], 0, 0, "", 0
    for point in live.series(job):
        if point["phase"] != phase:
            phase, before, last = point["phase"], before + last, 0
        last = point.get("evaluations") or 0
        total = before + max(point.get("budget") or 0, last)
        if point.get("half_width") is not None:
            points.append({"phase": phase, "evaluations": before + last, "half_width": point["half_width"]})
    return points, total


@dataclass(frozen=True)
class Download:
    artifact: Artifact
    meaning: str
    checkpoint: bool


def downloads(job: Job) -> list[Download]:
    """The result files, the checkpoint first."""
    found = []
    for artifact in job.artifacts.select_related("blob"):
        checkpoint = artifact.name.startswith("repaired.")
        meaning = (
            "the repaired checkpoint: same architecture, same keys" if checkpoint else FILES.get(artifact.name, "")
        )
        found.append(Download(artifact, meaning, checkpoint))
    order = list(FILES)
    return sorted(
        found,
        key=lambda d: (not d.checkpoint, order.index(d.artifact.name) if d.artifact.name in order else len(order)),
    )
