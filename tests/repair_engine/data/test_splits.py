from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from repair_engine.data import Splits, holdout, split
from repair_engine.data.splits import MIN_CELL
from repair_engine.errors import BadInput


def distinct(n: int) -> list[str]:
    return [f"pixels {i}" for i in range(n)]


def parts_of(found: Splits) -> list[np.ndarray]:
    return [found.score, found.select, found.report]


def assert_partition(parts: list[np.ndarray], n: int) -> None:
    assert sorted(np.concatenate(parts).tolist()) == list(range(n))
    for part in parts:
        assert part.dtype == np.int64
        assert part.tolist() == sorted(part.tolist())


def test_sizes_and_strata_without_groups() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 5, 1003)
    subgroups = [str(s) for s in rng.integers(0, 3, 1003)]
    found = split(labels, subgroups, None, distinct(1003), seed=1)
    parts = parts_of(found)
    assert_partition(parts, 1003)
    assert found.warnings == ()
    for part, share in zip(parts, (0.5, 0.25, 0.25), strict=True):
        assert abs(len(part) - share * 1003) <= 1.5
        for label in range(5):
            for subgroup in "012":
                cell = np.array([labels[i] == label and subgroups[i] == subgroup for i in range(1003)])
                assert abs(cell[part].sum() - share * cell.sum()) < 1.0


def test_many_small_cells_do_not_add_up_to_a_bias() -> None:
    labels = np.repeat(np.arange(200), 5)  # 2.5 / 1.25 / 1.25 of each
    sizes = [len(part) for part in parts_of(split(labels, None, None, distinct(1000), seed=0))]
    assert abs(sizes[0] - 500) <= 2
    assert abs(sizes[1] - 250) <= 2


def test_the_seed_decides() -> None:
    labels = np.arange(400) % 4
    first, again, other = (split(labels, None, None, distinct(400), seed=s) for s in (5, 5, 6))
    assert all(np.array_equal(a, b) for a, b in zip(parts_of(first), parts_of(again), strict=True))
    assert not np.array_equal(first.score, other.score)


def test_a_known_split_stays_as_it_is() -> None:
    # results are published with their seed: a change here breaks their repeatability
    found = split(np.arange(12) % 2, None, None, distinct(12), seed=0)
    assert [part.tolist() for part in parts_of(found)] == KNOWN


KNOWN = [[0, 3, 6, 9, 10, 11], [2, 5, 8], [1, 4, 7]]


def test_groups_and_equal_pixels_stay_together() -> None:
    # a chain: images 0-1 share a group, 1-2 their pixels, 2-3 a group
    groups = ["a", "a", "b", "b", *[f"g{i}" for i in range(4, 40)]]
    hashes = distinct(40)
    hashes[2] = hashes[1]
    for seed in range(20):
        found = split(np.arange(40) % 2, None, groups, hashes, seed)
        part = np.empty(40, int)
        for p, indices in enumerate(parts_of(found)):
            part[indices] = p
        assert len(set(part[:4].tolist())) == 1


def test_classes_too_small_are_pooled_and_named() -> None:
    labels = np.array([0] * 40 + [1] * 40 + [2])
    names = ["cat", "dog", "owl"]
    found = split(labels, None, None, distinct(81), seed=0, class_names=names)
    assert_partition(parts_of(found), 81)
    assert "pooled: owl" in found.warnings[0]
    assert "cat" not in found.warnings[0]
    few = split(np.zeros(43, int), ["big"] * 40 + ["rare"] * 3, None, distinct(43), 0, class_names=names)
    assert "cat / rare" in few.warnings[0]


def test_a_class_in_few_groups_is_said_to_be_missing_from_a_part() -> None:
    labels = np.array([0] * 60 + [1] * 20)
    groups = [f"g{i}" for i in range(60)] + ["one", "two"] * 10
    found = split(labels, None, groups, distinct(80), seed=0, class_names=["cat", "dog"])
    assert_partition(parts_of(found), 80)
    assert any("dog" in warning for warning in found.warnings)


def test_images_without_a_group_are_warned_of() -> None:
    found = split(np.zeros(20, int), None, [""] * 20, distinct(20), seed=0)
    assert "20 images have no group" in found.warnings[0]
    assert len(found.score) == 10


def test_a_dominant_group_is_said() -> None:
    groups = ["big"] * 80 + [f"g{i}" for i in range(20)]
    found = split(np.zeros(100, int), None, groups, distinct(100), seed=0)
    assert_partition(parts_of(found), 100)
    assert any("part has" in warning for warning in found.warnings)


@pytest.mark.parametrize("groups", [["a"] * 30, ["a"] * 15 + ["b"] * 15])
def test_too_few_groups(groups: list[str]) -> None:
    with pytest.raises(BadInput, match="must stay together"):
        split(np.zeros(30, int), None, groups, distinct(30), seed=0)


@pytest.mark.parametrize("sizes", [(100, 1, 1), (50, 50, 1), (10, 10, 10), (1, 30, 30), (97, 1, 1, 1)])
def test_no_part_is_empty_where_there_are_three_groups(sizes: tuple[int, ...]) -> None:
    groups = [f"g{i}" for i, size in enumerate(sizes) for _ in range(size)]
    for seed in range(10):
        found = split(np.arange(len(groups)) % 2, None, groups, distinct(len(groups)), seed)
        assert_partition(parts_of(found), len(groups))
        assert all(len(part) for part in parts_of(found))


def test_too_few_images() -> None:
    with pytest.raises(BadInput, match="3 parts are needed"):
        split(np.zeros(2, int), None, None, distinct(2), seed=0)
    assert_partition(parts_of(split(np.zeros(3, int), None, None, distinct(3), seed=0)), 3)


@st.composite
def labelled_groups(draw: st.DrawFn) -> tuple[np.ndarray, list[str], list[str], list[str], int]:
    n = draw(st.integers(12, 300))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    labels = rng.integers(0, draw(st.integers(1, 6)), n)
    subgroups = [str(s) for s in rng.integers(0, draw(st.integers(1, 4)), n)]
    groups = [f"g{g}" for g in rng.integers(0, draw(st.integers(12, 300)), n)]
    hashes = [f"p{p}" for p in rng.integers(0, draw(st.integers(200, 100_000)), n)]
    return labels, subgroups, groups, hashes, draw(st.integers(0, 2**31))


@given(labelled_groups())
@settings(max_examples=150, deadline=None)
def test_properties_with_groups(case: tuple[np.ndarray, list[str], list[str], list[str], int]) -> None:
    labels, subgroups, groups, hashes, seed = case
    n = len(labels)
    units = together(groups, hashes)
    if len(units) < 3:
        with pytest.raises(BadInput, match="stay together"):
            split(labels, subgroups, groups, hashes, seed)
        return
    parts = parts_of(split(labels, subgroups, groups, hashes, seed))
    assert_partition(parts, n)
    assert all(len(part) for part in parts)
    for keys in (groups, hashes):
        sides = [{keys[i] for i in part} for part in parts]
        assert not sides[0] & sides[1]
        assert not sides[0] & sides[2]
        assert not sides[1] & sides[2]
    largest = max(map(len, units))
    for part, share in zip(parts, (0.5, 0.25, 0.25), strict=True):
        assert abs(len(part) - share * n) <= 2 * largest + 2


def together(groups: list[str], hashes: list[str]) -> list[set[int]]:
    """Units by repeated merging: slow and plain, as a check."""
    units: list[tuple[set[str], set[int]]] = []
    for i, (group, digest) in enumerate(zip(groups, hashes, strict=True)):
        keys, members = {group, digest}, {i}
        rest = []
        for other_keys, other_members in units:
            if other_keys & keys:
                keys, members = keys | other_keys, members | other_members
            else:
                rest.append((other_keys, other_members))
        units = [*rest, (keys, members)]
    return [members for _, members in units]


@given(st.integers(3, 200), st.integers(1, 30), st.integers(0, 1000))
@settings(max_examples=100, deadline=None)
def test_properties_without_groups(n: int, n_classes: int, seed: int) -> None:
    labels = np.random.default_rng(seed).integers(0, n_classes, n)
    found = split(labels, None, None, distinct(n), seed)
    parts = parts_of(found)
    assert_partition(parts, n)
    for part, share in zip(parts, (0.5, 0.25, 0.25), strict=True):
        assert abs(len(part) - share * n) <= 2.0
        for label, count in zip(*np.unique(labels, return_counts=True), strict=True):
            if count >= MIN_CELL:
                assert abs((labels[part] == label).sum() - share * count) < 1.0


def test_holdout_leaves_out_what_the_main_set_has() -> None:
    labels = np.arange(60) % 3
    found = holdout(labels, None, None, distinct(60), {"pixels 4", "pixels 7", "elsewhere"}, seed=0)
    assert found.excluded.tolist() == [4, 7]
    assert_partition([found.select, found.report, found.excluded], 60)
    assert len(found.select) == len(found.report) == 29
    assert "2 of the guard set's 60 images" in found.warnings[0]
    clean = holdout(labels, None, None, distinct(60), [], seed=0)
    assert clean.warnings == ()
    assert len(clean.select) == 30
    with pytest.raises(BadInput, match="fewer than two images"):
        holdout(labels, None, None, distinct(60), distinct(59), seed=0)


def test_holdout_keeps_groups_together() -> None:
    groups = [f"g{i // 4}" for i in range(60)]
    found = holdout(np.arange(60) % 3, ["a", "b"] * 30, groups, distinct(60), ["pixels 5"], seed=3)
    assert not {groups[i] for i in found.select} & {groups[i] for i in found.report}


@pytest.mark.parametrize("n", [1, 2, 50])
def test_too_few_different_images_are_not_blamed_on_groups(n: int) -> None:
    hashes = ["same"] * (n - 1) + ["other"]
    with pytest.raises(BadInput, match=f"only {min(n, 2)} different images") as caught:
        split(np.zeros(n, np.int64), None, None, hashes, seed=0)
    assert "group" not in str(caught.value)
