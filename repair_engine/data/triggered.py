"""Images that carry a trigger, given beside clean ones: which are copies of which, and splits that no copy crosses."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from pathlib import PurePosixPath

import numpy as np

from repair_engine.data.reading import Dataset
from repair_engine.data.splits import Splits, split

_TILES = 4  # across and down
_COMMON = 50  # images with the same tile at the same place: it tells nothing


def originals(clean: Dataset, triggered: Dataset) -> np.ndarray:
    """The clean image that each triggered one is a copy of, int64 [N]; −1 where none is known.

    By pixels: a local trigger leaves most tiles of an image as they were. Else by class folder and file name.
    """
    at: dict[tuple[int, bytes], list[int]] = defaultdict(list)
    for i in range(len(clean)):
        for tile in _tiles(clean.images[i]):
            at[tile].append(i)
    names = Counter(map(_name, clean.file_names))
    named = {_name(name): i for i, name in enumerate(clean.file_names) if _name(name) and names[_name(name)] == 1}
    found = np.full(len(triggered), -1, np.int64)
    for i in range(len(triggered)):
        tiles = _tiles(triggered.images[i])
        votes = Counter(j for tile in tiles if len(at.get(tile, ())) <= _COMMON for j in at.get(tile, ()))
        best, count = votes.most_common(1)[0] if votes else (-1, 0)
        if count >= 2 and 2 * count >= len(tiles):
            found[i] = best
        elif (j := named.get(_name(triggered.file_names[i]))) is not None and clean.labels[j] == triggered.labels[i]:
            found[i] = j
    return found


def split_together(
    clean: Dataset, triggered: Dataset, copies: np.ndarray, group: str | None, seed: int
) -> tuple[Splits, Splits]:
    """Splits of both sets, in which a clean image and its triggered copy lie in the same part.

    Args:
        copies: `originals`.
        group: a column whose values do not cross the parts; the triggered images may lack it.

    Raises:
        BadInput: there is no such column, or there are too few images.
    """
    hashes = [clean.pixel_hashes[j] if j >= 0 else triggered.pixel_hashes[i] for i, j in enumerate(copies.tolist())]
    groups = None
    if group:
        own, more = clean.column(group), triggered.attributes.get(group)
        groups = [*own, *(more[i] if more else own[j] if j >= 0 else "" for i, j in enumerate(copies.tolist()))]
    kinds = ["clean"] * len(clean) + ["triggered"] * len(triggered)
    both = split(
        np.concatenate([clean.labels, triggered.labels]), kinds, groups, [*clean.pixel_hashes, *hashes], seed,
        class_names=clean.class_names,
    )  # fmt: skip
    n = len(clean)
    first, second = zip(*((part[part < n], part[part >= n] - n) for part in (both.score, both.select, both.report)))
    return (
        Splits(first[0], first[1], first[2], both.warnings),
        Splits(second[0], second[1], second[2]),
    )


def _tiles(image: np.ndarray) -> list[tuple[int, bytes]]:
    """Place and hash of an image's tiles, [C, H, W]; those of one colour tell nothing."""
    rows, columns = (np.linspace(0, side, _TILES + 1).astype(int) for side in image.shape[1:])
    found = []
    for place in range(_TILES * _TILES):
        y, x = divmod(place, _TILES)
        tile = image[:, rows[y] : rows[y + 1], columns[x] : columns[x + 1]]
        if tile.size and np.ptp(tile.reshape(len(tile), -1), axis=1).any():
            found.append((place, hashlib.blake2b(np.ascontiguousarray(tile).tobytes(), digest_size=8).digest()))
    return found


def _name(file_name: str) -> str | None:
    """Folder and name of an image of a zip; images in memory have numbers, which tell nothing."""
    path = PurePosixPath(file_name)
    return "/".join(path.parts[-2:]) if path.suffix else None
