"""Calibration on pages: the chart of confidence and accuracy, and what a report says of a repair's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from repair_engine.pages import rendering
from repair_engine.pages.lines import LOOKS, Axis, Line, Look, Point, line_chart
from repair_engine.pages.svg import responsive
from repair_engine.studies.calibration import surer
from repair_engine.support.words import count, decimal, level_of, percent, points

if TYPE_CHECKING:
    from repair_engine.studies.calibration import CalibrationRecord, ModelReliability, Reliability, Score

_ASIDE = 3  # units between the marks of two models


def reliability_chart(models: Mapping[str, Reliability]) -> Markup:
    """Accuracy against confidence, in bins: on the dashed line a model is as sure as it is right.

    Args:
        models: name -> figures, of one model or two.
    """
    looks: tuple[Look, ...] = LOOKS[:1] if len(models) == 1 else (LOOKS[3], LOOKS[0])
    lines, said = [], []
    for i, ((name, found), look) in enumerate(zip(models.items(), looks, strict=True)):
        marks = [
            Point(
                row["confidence"],
                row["accuracy"],
                f"{name}, {count(row['n'], 'image')}: {percent(row['confidence'])} sure, "
                f"{percent(row['accuracy'])} right",
                ends=(row["lower"], row["upper"]),
            )
            for row in found["bins"]
        ]
        lines.append(Line(name, look, marks, size=4, aside=i * _ASIDE))
        of_it = "; ".join(f"{percent(p.x, 0)} sure, {percent(p.y, 0)} right" for p in marks)
        said.append(f"{name[:1].upper()}{name[1:]}: {of_it}.")
    lines.append(Line("perfectly calibrated", ("cross", "text", "5 4"), [Point(0, 0), Point(1, 1)], width=1, size=0.01))
    confidence, accuracy = Axis("confidence, with the share right above it", also=(0, 1)), Axis(also=(0, 1))
    title, told = "Confidence and accuracy", " ".join(said)
    return responsive(lambda w: line_chart(lines, title, told, confidence, accuracy, width=w, ident="reliability"))


def models_of(found: CalibrationRecord, changed: bool) -> dict[str, Reliability]:
    return {"before": found["before"], "after": found["after"]} if changed else {"intact model": found["before"]}


def score_rows(found: CalibrationRecord) -> list[dict[str, str]]:
    """What the table of scores shows, in words."""
    error = [found[when]["ece"] for when in ("before", "after")]
    floors = [found[when]["ece_if_calibrated"][1] for when in ("before", "after")]
    by_noise = percent(floors[0]) if percent(floors[0]) == percent(floors[1]) else " and ".join(map(percent, floors))
    return [
        _in_numbers("negative log-likelihood", "lower is better", found["nll"], 3),
        _in_numbers("Brier score", "lower is better", found["brier"], 4),
        {
            "what": "confidence minus accuracy",
            "aim": "0 is best, above it the model is surer than right",
            **{when: points(found["overconfidence"][when]) for when in ("before", "after")},
            "change": points(found["overconfidence"]["change"]["value"]),
            "interval": rendering.interval(found["overconfidence"]["change"]),
        },
        {
            "what": "expected calibration error",
            "aim": f"in one case of twenty noise alone makes it {by_noise} or more",
            "before": percent(error[0]),
            "after": percent(error[1]),
            "change": points(error[1] - error[0]),
            "interval": "no mean over images",
        },
    ]


def _in_numbers(what: str, aim: str, score: Score, digits: int) -> dict[str, str]:
    change = score["change"]
    return {
        "what": what,
        "aim": aim,
        "before": decimal(score["before"], digits),
        "after": decimal(score["after"], digits),
        "change": decimal(change["value"], digits, sign=True),
        "interval": " to ".join(decimal(change[end], digits, sign=True) for end in ("lower", "upper")),
    }


def calibration_said(found: CalibrationRecord, changed: bool) -> list[str]:
    """How sure the model is and how right, what the repair changed of that, and what a temperature would mend."""
    said = [f"On the {count(found['n'], 'clean report image')} {_sure(found, 'before', 'the intact model')}."]
    if changed:
        said[0] = f"{said[0][:-1]}; {_sure(found, 'after', 'the repaired one')}."
        said.append(_SURER[surer(found)].format(level=level_of(found["overconfidence"]["change"])))
    said.append(_temperature_said(found["after" if changed else "before"]))
    return said


_SURER = {
    "more": "The repaired model's confidence exceeds its accuracy by more than the intact one's: do not take "
    "thresholds on confidence over unchanged.",
    "less": "The repaired model's confidence lies nearer to its accuracy, or further below it, than the intact one's.",
    "worse": "Its log-likelihood is worse than the intact one's, though on average it is no surer than before.",
    "": "No change of confidence minus accuracy is shown: its {level} interval includes 0.",
}


def _sure(found: CalibrationRecord, when: str, who: str) -> str:
    model: ModelReliability = found[when]  # type: ignore[literal-required]
    return f"{who} is {percent(model['confidence'])} sure and {percent(_accuracy(found, when))} right"


def _accuracy(found: CalibrationRecord, when: str) -> float:
    return float(found[when]["confidence"] - found["overconfidence"][when])  # type: ignore[literal-required]


def _temperature_said(model: ModelReliability) -> str:
    if model["temperature"] is None:
        return "No temperature fits the select images best: their likelihood grows with it without end."
    assert model["nll_at_temperature"] is not None
    assert model["ece_at_temperature"] is not None
    return (
        f"Its logits divided by {decimal(model['temperature'], 2)}, the temperature that fits the select images best "
        f"(Guo et al. 2017), would give a negative log-likelihood of {decimal(model['nll_at_temperature'], 3)} and a "
        f"calibration error of {percent(model['ece_at_temperature'])} here; no prediction changes by that. It is not "
        "in the file."
    )


CALIBRATION: dict[str, Any] = rendering.named(reliability_chart, models_of, score_rows, calibration_said)
