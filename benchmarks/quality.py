"""Time to quality: how long each method takes until the ends of its ranking are those of a long-run reference."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from benchmarks import metrics, references
from benchmarks.cases import BenchCase, describe
from benchmarks.methods import Cannot, Method, Snapshot
from benchmarks.metrics import ENDS, Reference
from benchmarks.reach import Extrapolation, Reach, reach
from benchmarks.registry import PEERS

K = 50  # what the table shows
KS = (20, 50, 100)
LEVELS = (0.8, 0.9, 0.95)
ALLOTMENT = {
    ("small", "cpu"): 30.0,
    ("small", "cuda"): 25.0,
    ("full", "cpu"): 600.0,
    ("full", "cuda"): 300.0,
}  # seconds


def measure(
    case: BenchCase,
    methods: Sequence[Method],
    seconds: float,
    seed: int,
    say: Callable[[str], None],
    reference: tuple[Reference, dict[str, Any]] | None = None,
) -> dict[str, Any]:
    """One record per method, with the case, the reference and what the reference's own noise allows.

    Raises:
        references.NoReference: none is stored for this case.
    """
    truth, header = reference or references.load(case)
    ks = metrics.usable_ks(case.n, KS)
    records = []
    for method in methods:
        say(f"{case.name}: {method.name}, {seconds:.0f} s")
        records.append(one(method, case, truth, ks, seconds, seed))
        if "cannot" in records[-1]:
            say(f"{case.name}: {method.name} cannot: {records[-1]['cannot']}")
    add_ratios(records, ks)
    return {
        "part": "quality",
        **describe(case),
        "seconds_given": seconds,
        "seed": seed,
        "reference": {
            **header,
            "mean_std_error": float(truth.std_errors.mean()),
            "reliability": round(metrics.reliability(truth), 4),
        },
        "ceiling": metrics.ceiling(truth, ks),
        "records": records,
    }


def one(
    method: Method, case: BenchCase, truth: Reference, ks: tuple[int, ...], seconds: float, seed: int
) -> dict[str, Any]:
    """The record of one method; `cannot` in it where the method does not do the case."""
    record: dict[str, Any] = {"method": method.name, "kind": method.kind}
    if method.note:
        record["note"] = method.note
    try:
        snapshots = method.run(case, seconds, seed)
    except Cannot as reason:
        return {**record, "cannot": str(reason)}
    model = Extrapolation(snapshots[-1], truth)
    return {
        **record,
        "seconds": round(snapshots[-1].seconds, 3),
        "evaluations": int(snapshots[-1].evaluations),
        "has_std_errors": snapshots[-1].std_errors is not None,
        "curve": [_point(s, truth, ks) for s in snapshots],
        "end": metrics.scores(snapshots[-1].values, truth.values, ks),
        "model_at_end": {f"{end}{k}": round(model.seen_at_end(k, end), 4) for k in ks for end in ENDS}
        if model.known
        else None,
        "reach": {
            f"{end}{k}": {str(level): reach(snapshots, model, level, k, end).to_json() for level in LEVELS}
            for k in ks
            for end in ENDS
        },
    }


def _point(snapshot: Snapshot, truth: Reference, ks: tuple[int, ...]) -> dict[str, Any]:
    return {
        "seconds": round(snapshot.seconds, 4),
        "evaluations": int(snapshot.evaluations),
        **metrics.scores(snapshot.values, truth.values, ks),
    }


def add_ratios(records: list[dict[str, Any]], ks: tuple[int, ...]) -> None:
    """Adds to each record, by end and level, how many times sooner it is there than others.

    `ratio_to_authors`: the authors' loop's seconds over the method's. `ratio_to_peers`: the same for the fastest of
    captum's and shapiq's. Null where either is out of reach.
    """
    for k in ks:
        for end in ENDS:
            for level in LEVELS:
                key = f"{end}{k}", str(level)
                authors = [s for r in records if r["kind"] == "authors" and (s := _seconds(r, *key))]
                peers = [s for r in records if r["kind"] in PEERS and (s := _seconds(r, *key))]
                for record in records:
                    own = _seconds(record, *key)
                    for name, others in (("ratio_to_authors", authors), ("ratio_to_peers", peers)):
                        ratio = min(others) / own if own and others else None
                        cell = record.setdefault(name, {}).setdefault(key[0], {})
                        cell[key[1]] = None if ratio is None else float(f"{ratio:.3g}")


def _seconds(record: dict[str, Any], end: str, level: str) -> float | None:
    return record["reach"][end][level]["seconds"] if "reach" in record else None


__all__ = ["ALLOTMENT", "KS", "LEVELS", "K", "Reach", "add_ratios", "measure", "one"]
