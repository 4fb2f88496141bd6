"""What a repair reports is what plain torch or onnxruntime gives: each metric, each format, the samples' own models."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.repair_engine.outside import verified
from tests.repair_engine.outside.cases import CASES, Case

Ran = Callable[[Case], tuple[Path, verified.Outcome]]
slow = pytest.mark.slow


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    """Each case once: its folder and what it gave."""
    done: dict[str, tuple[Path, verified.Outcome]] = {}

    def run(case: Case) -> tuple[Path, verified.Outcome]:
        if case.name not in done:
            folder = tmp_path_factory.mktemp(case.name)
            done[case.name] = folder, verified.run(case, folder)
        return done[case.name]

    return run


@slow
@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_figures_are_reproduced_outside(case: Case, ran: Ran) -> None:
    if not verified.available(case):
        pytest.skip(f"{case.needs} is not installed: {case.format} IS NOT CHECKED")
    _, outcome = ran(case)
    assert outcome.checked["differences"] == []
    assert outcome.checked["project"] == [], "the checker must know nothing of the project"
    assert outcome.checked["checks"] > 500
    assert outcome.report["outcome"] == ("repaired" if case.repaired else "no_repair_found")


@slow
@pytest.mark.parametrize(
    ("where", "said"),
    [
        (("after", "report", "accuracy"), "accuracy after, report"),
        (("before", "select", "metric"), "accuracy before, select"),
        (("gain", "lower"), "lower end of the change of metric"),
        (("gain", "mcnemar", "p_value"), "McNemar's p of metric"),
        (("groups", "classes", 0, "p_holm"), "p (Holm)"),
        (("groups", "classes", 1, "after_interval", 0), "Wilson after"),
        (("culprits", 0, "constant"), "constant"),
    ],
    ids=lambda value: ".".join(map(str, value)) if isinstance(value, tuple) else None,
)
def test_a_wrong_figure_is_found(ran: Ran, where: tuple, said: str) -> None:
    folder, _ = ran(CASES[0])
    path = folder / "out" / "report.json"
    intact = path.read_text()
    report = json.loads(intact)
    inner = report
    for key in where[:-1]:
        inner = inner[key]
    inner[where[-1]] += 0.06
    path.write_text(json.dumps(report))
    try:
        differences = verified.check(json.loads((folder / "case.json").read_text()), folder)["differences"]
    finally:
        path.write_text(intact)
    assert len(differences) == 1
    assert said in differences[0]


def test_the_committed_table_says_what_was_checked() -> None:
    rows = verified.rows()
    known = [(case.metric, case.format) for case in CASES]
    assert list(rows) == [key for key in known if key in rows]
    assert all(line.endswith(" 0 |") for line in rows.values()), "no difference"
    text = verified.TABLE.read_text(encoding="utf-8")
    assert [c.name for c in CASES if (c.metric, c.format) not in rows and f"`{c.name}`" not in text] == []
