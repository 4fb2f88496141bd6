"""The records of `quality`: ratios, what cannot be done, and the tables."""

from __future__ import annotations

import json

import numpy as np
import pytest

from benchmarks import quality, tables
from benchmarks.methods import Cannot, Method, Snapshot
from benchmarks.metrics import Reference
from tests.benchmarks.additive import additive_case


def record(kind: str, seconds: float | None) -> dict:
    cell = {"seconds": seconds, "evaluations": seconds, "extrapolated": True}
    return {
        "method": kind,
        "kind": kind,
        "reach": {e: {str(v): cell for v in quality.LEVELS} for e in ("top2", "bottom2")},
    }


def test_ratios() -> None:
    records = [record("own", 2.0), record("authors", 200.0), record("captum", 60.0), record("shapiq", 40.0)]
    records += [record("shapiq", None), {"method": "x", "kind": "shapiq", "cannot": "of a reason"}]
    quality.add_ratios(records, (2,))
    assert [r["ratio_to_authors"]["top2"]["0.9"] for r in records] == [100.0, 1.0, 3.33, 5.0, None, None]
    assert [r["ratio_to_peers"]["bottom2"]["0.8"] for r in records] == [20.0, 0.2, 0.667, 1.0, None, None]


def cannot(*_: object) -> list[Snapshot]:
    raise Cannot("it only knows how to count to three")


def test_a_measurement_from_method_to_table() -> None:
    owned = np.arange(1, 65).tolist()
    case, values = additive_case(owned)
    errors = np.full(64, 1e-5)

    def exact(case: object, seconds: float, seed: int) -> list[Snapshot]:
        counts = np.full(64, 40)
        return [Snapshot(1.0, 10, -values, errors, counts), Snapshot(4.0, 40, values, errors, counts)]

    methods = [Method("exact", exact, "own"), Method("short", cannot, "shapiq")]
    reference = Reference(values, errors, np.ones(64)), {"draws": 5, "evaluations": 7}
    result = quality.measure(case, methods, 4.0, 0, lambda _: None, reference)
    json.dumps(result)
    first, second = result["records"]
    assert first["end"]["top20"] == first["end"]["regret_bottom20"] == 1.0
    assert first["curve"][0]["spearman"] == pytest.approx(-1.0)
    assert first["reach"]["top20"]["0.9"]["seconds"] == pytest.approx(4.0**0.9, rel=1e-3)
    assert second["cannot"] == "it only knows how to count to three"
    text = tables.document("quality", MACHINE, [result, {"case": "other", tables.SKIPPED: "no data"}], "make bench")
    assert "| exact | 3.03 | 3.48 | 3.73 | 3.03 | 3.48 | 3.73 |" in text
    assert "short: cannot, because it only knows how to count to three." in text
    assert "## other\n\nNot measured: no data" in text


MACHINE = {
    "processor": "abacus", "threads": 1, "device": "cpu", "torch": "2", "python": "3", "date": "2020-02-24",
    "commit": "abc",
}  # fmt: skip


@pytest.mark.parametrize(
    ("value", "text"), [(0.01234, "0.0123"), (9.999, "10"), (123.4, "123"), (98765.4, "98,800"), (1.5e6, "1,500,000")]
)
def test_numbers_have_three_digits(value: float, text: str) -> None:
    assert tables.number(value) == text
