"""The two phases of sampling: *search* ranks all filters, *confirm* values the reported ones on fresh samples.

Means that an adaptive search ends with are biased, and so are means that were picked for being extreme; what is
reported comes from samples that had no part in the picking.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from repair_engine.errors import BadInput
from repair_engine.game import NeuronGame
from repair_engine.request import RepairRequest
from shapley import BudgetTooSmall, Estimate, Settings, State, draw_cost, estimate, start

CONFIRM_SHARE = 0.3  # of the budget
DELTA = 0.05
MAX_EXACT = 20  # players
_BLOCK = 20_000  # evaluations that a block is about
_ROUND = 8  # blocks
PHASES = ("search", "confirm")

Players = tuple[int, ...] | None


def search_settings(
    request: RepairRequest, game: NeuronGame, budget: int, confirm: bool = True, players: Players = None
) -> Settings:
    """Settings of the search phase; the rest of the budget is left for `confirm_settings` if asked.

    Args:
        players: the only ones to value (`repair_engine.screen`); None = all.

    Raises:
        BadInput: the budget does not buy one draw, saying what does.
    """
    settings = _search_settings(request, game, search_share(budget) if confirm else budget, players)
    try:
        start(settings)
    except BudgetTooSmall as error:
        enough = least_budget(request, game, confirm, players)
        raise BadInput(
            f"A budget of {budget:,} evaluations does not buy one draw of {request.estimator} over "
            f"{game.n_players} filters with {game.batch_size} images.",
            f"Give --budget {enough} or more, or fewer images per draw with --batch-size.",
        ) from error
    return settings


def search_share(budget: int) -> int:
    """Evaluations of the search phase where a confirm phase follows."""
    return max(1, int(budget * (1 - CONFIRM_SHARE)))


def least_budget(request: RepairRequest, game: NeuronGame, confirm: bool = True, players: Players = None) -> int:
    """The smallest budget that surely buys the pilot and one draw, however deep the pilot finds that draws go."""
    settings = _search_settings(request, game, 1, players)
    try:
        start(settings)
    except BudgetTooSmall as error:
        least = error.least
    else:
        least = 1
    state = start(replace(settings, budget=least))
    if state.depth is None:  # then `least` reckons with draws of depth 1
        shallow, deep = (draw_cost(replace(state, depth=depth), settings) for depth in (1, game.n_players))
        least += deep - shallow
    return whole_budget(least, confirm)


def whole_budget(search: int, confirm: bool) -> int:
    """The smallest budget whose search share is at least `search` evaluations."""
    whole = int(np.ceil(search / (1 - CONFIRM_SHARE))) if confirm else search
    return whole if not confirm or int(whole * (1 - CONFIRM_SHARE)) >= search else whole + 1


def _search_settings(request: RepairRequest, game: NeuronGame, budget: int, players: Players) -> Settings:
    sign = game.objective.culprit_sign
    side = request.side or ("bottom" if sign < 0 else "top")
    if request.estimator == "tmab" and game.n_players < 2:
        raise BadInput("The estimator tmab tells filters apart; this network has one.", "Use --estimator exact.")
    return Settings(
        estimator=request.estimator,  # type: ignore[arg-type]
        n_players=game.n_players,
        batch_size=game.batch_size,
        budget=budget,
        seed=request.seed,
        stream=0,
        top_k=min(request.top_k, max(1, (game.n_players - 1) // (2 if side == "both" else 1))),
        side=side,  # type: ignore[arg-type]
        tol=1e-4,
        delta=DELTA,
        resolution=game.plan.resolution,
        blocks_per_round=_ROUND,
        players=players,
        draws_per_block=_draws_per_block(request.estimator, game, game.n_players if players is None else len(players)),
    )


def confirm_settings(
    request: RepairRequest, search: Settings, state: State, found: Estimate, budget: int
) -> Settings | None:
    """Settings of the confirm phase over the candidates; None if there are none or the budget is spent."""
    candidates = candidate_players(request, found)
    if not len(candidates):
        return None
    settings = Settings(
        estimator="cmcs",
        n_players=search.n_players,
        batch_size=search.batch_size,
        budget=max(1, budget - state.evaluations),
        seed=request.seed,
        stream=1,
        tol=0.0,
        delta=DELTA,
        depth=state.depth,
        resolution=search.resolution,
        players=tuple(int(p) for p in candidates),
        blocks_per_round=_ROUND,
    )
    cost = (1 + len(candidates)) * search.batch_size
    if settings.budget < cost:
        return None
    per_block = max(1, min(_BLOCK // cost, settings.budget // cost // _ROUND))
    settings = Settings(**{**settings.__dict__, "draws_per_block": per_block})
    assert draw_cost(start(settings), settings) == cost
    return settings


def candidate_players(request: RepairRequest, found: Estimate) -> np.ndarray:
    """The culprits-to-be, worst first: at most `max_filters` players whose value has the culprits' sign."""
    sign = culprit_sign(request)
    badness = np.where(np.isnan(found.values[0]), 0.0, sign * found.values[0])
    order = np.argsort(-badness, kind="stable")[: request.limits.max_filters]
    return order[badness[order] > 0]


def culprit_sign(request: RepairRequest) -> int:
    """+1 where culprits have positive values (attack success is to be lowered), else −1."""
    return 1 if request.metric.kind == "attack-success" else -1


@dataclass(frozen=True)
class Ranking:
    """Culprits in the order in which they are tried, with the fresh estimate that is reported.

    Attributes:
        players: int64 [m], worst first.
        found: of the search phase, all filters.
        fresh: of the confirm phase; `found` itself where that is exact; None where there was no budget for it.
    """

    players: np.ndarray
    found: Estimate
    fresh: Estimate | None


def rank(request: RepairRequest, found: Estimate, fresh: Estimate | None) -> Ranking:
    """Orders the candidates by both estimates, weighted by their precision."""
    candidates = candidate_players(request, found)
    values = found.values[0][candidates]
    if fresh is not None and fresh is not found:
        searched, confirmed = _precision(found, candidates), _precision(fresh, candidates)
        values = (searched * values + confirmed * fresh.values[0][candidates]) / (searched + confirmed)
    sign = culprit_sign(request)
    order = np.argsort(-sign * values, kind="stable")
    order = order[sign * values[order] > 0]
    return Ranking(candidates[order], found, fresh)


def claims_of(settings: Settings) -> int:
    return settings.n_candidates


def reported(state: State, settings: Settings) -> Estimate:
    """The estimate as it is displayed: CLT intervals (bounded-range below 30 samples), union over its claims."""
    return estimate(state, settings, interval="clt", delta=DELTA, claims=settings.n_candidates)


def _precision(of: Estimate, players: np.ndarray) -> np.ndarray:
    errors = of.std_errors[0][players]
    counts = of.samples[players]
    # Mostly-zero samples have no spread to go by; their count then decides.
    floor = 0.25 / np.maximum(counts, 1)
    return np.where(
        counts > 0, 1.0 / (np.maximum(np.nan_to_num(errors, nan=1.0), 1e-9) ** 2 + (0.01 * floor) ** 2), 0.0
    )


def _draws_per_block(estimator: str, game: NeuronGame, players: int) -> int:
    coalitions = players if estimator == "cmcs" else max(1, players // 4)
    return max(1, _BLOCK // (coalitions * game.batch_size))
