"""Every unit of an ended run as columns: read once from its file, then shown as a table, as a map, and one by one."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np

from repair_engine.documents.known import is_known
from repair_engine.support import tables
from webapp.jobs.models import Artifact, Job

STATES = ("unsampled", "open", "hurts", "helps")  # open: the interval holds 0, or there is none
_FILES = ("filters.csv", "score.json")


@dataclass(frozen=True)
class UnitRow:
    """A unit; value and bounds of fresh samples where there are some, else of the search. None: not sampled.

    Attributes:
        searched: what the search took its value for, where it ranked units not sampled, too; else the value found.
        state: of STATES.
    """

    id: str
    site: str
    kind: str
    value: float | None
    lower: float | None
    upper: float | None
    samples: int
    fresh: bool
    searched: float | None
    constant: float
    rank: int | None
    culprit: bool
    ablated: bool
    place: int  # in the network's order
    state: str

    @property
    def known(self) -> bool:
        """Its interval leaves something out of all that a value can be."""
        return is_known(self.value, self.lower, self.upper)


@dataclass(frozen=True)
class Units:
    """All units in the network's order, [n] each; NaN where there is none. See `UnitRow`.

    Attributes:
        sites: different sites in order; site: which of them each unit is of.
        rank: in the order of ablation or, of an explanation, from the most critical; 0: none.
        culprit: a repair ranked it as one.
        culprit_sign: the sign of values of units whose presence hurts.
    """

    ids: Sequence[str]
    kinds: Sequence[str]
    sites: Sequence[str]
    site: np.ndarray
    value: np.ndarray
    lower: np.ndarray
    upper: np.ndarray
    samples: np.ndarray
    fresh: np.ndarray
    searched: np.ndarray
    constant: np.ndarray
    rank: np.ndarray
    culprit: np.ndarray
    ablated: np.ndarray
    culprit_sign: int

    def __len__(self) -> int:
        return len(self.ids)

    @cached_property
    def number(self) -> dict[str, int]:
        return {name: i for i, name in enumerate(self.ids)}

    @cached_property
    def state(self) -> np.ndarray:
        """Numbers in STATES, uint8."""
        positive = np.select([self.lower > 0, self.upper < 0], [1, -1], 0) * self.culprit_sign
        return np.select([np.isnan(self.value), positive > 0, positive < 0], [0, 2, 3], 1).astype(np.uint8)

    @cached_property
    def known(self) -> np.ndarray:
        """See `UnitRow.known`."""
        figures = zip(self.value.tolist(), self.lower.tolist(), self.upper.tolist())
        return np.array([is_known(*map(_or_none, row)) for row in figures], bool)

    def row(self, i: int) -> UnitRow:
        found = {name: _or_none(float(getattr(self, name)[i])) for name in ("value", "lower", "upper", "searched")}
        return UnitRow(
            id=self.ids[i],
            site=self.sites[self.site[i]],
            kind=self.kinds[i],
            samples=int(self.samples[i]),
            fresh=bool(self.fresh[i]),
            constant=float(self.constant[i]),
            rank=int(self.rank[i]) or None,
            culprit=bool(self.culprit[i]),
            ablated=bool(self.ablated[i]),
            place=i,
            state=STATES[self.state[i]],
            **found,
        )

    def rows(self, numbers: Sequence[int] | np.ndarray) -> list[UnitRow]:
        return [self.row(int(i)) for i in numbers]


def _or_none(value: float) -> float | None:
    return None if np.isnan(value) else value


def file_of(job: Job) -> Artifact | None:
    """The file that has every unit's value; None: the run left none."""
    found = {one.name: one for one in job.artifacts.select_related("blob").filter(name__in=_FILES)}
    return next((found[name] for name in _FILES if name in found), None)


def units_of(job: Job) -> Units | None:
    """Every unit of an ended run; None where it left no table."""
    artifact = file_of(job)
    return None if artifact is None else read(artifact.blob.path, artifact.name, culprit_sign(job))


def culprit_sign(job: Job) -> int:
    """The sign of values of units whose presence hurts."""
    if job.scores:
        return 1 if job.result["metric"]["goal"] == "lower" else -1
    return 1 if job.result.get("culprit_sign", -1) > 0 else -1


@lru_cache(maxsize=4)
def read(path: Path, name: str, sign: int) -> Units:
    """The file is named by its content, so what was read once stays true."""
    return _of_document(path, sign) if name == "score.json" else _of_table(path, sign)


def _of_document(path: Path, sign: int) -> Units:
    rows = json.loads(path.read_text(encoding="utf-8"))["filters"]

    def numbers(key: str) -> np.ndarray:
        return np.array([row[key] for row in rows], np.float64)  # None becomes NaN

    value = numbers("value")
    best = np.array([row["value"] if row.get("best") is None else row["best"] for row in rows], np.float64)
    return _units(
        [row["id"] for row in rows],
        [row.get("kind", "") for row in rows],
        sign,
        value=value,
        lower=numbers("lower"),
        upper=numbers("upper"),
        samples=numbers("samples").astype(np.int64),
        fresh=np.zeros(len(rows), bool),
        searched=best,
        constant=numbers("constant"),
        rank=np.zeros(len(rows), np.int32),
        culprit=np.zeros(len(rows), bool),
        ablated=np.zeros(len(rows), bool),
    )


def _of_table(path: Path, sign: int) -> Units:
    with path.open(newline="", encoding="utf-8") as file:
        header, *rows = [row for row in csv.reader(file) if row] or [[]]
    cells = dict(zip(header, zip(*rows, strict=True), strict=True)) if rows else dict.fromkeys(header, ())

    def numbers(key: str) -> np.ndarray:
        return np.array([float(cell) if cell else np.nan for cell in cells[key]], np.float64)

    fresh = np.array([bool(cell) for cell in cells["fresh_value"]], bool)

    def shown(key: str) -> np.ndarray:
        return np.where(fresh, numbers(f"fresh_{key}"), numbers(key))

    found = numbers("value")
    best = next((numbers(key) for key in ("best", "ranked_by") if key in cells), np.full(len(found), np.nan))
    rank = np.nan_to_num(numbers("rank")).astype(np.int32)
    repairs = "ablated" in cells  # an explanation ranks all units, and none of them as a culprit
    return _units(
        [tables.original(cell) for cell in cells["filter"]],
        cells.get("kind") or [""] * len(found),
        sign,
        value=shown("value"),
        lower=shown("lower"),
        upper=shown("upper"),
        samples=np.nan_to_num(shown("samples")).astype(np.int64),
        fresh=fresh,
        searched=np.where(np.isnan(best), found, best),
        constant=numbers("constant"),
        rank=rank,
        culprit=(rank > 0) & repairs,
        ablated=np.array([cell == "1" for cell in cells.get("ablated", ())] or np.zeros(len(found)), bool),
    )


def _units(ids: Sequence[str], kinds: Sequence[str], sign: int, **columns: np.ndarray) -> Units:
    heads = [name.rpartition(":") for name in ids]
    number: dict[str, int] = {}
    site = np.fromiter((number.setdefault(name, len(number)) for name, _, _ in heads), np.int32, len(ids))
    kinds = [kind or ("head" if last.startswith("head") else "filter") for kind, (_, _, last) in zip(kinds, heads)]
    return Units(ids, kinds, list(number), site, culprit_sign=sign, **columns)


# --- as a map -----------------------------------------------------------------------------------------------

MOST_BANDS = 24


def bands(sites: Sequence[str]) -> list[tuple[str, list[int]]]:
    """Sites in a row that are drawn as one band: as finely as gives at most MOST_BANDS, by the parts of their names.

    Returns:
        of each band its name and the numbers of its sites.
    """
    parts = [name.split(".") for name in sites]
    for depth in range(max(map(len, parts), default=1), 0, -1):
        found = _grouped(parts, lambda one, depth=depth: ".".join(one[:depth]))
        if len(found) <= MOST_BANDS:
            break
    return found if parts else []


def _grouped(parts: Sequence[list[str]], key: Callable[[list[str]], str]) -> list[tuple[str, list[int]]]:
    found: list[tuple[str, list[int]]] = []
    for i, one in enumerate(parts):
        name = key(one)
        if found and found[-1][0] == name:
            found[-1][1].append(i)
        else:
            found.append((name, [i]))
    return found


MAP_VERSION = 1
ABLATED, RANKED, FRESH = 4, 8, 16


@dataclass(frozen=True)
class Marked:
    """Units that stand beside the map by name.

    Attributes:
        words: what they have in common.
    """

    words: str
    rows: list[UnitRow]


MOST_MARKED = 8


def marked(of: Units) -> list[Marked]:
    """What was ablated; else the first ranked culprits; else both ends of what the search found."""
    ranked = np.flatnonzero(of.culprit)
    ranked = ranked[np.argsort(of.rank[ranked])]
    if (ablated := ranked[of.ablated[ranked]]).size:
        return [Marked("Ablated", of.rows(ablated[:MOST_MARKED]))]
    if ranked.size:
        return [Marked("Ranked first", of.rows(ranked[:6]))]
    order = np.argsort(-of.culprit_sign * of.searched, kind="stable")[: int(np.isfinite(of.searched).sum())]
    return [Marked("Hurts most", of.rows(order[:5])), Marked("Helps most", of.rows(order[::-1][:5]))]


@lru_cache(maxsize=4)
def map_of(path: Path, name: str, sign: int) -> bytes:
    """What the map draws, as bytes in little endian: the length of a JSON header (uint32, a multiple of 4) and the
    header; what each unit is coloured by, float32 [n]: its value where its sign is known, else what the search took
    it for; value, lower and upper float32 [m, 3] of the m units that were sampled; flags uint8 [n]: the number in
    STATES, ABLATED, RANKED, FRESH.

    The header: `sites` in order with kind and count (and the channels, where they do not count from 0), `bands` with
    the number of their first site, `most`, the largest absolute value that is not an outlier, and `culprit_sign`.
    """
    of = read(path, name, sign)
    order = np.argsort(of.site, kind="stable")
    sampled = order[of.state[order] > 0]
    best = np.where((of.state > 1) | of.fresh | np.isnan(of.searched), of.value, of.searched)
    flags = of.state | ABLATED * of.ablated | RANKED * of.culprit | FRESH * of.fresh
    counts = np.bincount(of.site, minlength=len(of.sites))
    ends = np.cumsum(counts)
    sites = []
    for i, site in enumerate(of.sites):
        mine = order[ends[i] - counts[i] : ends[i]]
        channels = [of.ids[j].rpartition(":")[2].removeprefix("head") for j in mine]
        counted = channels == [str(c) for c in range(len(mine))]
        more = {} if counted else {"channels": channels}
        sites.append({"name": site, "kind": of.kinds[mine[0]], "count": len(mine), **more})
    magnitude = np.abs(best[np.isfinite(best)])
    header = {
        "sites": sites,
        "bands": [{"name": words, "first": inside[0]} for words, inside in bands(of.sites)],
        "most": float(np.quantile(magnitude, 0.999)) if len(magnitude) else 0.0,
        "culprit_sign": sign,
    }
    head = json.dumps(header, separators=(",", ":"), ensure_ascii=True).encode()
    head += b" " * (-len(head) % 4)
    figures = np.stack([of.value[sampled], of.lower[sampled], of.upper[sampled]], axis=1)
    parts = [np.uint32(len(head)).astype("<u4").tobytes(), head, best[order].astype("<f4").tobytes()]
    parts += [figures.astype("<f4").tobytes(), flags[order].astype(np.uint8).tobytes()]
    return b"".join(parts)
