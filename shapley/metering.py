"""One meter between estimator and game: counts every evaluation, checks every answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from shapley.base import Batch, Bools, Floats, Game, GuessingGame, Ints, Outcomes, Progress


class Meter:
    """Passes calls on to a game, counts what they cost and reports it to ``progress``.

    Raises ValueError where the game's answer has the wrong shape; whatever ``progress`` raises passes
    through, which is how a run is cancelled between batches.
    """

    def __init__(self, game: Game, progress: Progress | None = None):
        self.game = game
        self.evaluations = 0
        self._progress = progress

    def evaluate(self, coalitions: Bools, batch: Batch) -> Outcomes:
        return self._count(self.game.evaluate(coalitions, batch), len(coalitions))

    def differences(self, coalitions: Bools, players: Ints, batch: Batch) -> Floats:
        answer = self.game.differences(coalitions, players, batch, self._spend)
        expected = (self.game.n_objectives, len(players))
        if answer.shape != expected:
            raise ValueError(f"the game answered differences {answer.shape}; expected {expected}")
        return answer

    def smooth_differences(self, coalitions: Bools, players: Ints, batch: Batch) -> tuple[Floats, Floats]:
        hard, smooth = self._guessing.smooth_differences(coalitions, players, batch, self._spend)
        expected = (self.game.n_objectives, len(players))
        if hard.shape != expected or smooth.shape != expected[1:]:
            raise ValueError(f"the game answered differences {hard.shape} and {smooth.shape}; expected {expected}")
        return hard, smooth

    def guesses(self, draws: Sequence[tuple[Bools, Batch]]) -> Floats:
        answer = self._guessing.guesses(draws, self._spend)
        expected = (len(draws), self._guessing.n_guesses, self.game.n_players)
        if answer.shape != expected:
            raise ValueError(f"the game answered guesses {answer.shape}; expected {expected}")
        return answer

    @property
    def _guessing(self) -> GuessingGame:
        return cast(GuessingGame, self.game)

    def _count(self, outcomes: Outcomes, k: int) -> Outcomes:
        expected = (self.game.n_objectives, k)
        if outcomes.values.shape != expected or outcomes.agreement.shape != (k,):
            raise ValueError(
                f"the game answered values {outcomes.values.shape} and agreement {outcomes.agreement.shape}; "
                f"expected {expected} and {(k,)}"
            )
        self._spend(k * self.game.batch_size)
        return outcomes

    def _spend(self, evaluations: int) -> None:
        self.evaluations += evaluations
        if self._progress is not None:
            self._progress(evaluations)
