"""`compare`: its statistics against references computed by hand, what it refuses, and what it leaves."""

from __future__ import annotations

import copy
import csv
import json
from math import comb, sqrt
from pathlib import Path

import numpy as np
import pytest

from repair_engine.documents.compare import compare
from repair_engine.errors import BadInput
from repair_engine.pages.compare_page import render
from repair_engine.pages.compare_wording import compare_text, headline
from repair_engine.studies.agreement_figures import spearman
from tests.repair_engine.tiny import World, call

pytestmark = pytest.mark.usefixtures("quick_module")

N = 40


def result(values: np.ndarray, errors: float | None = 0.0, seed: int = 0, **metric: str) -> dict:
    """What `explain` writes, as far as `compare` reads it; NaN = not sampled."""
    rows = [
        {
            "id": f"conv{i // 10}:{i % 10}",
            "value": None if np.isnan(v) else float(v),
            "std_error": None if np.isnan(v) or errors is None else errors,
            "ranked_by": None if np.isnan(v) else float(v),
        }
        for i, v in enumerate(values)
    ]
    return {
        "verb": "explain",
        "filters": rows,
        "metric": {"name": "accuracy", "text": "accuracy", "goal": "raise"} | metric,
        "model": {"file": "m.pt", "sha256": "m", "architecture": "net"},
        "data": {"file": "d.zip", "sha256": "d"},
        "run": {"seed": seed, "estimator": "cmcs", "evaluations": 9},
    }


def compared(tmp_path: Path, a: dict, b: dict) -> dict:
    paths = []
    for name, document in (("a", a), ("b", b)):
        (tmp_path / name).mkdir(exist_ok=True)
        (tmp_path / name / "explain.json").write_text(json.dumps(document))
        paths.append(str(tmp_path / name))
    return compare(*paths)


@pytest.mark.parametrize(
    ("key", "value", "said"), [("split_folder", "val", "images"), ("preprocessing", {"resize": 32}, "preprocessing")]
)
def test_other_images_of_one_file_differ(tmp_path: Path, key: str, value: object, said: str) -> None:
    a, b = result(np.arange(8.0)), result(np.arange(8.0))
    b["data"][key] = value
    assert compared(tmp_path, a, b)["differs"] == [said]


@pytest.fixture
def pair() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(3)
    x = rng.normal(size=N)
    return x, 0.7 * x + rng.normal(size=N)


def rank_correlation(x: np.ndarray, y: np.ndarray) -> float:
    """Without ties: 1 − 6 Σd² / (n (n² − 1))."""
    d = np.argsort(np.argsort(x)) - np.argsort(np.argsort(y))
    return 1 - 6 * float((d**2).sum()) / (len(x) * (len(x) ** 2 - 1))


def test_spearman_by_hand(pair: tuple[np.ndarray, np.ndarray]) -> None:
    assert spearman(*pair) == pytest.approx(rank_correlation(*pair))
    ties = np.array([1.0, 2, 2, 3, 4]), np.array([2.0, 1, 3, 4, 5])
    ranks = np.array([1, 2.5, 2.5, 4, 5]), np.array([2.0, 1, 3, 4, 5])
    assert spearman(*ties) == pytest.approx(float(np.corrcoef(*ranks)[0, 1]))
    assert spearman(np.ones(9), np.arange(9.0)) is None
    assert spearman(np.arange(4.0), np.arange(4.0)) is None


def test_only_filters_that_both_sampled_count(tmp_path: Path, pair: tuple[np.ndarray, np.ndarray]) -> None:
    x, y = (v.copy() for v in pair)
    x[:5], y[3:8] = np.nan, np.nan
    found = compared(tmp_path, result(x), result(y, seed=1))
    assert found["agreement"]["n"] == N - 8
    assert found["agreement"]["spearman"] == pytest.approx(rank_correlation(x[8:], y[8:]))
    assert any("8 of 40" in w for w in found["warnings"])
    assert not any("same seed" in w for w in found["warnings"])


def test_overlaps_are_of_filters_that_both_sampled(tmp_path: Path, pair: tuple[np.ndarray, np.ndarray]) -> None:
    x, y = (v.copy() for v in pair)
    a, b = result(x), result(y, seed=1)
    for row in a["filters"][:10]:
        row |= {"value": None, "std_error": None, "ranked_by": 9.0}  # guessed to be at the top, never sampled
    found = compared(tmp_path, a, b)
    assert max(row["k"] for row in found["overlaps"]) == 10
    top = next(r for r in found["overlaps"] if r["k"] == 5 and r["end"] == "most critical")
    first, second = (set(np.argsort(-v[10:])[:5].tolist()) for v in (x, y))
    assert top["shared"] == len(first & second)
    assert top["by_chance"] == 5 / 30
    assert "of the 30 that both sampled" in headline(found)[1]
    assert "fewer than two" in " ".join(headline(compared(tmp_path, result(np.full(N, np.nan)), b))).lower()


def test_other_budgets_are_a_difference(tmp_path: Path, pair: tuple[np.ndarray, np.ndarray]) -> None:
    a, b = (result(v) for v in pair)
    a["run"]["budget"], b["run"]["budget"] = 20_000, 400_000
    a["run"]["evaluations"], b["run"]["evaluations"] = 19_000, 390_000
    found = compared(tmp_path, a, b)
    assert found["differs"] == ["budget", "evaluations"]
    assert "budget (20,000 and 400,000)" in compare_text(found)
    assert "budget (20,000 and 400,000)" in render(found)
    same = compared(tmp_path, a, a)
    assert "Differs: nothing that is recorded" in compare_text(same)


def test_the_correction_for_noise(tmp_path: Path, pair: tuple[np.ndarray, np.ndarray]) -> None:
    x, y = pair
    found = compared(tmp_path, result(x, 0.3), result(y, 0.5))["agreement"]
    reliable = [1 - e**2 / float(np.var(v, ddof=1)) for v, e in ((x, 0.3), (y, 0.5))]
    assert found["reliabilities"] == pytest.approx(reliable)
    assert found["corrected"] == pytest.approx(rank_correlation(x, y) / sqrt(reliable[0] * reliable[1]))
    assert not found["cut"]
    beyond = compared(tmp_path, result(x, 0.6), result(x + 1, 0.6))["agreement"]
    assert (beyond["corrected"], beyond["cut"]) == (1.0, True)
    for errors in (None, 5.0):  # not known; as large as the spread
        assert compared(tmp_path, result(x, 0.3), result(y, errors))["agreement"]["corrected"] is None


def test_the_correction_recovers_the_truth(tmp_path: Path) -> None:
    """Noise of known size halves the correlation of 400 pairs; corrected, it is back to within its own error."""
    rng = np.random.default_rng(0)
    truth = rng.multivariate_normal([0, 0], [[1, 0.8], [0.8, 1]], size=400).T
    noisy = truth + rng.normal(size=truth.shape)
    found = compared(tmp_path, result(noisy[0], 1.0), result(noisy[1], 1.0, seed=1))["agreement"]
    assert found["spearman"] < 0.55
    assert found["corrected"] == pytest.approx(rank_correlation(*truth), abs=0.12)


def test_overlaps_by_hand(tmp_path: Path, pair: tuple[np.ndarray, np.ndarray]) -> None:
    x, y = pair
    rows = compared(tmp_path, result(x), result(y))["overlaps"]
    assert {row["k"] for row in rows} == {5, 10, 20}
    for row in rows:
        k, sign = row["k"], -1 if row["end"] == "most critical" else 1
        first, second = ({int(i) for i in np.argsort(sign * v)[:k]} for v in (x, y))
        assert row["shared"] == len(first & second)
        assert row["by_chance"] == k / N
        tail = sum(comb(k, s) * comb(N - k, k - s) for s in range(row["shared"], k + 1)) / comb(N, k)
        assert row["p"] == pytest.approx(tail)


def test_the_order_of_filters_in_the_file_does_not_matter(tmp_path: Path, pair: tuple[np.ndarray, np.ndarray]) -> None:
    a, b = (result(v) for v in pair)
    shuffled = copy.deepcopy(b)
    shuffled["filters"] = [shuffled["filters"][i] for i in np.random.default_rng(0).permutation(N)]
    first, second = compared(tmp_path, a, b), compared(tmp_path, a, shuffled)
    assert first["agreement"] == second["agreement"]
    assert first["overlaps"] == second["overlaps"]


def test_other_weights_and_metrics_are_allowed_and_named(tmp_path: Path, pair: tuple[np.ndarray, np.ndarray]) -> None:
    a, b = result(pair[0]), result(pair[1], name="attack-success", goal="lower")
    b["model"] = {"file": "dropout.pt", "sha256": "other", "architecture": "net"}
    found = compared(tmp_path, a, b)
    assert found["differs"] == ["weights", "metric"]
    assert any("same seed" in w for w in found["warnings"])
    assert any("to be lowered" in w for w in found["warnings"])


def test_different_filters_are_refused_by_name(tmp_path: Path, pair: tuple[np.ndarray, np.ndarray]) -> None:
    a, b = (result(v) for v in pair)
    b["filters"][7]["id"] = "head:0"
    with pytest.raises(BadInput, match=r"only .*a.explain\.json has conv0:7; only .*b.explain\.json has head:0"):
        compared(tmp_path, a, b)
    b["filters"] = b["filters"][:30]
    with pytest.raises(BadInput, match=r"conv0:7, conv3:0, conv3:1 and 8 more"):
        compared(tmp_path, a, b)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "neither explain.json, score.json nor report.json"),
        ("{", "is not a result"),
        ("[]", "is not a result"),
        ('{"verb": "attack", "filters": []}', "result of attack"),
        ('{"verb": "repair"}', "without its filters.csv"),
        ('{"verb": "explain", "filters": [{"value": 1}]}', "is not a result"),
    ],
)
def test_what_is_no_result_is_refused(tmp_path: Path, content: str | None, said: str) -> None:
    (tmp_path / "a").mkdir()
    if content is not None:
        (tmp_path / "a" / "explain.json").write_text(content)
    found = call(["compare", str(tmp_path / "a"), str(tmp_path / "a"), "--json"])
    assert found.code == 2
    assert said in found.document["error"]
    assert call(["compare", str(tmp_path / "none"), str(tmp_path / "a")]).code == 2


def test_a_repair_is_compared_with_the_values_it_was_made_of(sabotaged: World, tmp_path: Path) -> None:
    """Its table is read as `score` is: the same samples on both sides give the same ranks. What does not hold all
    values with their errors is refused."""
    same = {"estimator": "cmcs", "budget": "6000", "batch_size": "16"}
    r, s, out = tmp_path / "r", tmp_path / "s", tmp_path / "out"
    assert call(sabotaged.argv("repair", out=str(r), order="value", **same)).code in (0, 5)
    assert call(sabotaged.argv("score", out=str(s), **same)).code == 0
    found = call(["compare", str(r / "report.json"), str(s), "--json", "--out", str(out)]).document
    with (r / "filters.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert found["agreement"]["n"] == len(rows) == found["results"][0]["sampled"]
    assert any(float(row["std_error"]) > 0 for row in rows), "known of all, and not of exact values"
    assert found["agreement"]["spearman"] > 0, "the repair's search is a part of the samples of score"
    assert None not in found["agreement"]["reliabilities"]
    assert found["results"][0]["verb"] == "repair"
    assert "Neither result has such removal curves" in (out / "compare.html").read_text()

    with (r / "filters.csv").open("w") as file:
        table = csv.DictWriter(file, [key for key in rows[0] if "std_error" not in key], extrasaction="ignore")
        table.writeheader()
        table.writerows(rows)
    old = call(["compare", str(r), str(s), "--json"])
    assert (old.code, "earlier version" in old.document["error"]) == (2, True)
    report = json.loads((r / "report.json").read_text())
    (r / "report.json").write_text(json.dumps(report | {"by_hand": True}))
    by_hand = call(["compare", str(r), str(s), "--json"])
    assert (by_hand.code, "chosen by hand" in by_hand.document["error"]) == (2, True)


def test_the_command_on_real_results(sabotaged: World, tmp_path: Path) -> None:
    """Two metrics of one network, and the values that `score` alone gives."""
    quick = {"estimator": "exact", "pictures": "0", "visualize": "0"}
    for metric, name in (("accuracy", "a"), ("recall:bee", "b")):
        assert call(sabotaged.argv("explain", metric=metric, out=str(tmp_path / name), **quick)).code == 0
    assert call(sabotaged.argv("score", estimator="exact", out=str(tmp_path / "s"))).code == 0
    a, b, s, out = (str(tmp_path / name) for name in ("a", "b", "s", "out"))
    document = call(["compare", a, b, "--json", "--out", out]).document
    values = [
        {f["id"]: f["value"] for f in json.loads((tmp_path / name / "explain.json").read_text())["filters"]}
        for name in ("a", "b")
    ]
    ids = sorted(values[0])
    x, y = (np.array([v[i] for i in ids]) for v in values)
    assert document["agreement"]["spearman"] == pytest.approx(spearman(x, y))
    page = (tmp_path / "out" / "compare.html").read_text()
    assert page.count("<svg") == 2 * 4
    assert "https://" not in page
    same = call(["compare", a, s, "--json"]).document
    assert same["agreement"]["spearman"] == pytest.approx(1.0)
    assert all(row["shared"] == row["k"] for row in same["overlaps"])
    assert "Spearman" in call(["compare", a, s, "--out", out]).out
