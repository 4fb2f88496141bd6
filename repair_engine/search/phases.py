"""The two phases of sampling: *search* ranks all filters, *confirm* values the reported ones on fresh samples.

Means that an adaptive search ends with are biased, and so are means that were picked for being extreme; what is
reported comes from samples that had no part in the picking.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from repair_engine.errors import BadInput
from repair_engine.question.request import RunSettings
from repair_engine.question.verb import Verb
from repair_engine.search.game import NeuronGame
from shapley import BudgetTooSmall, Estimate, Settings, State, draw_cost, estimate, fast, start

DELTA = 0.05
MAX_EXACT = 20  # players
_BLOCK = 20_000  # evaluations that a block is about
_ROUND = 8  # blocks
PHASES = ("search", "confirm")
SEARCH_STREAM = 0  # of random numbers; what is valued afresh has another
GUESSES_FROM = 64  # filters; with fewer, sampling them all costs little more than guessing
_SCREEN_SHARE = 0.25  # of the search budget
_LEAST_SCREEN = 8  # draws
_MOST_SCREENED = 40_000  # images
_CONTENDERS = 6  # filters sampled for each one asked for
_LEAST_CONTENDERS = 64
BATCH_SIZES = (32, 16, 8, 4)  # images per draw, the most that still buys enough draws
_ENOUGH_FOR_SIZE = 40  # draws
_ENOUGH_OF_FAST = 10  # each image has a coalition of its own anyway, and small batches are slow
_ENOUGH_DRAWS = 4  # over all filters, for `score` to sample them all


def search_settings(request: RunSettings, game: NeuronGame, budget: int) -> Settings:
    """Settings of the search phase; what the verb leaves of the budget is for `confirm_settings`.

    Raises:
        BadInput: the budget does not buy one draw, saying what does.
    """
    settings = _search_settings(request, game, request.purpose.search_share(budget))
    try:
        start(settings)
    except BudgetTooSmall as error:
        enough = least_budget(request, game)
        raise BadInput(
            f"A budget of {budget:,} evaluations does not buy one draw of {request.estimator} over "
            f"{game.n_players} filters with {game.batch_size} images.",
            f"Give --budget {enough} or more, or fewer images per draw with --batch-size.",
        ) from error
    return settings


def least_budget(request: RunSettings, game: NeuronGame) -> int:
    """The smallest budget that surely buys the pilot and one draw, however deep the pilot finds that draws go."""
    return request.purpose.whole_budget(least_search(_search_settings(request, game, 1)))


def _search_settings(request: RunSettings, game: NeuronGame, budget: int) -> Settings:
    n = game.n_players
    sign = game.objective.culprit_sign
    side = request.side or ("bottom" if sign < 0 else "top")
    if request.estimator == "tmab" and n < 2:
        raise BadInput("The estimator tmab tells filters apart; this network has one.", "Use --estimator exact.")
    whole_plan = request.purpose is not Verb.SCORE and request.estimator == "fast" and request.overlap is None
    top_k = request.limits.max_filters if whole_plan else request.top_k
    settings = Settings(
        estimator=request.estimator,  # type: ignore[arg-type]
        n_players=n,
        batch_size=game.batch_size,
        budget=budget,
        seed=request.seed,
        stream=SEARCH_STREAM,
        top_k=min(top_k, max(1, (n - 1) // (2 if side == "both" else 1))),
        side=side,
        tol=1e-4,
        delta=DELTA,
        depth=None if request.depth is None else min(request.depth, n),
        resolution=game.plan.resolution,
        n_objectives=game.n_objectives,
        value_range=game.plan.value_range,
        blocks_per_round=_ROUND,
        draws_per_block=_draws_per_block(request.estimator, game, n),
    )
    if request.estimator != "fast" or n < GUESSES_FROM:
        return settings
    return replace(_with_screen(settings, game, request.purpose.values_all), overlap=request.overlap)


def _with_screen(settings: Settings, game: NeuronGame, wanted: bool) -> Settings:
    """`fast`'s guesses: a quarter of what the budget leaves beside the pilot and one draw goes into the screen.

    Where it is wanted and the budget buys enough draws, all filters are sampled; otherwise those near the asked end.
    """
    coalitions = settings.n_players + 1 + game.guess_cost
    affords = settings.budget // (coalitions * settings.batch_size) >= _ENOUGH_DRAWS
    # The filters near the metric's ends would say nothing of another objective's.
    everyone = game.n_objectives > 1 or (wanted and affords)
    keep = None if everyone else max(_CONTENDERS * settings.top_k, _LEAST_CONTENDERS)
    shown = replace(
        settings, n_guesses=game.n_guesses, guess_cost=game.guess_cost, screen_draws=_LEAST_SCREEN, keep=keep
    )
    spare = settings.budget - least_search(shown)
    price = game.guess_cost * settings.batch_size
    most = max(_LEAST_SCREEN, _MOST_SCREENED // settings.batch_size)
    screen = min(most, _LEAST_SCREEN + max(0, int(spare * _SCREEN_SHARE)) // price)
    sampled = settings.n_players if keep is None else min(settings.n_players, keep + fast.RANDOM_PLAYERS)
    return replace(shown, screen_draws=screen, draws_per_block=_draws_per_block("fast", game, sampled))


def affordable(
    request: RunSettings, game_of: Callable[[int], NeuronGame], budget: int
) -> tuple[NeuronGame, Settings | None]:
    """The game with images per draw chosen by the search budget, and its settings; None where it buys no draw.

    Few draws tell more with fewer images each.
    """
    sizes = BATCH_SIZES if request.batch_size is None else (request.batch_size,)
    enough = _ENOUGH_OF_FAST if request.estimator == "fast" else _ENOUGH_FOR_SIZE
    game = game_of(sizes[0])
    for size in sizes:
        game = game_of(size)
        if budget // (coalitions_per_draw(request, game, budget) * size) >= enough:
            break
    settings = _search_settings(request, game, budget)
    try:
        start(settings)
    except BudgetTooSmall:
        return game, None
    return game, settings


def coalitions_per_draw(request: RunSettings, game: NeuronGame, budget: int) -> int:
    """About how many coalitions a draw of the search phase evaluates."""
    settings = _search_settings(request, game, budget)
    n = settings.n_players
    if settings.guesses and settings.keep is not None:
        n = min(n, settings.keep + fast.RANDOM_PLAYERS)
    return n + 1 if settings.estimator in ("cmcs", "fast") else n // 4 + 1


def least_search(settings: Settings) -> int:
    """The smallest budget of the search phase that surely buys all that comes before sampling and one draw."""
    try:
        start(replace(settings, budget=1))
    except BudgetTooSmall as error:
        least = error.least
    else:
        least = 1
    state = start(replace(settings, budget=least))
    if state.depth is None:  # then `least` reckons with draws of depth 1
        shallow, deep = (draw_cost(replace(state, depth=depth), settings) for depth in (1, settings.n_players))
        least += deep - shallow
    return least


def confirm_settings(request: RunSettings, search: Settings, found: Estimate, budget: int) -> Settings | None:
    """Settings of the confirm phase over the candidates; None if there are none or the budget is spent.

    Args:
        search: settings of the search that found them.
        budget: evaluations that are left.
    """
    candidates = candidate_players(request, found)
    if not len(candidates):
        return None
    settings = Settings(
        estimator="cmcs",
        n_players=search.n_players,
        batch_size=search.batch_size,
        budget=max(1, budget),
        seed=request.seed,
        stream=1,
        tol=0.0,
        delta=DELTA,
        depth=found.depth,
        resolution=search.resolution,
        n_objectives=search.n_objectives,
        value_range=search.value_range,
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


def by_hand_settings(request: RunSettings, game: NeuronGame, players: np.ndarray, budget: int) -> Settings:
    """Settings that value filters chosen by hand, and no others, within the confirm phase's share of the budget.

    Raises:
        BadInput: it does not buy the pilot and one draw, saying what does.
    """
    settings = _by_hand(request, game, players, max(1, int(budget * request.purpose.fresh)))
    if settings.budget < least_search(settings):
        enough = least_by_hand(request, game, players)
        raise BadInput(
            f"A budget of {budget:,} evaluations does not value {len(players)} filters.", f"Give --budget {enough}."
        )
    return settings


def least_by_hand(request: RunSettings, game: NeuronGame, players: np.ndarray) -> int:
    """The smallest budget that surely values filters chosen by hand."""
    return int(np.ceil(least_search(_by_hand(request, game, players, 1)) / request.purpose.fresh))


def _by_hand(request: RunSettings, game: NeuronGame, players: np.ndarray, budget: int) -> Settings:
    return Settings(
        estimator="cmcs",
        n_players=game.n_players,
        batch_size=game.batch_size,
        budget=budget,
        seed=request.seed,
        stream=1,
        tol=0.0,
        delta=DELTA,
        resolution=game.plan.resolution,
        n_objectives=game.n_objectives,
        value_range=game.plan.value_range,
        players=tuple(int(p) for p in players),
        draws_per_block=max(1, _BLOCK // ((1 + len(players)) * game.batch_size * _ROUND)),
        blocks_per_round=_ROUND,
    )


def candidate_players(request: RunSettings, found: Estimate) -> np.ndarray:
    """The culprits-to-be, worst first: at most `max_filters` players whose value has the culprits' sign.

    By the posterior where there is one: it also speaks of filters that were only guessed at. To explain, the `top_k`
    at the asked ends, whatever their sign.
    """
    sign = request.metric.culprit_sign
    values = found.ranked
    if request.purpose is Verb.EXPLAIN:
        return _at_the_ends(np.nan_to_num(values, nan=0.0), request.top_k, request.side or "both")
    badness = np.where(np.isnan(values), 0.0, sign * values)
    order = np.argsort(-badness, kind="stable")[: request.limits.max_filters]
    return order[badness[order] > 0]


def _at_the_ends(values: np.ndarray, k: int, side: str) -> np.ndarray:
    """The k players of the largest values and those of the smallest, or of one end; at most half of all each."""
    order = np.argsort(-values, kind="stable")
    k = min(k, len(order) // 2 if side == "both" else len(order))
    ends = {"top": order[:k], "bottom": order[len(order) - k :]}
    return np.concatenate([ends[end] for end in ("top", "bottom") if side in (end, "both")])


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


def rank(request: RunSettings, found: Estimate, fresh: Estimate | None) -> Ranking:
    """Orders the candidates by both estimates, weighted by their precision."""
    candidates = candidate_players(request, found)
    values = found.ranked[candidates]
    if fresh is not None and fresh is not found:
        values = combined(found, fresh, candidates)
    sign = request.metric.culprit_sign
    order = np.argsort(-sign * values, kind="stable")
    order = order[sign * values[order] > 0]
    return Ranking(candidates[order], found, fresh)


def combined(found: Estimate, fresh: Estimate, players: np.ndarray) -> np.ndarray:
    """Both phases' values of players [m] that the fresh one sampled, weighted by their precision, float64 [m]."""
    values = found.ranked[players]
    searched, confirmed = _precision(found, players), _precision(fresh, players)
    if found.best_spread is not None:
        searched = 1.0 / np.maximum(found.best_spread[players], 1e-9) ** 2
    return (searched * values + confirmed * fresh.values[0][players]) / (searched + confirmed)


def claims_of(settings: Settings) -> int:
    """How many intervals hold together: one for each filter and objective."""
    return settings.n_candidates * settings.n_objectives


def reported(state: State, settings: Settings) -> Estimate:
    """The estimate as it is displayed: CLT intervals (bounded-range below 30 samples), union over its claims."""
    return estimate(state, settings, interval="clt", delta=DELTA, claims=claims_of(settings))


def _precision(of: Estimate, players: np.ndarray) -> np.ndarray:
    errors = of.std_errors[0][players]
    counts = of.samples[players]
    # Mostly-zero samples have no spread to go by; their count then decides.
    floor = 0.25 / np.maximum(counts, 1)
    return np.where(
        counts > 0, 1.0 / (np.maximum(np.nan_to_num(errors, nan=1.0), 1e-9) ** 2 + (0.01 * floor) ** 2), 0.0
    )


def _draws_per_block(estimator: str, game: NeuronGame, players: int) -> int:
    coalitions = players if estimator in ("cmcs", "fast") else max(1, players // 4)
    return max(1, _BLOCK // (coalitions * game.batch_size))
