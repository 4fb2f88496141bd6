"""The one door from the benchmarks to what lies below `import repair_engine as nr`: its rooms by their public names.

Who measures the engine needs its networks, games and phases. A call of the Python API is made ready here as the API
does it (`job_of`, `case_of`), and then taken apart.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from repair_engine import settings
from repair_engine.case.case import Case
from repair_engine.case.preparing import prepare
from repair_engine.choosing.exam import Exam
from repair_engine.choosing.orders import plan_of
from repair_engine.choosing.plan import Plan, fewest_of_the_best, make_plan, masked_predictions
from repair_engine.choosing.stepwise import AGAIN_SHARE, MARGIN, Greedy
from repair_engine.documents.filters import HEADER as FILTERS_HEADER
from repair_engine.documents.reasons import not_shown
from repair_engine.edits import rivals
from repair_engine.edits.deciding import AUTO, decide
from repair_engine.edits.workshop import Made, NotMade, Workshop
from repair_engine.models.architectures import Architecture
from repair_engine.models.preprocessing import Preprocessing
from repair_engine.network import Network, predictions
from repair_engine.network.network import two_dimensional
from repair_engine.network.write_back import apply_edits
from repair_engine.question.attacks import AttackSettings, pgd, square
from repair_engine.question.objectives import Metric, Objective, plan_batches
from repair_engine.question.reconstruction import reconstruct, suspicion_said
from repair_engine.question.request import RepairRequest
from repair_engine.search.forecast import Foresight
from repair_engine.search.game import ImageBatch, NeuronGame
from repair_engine.search.lowering import choose, lowered
from repair_engine.search.phases import affordable
from repair_engine.settings import Repair
from repair_engine.support.precision import Precision
from repair_engine.support.process import prepare_process
from repair_engine.support.progress import Teller, silent
from repair_engine.support.statistics import paired_bootstrap
from repair_engine.verbs import pipeline
from repair_engine.verbs.opening import Images, Model, device_for
from repair_engine.verbs.pipeline import Job
from repair_engine.verbs.ready import ready
from repair_engine.verbs.running import phases
from shapley import State


@contextmanager
def case_of(verb: str, model: Any, images: Any, metric: str, **options: Any) -> Iterator[Case]:
    """What a call of `repair_engine`'s function of this name reads and prepares. Raises BadInput."""
    with ready(verb, model, images, metric, None, options) as run:
        yield prepare(run.request, run.folder, given=run.given)


@contextmanager
def job_of(verb: str, model: Any, images: Any, metric: str, **options: Any) -> Iterator[Job]:
    """The same up to where it begins to sample: with its game, and its budget chosen. Raises BadInput."""
    with ready(verb, model, images, metric, None, options) as run:
        yield pipeline.prepare_job(run.request, run.folder, given=run.given)


def searched(job: Job) -> tuple[State, State | None]:
    """The final states of a job's search and of its confirmation, if it has one."""
    search, confirm = phases(job, Teller())
    assert search is not None, "exact values need no sampling; the networks here are larger"
    return search, confirm


def asked(**options: Any) -> RepairRequest:
    """What `repair_engine.score` asks for with these options, for a game at hand: it names no files."""
    score = settings.from_keywords(settings.ASKED["score"], metric="accuracy", **options)
    return RepairRequest.of(score, metric=Metric("accuracy"), model="", data="", architecture=Architecture("none", 1))
