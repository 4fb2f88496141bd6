"""Controls: what cheaper ways give on the same images, under the same limits.

Each is chosen on *select*, within the limits, and judged on *report*; where nothing of it gains within the limits it
leaves the model as it is. A repair that does not beat them is said not to, and where no repair was found they say what
else would have helped.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch

from repair_engine.choosing import controls
from repair_engine.choosing.exam import Exam
from repair_engine.choosing.plan import Plan, prefix_predictions
from repair_engine.edits.kinds import CONTROLS
from repair_engine.edits.records import ControlRow, PairedChange
from repair_engine.edits.workshop import Made, NotMade, Workshop
from repair_engine.search.calibrate import LEAVE_ONE_OUT_SHARE
from repair_engine.support.progress import Progress
from repair_engine.support.statistics import holm, paired_bootstrap, paired_p_value

Predicted = Mapping[str, np.ndarray]  # set of an exam -> classes int64 [N]
Logits = Mapping[str, torch.Tensor]  # set of an exam -> float32 [N, classes]

_RANKED = 5  # filters, where no number of them gains anything
_SIZES = 6  # numbers of filters that are tried of each ranking, at most
_SIZES_SHARE = 0.05  # of the budget, for that


@dataclass(frozen=True)
class Judge:
    """The report images, with what the intact and the repaired model say of them.

    Attributes:
        level: of intervals.
    """

    exam: Exam
    before: Predicted
    mine: Predicted
    seed: int
    level: float

    def row(self, name: str, picks: Sequence[Predicted], note: str) -> ControlRow:
        """A control's figures on *report*; of several picks the mean, and the range.

        `advantage` is the repair minus the control, `gain` the control minus the intact model, both paired.
        """
        exam = self.exam
        values = [float(exam.objective.value(exam.asked(p))) for p in picks]
        accuracy = [float(exam.accuracy(p["clean"])) for p in picks]
        theirs = np.mean([self._outcomes(p) for p in picks], axis=0)
        row: ControlRow = {
            "name": name,
            "metric": float(np.mean(values)),
            "accuracy": float(np.mean(accuracy)),
            "picks": len(picks),
            "advantage": self._paired(theirs, self._outcomes(self.mine)),
            "gain": self._paired(self._outcomes(self.before), theirs),
            "note": note,
        }
        if exam.guard_labels is not None:
            row["guard"] = float(np.mean([(p["guard"] == exam.guard_labels).mean() for p in picks]))
        if exam.triggered is not None:
            rates = [exam.triggered.rates(p["attacked"]) for p in picks]
            row["success"] = float(np.mean([one["success"] for one in rates]))
            row["true_label"] = float(np.mean([one["true_label"] for one in rates]))
        if len(picks) > 1:
            row |= {"metric_range": [min(values), max(values)], "accuracy_range": [min(accuracy), max(accuracy)]}
        return row

    def _outcomes(self, predicted: Predicted) -> np.ndarray:
        """Of the objective's images, as shown, 0 or 1, [n]."""
        hits = (self.exam.asked(predicted) == self.exam.objective.targets).astype(float)
        return 1.0 - hits if self.exam.objective.complement else hits

    def _paired(self, before: np.ndarray, after: np.ndarray) -> PairedChange:
        objective = self.exam.objective
        found = paired_bootstrap(before, after, objective.weights, objective.cells, self.seed, level=self.level)
        return {
            "value": found.estimate,
            "lower": found.lower,
            "upper": found.upper,
            "level": found.level,
            "method": found.method,
            "p": paired_p_value(objective.weights * (after - before), objective.cells, self.seed),
        }


def rivals(
    workshop: Workshop,
    used: str | None,
    judge: Judge,
    logits: tuple[Logits, Logits],
    budget: int,
    progress: Progress,
) -> list[ControlRow]:
    """All controls, one row each.

    Args:
        used: the edit that the repair makes; no control of itself.
        logits: of the intact model, on the select images and on the report images.
        budget: of the search, in evaluations; it bounds what each control may cost.
    """
    rows = _rankings(workshop, judge, budget, progress)
    rows.append(logit_shift(workshop, judge, *logits))
    names = CONTROLS if used in (None, "ablate") else {"ablate": "ablation alone"} | CONTROLS
    for kind, name in names.items():
        if kind != used:
            rows.append(_tuned(workshop.make(kind), name, workshop, judge))
            progress("measuring the controls", len(rows) / (5 + len(names)))
    for changes in ([row["advantage"] for row in rows], [row["gain"] for row in rows]):
        for change, adjusted in zip(changes, holm([one["p"] for one in changes]), strict=True):
            change["p_holm"] = adjusted
    return rows


def ranked_by(plan: Plan) -> int:
    """How many filters each ranking may take: as many as the repair ablates, or would without limits and noise."""
    best = plan.stability.best if plan.stability is not None else 0
    return plan.k or best or min(_RANKED, max(len(plan.steps) - 1, 1))


def _tuned(made: Made | NotMade, name: str, workshop: Workshop, judge: Judge) -> ControlRow:
    if isinstance(made, NotMade):
        return judge.row(name, [judge.before], f"as it is: {made.reason}")
    note = f"{made.parameters:,} parameters changed, {made.evaluations:,} evaluations"
    return judge.row(name, [workshop.model.predict(made.tensors, judge.exam.sets)], note)


def _rankings(workshop: Workshop, judge: Judge, budget: int, progress: Progress) -> list[ControlRow]:
    case, exam = workshop.case, workshop.exam
    network, limits, room = case.subject.network, case.settings.limits, case.subject.room
    k = min(ranked_by(workshop.plan), network.n_filters)
    loo = int(np.clip(LEAVE_ONE_OUT_SHARE * budget / network.n_filters, 4, 128))
    picks = controls.rankings(case, k, loo, progress)
    orders = sum(len(one) for one in picks.values())
    tried = int(np.clip(_SIZES_SHARE * budget / (orders * exam.images), 1, min(k, _SIZES)))
    sizes = np.unique(np.linspace(0, k, tried + 1).round().astype(int))
    rows = []
    for name, chosen in picks.items():
        found, kept = [], []
        for players in chosen:
            parts: list[int | np.ndarray] = [players[a:b] for a, b in pairwise(sizes)]
            predicted = {
                which: prefix_predictions(network, pixels, case.images.normalize, parts, room=room)
                for which, pixels in exam.sets.items()
            }
            kept.append(int(sizes[int(exam.sweep(predicted).best(limits))]))
            seen = judge.exam.sets.items()
            found.append(
                {which: prefix_predictions(network, p, case.images.normalize, [players[: kept[-1]]], room=room)[1]
                 for which, p in seen} if kept[-1] else judge.before
            )  # fmt: skip
        rows.append(judge.row(name, found, _kept(kept, k, f"ranked on {loo} score images" * (name == "leave-one-out"))))
        progress("measuring the controls", len(rows) / (len(picks) + 4))
    return rows


def _kept(kept: list[int], k: int, how: str) -> str:
    """How many filters of a ranking kept the limits and gained on *select*."""
    if len(kept) > 1:
        said = f"{sum(map(bool, kept))} of {len(kept)} picks of up to {k} gained within the limits; others as it is"
    elif kept[0]:
        said = f"{kept[0]} of up to {k} filters"
    else:
        said = f"as it is: no number of its filters up to {k} gains within the limits on the select images"
    return f"{said}; {how}" if how else said


def logit_shift(workshop: Workshop, judge: Judge, select: Logits, report: Logits) -> ControlRow:
    """Offsets of the logits found on *select* under the same limits."""
    exam, limits = workshop.exam, workshop.case.settings.limits
    ends = np.cumsum([len(part) for part in select.values()])[:-1]
    intact = {name: controls.shifted_predictions(part, np.zeros(1)) for name, part in select.items()}

    def of(predicted: np.ndarray) -> Predicted:
        return dict(zip(select, np.split(predicted, ends), strict=True))

    def acceptable(predicted: np.ndarray, _: np.ndarray) -> bool:
        found = of(predicted)
        sweep = exam.sweep({name: np.stack([intact[name], found[name]]) for name in intact})
        return bool(sweep.feasible(limits)[1])

    offsets, how = controls.logit_shift(torch.cat(list(select.values())), acceptable, lambda p: exam.score(of(p)))
    shifted = {name: controls.shifted_predictions(part, offsets) for name, part in report.items()}
    return judge.row("logit shift", [shifted], how if offsets.any() else f"as it is: {how} found none that gains")
