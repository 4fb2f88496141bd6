"""Which budget fits into the minutes that a run may take, beside everything else that it does."""

from __future__ import annotations

from repair_engine.case.case import Case
from repair_engine.choosing.afresh import SHARE as AFRESH_SHARE
from repair_engine.choosing.orders import SHARE as ORDERS_SHARE
from repair_engine.documents.attack_repair import subset_size
from repair_engine.documents.corruption import table_forwards
from repair_engine.documents.forgetting import probe_forwards
from repair_engine.documents.interactions import SHARE as INTERACTIONS_SHARE
from repair_engine.edits.deciding import tuning_share
from repair_engine.question.verb import Verb
from repair_engine.search import calibrate
from repair_engine.search.calibrate import Rates
from repair_engine.verbs import explain


def chosen(case: Case, rates: Rates, spent: float, target: float, larger: float = 1.0) -> int:
    """Evaluations with which the whole run ends within `target` seconds, `spent` of which are over.

    Args:
        larger: how many times the case's images the run will have.
    """
    asked = case.settings
    if asked.purpose is Verb.EXPLAIN:
        return calibrate.largest_budget(
            lambda budget: spent + sum(explain.seconds_of(case, rates, budget).values()), target
        )
    if asked.purpose is Verb.SCORE:
        return calibrate.choose_budget(rates, asked.estimator, spent + 5.0, target)
    other = spent + _finish_seconds(case, rates, larger)
    budget = calibrate.choose_budget(rates, asked.estimator, other, target)
    if case.question.adversary:
        queries = 2 * asked.queries * subset_size(case, budget) / rates.forward
        budget = calibrate.choose_budget(rates, asked.estimator, other + queries, target)
    if case.question.metric.forgets:
        other += probe_forwards(case) / rates.forward
        budget = calibrate.choose_budget(rates, asked.estimator, other, target)
    if case.question.metric.corrupted:
        rows = table_forwards(case, budget) / rates.forward
        budget = calibrate.choose_budget(rates, asked.estimator, other + rows, target)
    more = AFRESH_SHARE + INTERACTIONS_SHARE + tuning_share(asked.edit)
    more += ORDERS_SHARE if asked.limits.order == "auto" else 0.0
    return int(budget / (1 + more))


def _finish_seconds(case: Case, rates: Rates, larger: float) -> float:
    """About how long plan, controls, reload and report take."""
    select, report, everyone = len(case.images.splits.select), len(case.images.splits.report), len(case.images)
    guard = len(case.images.guard.dataset) if case.images.guard is not None else 0
    prefixes = case.settings.limits.max_filters
    sweep = prefixes * (select + guard / 2) / rates.walk
    plain = (3 * everyone + 2 * guard + 14 * (select + report)) / rates.forward
    leave_one_out = 4 * case.subject.network.n_filters / rates.toggle
    attack = 0.0
    if case.question.attacked:
        n = len(case.question.labels("report"))
        sweep *= 1 + n / max(select, 1)
        if case.question.adversary:
            attack = n * 3 * case.settings.attack.steps * case.settings.attack.restarts / rates.forward
            attack *= 1 + len(case.sources.surrogates)
    return 20.0 + larger * (sweep + plain + attack) + leave_one_out
