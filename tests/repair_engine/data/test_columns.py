"""Subgroups from several attribute columns: names, absences, and cells too small to trust."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from repair_engine.data import Dataset, Splits
from repair_engine.data.columns import absent_combinations, argument_of, columns_of, combinations
from repair_engine.errors import BadInput
from repair_engine.models.preprocessing import Preprocessing
from repair_engine.question.objectives import Metric
from repair_engine.question.subgroups import absence_warnings, size_warnings, subgroups_of

CLASSES = ("ant", "bee")


@pytest.mark.parametrize(
    ("argument", "known", "expected"),
    [
        ("sex", ["sex"], ("sex",)),
        ("sex,skin", ["sex", "skin"], ("sex", "skin")),
        (" sex , skin ", ["sex", "skin"], ("sex", "skin")),
        ("age, years", ["age, years"], ("age, years",)),  # one column that is called that
        ('"age, years",sex', ["age, years", "sex"], ("age, years", "sex")),
        ("breed", [], ("breed",)),  # not there: whoever looks it up says so
    ],
)
def test_columns_of(argument: str, known: list[str], expected: tuple[str, ...]) -> None:
    assert columns_of(argument, known) == expected


@pytest.mark.parametrize("argument", ["sex,", ",sex", "sex,,skin", '"sex', ","])
def test_what_names_no_columns(argument: str) -> None:
    with pytest.raises(BadInput, match=r"column name|does not name columns"):
        columns_of(argument, ["sex", "skin"])


def test_a_column_named_twice() -> None:
    with pytest.raises(BadInput, match="'sex' twice"):
        columns_of("sex,skin,sex", ["sex", "skin"])


names = st.text(st.characters(codec="utf-8", exclude_categories=("C", "Z")), min_size=1, max_size=6)


@given(st.lists(names, min_size=1, max_size=4, unique=True), st.lists(names, max_size=3))
def test_argument_of_is_the_inverse(columns: list[str], more: list[str]) -> None:
    known = [*columns, *more]
    assert columns_of(argument_of(columns, known), known) == tuple(columns)


values = st.text(alphabet='a&" ', max_size=4)


@given(st.lists(st.tuples(values, values), min_size=1, max_size=12))
def test_different_combinations_have_different_names(rows: list[tuple[str, str]]) -> None:
    found = combinations(list(zip(*rows)))
    assert len(set(found)) == len(set(rows))


def test_names_of_combinations() -> None:
    assert combinations([["female", "male"], ["dark", ""]]) == ("female & dark", 'male & ""')
    assert combinations([["a & b", "a"], ["c", "b & c"]]) == ('"a & b" & c', 'a & "b & c"')
    assert combinations([["a & b", ""]]) == ("a & b", "")  # one column: as it stands in the table


def test_absent_combinations() -> None:
    assert absent_combinations([["f", "f", "m"], ["dark", "light", "light"]]) == (1, ["m & dark"])
    assert absent_combinations([["f", "m"], ["dark", "dark"]]) == (0, [])
    many, named = absent_combinations([[str(i) for i in range(8)]] * 3)
    assert many == 8**3 - 8
    assert named == ["0 & 0 & 1", "0 & 0 & 2", "0 & 0 & 3", "0 & 0 & 4", "0 & 0 & 5", "0 & 0 & 6"]


def dataset(labels: list[int], **columns: list[str]) -> Dataset:
    n = len(labels)
    hashes = tuple(str(i) for i in range(n))
    return Dataset(
        hashes, np.array(labels), CLASSES, {k: tuple(v) for k, v in columns.items()},
        np.zeros((n, 1, 1, 1), np.uint8), hashes, Preprocessing(), "",
    )  # fmt: skip


def everywhere(n: int) -> Splits:
    return Splits(np.arange(n), np.arange(n), np.arange(n))


def test_the_subgroups_of_a_metric() -> None:
    data = dataset([0, 1], sex=["f", "m"], skin=["dark", "light"], same=["x", "x"])
    assert subgroups_of(Metric.parse("accuracy"), data) is None
    assert subgroups_of(Metric.parse("subgroup-recall:sex,skin"), data) == ("f & dark", "m & light")
    with pytest.raises(BadInput, match="'age'"):
        subgroups_of(Metric.parse("subgroup-recall:sex,age"), data)
    with pytest.raises(BadInput, match="same has only the value 'x'"):
        subgroups_of(Metric.parse("subgroup-recall:sex,same"), data)


def test_a_subgroup_without_images_of_a_class() -> None:
    data = dataset([0, 1, 0, 1, 0], sex=["f", "f", "m", "m", "f"], skin=["d", "d", "d", "d", "l"])
    (absent, gaps) = absence_warnings(Metric.parse("subgroup-recall:sex,skin"), data, everywhere(5))
    assert absent == "One combination of the values of sex and skin has no image and is no subgroup: m & l."
    assert "f & l has no image of bee" in gaps
    assert "mean over the classes that it has" in gaps


def test_groups_of_one_class_each_are_no_cause_for_a_warning() -> None:
    data = dataset([0, 0, 1, 1], breed=["tabby", "siam", "hound", "pug"])
    assert absence_warnings(Metric.parse("subgroup-recall:breed"), data, everywhere(4)) == []
    assert absence_warnings(Metric.parse("accuracy"), data, everywhere(4)) == []


def test_images_without_a_value_are_counted() -> None:
    data = dataset([0, 1, 0, 1, 0, 1], sex=["f", "f", "", "", "m", "m"], skin=["d"] * 3 + ["l"] * 3)
    (said,) = absence_warnings(Metric.parse("subgroup-recall:sex"), data, everywhere(6))
    assert said.startswith("2 of 6 images have no value of sex; being empty counts as a value of its own.")
    assert absence_warnings(Metric.parse("subgroup-recall:skin"), data, everywhere(6)) == []


def test_a_split_without_a_subgroup_or_a_cell() -> None:
    data = dataset([0, 1, 0, 1], sex=["f", "f", "m", "m"])
    splits = Splits(np.arange(4), np.array([0, 1]), np.array([0, 1, 2]))
    select, report = absence_warnings(Metric.parse("subgroup-recall:sex"), data, splits)
    assert select.startswith("The select split has no image of m:")
    assert report.startswith("The report split has no image of bee of m:")


def test_small_cells_are_named_and_the_smallest_first() -> None:
    labels = np.array([0] * 200 + [1] * 29 + [0] * 5 + [1] * 40)
    groups = ["big"] * 229 + ["small"] * 45
    subgroups, cells = size_warnings(groups, labels, CLASSES)
    assert "small (45)" in subgroups
    assert "big" not in subgroups
    assert cells.startswith("2 of 4 cells")
    assert "ant of small (5), bee of big (29)" in cells
    assert size_warnings(["a"] * 100, np.zeros(100, int), CLASSES) == []
