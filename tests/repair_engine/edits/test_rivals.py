"""The controls beside a repair, and beside none: under the same limits, judged on report, adjusted together."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from repair_engine.choosing.exam import Exam
from repair_engine.choosing.plan import make_plan
from repair_engine.choosing.selection import Sweep
from repair_engine.documents.edits import rivals_said, standing, within_noise
from repair_engine.documents.reasons import reasons_of
from repair_engine.documents.repair import judge
from repair_engine.edits.kinds import CONTROLS
from repair_engine.edits.tuning import stored
from repair_engine.edits.workshop import Made, NotMade, Workshop
from repair_engine.pages.repair_page import render
from repair_engine.pages.repair_wording import headline
from repair_engine.support.progress import silent
from repair_engine.support.statistics import holm
from repair_engine.verbs import pipeline
from tests.repair_engine.edits.test_edits import BUDGET, METRIC, Ranked, ranked, world  # noqa: F401
from tests.repair_engine.pages.documents import document
from tests.repair_engine.search.test_exact_values import request_of
from tests.repair_engine.tiny import World

pytestmark = pytest.mark.usefixtures("quick_module")
RANKINGS = ["random", "largest weight norm", "largest response norm", "leave-one-out"]


@pytest.fixture(scope="module")
def none_found(ranked: Ranked, tmp_path_factory: pytest.TempPathFactory) -> dict:  # noqa: F811
    """The report of a run that found no culprit, on a network that a new last layer mends."""
    nobody = replace(ranked, ranking=replace(ranked.ranking, players=np.empty(0, np.int64)))
    return nobody.finished("ablate", tmp_path_factory.mktemp("none"), order="value")


def test_controls_stand_where_no_repair_was_found(none_found: dict) -> None:
    assert none_found["outcome"] == "no_repair_found"
    rows = {row["name"]: row for row in none_found["controls"]}
    assert list(rows) == [*RANKINGS, "logit shift", *CONTROLS.values()]
    for row in rows.values():
        assert row["gain"]["value"] == pytest.approx(row["metric"] - none_found["before"]["report"]["metric"])
        assert row["advantage"]["value"] == pytest.approx(-row["gain"]["value"])
    for of in ("gain", "advantage"):
        found = [row[of] for row in rows.values()]
        assert [one["p_holm"] for one in found] == pytest.approx(holm([one["p"] for one in found]))
    assert rows["last layer refitted"]["gain"]["lower"] > 0  # the culprit misleads through the last layer
    assert none_found["reasons"][0] == "No filter had a value on the culprits' side."
    assert "these would gain: " in none_found["reasons"][1]
    assert "last layer refitted +" in none_found["reasons"][1]
    page = render(none_found)
    assert "intact model better" in page or "control better" in page
    assert "these would gain" in page


def test_what_breaks_the_limits_is_left_as_it_is(
    ranked: Ranked,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Leave-one-out finds the culprit; where its removal is outside the limits it does not win by it."""

    def first_alone(sweep: Sweep, limits: object) -> np.ndarray:
        fine = np.zeros(sweep.values.shape, bool)
        fine[..., 0] = True
        return fine

    monkeypatch.setattr(Sweep, "feasible", first_alone)
    found = ranked.finished("ablate", tmp_path)
    assert found["k"] == 0
    for row in found["controls"]:
        assert row["gain"]["value"] == 0
        assert row["gain"]["p"] == 1
        assert row["note"].startswith(("as it is", "0 of 10 picks"))


def test_a_tuned_control_is_measured_by_what_it_would_write(ranked: Ranked, none_found: dict) -> None:  # noqa: F811
    case = ranked.job.case
    plan = make_plan(case, np.empty(0, np.int64), silent)
    made = Workshop(case, plan, BUDGET, silent).make("head")
    assert isinstance(made, Made)
    module = case.subject.checkpoint.edited(made.tensors).module()
    exam = Exam.of(case, "report")
    with torch.inference_mode():
        predicted = module(case.images.normalize(exam.sets["clean"][:])).argmax(1).numpy()
    row = next(row for row in none_found["controls"] if row["name"] == "last layer refitted")
    assert row["metric"] == pytest.approx(float(exam.objective.value(predicted[exam.rows])))
    assert row["accuracy"] == pytest.approx(float((predicted == exam.labels).mean()))


def test_a_head_of_several_layers_is_refused_and_said(sabotaged: World, tmp_path: Path) -> None:
    """The logits are a sum of two layers' outputs: neither is the last layer."""
    job = pipeline.prepare_job(request_of(sabotaged, METRIC, estimator="exact"), tmp_path)
    plan = make_plan(job.case, np.array([job.case.subject.network.player("spy:0")]), silent)
    for name in ("head", "ablate+head"):
        made = Workshop(job.case, plan, BUDGET, silent).make(name)
        assert isinstance(made, NotMade)
        assert made.reason == "the logits do not come from a linear layer or a convolution of its own"


def test_half_precision_may_round_all_away() -> None:
    start = {"a": torch.linspace(1, 2, 5).half(), "b": torch.ones(2)}
    tuned = {"a": start["a"].float() + 1e-5, "b": torch.tensor([1.0, 2.0])}
    made = stored(start, tuned, 1.0, {"a": None, "b": torch.tensor([True, False])})
    assert torch.equal(made["a"], start["a"])
    assert made["a"].dtype == torch.float16
    assert torch.equal(made["b"], start["b"])
    assert stored(start, tuned, 0.5, {"a": None, "b": None})["b"].tolist() == [1.0, 1.5]


def row(value: float, p_holm: float) -> dict:
    change = {"value": value, "lower": value - 0.01, "upper": value + 0.01, "level": 0.95, "p_holm": p_holm}
    return {"name": "rival", "advantage": {**change}, "gain": {**change}}


def test_a_control_is_ahead_only_where_interval_and_adjusted_p_agree() -> None:
    for goal, sign in (("raise", 1), ("lower", -1)):
        of = {"metric": {"goal": goal}, "controls": [row(sign * 0.02, 0.2)]}
        assert standing(row(-sign * 0.02, 0.01), of) == -1
        assert standing(row(-sign * 0.02, 0.2), of) == 0
        assert standing(row(sign * 0.02, 0.01), of) == 1
        assert standing(row(sign * 0.005, 0.01), of) == 0
        assert rivals_said(of).startswith("None of the 1 controls")
        assert "rival" in rivals_said({**of, "controls": [row(sign * 0.02, 0.01)]})


def test_the_reason_is_the_true_one() -> None:
    made = document("subgroup-recall:ground", k=0)
    assert "no number of culprits" in reasons_of(made)[0]
    step = made["curve"][2]
    step |= {"objective": 0.60, "feasible": False, "clean": made["curve"][0]["clean"] - 0.034}
    assert "breaks a limit; at k = 2 clean accuracy falls by 3.4 points" in reasons_of(made)[0]
    start = made["curve"][0]["objective"]
    made["orders"] = {"rows": [{"order": "value", "k": 0, "select": start, "clean": 0.8},
                               {"order": "stepwise", "k": 3, "select": start + 0.004, "clean": 0.8}]}  # fmt: skip
    assert within_noise(made)
    assert "in another, 3 in the order 'stepwise', gains +0.4 points there, within the noise" in reasons_of(made)[0]
    judge(made)
    assert headline(made).startswith(made["reasons"][0])
    made["edit"] = {"asked": "auto", "used": None, "rows": [
        {"edit": "head", "gain": 0.01, "standard_error": 0.02}, {"edit": "biases", "not_made": "why not"}]}  # fmt: skip
    assert "head, gains +1.0 points, within one standard error (2.0 points)" in reasons_of(made)[0]
    made["edit"]["rows"] = made["edit"]["rows"][1:]
    assert reasons_of(made) == ["No edit (biases): why not."]
