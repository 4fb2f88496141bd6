"""What is to be forgotten: which images, the chance level by hand, what cannot be."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from repair_engine.choosing.selection import Sweep
from repair_engine.data import Holdout
from repair_engine.data.images import Images
from repair_engine.data.in_memory import read_images
from repair_engine.data.splits import split
from repair_engine.documents.forgetting import HIDDEN, LESS, NOT_FOUND, SAME, UNTOLD, verdict_of
from repair_engine.errors import BadInput
from repair_engine.models.preprocessing import Preprocessing
from repair_engine.question.forgetting import (
    chance_level,
    check_known,
    check_sizes,
    forget_set,
    strata_of,
    without_forgotten,
)
from repair_engine.question.objectives import Metric
from repair_engine.settings import Limits

NAMES = ("a=b", "cat", "dog")


def dataset(labels: list[int], **columns: list[str]):
    pixels = np.arange(len(labels) * 4, dtype=np.uint8).reshape(-1, 1, 2, 2)
    gray = Preprocessing(channels=1, mean=(), std=())
    return read_images((pixels, np.array(labels)), NAMES, gray, columns or None)


def forget(argument: str, of) -> list[bool]:
    return forget_set(Metric.parse(f"forget:{argument}"), of).mask.tolist()


def test_a_class_a_group_and_names_with_an_equals_sign() -> None:
    of = dataset([0, 1, 2, 1], sex=["f", "m", "f", "f"], **{"k=1": ["x", "y", "x", "x"]})
    assert forget("cat", of) == [False, True, False, True]
    assert forget("sex=f", of) == [True, False, True, True]
    assert forget("a=b", of) == [True, False, False, False]
    assert forget("k=1=y", of) == [False, True, False, False]
    assert forget_set(Metric.parse("forget:sex=f"), of).text == "sex = f"
    assert strata_of(Metric.parse("forget:cat"), of) is None
    assert strata_of(Metric.parse("forget:sex=m"), of) == ("retain", "forget", "retain", "retain")


@pytest.mark.parametrize(
    ("argument", "says"),
    [
        ("cow", "no class 'cow'"),
        ("ca", "Is cat meant?"),
        ("age=4", "no class 'age=4', and no column 'age'"),
        ("sex=g", "no image has 'g' as its sex"),
        ("sex=", "no image has '' as its sex"),
    ],
)
def test_what_is_not_there_is_refused(argument: str, says: str) -> None:
    with pytest.raises(BadInput) as refused:
        forget(argument, dataset([0, 1, 2], sex=["f", "m", "f"]))
    assert says in refused.value.said


def test_what_is_both_is_refused() -> None:
    with pytest.raises(BadInput, match="is a class, and 'b' is a value"):
        forget("a=b", dataset([0, 1], a=["b", "c"]))


def test_chance_is_that_of_guesses_by_the_retain_sets_classes() -> None:
    labels = np.array([0, 0, 0, 1, 0, 0, 1, 1])
    mask = np.arange(8) >= 4
    # Retained: three of class 0, one of class 1. Forgotten: two of each. Half · ¾ + half · ¼.
    assert chance_level(labels, mask) == pytest.approx(0.5)
    assert chance_level(labels, labels == 1) == 0.0
    rng, guesses = np.random.default_rng(0), 200_000
    drawn = rng.choice(labels[~mask], (guesses, 4))
    assert chance_level(labels, mask) == pytest.approx((drawn == labels[mask]).mean(), abs=0.005)


def of_sizes(forgotten: int, others: int) -> Images:
    data = dataset([1] * forgotten + [2] * others)
    hashes = [str(i) for i in range(len(data))]
    return Images(data, split(data.labels, None, None, hashes, 0))


def test_thirty_images_of_each_set_in_every_split_are_needed() -> None:
    metric = Metric.parse("forget:cat")
    check_sizes(metric, of_sizes(120, 120))
    for sizes, says in (((100, 120), "the forget set has 25"), ((120, 100), "the retain set has 25")):
        with pytest.raises(BadInput, match=says):
            check_sizes(metric, of_sizes(*sizes))
    with pytest.raises(BadInput, match="nothing to retain"):
        check_sizes(metric, of_sizes(120, 0))


def test_what_is_not_known_cannot_be_forgotten() -> None:
    metric = Metric.parse("forget:sex=f")
    check_known(metric, 0.51, 0.5, 40)
    with pytest.raises(BadInput, match="nothing to forget"):
        check_known(metric, 0.5, 0.5, 40)


def test_a_guard_set_is_without_the_forgotten_images() -> None:
    main = dataset([0, 1, 2], sex=["f", "m", "f"])
    guard = dataset([1, 2, 1, 2, 0], sex=["f", "m", "m", "f", "m"])
    parts = Holdout(np.array([0, 1]), np.array([2, 3]), np.array([4]))
    of_class = without_forgotten(Metric.parse("forget:cat"), guard, main, parts)
    assert (of_class.select.tolist(), of_class.report.tolist(), of_class.excluded.tolist()) == ([1], [3], [0, 2, 4])
    assert of_class.warnings == ("2 images of class cat are to be forgotten and were left out.",)
    of_group = without_forgotten(Metric.parse("forget:sex=f"), guard, main, parts)
    assert (of_group.select.tolist(), of_group.report.tolist()) == ([1], [2])
    without = without_forgotten(Metric.parse("forget:sex=f"), dataset([1, 2, 1, 2, 0]), main, parts)
    assert without.select.tolist() == [0, 1]
    assert "it has no column 'sex'" in without.warnings[0]
    only = replace(parts, select=np.array([0]))
    with pytest.raises(BadInput, match="select part has no images but those of class cat"):
        without_forgotten(Metric.parse("forget:cat"), guard, main, only)


def test_below_chance_nothing_more_is_won() -> None:
    values, clean = np.array([0.9, 0.6, 0.45, 0.1]), np.full(4, 0.8)
    assert Sweep(values, clean, None, None, lower=True).best(Limits()) == 3
    assert Sweep(values, clean, None, None, lower=True, floor=0.5).best(Limits()) == 2


@pytest.mark.parametrize(
    ("same", "upper", "mine", "intact", "verdict"),
    [
        (True, 0.0, 0.9, 0.9, SAME),
        (True, 0.0, 0.1, 0.1, SAME),
        (False, 0.0, 0.9, 0.3, UNTOLD),
        (False, 0.0, 0.9, 0.31, HIDDEN),
        (False, 0.0, 0.3, 0.9, UNTOLD),
        (False, -0.01, 0.31, 0.9, LESS),
        (False, -0.01, 0.3, 0.9, NOT_FOUND),
    ],
)
def test_the_verdict_of_a_probe(same: bool, upper: float, mine: float, intact: float, verdict: str) -> None:
    def row(lower: float) -> dict:
        rate = {"value": 0.95, "lower": lower, "upper": 1.0, "n": 40}
        change = {"value": -0.1, "lower": -0.2, "upper": upper, "level": 0.95}
        return {"name": "", "same": same, "forget": rate, "retain": rate, "change": change, "ridge": 1.0}

    assert verdict_of(row(mine), row(intact), 0.3) == verdict  # type: ignore[arg-type]


@pytest.mark.parametrize("also", ["forget:cat", "forget:sex=f"])
def test_it_goes_beside_no_other_metric(also: str, tmp_path: Path) -> None:
    from tests.repair_engine.tiny import call, make_world

    result = call(make_world(tmp_path / "w").argv("score", metric="accuracy", also=also, budget="4000"))
    assert result.code == 2
    assert "goes beside no other metric" in result.err
