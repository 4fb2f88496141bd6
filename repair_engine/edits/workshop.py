"""Edits made: each tuned from the score images, and the best of its candidates within the limits picked on *select*."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from repair_engine.case.case import Case
from repair_engine.choosing.exam import Exam
from repair_engine.choosing.lesson import lesson_of
from repair_engine.choosing.plan import Plan
from repair_engine.choosing.selection import Sweep
from repair_engine.edits import head as heads
from repair_engine.edits.kinds import KINDS, Kind, Parts, parts_of, touched
from repair_engine.edits.model import Model, Tensors, changed
from repair_engine.edits.tuning import BACKWARD, Pace, descend, stored
from repair_engine.network.tunable import Head
from repair_engine.network.write_back import Edit, apply_edits
from repair_engine.support.progress import BATCH, Progress

SHARE = 0.1  # of the budget, spent by each kind that is tuned, in addition
_SHARES = (0.06, 0.12, 0.25, 0.45, 0.7, 1.0)  # of the way to what was tuned
_LOOKS = 4
_LEAST_STEPS, _LEAST_BATCH, _MOST_PASSES = 10, 8, 12
_RATE, _RATE_ALL = 0.03, 0.005
_ANCHOR = 1e-4
_RETRAINED = 5  # culprits, where no number of them was chosen
_SLACK = 1e-12


@dataclass(frozen=True)
class Made:
    """An edit as it would be written.

    Attributes:
        name: of its kind.
        tensors: of the whole checkpoint.
        players: the culprits that are ablated, or retrained, [k].
        predicted: set -> classes on the *select* images, int64 [N].
        units, parameters: how much it touches.
        evaluations: images forward, and three for each that went forward and backward.
        note: how it was picked.
    """

    name: str
    tensors: Tensors
    players: np.ndarray
    predicted: dict[str, np.ndarray]
    units: int
    parameters: int
    evaluations: int
    note: str

    @property
    def ablated(self) -> np.ndarray:
        return self.players if KINDS[self.name].ablates else self.players[:0]


@dataclass(frozen=True)
class NotMade:
    """An edit that there is none of: why, and what looking cost."""

    name: str
    reason: str
    evaluations: int = 0


@dataclass(frozen=True)
class _Start:
    """What an edit is tuned from: some culprits ablated, or none."""

    players: np.ndarray
    ablation: tuple[Edit, ...]
    tensors: dict[str, Tensor]


_Candidate = tuple[Tensors, dict[str, np.ndarray], str]  # with what it says of the select images, and how it was made


class Workshop:
    """Makes the edits of one case, each once.

    Args:
        plan: whose culprits are ablated or retrained.
        budget: of the search, in evaluations; each kind that is tuned spends `SHARE` of it, at least a few steps.
    """

    def __init__(self, case: Case, plan: Plan, budget: int, progress: Progress) -> None:
        self.case, self.plan, self.progress = case, plan, progress
        self.exam = Exam.of(case, "select")
        subject = case.subject
        self.model = Model(subject.checkpoint, subject.device, case.images.normalize, subject.room.plain)
        self.intact = self.model.predict(subject.checkpoint.tensors, self.exam.sets)
        self._lesson = lesson_of(case)
        self._budget = int(SHARE * budget)
        self._spent = 0
        self._made: dict[str, Made | NotMade] = {}

    def make(self, name: str) -> Made | NotMade:
        """The edit of a kind (`KINDS`)."""
        if name not in self._made:
            self._spent = 0
            self.progress(f"an edit: {KINDS[name].words}", 0.0)
            self._made[name] = self._make(name, KINDS[name])
        return self._made[name]

    def sweep(self, made: Iterable[Made]) -> tuple[Sweep, Sweep]:
        """Figures on *select* of the intact model and of edits, [m + 1], and of resamples of the images."""
        rows = [self.intact, *(one.predicted for one in made)]
        stacked = {name: np.stack([row[name] for row in rows]) for name in self.intact}
        return self.exam.sweep(stacked), self.exam.draws(stacked)

    # One kind -------------------------------------------------------------------------------------------

    def _make(self, name: str, kind: Kind) -> Made | NotMade:
        starts = self._starts(kind)
        if isinstance(starts, str):
            return NotMade(name, starts)
        best, best_value = None, self._figures(self.intact)[0]
        why = "half precision, in which the file stores these tensors, rounds away all that was tuned"
        for start in starts:
            found = self._candidates(kind, start, len(starts))
            if isinstance(found, str):
                why = found
                continue
            for tensors, predicted, note in found:
                why = "none of its candidates does better than the intact model on the select images within the limits"
                value, fits = self._figures(predicted)
                if fits and value > best_value + _SLACK:
                    best, best_value = (start, tensors, note), value
        if best is None:
            return NotMade(name, why, self._spent)
        start, tensors, note = best
        amount = touched(self.case.subject.network, self.case.subject.checkpoint.tensors, tensors)
        return Made(name, tensors, start.players, self._predict(tensors), *amount, self._spent, note)

    def _starts(self, kind: Kind) -> list[_Start] | str:
        """With the chosen number of culprits, and with the number that would be best without limits."""
        plan = self.plan
        assert plan.scores is not None
        free = int(plan.scores.argmax()) if not self.case.settings.by_hand else plan.k
        if kind.tunes == "culprits":
            k = plan.k or free or min(_RETRAINED, len(plan.players))
            counts = [k] if k else []
        else:
            counts = [0] if not kind.ablates else [plan.k] if not kind.tunes else [plan.k, free]
            counts = sorted(set(counts) - ({0} if kind.ablates else set()))
        if not counts:
            ranked = "no culprit was ranked" if not len(plan.players) else "no number of culprits gains anything"
            return f"{ranked}, so there is none to {'retrain' if kind.tunes == 'culprits' else 'ablate'}"
        return [self._start(plan.players[:k], kind.ablates) for k in counts]

    def _start(self, players: np.ndarray, ablates: bool) -> _Start:
        subject = self.case.subject
        found = [edit for player in players for edit in subject.edits(int(player))] if ablates else []
        return _Start(players, tuple(found), apply_edits(subject.checkpoint.tensors, found))

    def _candidates(self, kind: Kind, start: _Start, shares: int) -> Iterator[_Candidate] | str:
        """What is to be judged, from the gentlest on; or why there is nothing."""
        if not kind.tunes:
            return iter([(start.tensors, self._predict(start.tensors), "")])
        parts = parts_of(kind, self.case.subject.network, start.tensors, start.players, start.ablation)
        if isinstance(parts, str):
            return parts
        return self._ways(kind, start, parts, shares)

    def _ways(self, kind: Kind, start: _Start, parts: Parts, shares: int) -> Iterator[_Candidate]:
        """The candidates; where half precision rounds a change away, there is none."""
        if kind.ablates:
            yield start.tensors, self._predict(start.tensors), "nothing tuned: that did no better"
        predict, ways = self._predict, None
        if kind.tunes == "head" and (read := self._reads(start)) is not None:
            head, lesson, seen = read
            found = heads.refits(start.tensors, head, lesson, self._lesson)
            ways = ((tuned, f"ridge {ridge:g}") for ridge, tuned in zip(heads.RIDGES, found, strict=True))

            def predict(tensors: Tensors) -> dict[str, np.ndarray]:
                return {name: heads.predicted(tensors, head, features) for name, features in seen.items()}

        for tuned, how in ways or self._tuned(kind, start, parts, shares):
            for share in _SHARES:
                made = stored(start.tensors, tuned, share, parts)
                if changed(start.tensors, made):
                    yield made, predict(made), how + (f", {share:.0%} of the way" if share < 1 else "")

    def _reads(self, start: _Start) -> tuple[Head, Tensor, dict[str, Tensor]] | None:
        """The last layer, what it reads of the lesson's images and of the select images; None: it is not linear."""
        head, model = self.case.subject.network.tunable.head, self.model
        if not isinstance(head, Head) or not head.linear:
            return None
        lesson = heads.features(model, start.tensors, head, self._lesson.batches(model.at_once, model.device))
        if lesson is None:
            return None
        self._spent += len(self._lesson) + self.exam.images
        seen = {n: heads.features(model, start.tensors, head, model.batches(p)) for n, p in self.exam.sets.items()}
        return head, lesson, {name: features for name, features in seen.items() if features is not None}

    def _tuned(self, kind: Kind, start: _Start, parts: Parts, shares: int) -> Iterator[tuple[dict[str, Tensor], str]]:
        budget, n = self._budget // shares, len(self._lesson)
        looks = int(np.clip(budget // (2 * len(_SHARES) * self.exam.images), 1, _LOOKS))
        spend = max(budget - looks * len(_SHARES) * self.exam.images, 0)
        batch = min(
            BATCH, max(self.case.subject.room.backward, 2), n, max(_LEAST_BATCH, spend // (BACKWARD * _LEAST_STEPS))
        )
        steps = int(np.clip(spend // (BACKWARD * batch), _LEAST_STEPS, _MOST_PASSES * n // batch + 1))
        pace = Pace(steps, batch, _RATE_ALL if kind.tunes == "all" else _RATE, _ANCHOR, looks)
        way = descend(self.model, start.tensors, parts, self._lesson, pace, self.case.settings.seed)
        for i, tuned in enumerate(way, 1):
            self._spent += BACKWARD * batch * steps // looks
            self.progress(f"an edit: {kind.words}", i / looks)
            yield tuned, f"{round(steps * i / looks)} of {steps} steps of {batch} images"

    def _predict(self, tensors: Tensors) -> dict[str, np.ndarray]:
        self._spent += self.exam.images
        return self.model.predict(tensors, self.exam.sets)

    def _figures(self, predicted: dict[str, np.ndarray]) -> tuple[float, bool]:
        """What is chosen by on *select*, the larger the better, and whether all limits are kept."""
        rows = {name: np.stack([self.intact[name], predicted[name]]) for name in predicted}
        sweep = self.exam.sweep(rows)
        return float(sweep.score[1]), bool(sweep.feasible(self.case.settings.limits)[1])
