"""Vocabulary of the package: the records that estimators pass around, and the Game they play.

A *game* gives every coalition S of n players a value V(S); in this project the players are filters and
V(S) is how well the network does with all other filters ablated. Letters in the shapes: ``n`` players,
``M`` objectives (row 0 is the primary one), ``K`` coalitions. The unit of cost is one *evaluation*: one
image under one coalition, so a coalition costs ``batch_size`` evaluations.

Neuron Shapley: Ghorbani & Zou 2020, arXiv 2002.09815.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable, Sequence
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Batch = Any  # opaque to the estimators: whatever the game's draw_batch returns
Progress = Callable[[int], None]  # called with the evaluations just spent; may raise to cancel

EstimatorName = Literal["tmab", "monte_carlo", "cmcs", "fast"]
Side = Literal["top", "bottom", "both"]
BoundName = Literal["clt", "bernstein", "bernstein_paper", "anytime"]


class BudgetTooSmall(ValueError):
    """The budget does not buy one draw. ``least`` is the smallest budget that does (evaluations)."""

    def __init__(self, budget: int, least: int, what: str):
        self.budget, self.least = budget, least
        super().__init__(f"a budget of {budget} evaluations is too small for {what}; the least budget is {least}")


@dataclasses.dataclass(frozen=True)
class Outcomes:
    """What a game answers for K coalitions on one batch."""

    values: Floats  # [M, K] V of each coalition for each objective, on this batch
    agreement: Floats  # [K] share of images predicted as the intact network predicts; 1.0: no such notion


class Game(Protocol):
    """A game sampled on image batches. Every coalition compared is evaluated on the same batch.

    The properties may be plain attributes; they do not change during a run.

    Deterministic games have ``batch_size`` 1 and return the same anything from ``draw_batch``.
    ``draw_batch`` must take all its randomness from the generator it is given.
    """

    @property
    def n_players(self) -> int: ...

    @property
    def n_objectives(self) -> int: ...

    @property
    def batch_size(self) -> int:
        """Images in one batch: the evaluations that one coalition costs."""
        ...

    @property
    def dead_level(self) -> float:
        """Agreement of the fully ablated network; -1.0: the game has no such notion, nothing is ever dead."""
        ...

    @property
    def lookahead(self) -> int:
        """How many coalitions the game likes to be given at once (walks evaluate that many ahead)."""
        ...

    def draw_batch(self, rng: np.random.Generator) -> Batch: ...

    def evaluate(self, coalitions: Bools, batch: Batch) -> Outcomes:
        """Outcomes of coalitions ``[K, n]``; consecutive ones differ by few players: reuse."""
        ...

    @property
    def n_parts(self) -> int:
        """Parts of a batch (its images) that can each be under a coalition of their own; 1: it is whole.

        V on a batch is a sum over its parts, each of which depends on its own coalition only.
        """
        ...

    def differences(self, coalitions: Bools, players: Ints, batch: Batch, spent: Progress) -> Floats:
        """V with each one of ``players`` [m] (ascending) present minus V with it absent, [M, m].

        Everybody else is as in ``coalitions`` [n_parts, n], part p of the batch under row p. Costs one coalition
        and one more per player; ``spent`` is told so as it goes, in evaluations, and may raise.
        """
        ...


class GuessingGame(Game, Protocol):
    """A game that can guess at the differences of all players at once (what `fast` needs); see `shapley.fast`.

    A guess need not be unbiased: the better it correlates with the differences of objective 0, the more it helps.
    """

    @property
    def n_guesses(self) -> int:
        """S, kinds of guesses; the first is the best one by itself, in the order it puts players in."""
        ...

    @property
    def guess_cost(self) -> int:
        """What the guesses on one batch cost, in coalitions."""
        ...

    @property
    def guess_draws(self) -> int:
        """How many draws `guesses` likes to be given at once; 1: one."""
        ...

    def guesses(self, draws: Sequence[tuple[Bools, Batch]], spent: Progress) -> Floats:
        """Guesses [D, S, n] at the `differences` of objective 0, for D draws: (coalitions [n_parts, n], batch)."""
        ...

    def smooth_differences(
        self, coalitions: Bools, players: Ints, batch: Batch, spent: Progress
    ) -> tuple[Floats, Floats]:
        """`differences` [M, m], and of objective 0 a less noisy version [m], in the same units, that ranks alike."""
        ...


class EnumerableGame(Game, Protocol):
    """A game that can also be asked on all of its images at once (what `exact` needs)."""

    @property
    def n_images(self) -> int:
        """Images in the full batch: what one coalition costs there; 1 for deterministic games."""
        ...

    def full_batch(self) -> Batch: ...


@dataclasses.dataclass(frozen=True)
class Settings:
    """What to estimate and how; with the game, it fixes every bit of the result. JSON-able."""

    estimator: EstimatorName
    n_players: int
    budget: int  # evaluations, never exceeded
    n_objectives: int = 1
    batch_size: int = 1  # images per batch, the game's
    seed: int = 0
    stream: int = 0  # 0 search, 1 confirm, ...: independent samples under the same seed
    top_k: int = 10  # tmab: how many players are to be told from the rest
    side: Side = "top"  # tmab: which end of the ranking top_k counts from
    tol: float = 0.001  # tmab: see `contenders`; others stop when no half-width exceeds it (0: never)
    delta: float = 0.05  # failure probability of an interval
    bound: BoundName = "clt"  # the stopping rule's interval, at delta per player (no union), on objective 0
    threshold: float | None = 0.05  # dead: agreement <= dead_level + threshold; None: never truncate
    patience: int = 5  # consecutive evaluated dead steps that end a walk
    depth: int | None = None  # most players removed in a draw; None: learn it in a pilot round
    draws_per_block: int = 4
    blocks_per_round: int = 4
    players: tuple[int, ...] | None = None  # the only players to value; None: all
    n_guesses: int = 0  # fast: the game's
    guess_cost: int = 0  # fast: the game's, in coalitions
    screen_draws: int = 0  # fast: draws of guesses before sampling; 0: no guesses at all, which is cmcs
    keep: int | None = None  # fast: most players sampled at a time for each asked end; None: all
    overlap: float | None = None  # fast: stop when the posterior expects this share of the true top_k found
    pilot_walks: int = 8  # walks of the pilot round
    value_range: float = 1.0  # V lies in an interval of this width, so marginals lie in [-range, range]
    resolution: float | None = None  # the most one image moves V on a batch; None: value_range / batch_size

    def __post_init__(self) -> None:
        def need(ok: bool, message: str) -> None:
            if not ok:
                raise ValueError(f"settings: {message}")

        need(self.estimator in ("tmab", "monte_carlo", "cmcs", "fast"), f"unknown estimator {self.estimator!r}")
        need(self.side in ("top", "bottom", "both"), f"unknown side {self.side!r}")
        need(self.bound in ("clt", "bernstein", "bernstein_paper", "anytime"), f"unknown bound {self.bound!r}")
        for name in ("n_players", "n_objectives", "batch_size", "budget", "top_k", "patience"):
            need(getattr(self, name) >= 1, f"{name} must be at least 1, not {getattr(self, name)}")
        for name in ("draws_per_block", "blocks_per_round", "pilot_walks"):
            need(getattr(self, name) >= 1, f"{name} must be at least 1, not {getattr(self, name)}")
        need(self.seed >= 0 and self.stream >= 0, "seed and stream must not be negative")
        need(0.0 < self.delta < 1.0, f"delta must lie in (0, 1), not {self.delta}")
        need(self.tol >= 0.0, f"tol must not be negative, not {self.tol}")
        need(self.value_range > 0.0 and math.isfinite(self.value_range), "value_range must be positive")
        need(self.resolution is None or self.resolution >= 0.0, "resolution must not be negative")
        need(self.depth is None or self.depth >= 1, f"depth must be at least 1, not {self.depth}")
        need(self.screen_draws == 0 or self.n_guesses >= 1, "a screen needs n_guesses and guess_cost of the game")
        need(self.guess_cost >= 0, f"guess_cost must not be negative, not {self.guess_cost}")
        need(self.screen_draws >= 0, f"screen_draws must not be negative, not {self.screen_draws}")
        need(self.keep is None or self.keep >= 1, f"keep must be at least 1, not {self.keep}")
        need(self.overlap is None or 0.0 < self.overlap <= 1.0, f"overlap must lie in (0, 1], not {self.overlap}")
        if self.players is not None:
            chosen = tuple(sorted({int(player) for player in self.players}))
            need(0 < len(chosen) == len(self.players), "players must be distinct, and at least one")
            inside = chosen[0] >= 0 and chosen[-1] < self.n_players
            need(inside, f"players must lie in 0..{self.n_players - 1}")
            object.__setattr__(self, "players", chosen)
        if self.estimator == "tmab" or self.guesses:
            need(
                self.top_k < self.n_candidates,
                f"top_k = {self.top_k} of {self.n_candidates} players leaves nothing to tell apart",
            )

    @property
    def image_resolution(self) -> float:
        """The most one image moves V on a batch."""
        return self.value_range / self.batch_size if self.resolution is None else self.resolution

    @property
    def guesses(self) -> int:
        """Kinds of guesses that the run works with, S; 0 where there is no screen."""
        return self.n_guesses if self.estimator == "fast" and self.screen_draws else 0

    @property
    def adaptive(self) -> bool:
        """Whether earlier samples decide who is sampled further: means are then biased, and levels not exact."""
        return self.estimator == "tmab" or (bool(self.guesses) and self.keep is not None)

    @property
    def n_candidates(self) -> int:
        """How many players are valued."""
        return self.n_players if self.players is None else len(self.players)

    def candidates(self) -> Bools:
        """Which players are valued, bool [n]."""
        mask = np.ones(self.n_players, dtype=bool)
        if self.players is not None:
            mask[:] = False
            mask[list(self.players)] = True
        return mask

    def to_json(self) -> str:
        return json.dumps(dataclasses.asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Settings:
        """Inverse of `to_json`. Raises ValueError on unknown or missing names and on bad values."""
        fields = json.loads(text)
        if not isinstance(fields, dict):
            raise ValueError("settings: expected a JSON object")
        if isinstance(fields.get("players"), list):
            fields["players"] = tuple(fields["players"])
        try:
            return cls(**fields)
        except TypeError as error:
            raise ValueError(f"settings: {error}") from None


@dataclasses.dataclass(frozen=True)
class BlockTask:
    """One seeded piece of a round. The worker count decides who runs it, never what it gives."""

    round: int
    block: int
    draws: int

    def to_json(self) -> str:
        return json.dumps(dataclasses.asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> BlockTask:
        return cls(**json.loads(text))


@dataclasses.dataclass(frozen=True)
class Interval:
    """Which interval an estimate shows, and in words what it guarantees."""

    name: str  # 'clt', 'bernstein', 'bernstein_paper', 'anytime' or 'exact'
    delta: float  # probability that one of the claims fails
    claims: int  # how many intervals hold together at that probability
    text: str


@dataclasses.dataclass(frozen=True)
class Certificate:
    """What truncation left out, from full walks (all players active) only.

    The values recorded on a full walk add up to V(N) - V(where it stopped); what is missing from
    efficiency is E[V at stop] - V(empty). It bounds the sum of the values, not each value.
    """

    walks: int
    intact: Floats  # [M] mean V(N)
    stop: Floats  # [M] mean V where the walks stopped
    empty: Floats  # [M] mean V(empty coalition)
    missing: Floats  # [M] mean of V(stop) - V(empty) on the same images
    missing_error: Floats  # [M] its standard error; NaN for a single walk


@dataclasses.dataclass(frozen=True)
class Estimate:
    """Shapley values and what is known about them. Players never sampled have samples 0 and NaN values."""

    values: Floats  # [M, n] estimated Shapley values; NaN where samples is 0
    std_errors: Floats  # [M, n] standard errors; NaN where samples < 2
    lower: Floats  # [M, n] lower ends of the intervals, never below -value_range
    upper: Floats  # [M, n] upper ends, never above +value_range
    samples: Ints  # [n] marginal contributions averaged
    evaluations: int  # spent in all
    rounds: int  # rounds merged, a pilot round included
    stopped: str | None  # 'converged', 'budget', 'exact'; None while more rounds are to come
    estimator: str
    interval: Interval
    certificate: Certificate | None  # None where there was no full walk
    depth: int | None  # most players removed in a draw; None before it is learned
    best: Floats | None = None  # [n] fast: what objective 0's values most likely are, of all players; for ranking
    best_spread: Floats | None = None  # [n] fast: standard deviations of that belief; inf: none but the screen's order
    expected_overlap: float | None = None  # fast: of the asked top_k with the true one, by the ranking's model

    @property
    def ranked(self) -> Floats:
        """[n]: what objective 0's values are ranked by: `best`, or without it the means."""
        return self.values[0] if self.best is None else self.best
