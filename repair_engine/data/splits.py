"""Image-disjoint parts of an image set, stratified by class × subgroup."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

from repair_engine.errors import BadInput
from repair_engine.support.words import first_few

SPLITS = ("score", "select", "report")
MIN_CELL = 4  # units (images, or groups of images that stay together) with which a cell is stratified
_SHOWN = 6
_DRIFT = 0.05  # of all images: a part that misses its share by more is said


@dataclass(frozen=True)
class Splits:
    """Sorted image indices of the three parts, int64: values and constants; choice of k; final numbers."""

    score: np.ndarray
    select: np.ndarray
    report: np.ndarray
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Holdout:
    """Sorted image indices of a guard set's two parts, and of the images left out, int64."""

    select: np.ndarray
    report: np.ndarray
    excluded: np.ndarray
    warnings: tuple[str, ...] = ()


def split(
    labels: np.ndarray,
    subgroups: Sequence[str] | None,
    groups: Sequence[str] | None,
    pixel_hashes: Sequence[str],
    seed: int,
    class_names: Sequence[str] = (),
) -> Splits:
    """Every image in exactly one part; deterministic in the seed.

    Args:
        labels: class index, int64 [N].
        subgroups: stratified together with the class, [N].
        groups: no value crosses the parts (patient, writer); empty = its own group, [N].
        pixel_hashes: equal ones do not cross either, [N].
        class_names: for the warnings.

    Raises:
        BadInput: fewer than three units that can be told apart.
    """
    parts, warnings = _partition(
        np.asarray(labels),
        subgroups,
        groups,
        pixel_hashes,
        seed,
        (0.5, 0.25, 0.25),
        SPLITS,
        class_names,
    )
    return Splits(parts[0], parts[1], parts[2], tuple(warnings))


def holdout(
    labels: np.ndarray,
    subgroups: Sequence[str] | None,
    groups: Sequence[str] | None,
    pixel_hashes: Sequence[str],
    main_hashes: Collection[str],
    seed: int,
    class_names: Sequence[str] = (),
) -> Holdout:
    """Halves of a guard set, without the images that are pixel-identical to one of the main set.

    Raises:
        BadInput: fewer than two units are left.
    """
    main = set(main_hashes)
    known = np.array([digest in main for digest in pixel_hashes], bool)
    kept = np.flatnonzero(~known)
    warnings = []
    if known.any():
        warnings.append(
            f"{int(known.sum())} of the guard set's {len(known)} images are pixel-identical to images of the "
            "main set and were left out."
        )
    if len(kept) < 2:
        raise BadInput("The guard set has fewer than two images that are not in the main set.")
    parts, more = _partition(
        np.asarray(labels)[kept],
        None if subgroups is None else [subgroups[i] for i in kept.tolist()],
        None if groups is None else [groups[i] for i in kept.tolist()],
        [pixel_hashes[i] for i in kept.tolist()],
        seed,
        (0.5, 0.5),
        ("select", "report"),
        class_names,
    )
    return Holdout(kept[parts[0]], kept[parts[1]], np.flatnonzero(known), (*warnings, *more))


def _partition(
    labels: np.ndarray,
    subgroups: Sequence[str] | None,
    groups: Sequence[str] | None,
    pixel_hashes: Sequence[str],
    seed: int,
    fractions: Sequence[float],
    titles: Sequence[str],
    class_names: Sequence[str],
) -> tuple[list[np.ndarray], list[str]]:
    shares = np.asarray(fractions, float) / sum(fractions)
    warnings: list[str] = []
    units = _units(groups, pixel_hashes, warnings)
    n_units = int(units.max()) + 1 if len(units) else 0
    if n_units < len(shares) and groups is None:
        raise BadInput(
            f"There are only {n_units} different images (identical ones count once); {len(shares)} parts are needed.",
            "Each part needs images of its own: give more, at least some dozens of every class.",
        )
    if n_units < len(shares):
        raise BadInput(
            f"The images form only {n_units} groups that must stay together; {len(shares)} parts are needed.",
            "Use a group column with more values, or none.",
        )
    cells, names = _cells(labels, subgroups, class_names)
    strata, small = _pool(cells, labels, units, names, warnings)
    part = _assign(strata, units, n_units, shares, np.random.default_rng(np.random.SeedSequence([seed, 0x5B117])))
    _say(part, cells, names, small, shares, titles, warnings)
    return [np.flatnonzero(part == p) for p in range(len(shares))], warnings


def _units(groups: Sequence[str] | None, pixel_hashes: Sequence[str], warnings: list[str]) -> np.ndarray:
    """Connected components of images that share a group or their pixels, numbered by first image, int [N]."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    n = len(pixel_hashes)
    rows, columns = [], []
    first: dict[tuple[str, str], int] = {}
    for i in range(n):
        keys = [("pixels", pixel_hashes[i])]
        if groups is not None and groups[i]:
            keys.append(("group", groups[i]))
        for key in keys:
            rows.append(i)
            columns.append(first.setdefault(key, i))
    if groups is not None and not all(groups):
        empty = sum(not group for group in groups)
        warnings.append(f"{empty} images have no group; each is treated as a group of its own.")
    graph = coo_matrix((np.ones(len(rows), bool), (rows, columns)), shape=(n, n))
    _, component = connected_components(graph, directed=False)
    _, where, unit = np.unique(component, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(where))[unit]


def _cells(
    labels: np.ndarray, subgroups: Sequence[str] | None, class_names: Sequence[str]
) -> tuple[np.ndarray, list[str]]:
    """Class × subgroup of each image as a number, and the cells' names."""
    keys = [(int(label), "" if subgroups is None else subgroups[i]) for i, label in enumerate(labels)]
    found = sorted(set(keys))
    number = {key: i for i, key in enumerate(found)}
    titles = [class_names[label] if label < len(class_names) else f"class {label}" for label, _ in found]
    names = [title if subgroups is None else f"{title} / {key[1]}" for title, key in zip(titles, found, strict=True)]
    return np.array([number[key] for key in keys], np.int64), names


def _pool(
    cells: np.ndarray, labels: np.ndarray, units: np.ndarray, names: Sequence[str], warnings: list[str]
) -> tuple[np.ndarray, np.ndarray]:
    """Strata: cells; where too small, their class's rest; where that is too small, the rest of all.

    Also which cells were too small, bool [cells].
    """

    def sizes(of: np.ndarray) -> Counter[int]:
        return Counter(of[np.unique(np.stack([of, units]), axis=1, return_index=True)[1]].tolist())

    n_cells = len(names)
    strata = cells.copy()
    small = np.array([sizes(cells)[c] < MIN_CELL for c in range(n_cells)], bool)
    pooled = small[cells]
    strata[pooled] = n_cells + labels[pooled]
    rest = sizes(strata)
    tiny = pooled & np.array([rest[s] < MIN_CELL for s in strata.tolist()], bool)
    strata[tiny] = n_cells + int(labels.max()) + 1
    if small.any():
        shown = [names[c] for c in np.flatnonzero(small).tolist()]
        warnings.append(
            f"Too small to be stratified and therefore pooled: {first_few(shown, _SHOWN)} "
            f"(fewer than {MIN_CELL} images or groups each)."
        )
    return np.unique(strata, return_inverse=True)[1], small


def _assign(
    strata: np.ndarray, units: np.ndarray, n_units: int, shares: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """The part of each image, int [N].

    Units of several images go first, the largest ahead, to the part where the strata's shortfalls fit them
    best, among the parts that are still below their share of all images. Single images then fill each
    stratum up; what rounding leaves over goes to the parts that are furthest behind.
    """
    n_strata, n_parts = int(strata.max()) + 1, len(shares)
    target = np.outer(np.bincount(strata, minlength=n_strata), shares)  # [strata, parts]
    count = np.zeros_like(target)
    size = np.bincount(units, minlength=n_units)
    order = rng.permutation(n_units)
    members = np.split(np.argsort(units, kind="stable"), np.cumsum(size)[:-1])
    part_of = np.empty(n_units, np.int64)
    for unit in sorted((u for u in order.tolist() if size[u] > 1), key=lambda u: -size[u]):
        load = np.bincount(strata[members[unit]], minlength=n_strata)
        touched = np.flatnonzero(load)
        before = count[touched] - target[touched]
        cost = ((before + load[touched, None]) ** 2 - before**2) / np.maximum(target[touched], 0.25)
        behind = count.sum(0) < target.sum(0)
        cost_of = np.where(behind, cost.sum(0), np.inf)
        part_of[unit] = int(np.argmin(cost_of))
        count[:, part_of[unit]] += load
    single = np.array([u for u in order.tolist() if size[u] == 1], np.int64)
    stratum_of = strata[[members[u][0] for u in single]] if len(single) else np.zeros(0, np.int64)
    for stratum in range(n_strata):
        waiting = single[stratum_of == stratum]
        takes = _shares_of(len(waiting), target[stratum] - count[stratum], shares, target.sum(0) - count.sum(0))
        part_of[waiting] = np.repeat(np.arange(n_parts), takes)
        count[stratum] += takes
    _fill_empty(part_of, size, n_parts)
    return part_of[units]


def _fill_empty(part_of: np.ndarray, size: np.ndarray, n_parts: int) -> None:
    """A part that got nothing takes the smallest unit of the part with the most units."""
    for part in range(n_parts):
        if not (part_of == part).any():
            richest = int(np.bincount(part_of, minlength=n_parts).argmax())
            own = np.flatnonzero(part_of == richest)
            part_of[own[size[own].argmin()]] = part


def _shares_of(n: int, missing: np.ndarray, shares: np.ndarray, behind: np.ndarray) -> np.ndarray:
    """How many of n images each part takes: by what the stratum misses, the rest by what all parts miss."""
    need = np.maximum(missing, 0)
    quota = n * (need / need.sum() if need.sum() > 0 else shares)
    takes = np.floor(quota + 1e-9).astype(np.int64)
    fraction = quota - takes
    error = behind - shares * behind.sum()  # images that earlier roundings owe each part
    urgency = np.where(fraction > 1e-9, fraction + error, -np.inf)
    takes[np.argsort(-urgency, kind="stable")[: n - takes.sum()]] += 1
    return takes


def _say(
    part: np.ndarray,
    cells: np.ndarray,
    names: Sequence[str],
    small: np.ndarray,
    shares: np.ndarray,
    titles: Sequence[str],
    warnings: list[str],
) -> None:
    sizes = np.bincount(part, minlength=len(shares))
    for title, size, share in zip(titles, sizes, shares, strict=True):
        if abs(size / len(part) - share) > _DRIFT:
            warnings.append(f"The {title} part has {size / len(part):.0%} of the images instead of {share:.0%}.")
    lacking = []
    for p, title in enumerate(titles):
        absent = sorted(set(np.flatnonzero(~small).tolist()) - set(cells[part == p].tolist()))
        if absent:
            lacking.append(f"{title}: {first_few([names[c] for c in absent], _SHOWN)}")
    if lacking:
        warnings.append(f"Not in every part: {'; '.join(lacking)}.")
