"""`score --also`: every objective has the values that it would have alone, from the same evaluations."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from repair_engine.errors import BadInput
from repair_engine.question import further as many
from repair_engine.question.further import check_size
from tests.repair_engine.image_sets import encoded, make_zip
from tests.repair_engine.tiny import CLASSES, World, call

pytestmark = pytest.mark.usefixtures("quick_module")
RECALLS = tuple(f"recall:{name}" for name in CLASSES)
SUBGROUPS = ("subgroup-recall:ground", "subgroup:ground=dark", "subgroup:ground=light")


def scored(world: World, *more: str, **options: str) -> dict:
    result = call(world.argv("score", "--json", *more, **options))
    assert result.code == 0, result.err
    return result.document


def rows_of(document: dict, key: str = "values") -> dict[str, np.ndarray]:
    return {row["name"]: np.array(row[key], dtype=float) for row in document["objectives"]}


@pytest.fixture(scope="module")
def exact(skewed: World) -> dict:
    return scored(skewed, "--also", "all", estimator="exact")


def test_all_asks_for_accuracy_classes_and_subgroups_once(exact: dict) -> None:
    assert [row["name"] for row in exact["objectives"]] == ["accuracy", *RECALLS, *SUBGROUPS]
    values = rows_of(exact)
    assert values["accuracy"].tolist() == [row["value"] for row in exact["filters"]]
    assert exact["objectives"][0]["value_of_all"] == exact["value_of_all"]


def test_a_row_is_what_the_metric_alone_has(skewed: World, exact: dict) -> None:
    """The splits of this metric alone are stratified by the same column, so they are the same images."""
    alone = scored(skewed, metric="subgroup-recall:ground", estimator="exact")
    assert alone["score_images"] == exact["score_images"]
    single = [row["value"] for row in alone["filters"]]
    np.testing.assert_allclose(rows_of(exact)["subgroup-recall:ground"], single, atol=1e-12)


def test_rows_add_up(exact: dict) -> None:
    values, images = rows_of(exact), {row["name"]: row["images"] for row in exact["objectives"]}
    mixed = sum(images[name] / images["accuracy"] * values[name] for name in RECALLS)
    np.testing.assert_allclose(mixed, values["accuracy"], atol=1e-12)
    means = (values["subgroup:ground=dark"] + values["subgroup:ground=light"]) / 2
    np.testing.assert_allclose(means, values["subgroup-recall:ground"], atol=1e-12)


def test_which_one_is_the_metric_changes_no_value(skewed: World, exact: dict) -> None:
    turned = rows_of(scored(skewed, "--also", "all", metric="recall:bee", estimator="exact"))
    assert next(iter(turned)) == "recall:bee"
    for name, values in rows_of(exact).items():
        np.testing.assert_allclose(turned[name], values, atol=1e-12)


@pytest.mark.parametrize("estimator", ["cmcs", "tmab"])
def test_sampled_rows_agree_with_exact_ones(skewed: World, exact: dict, estimator: str) -> None:
    document = scored(skewed, "--also", "classes", "--also", "subgroups", estimator=estimator, budget="60000")
    truth, found, errors = rows_of(exact), rows_of(document), rows_of(document, "std_errors")
    assert set(found) == set(truth)
    z = np.concatenate([(found[name] - truth[name]) / np.maximum(errors[name], 1e-4) for name in truth])
    assert np.abs(z).max() < 5
    assert np.sqrt(np.mean(z**2)) < 1.8
    assert document["run"]["interval"]["claims"] == len(truth) * len(document["filters"])


def test_files_hold_all(skewed: World, tmp_path: Path) -> None:
    document = scored(skewed, "--also", "classes", estimator="exact", out=str(tmp_path / "out"))
    with np.load(tmp_path / "out" / "objectives.npz") as arrays:
        assert arrays["objectives"].tolist() == ["accuracy", *RECALLS]
        assert arrays["filters"].tolist() == [row["id"] for row in document["filters"]]
        for m, row in enumerate(document["objectives"]):
            np.testing.assert_array_equal(arrays["values"][m], row["values"])


@pytest.mark.parametrize(
    ("also", "problem"),
    [
        ("recall:dog", "no class 'dog'"),
        ("beauty", "is not one of"),
        ("attack-success", "images of its own"),
        ("trigger-success:ant", "images of its own"),
        ("subgroup:ground=blue", "subgroup:COLUMN=VALUE"),
        ("subgroup:skin=blue", "no column 'skin'"),
        ("subgroup-recall:skin", "no column 'skin'"),
    ],
)
def test_what_cannot_be_valued_too(skewed: World, also: str, problem: str) -> None:
    result = call(skewed.argv("score", "--also", also, budget="4000"))
    assert result.code == 2
    assert problem in result.err


def test_without_columns_there_are_no_subgroups(skewed: World, tmp_path: Path) -> None:
    shown = skewed.images
    plain = make_zip(tmp_path / "plain.zip", {n: encoded(p) for n, p in zip(shown.names, shown.pixels)})
    bare = replace(skewed, data=plain)
    assert "no column" in call(bare.argv("score", "--also", "subgroups", budget="4000")).err
    names = [row["name"] for row in scored(bare, "--also", "all", estimator="exact")["objectives"]]
    assert names == ["accuracy", *RECALLS]


def test_too_many_for_the_memory_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    check_size(1000, 17_216)
    monkeypatch.setattr(many, "MOST_BYTES", 1 << 20)
    with pytest.raises(BadInput, match="objectives of") as caught:
        check_size(1000, 17_216)
    assert "several runs" in caught.value.mend
