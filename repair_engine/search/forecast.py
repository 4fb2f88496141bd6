"""How long a search will still take, told from its own first rounds."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from repair_engine.search.records import ForecastRecord
from shapley import Settings, State, forecast


@dataclass(frozen=True)
class Forecast:
    """What is left of a phase, as foreseen after a round of it.

    Attributes:
        after: evaluations spent when it was made.
        evaluations: until it ends, in addition.
        seconds: that these take at the speed of the round before.
    """

    after: int
    evaluations: int
    seconds: float

    def to_json(self) -> ForecastRecord:
        return {"after": self.after, "evaluations": self.evaluations, "seconds": round(self.seconds, 1)}

    def text(self, settings: Settings) -> str:
        """One sentence for people."""
        if settings.overlap is None:
            until = "the budget is spent"
        else:
            until = f"the search expects {settings.overlap:.0%} of the {settings.side} {settings.top_k} found"
        return f"About {_duration(self.seconds)} more, {self.evaluations:,} evaluations, until {until}."


class Foresight:
    """Watches the rounds of a phase; `first` and `last` are its forecasts after a sampled round, None before."""

    def __init__(self, settings: Settings, told: Callable[[str], None] | None = None) -> None:
        self.settings = settings
        self.first: Forecast | None = None
        self.last: Forecast | None = None
        self._told = told
        self._before, self._spent = time.perf_counter(), 0

    def after_round(self, state: State) -> None:
        """To be called with the state after each round, as soon as it is merged."""
        now = time.perf_counter()
        speed = (state.evaluations - self._spent) / max(now - self._before, 1e-9)
        self._before, self._spent = now, state.evaluations
        if state.moments.count.any():
            left = forecast(state, self.settings)
            if left is None:
                left = self.settings.budget - state.evaluations
            left = 0 if state.stopped is not None else int(left)
            self.last = Forecast(state.evaluations, left, left / speed)
            if self.first is None:
                self.first = self.last
                if self._told is not None and left:
                    self._told(self.last.text(self.settings))
            self._before = time.perf_counter()  # what the forecast itself took is no speed


def _duration(seconds: float) -> str:
    return f"{seconds / 60:.0f} minutes" if seconds >= 90 else f"{max(seconds, 1):.0f} seconds"
