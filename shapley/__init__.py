"""Shapley values of games, estimated in seeded rounds and blocks. NumPy only.

settings = Settings("monte_carlo", n_players=game.n_players, budget=10_000, threshold=None)
estimate, state = run(game, settings)
"""

from shapley.base import (
    Batch,
    BlockTask,
    Bools,
    BoundName,
    BudgetTooSmall,
    Certificate,
    EnumerableGame,
    Estimate,
    EstimatorName,
    Floats,
    Game,
    GuessingGame,
    Interval,
    Ints,
    Outcomes,
    Progress,
    Settings,
    Side,
)
from shapley.estimates import estimate
from shapley.exact import exact
from shapley.forecast import forecast, foresee
from shapley.moments import Moments
from shapley.rounds import draw_cost, merge_round, next_round, run, run_block, start
from shapley.state import BlockResult, State

__all__ = [
    "Batch",
    "BlockResult",
    "BlockTask",
    "Bools",
    "BoundName",
    "BudgetTooSmall",
    "Certificate",
    "EnumerableGame",
    "Estimate",
    "EstimatorName",
    "Floats",
    "Game",
    "GuessingGame",
    "Interval",
    "Ints",
    "Moments",
    "Outcomes",
    "Progress",
    "Settings",
    "Side",
    "State",
    "draw_cost",
    "estimate",
    "exact",
    "forecast",
    "foresee",
    "merge_round",
    "next_round",
    "run",
    "run_block",
    "start",
]
