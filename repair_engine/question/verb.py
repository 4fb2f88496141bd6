"""What a run is for, and how that shares out its budget: one value, in place of switches that are passed down."""

from __future__ import annotations

from enum import StrEnum

_FRESH = 0.3


class Verb(StrEnum):
    REPAIR = "repair"
    EXPLAIN = "explain"
    SCORE = "score"

    @property
    def fresh(self) -> float:
        """The share of the budget that is left for fresh samples of the candidates."""
        return 0.0 if self is Verb.SCORE else _FRESH

    @property
    def values_all(self) -> bool:
        """All filters are to be valued where the budget allows it, not the culprits' end alone."""
        return self is not Verb.REPAIR

    def search_share(self, budget: int) -> int:
        """Evaluations of the search phase."""
        return max(1, int(budget * (1 - self.fresh)))

    def whole_budget(self, search: int) -> int:
        """The smallest budget whose search share is at least `search` evaluations."""
        whole = int(-(-search // (1 - self.fresh)))
        return whole if int(whole * (1 - self.fresh)) >= search else whole + 1
