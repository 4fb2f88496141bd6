"""The phases of a request, as functions that a command line runs in one process and a web app over many.

prepare → (search: rounds of blocks) → (confirm: rounds of blocks) → finish. The sampling phases are driven by
`shapley.start / next_round / run_block / merge_round` with the settings given here.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from repair_engine.case.case import Case
from repair_engine.case.preparing import FROM_FILES, Given, open_case, prepare
from repair_engine.case.stored_values import read_values
from repair_engine.documents import repair as documents
from repair_engine.documents.explain import ExplainRecord
from repair_engine.documents.records import RepairRecord
from repair_engine.errors import BadInput
from repair_engine.network import Network
from repair_engine.question.request import RepairRequest
from repair_engine.question.surrogates import open_surrogates
from repair_engine.question.verb import Verb
from repair_engine.search import calibrate
from repair_engine.search.forecast import Foresight
from repair_engine.search.game import NeuronGame
from repair_engine.search.lowering import choose, lowered
from repair_engine.search.phases import (
    BATCH_SIZES,
    GUESSES_FROM,
    MAX_EXACT,
    PHASES,
    SEARCH_STREAM,
    Ranking,
    affordable,
    by_hand_settings,
    confirm_settings,
    least_budget,
    least_by_hand,
    rank,
    reported,
    search_settings,
)
from repair_engine.search.records import RunRecord
from repair_engine.support.memory import give_back
from repair_engine.support.precision import Precision
from repair_engine.support.progress import Progress, silent
from repair_engine.verbs import budgets, explain
from repair_engine.verbs.finish import finish
from shapley import (
    BlockResult,
    BudgetTooSmall,
    Estimate,
    Settings,
    State,
    exact,
    merge_round,
    next_round,
    run_block,
    start,
)

__all__ = [
    "PHASES",
    "Case",
    "Job",
    "RepairRequest",
    "merge",
    "open_job",
    "phase_settings",
    "prepare_job",
    "ranking_of",
    "run_finish",
    "run_phase",
]

_BUDGET_FILE = "budget.json"


@dataclass(frozen=True)
class Job:
    """A prepared request: its case, its game on the score images, and the budget that was chosen.

    Attributes:
        game: in float32.
        search_game: the same in the search's precision.
        notes: how the budget came about, for people.
        precision: what the search computes in.
        started: when the work on it began, in seconds since the epoch.
    """

    case: Case
    game: NeuronGame
    search_game: NeuronGame
    budget: int
    notes: tuple[str, ...]
    started: float
    precision: Precision

    def playing(self, settings: Settings) -> NeuronGame:
        """The game as a phase plays it: the search in its own precision, all else in float32."""
        return self.search_game if settings.stream == SEARCH_STREAM else self.game

    @property
    def request(self) -> RepairRequest:
        return self.case.request

    def summary(self) -> dict[str, Any]:
        """What is known before sampling, JSON-able."""
        case = self.case
        everyone = case.intact == case.images.labels
        return {
            "model": documents.describe_model(case),
            "data": documents.describe_data(case),
            "metric": case.question.describe(),
            "intact": {"accuracy": float(everyone.mean())},
            "budget": self.budget,
            "notes": list(self.notes),
            "warnings": list(case.warnings),
            **({"attack_images": case.settings.attack_images} if case.question.adversary else {}),
        }


def prepare_job(
    request: RepairRequest,
    folder: Path,
    progress: Progress = silent,
    captured: Callable[[Network], None] | None = None,
    given: Given = FROM_FILES,
) -> Job:
    """Prepares a case in `folder` and fixes its budget.

    Args:
        captured, given: see `preparing.prepare`.

    Raises:
        BadInput: see `case.prepare`; or a budget that does not buy one draw.
    """
    began = time.time()
    case = prepare(request, folder, progress, captured, given)
    give_back()
    progress("measuring the speed of this machine", 0.0)
    game = case.game(request.batch_size or BATCH_SIZES[0])
    precision = Precision("float32", "float32")
    if request.estimator != "exact" and request.searches:
        precision = choose(game, request.precision, request.seed)
    search_game = game.playing(lowered(game.network, precision.used))
    if case.question.adversary:
        _check_adversaries(case, game)
    budget, notes = request.budget, _quality_notes(request, game.n_players)
    notes += [precision.note()] if precision.note() else []
    if request.estimator == "exact":
        budget = _exact_cost(game, budget)
    else:
        if budget is None:
            rates = calibrate.measure(search_game, request.seed)
            spent = time.time() - began
            budget = budgets.chosen(case, rates, spent, 60 * request.wanted_minutes)
            smallest = game if request.batch_size else game.resized(BATCH_SIZES[-1])
            budget = max(budget, least_budget(request, smallest))
            if request.by_hand:
                budget = max(budget, least_by_hand(request, game, game.network.players(request.by_hand)))
            images = f" --attack-images {case.settings.attack_images}" if case.question.adversary else ""
            if request.purpose is Verb.EXPLAIN:
                notes.append(explain.forecast_text(explain.seconds_of(case, rates, budget), spent))
            notes.append(f"Budget chosen by calibration: {budget} evaluations (repeat with --budget {budget}{images}).")
        game, _ = affordable(request, game.resized, request.purpose.search_share(budget))
        if request.searches:
            search_settings(request, game, budget)  # raises where the budget is too small
            notes.append(calibrate.reach(budget, game.n_players))
    stored = {
        "budget": budget,
        "batch_size": game.batch_size,
        "notes": notes,
        "precision": precision.to_json(),
        "started": began,
    }
    (folder / _BUDGET_FILE).write_text(json.dumps(stored))
    return Job(case, game, search_game.resized(game.batch_size), budget, tuple(notes), began, precision)


def _quality_notes(request: RepairRequest, n: int) -> list[str]:
    """What is to be said where no quality can be waited for. Raises BadInput: it is asked of too many filters."""
    if request.overlap is None:
        return []
    if request.top_k >= n:
        raise BadInput(
            f"--quality asks for the {request.top_k} filters of one end; the network has {n} in all.",
            "Ask for fewer, or leave --quality out.",
        )
    if n >= GUESSES_FROM:
        return []
    return [f"--quality is left aside: fewer than {GUESSES_FROM} filters are all sampled until the budget is spent."]


def _check_adversaries(case: Case, game: NeuronGame) -> None:
    """Raises BadInput where an attack never succeeds on the score images, or a surrogate does not fit."""
    if float(game.objective.value(game.intact)) <= 0:
        raise BadInput(
            f"The attack never succeeds on the {game.n_images} score images that it was made on: there is nothing to "
            "repair.",
            "A larger --epsilon or more --steps would show whether it can; `attack` measures without repairing.",
        )
    network, preprocessing = case.subject.network, case.images.dataset.preprocessing
    open_surrogates(case.sources.surrogates, preprocessing, case.images.shape, network.classes, network.device)


def open_job(folder: Path, verb: Verb | None = None, at: Callable[[str], str] = str) -> Job:
    """The job that `prepare_job` left in a folder.

    Args:
        at: see `preparing.open_case`.
        verb: what it is for, where it may have been prepared by a version that did not write that down.
    """
    case = open_case(folder, at)
    if verb is not None and case.settings.purpose is not verb:
        case = replace(case, request=replace(case.request, purpose=verb))
    stored = json.loads((folder / _BUDGET_FILE).read_text())
    game = case.game(stored["batch_size"])
    said = stored.get("precision") or Precision("float32", "float32").to_json()  # none: prepared by an earlier version
    precision = Precision(**said)
    search_game = game.playing(lowered(game.network, precision.used))
    return Job(case, game, search_game, stored["budget"], tuple(stored["notes"]), stored["started"], precision)


def phase_settings(job: Job, phase: str, search: State | None = None) -> Settings | None:
    """Settings of a sampling phase; None where it has nothing to do (exact values, no candidates, no budget).

    Filters chosen by hand are valued in the phase confirm. Values that were found before (`stored_values`) take the
    place of the search.

    Raises:
        BadInput: the budget does not buy a draw; there is no filter that the request names; the values do not fit.
    """
    request = job.request
    if request.purpose is Verb.SCORE and phase == "confirm":
        return None  # its values are the search's own
    if request.by_hand:
        if phase == "search":
            return None
        return by_hand_settings(request, job.game, job.game.network.players(request.by_hand), job.budget)
    if request.values is not None:
        if phase == "search" or (found := read_values(request.values, job.case)).estimator == "exact":
            return None
        enough = max(job.budget, least_budget(request, job.game))  # of a search that is not made
        return confirm_settings(request, search_settings(request, job.game, enough), found, job.budget)
    if request.estimator == "exact":
        return None
    settings = search_settings(request, job.game, job.budget)
    if phase == "search":
        return settings
    assert search is not None
    return confirm_settings(request, settings, reported(search, settings), job.budget - search.evaluations)


def merge(settings: Settings, state: State, results: Sequence[BlockResult], verb: Verb) -> State:
    """`shapley.merge_round`, in the user's words.

    Raises:
        BadInput: the pilot round showed that the budget does not buy one draw, saying what does.
    """
    try:
        return merge_round(state, settings, results)
    except BudgetTooSmall as error:
        raise BadInput(
            f"The first walks show that one draw of {settings.estimator} over {settings.n_players} filters takes more "
            f"evaluations than the budget has left.",
            f"Give --budget {verb.whole_budget(error.least)} or more, or none: then one is chosen.",
        ) from error


def run_phase(
    job: Job,
    settings: Settings,
    tick: Callable[[int], None] | None = None,
    foresight: Foresight | None = None,
) -> State:
    """All rounds of a phase in this process, each told to `foresight`. Raises BadInput, see `merge`."""
    state, game = start(settings), job.playing(settings)
    while tasks := next_round(state, settings):
        results = [run_block(game, settings, state, task, tick) for task in tasks]
        state = merge(settings, state, results, job.request.purpose)
        give_back()
        if foresight is not None:
            foresight.after_round(state)
    return state


def ranking_of(job: Job, search: State | None, confirm: State | None) -> tuple[Ranking, int]:
    """The ranking from the phases' final states (exact values where the estimator is exact), and the cost."""
    found, fresh, spent = _estimates(job, search, confirm)
    return rank(job.request, found, fresh), spent


def _estimates(job: Job, search: State | None, confirm: State | None) -> tuple[Estimate, Estimate | None, int]:
    """What both phases found, and the cost; exact values, and those of filters chosen by hand, stand for both."""
    request, fresh, spent = job.request, None, 0
    if confirm is not None:
        again = phase_settings(job, "confirm", search)
        assert again is not None
        fresh, spent = reported(confirm, again), confirm.evaluations
    if request.by_hand:
        assert fresh is not None
        return fresh, fresh, spent
    if request.values is not None:
        found = read_values(request.values, job.case)
        return found, found if found.estimator == "exact" else fresh, spent
    if request.estimator == "exact":
        values = exact(job.game)
        return values, values, values.evaluations
    assert search is not None
    settings = phase_settings(job, "search")
    assert settings is not None
    return reported(search, settings), fresh, spent + search.evaluations


def run_of(job: Job, spent: int, found: Estimate, fresh: Estimate | None) -> RunRecord:
    """How a job's estimates were obtained, for the record; with the search's precision where there was a search.

    Args:
        spent: evaluations.
    """
    seconds = time.time() - job.started
    run = documents.describe_run(job.case, job.game.batch_size, job.budget, spent, found, fresh, seconds)
    return run | {"precision": job.precision.to_json()} if job.request.searches else run


def run_finish(
    job: Job, search: State | None, confirm: State | None, out: Path, progress: Progress = silent
) -> RepairRecord | ExplainRecord:
    """Plan, checkpoint and report into `out`; the report document (see `finish.finish`).

    A request to explain leaves an explanation instead (see `explain.finish.finish`).
    """
    request = job.request
    found, fresh, spent = _estimates(job, search, confirm)
    run = run_of(job, spent, found, fresh)
    if search is not None and (images := int(search.screened.count.max(initial=0)) * job.game.batch_size):
        sampled = int((search.paired.count > 0).sum())
        run["screen"] = {"by": "gradients", "images": images, "sampled": sampled, "of": job.game.n_players}
    if request.purpose is Verb.EXPLAIN:
        return explain.finish(job.case, found, fresh, run, out, progress)
    if request.by_hand:
        players = job.game.network.players(request.by_hand)
        return finish(job.case, Ranking(players, found, found), run | {"estimator": "cmcs"}, out, progress)
    if request.values is not None:
        run |= {"estimator": found.estimator}
        run["values_from"] = {"evaluations": found.evaluations, "objectives": list(job.case.question.names)}
    return finish(job.case, rank(request, found, fresh), run, out, progress)


def _exact_cost(game: NeuronGame, budget: int | None) -> int:
    if game.n_players > MAX_EXACT:
        raise BadInput(
            f"The estimator exact enumerates 2^n coalitions: it takes at most {MAX_EXACT} filters, and this network "
            f"has {game.n_players}.",
            "Use --estimator tmab, monte_carlo or cmcs.",
        )
    cost = int(2**game.n_players * game.n_images)
    if budget is not None and budget < cost:
        raise BadInput(
            f"Exact values cost {cost:,} evaluations (2^{game.n_players} coalitions × {game.n_images} images); the "
            f"budget is {budget:,}.",
            f"Give --budget {cost} or more, or no --budget.",
        )
    return cost
