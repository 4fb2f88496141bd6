"""What a worker found out about one unit, as its card shows it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from repair_engine.pages.rendering import printable
from webapp.jobs import reopened, selectors, studies
from webapp.jobs.models import Job, UnitStudy
from webapp.pages.units import UnitRow

SHOWN = 8  # rows of a table that are open
EFFECT, PICTURE = UnitStudy.What.EFFECT, UnitStudy.What.PICTURE


@dataclass(frozen=True)
class Picture:
    """An image as the network is given it.

    Attributes:
        source: data URL.
        words: what it is, and what is predicted of it or how the unit responds.
        at: where the unit responds most strongly, in the picture's own units; None: there is no such place.
        width, height: the picture's own units.
        heat: data URL of the responses everywhere, to be laid over it; "" = none.
    """

    source: str
    words: str
    at: tuple[float, float] | None
    width: int
    height: int
    heat: str = ""

    @property
    def radius(self) -> float:
        return 0.11 * max(self.width, self.height)


@dataclass(frozen=True)
class Strip:
    words: str
    pictures: Sequence[Picture]


@dataclass(frozen=True)
class Groups:
    """Recall of the values of a column, or of the classes; those that change most come first."""

    title: str
    rows: Sequence[Mapping[str, Any]]

    @property
    def first(self) -> Sequence[Mapping[str, Any]]:
        return self.rows[:SHOWN]

    @property
    def others(self) -> Sequence[Mapping[str, Any]]:
        return self.rows[SHOWN:]


def parts(job: Job, unit: UnitRow, asks: bool) -> dict[str, Any]:
    """Of a card all that a worker makes. What it does alone is asked for by who opens the card, a picture by hand.

    Args:
        asks: whether who looks may ask a worker.
    """
    found = studies.found(job, unit.id)
    effect = found.get(EFFECT) or (studies.wanted(job, unit.id, EFFECT) if asks else None)
    return {"studies": [part(job, unit, EFFECT, effect, asks), part(job, unit, PICTURE, found.get(PICTURE), asks)]}


def part(job: Job, unit: UnitRow, what: str, study: UnitStudy | None, asks: bool) -> dict[str, Any]:
    """What the template of one part needs; where it is being made, whoever looks rings."""
    if study is not None and study.result is None and asks:
        study = studies.wanted(job, unit.id, what)
    shown: dict[str, Any] = {"what": what, "study": study, "asks": asks}
    if study is not None and study.result is None:
        queue = reopened.queue_of(job)
        shown["nobody"] = not any(queue in worker.queues for worker in selectors.live_workers())
    elif study is not None:
        shown |= {EFFECT: _effect, PICTURE: _picture}[what](study.result)
    return shown


def _effect(result: Mapping[str, Any]) -> dict[str, Any]:
    height, width = result["shape"]

    def picture(row: Mapping[str, Any], words: str) -> Picture:
        at = row.get("at")
        place = (at[0] * width, at[1] * height) if at else None
        said = printable(f"{row['file']}: {words}")
        return Picture(result["pictures"][row["file"]], said, place, width, height, row.get("heat") or "")

    def flipped(key: str) -> list[Picture]:
        return [picture(row, f"{row['label']}, from {row['before']} to {row['after']}") for row in result[key]]

    def responding(end: str) -> list[Picture]:
        return [picture(row, f"{row['label']}, response {row['response']:.3g}") for row in result["responses"][end]]

    groups = [
        Groups(printable(one["title"]), [{**row, "name": printable(row["name"])} for row in one["rows"]])
        for one in result["groups"]
    ]
    right, wrong = result["turned_right_count"], result["turned_wrong_count"]
    strips = [
        Strip(f"Turned right{_of(right, len(result['turned_right']))}", flipped("turned_right")),
        Strip(f"Turned wrong{_of(wrong, len(result['turned_wrong']))}", flipped("turned_wrong")),
    ]
    responses = [Strip("It responds most to", responding("most")), Strip("It responds least to", responding("least"))]
    return {"effect": result, "groups": groups, "flips": strips, "responses": responses,
            "placed": any(one.at for strip in responses for one in strip.pictures),
            "heated": any(one.heat for strip in responses for one in strip.pictures)}  # fmt: skip


def _of(count: int, shown: int) -> str:
    return f", {shown} of {count:,}" if count > shown else ""


def _picture(result: Mapping[str, Any]) -> dict[str, Any]:
    return {"rows": result["rows"]}
