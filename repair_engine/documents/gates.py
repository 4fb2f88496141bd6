"""Gates: a file of them, and what a report says to each. The same on the command line and on a server."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypedDict

import yaml

from repair_engine.documents.reasons import TOO_FEW, goal_of
from repair_engine.errors import BadInput
from repair_engine.settings import Gate, from_keywords
from repair_engine.support.statistics import wilson

DOCUMENTS = ("report.json", "attack.json", "explain.json", "score.json", "compare.json")
MOST, MOST_BYTES = 200, 65_536  # gates of a file, and its size
Document = Mapping[str, Any]
_SLACK = 1e-9  # 0.7 - 0.5 is a little less than 0.2


class GateRow(TypedDict):
    """One gate, judged.

    Attributes:
        gate: as `Gate.to_record` gives it.
        text: the same in words.
        value, lower, upper: the figure with its interval; None where there is none.
        n: images that it rests on, where that is known.
        verdict: passed, failed or skipped.
        why: what led to it, unless the figure did: too few images.
    """

    gate: dict[str, Any]
    text: str
    value: float | None
    lower: float | None
    upper: float | None
    n: int | None
    verdict: str
    why: str


class GatesRecord(TypedDict):
    """gate.json.

    Attributes:
        gates_sha256: of the gates, whatever the form of their file (`digest`).
        report_sha256: of the report's file.
        verdict: failed where one gate failed.
    """

    schema: int
    verb: str
    gates_sha256: str
    report_sha256: str
    outcome: str
    verdict: str
    gates: list[GateRow]


# --- a file of gates ----------------------------------------------------------------------------------------


class _Loader(yaml.SafeLoader):
    """YAML, and so JSON; a key that is given twice is refused: the first would be dropped silently."""


def _mapping(loader: _Loader, node: yaml.MappingNode) -> dict[Any, Any]:
    seen: set[str] = set()
    for key, _ in node.value:
        if key.value in seen:
            raise yaml.constructor.ConstructorError(None, None, f"{key.value} is given twice", key.start_mark)
        seen.add(key.value)
    return loader.construct_mapping(node, deep=True)


_Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)
_FORM = "Write gates: and below it a list such as - {metric: accuracy, min: 0.9}."


def parse(text: str, called: str = "The gate file") -> list[Gate]:
    """The gates of a file in YAML or JSON.

    Raises:
        BadInput: it cannot be read, or a gate has no such key or value; the gate is named by its number from 1.
    """
    if len(text.encode()) > MOST_BYTES:
        raise BadInput(f"{called} has more than {MOST_BYTES:,} bytes.", "A gate is a line or two.")
    try:
        found = yaml.load(text, _Loader)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise BadInput(f"{called} is neither YAML nor JSON: {error}.", _FORM) from None
    if not isinstance(found, dict) or set(found) != {"gates"}:
        raise BadInput(f"{called} is not a list of gates under the one key gates.", _FORM)
    return read(found["gates"], called)


def read(listed: Any, called: str = "The list of gates") -> list[Gate]:
    """Gates from what JSON holds. Raises BadInput as `parse` does."""
    if not isinstance(listed, list) or not listed or len(listed) > MOST:
        raise BadInput(f"{called} holds no list of 1 to {MOST} gates.", _FORM)
    gates = []
    for number, one in enumerate(listed, 1):
        if not isinstance(one, dict) or not all(isinstance(key, str) for key in one):
            raise BadInput(f"{called}: gate {number} is no mapping of names to values.", _FORM)
        try:
            gates.append(from_keywords(Gate, **one))
        except BadInput as error:
            raise BadInput(f"{called}: gate {number}: {error.whole}", error.mend) from None
    return gates


def digest(gates: Sequence[Gate]) -> str:
    """SHA-256 by which the same gates are the same, whatever the form and comments of their file."""
    return hashlib.sha256(json.dumps([one.to_record() for one in gates], sort_keys=True).encode()).hexdigest()


# --- figures of a report ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Figure:
    """None: the report has no such thing. A `value` of None with `why`: it leaves it out for want of images."""

    value: float | None
    lower: float | None = None
    upper: float | None = None
    n: int | None = None
    why: str = ""


def _figure(document: Document, gate: Gate) -> Figure:
    kind, _, argument = gate.metric.partition(":")
    by_name = _NAMED.get(kind)
    if by_name is None:
        return _by_path(document, gate)
    if document.get("verb") != "repair":
        raise BadInput(
            f"A result of {document.get('verb')} has no {gate.metric} before and after.",
            "Name a number of its document with dots, such as run.evaluations.",
        )
    if "after" not in document:
        raise BadInput("This report has no figures after the repair: an earlier version wrote it.")
    return by_name(document, gate, argument)


def _images(document: Document, split: str) -> int | None:
    data = document["data"]
    return data["images"] if split == "all" else data["splits"].get(split)


def _retained(document: Document, split: str) -> int | None:
    """Images that accuracy is taken over."""
    forgetting = document.get("metric", {}).get("forgetting")
    return _images(document, split) if forgetting is None else forgetting["images"][split]["retain"]


def _sides(document: Document, gate: Gate, key: str) -> tuple[float, float]:
    before, after = (document[side].get(gate.split, {}).get(key) for side in ("before", "after"))
    if before is None or after is None:
        raise BadInput(f"The report has no {gate.metric} on {gate.split}.", f"It has: {_splits(document, key)}.")
    return before, after


def _splits(document: Document, key: str) -> str:
    found = [name for name, figures in document["after"].items() if figures.get(key) is not None]
    return ", ".join([*found, *(["guard"] if key == "accuracy" and "guard" in document else [])])


def _metric(document: Document, gate: Gate, _: str) -> Figure:
    before, after = _sides(document, gate, "metric")
    n = metric_images(document) if gate.split == "report" else _images_of_metric(document, gate.split)
    if not gate.change:
        return Figure(after, n=n)
    return _change(document["gain"], n) if gate.split == "report" else Figure(after - before, n=n)


def metric_images(document: Document) -> int:
    """Report images that the metric is taken over."""
    kind, _, argument = document["metric"]["name"].partition(":")
    for changed in ("attack", "trigger", "corruption"):
        if changed in document:
            return document[changed]["images"]["report"]
    if (forgetting := document.get("metric", {}).get("forgetting")) is not None:
        return forgetting["images"]["report"]["forget"]
    if kind == "recall":
        for row in document["groups"].get("classes", []):
            if row["name"] == argument:
                return row["n"]
    return document["images_right"]["n"]


def _images_of_metric(document: Document, split: str) -> int | None:
    """Of another split; of one class the report does not say."""
    for changed in ("attack", "trigger", "corruption"):
        if changed in document:
            return document[changed]["images"].get(split)
    if (forgetting := document.get("metric", {}).get("forgetting")) is not None:
        return forgetting["images"][split]["forget"]
    return None if document["metric"]["name"].startswith("recall:") else _images(document, split)


def _accuracy(document: Document, gate: Gate, _: str) -> Figure:
    if gate.split == "guard":
        guard = document.get("guard")
        if guard is None:
            raise BadInput("The run had no guard set.", "Give it one, or judge another split.")
        return _change(guard["change"], guard["n"]) if gate.change else _rate(guard["after"], guard["n"])
    before, after = _sides(document, gate, "accuracy")
    n = _retained(document, gate.split)
    if not gate.change:
        return _rate(after, n)
    return _change(document["clean_change"], n) if gate.split == "report" else Figure(after - before, n=n)


def _class(document: Document, gate: Gate, name: str) -> Figure:
    row = _row(document["groups"].get("classes", []), gate, name)
    if gate.change:
        return Figure(row["change"], n=row["n"])
    lower, upper = row["after_interval"]
    return Figure(row["after"], lower, upper, row["n"])


def _subgroup(document: Document, gate: Gate, name: str) -> Figure:
    row = _row(_fairness(document, gate)["rows"], gate, name)
    return _change(row["change"], row["n"]) if gate.change else Figure(row["after"], n=row["n"])


def _worst(document: Document, gate: Gate, _: str) -> Figure:
    found = _fairness(document, gate)
    if found["worst"] is None:
        return Figure(None, why=TOO_FEW["worst-group"])
    name = found["worst"]["after"]["name"]
    n = next(row["n"] for row in found["rows"] if row["name"] == name)
    return _change(found["worst"]["change"], n) if gate.change else Figure(found["worst"]["after"]["recall"], n=n)


def _gap(document: Document, gate: Gate, _: str) -> Figure:
    found = _fairness(document, gate)
    if found["gap"] is None:
        return Figure(None, why=TOO_FEW["gap"])
    return _change(found["gap"]["change"], None) if gate.change else Figure(found["gap"]["after"])


def _odds(document: Document, gate: Gate, _: str) -> Figure:
    found = _fairness(document, gate)
    if "equalized_odds" not in found:
        raise BadInput(
            f"The report has no {gate.metric}: its repair's goal is {goal_of(document)}.",
            "Repair with the goal equalized-odds.",
        )
    if (odds := found["equalized_odds"]) is None:
        return Figure(None, why=TOO_FEW["equalized-odds"])
    return _change(odds["change"], None) if gate.change else Figure(odds["after"]["difference"])


_NAMED: dict[str, Callable[[Document, Gate, str], Figure]] = {
    "metric": _metric,
    "accuracy": _accuracy,
    "recall": _class,
    "subgroup": _subgroup,
    "worst-subgroup": _worst,
    "subgroup-gap": _gap,
    "equalized-odds": _odds,
}


def _fairness(document: Document, gate: Gate) -> Document:
    found = document.get("fairness")
    if found is None:
        raise BadInput(
            f"The report has no {gate.metric}: its metric has no subgroups.", "Repair for subgroup-recall:COLUMN."
        )
    if gate.split != "report":
        raise BadInput(f"{gate.metric} is given on report, not on {gate.split}.")
    return found


def _row(rows: Sequence[Document], gate: Gate, name: str) -> Document:
    if gate.split != "report":
        raise BadInput(f"{gate.metric} is given on report, not on {gate.split}.")
    found = next((row for row in rows if row["name"] == name), None)
    if found is None:
        raise BadInput(f"The report has no {gate.metric}.", f"It has: {', '.join(row['name'] for row in rows)}.")
    return found


def _rate(value: float, n: int | None) -> Figure:
    """A share of images, with Wilson's interval."""
    if n is None:
        return Figure(value)
    interval = wilson(round(value * n), n)
    return Figure(value, interval.lower, interval.upper, n)


def _change(change: Document, n: int | None) -> Figure:
    return Figure(change["value"], change["lower"], change["upper"], n)


def _by_path(document: Document, gate: Gate) -> Figure:
    usual = replace(gate, min=gate.min, split="report", change=False, bound="value", min_n=None)
    if gate != usual:
        raise BadInput(
            f"{gate.metric} names one number of the report: split, change, bound and min_n say nothing of it.",
            f"Leave them out, or use one of {', '.join(_NAMED)}.",
        )
    here: Any = document
    for part in gate.metric.split("."):
        if isinstance(here, list) and part.isdigit() and int(part) < len(here):
            here = here[int(part)]
        elif isinstance(here, dict) and part in here:
            here = here[part]
        else:
            known = ", ".join(here) if isinstance(here, dict) else type(here).__name__
            raise BadInput(f"The report has no {gate.metric} ({part!r} is not among: {known}).", _NAMES)
    if here is None:
        return Figure(None, why="the report leaves it out")
    if isinstance(here, bool) or not isinstance(here, int | float):
        raise BadInput(f"{gate.metric} is no number in the report.", _NAMES)
    return Figure(float(here))


_NAMES = f"Names are {', '.join(_NAMED)}, or keys of the report with dots between them."


# --- judging ------------------------------------------------------------------------------------------------


def judge(document: Document, gates: Sequence[Gate], report_sha256: str) -> GatesRecord:
    """What a report says to gates.

    Args:
        document: of one of DOCUMENTS.

    Raises:
        BadInput: a gate asks for what this report cannot have.
    """
    rows = [_judged(document, gate) for gate in gates]
    return {
        "schema": 1,
        "verb": "gate",
        "gates_sha256": digest(gates),
        "report_sha256": report_sha256,
        "outcome": document.get("outcome", ""),
        "verdict": "failed" if any(row["verdict"] == "failed" for row in rows) else "passed",
        "gates": rows,
    }


def _judged(document: Document, gate: Gate) -> GateRow:
    try:
        found = _figure(document, gate)
    except (KeyError, TypeError, AttributeError) as error:  # of an earlier version, or not a report at all
        raise BadInput(f"The report cannot be read for {gate.text}: {error!r}.") from None
    verdict, why = _verdict(found, gate)
    return {
        "gate": gate.to_record(),
        "text": gate.text,
        **{key: _number(getattr(found, key)) for key in ("value", "lower", "upper")},  # type: ignore[typeddict-item]
        "n": found.n,
        "verdict": verdict,
        "why": why,
    }


def _verdict(found: Figure, gate: Gate) -> tuple[str, str]:
    if gate.min_n is not None and found.n is None and found.value is not None:
        raise BadInput(f"The report does not say on how many images {gate.text} rests.", "Leave min_n out.")
    number = found.value if gate.bound == "value" else getattr(found, gate.bound)
    if found.value is not None and number is None:
        raise BadInput(
            f"The report has no interval for {gate.text}.",
            "Leave bound out. Intervals are there of accuracy, recall:CLASS, and of changes on report.",
        )
    few = gate.min_n is not None and (found.n or 0) < gate.min_n
    if few or number is None or math.isnan(number):
        why = f"{found.n or 0} images" if few else found.why or "not measured"
        return {"fail": "failed", "pass": "passed", "skip": "skipped"}[gate.on_insufficient], f"insufficient: {why}"
    low = gate.min is None or number >= gate.min - _SLACK
    return "passed" if low and (gate.max is None or number <= gate.max + _SLACK) else "failed", ""


def _number(value: float | None) -> float | None:
    """JSON has no NaN."""
    return None if value is None or math.isnan(value) else value


def read_report(place: str) -> tuple[dict[str, Any], str]:
    """The document of a result's folder, or file, and its SHA-256. Raises BadInput: there is none."""
    path = Path(place)
    if path.is_dir():
        found = next((path / name for name in DOCUMENTS if (path / name).is_file()), None)
        if found is None:
            raise BadInput(f"{path} holds none of {', '.join(DOCUMENTS)}.", "Name a folder that a verb wrote.")
        path = found
    try:
        content = path.read_bytes()
        document = json.loads(content)
    except (OSError, ValueError) as error:
        raise BadInput(f"{path} cannot be read as a report: {error}.", "Name a folder that a verb wrote.") from None
    if not isinstance(document, dict) or "verb" not in document:
        raise BadInput(f"{path} is no report of this program.", "Name a folder that a verb wrote.")
    return document, hashlib.sha256(content).hexdigest()
