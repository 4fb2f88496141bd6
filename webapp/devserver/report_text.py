"""A finished repair in a few lines of text, for the terminal: what it bought, what it cost, its rivals."""

from __future__ import annotations

from typing import Any

from repair_engine.documents.edits import clean_words
from repair_engine.pages.repair_wording import deed
from repair_engine.support.words import level_of, points


def describe(report: dict[str, Any]) -> str:
    """`report.json` for people: before and after on the report images, with intervals."""
    before, after, metric = report["before"]["report"], report["after"]["report"], report["metric"]
    repaired = report["outcome"] == "repaired"
    done = deed(report)
    done = f"{done[0].lower()}{done[1:]}"
    by_hand = report["outcome"] == "not_shown_to_help"
    none = f"WRITTEN by {done}, chosen by hand, NOT SHOWN TO HELP." if by_hand else "NO REPAIR FOUND."
    lines = [f"REPAIRED by {done}." if repaired else none]
    lines += [f"  {reason}" for reason in report["reasons"]]
    lines += ["", f"On {report['data']['splits']['report']} report images that the repair never saw:"]
    lines.append(_line(metric["text"], before["metric"], after["metric"], report["gain"]))
    lines.append(_line(clean_words(report), before["accuracy"], after["accuracy"], report.get("clean_change")))
    for title in ("subgroups", "classes"):
        if rows := report["groups"].get(title):
            lines += [
                "",
                f"{'by ' + title[:-1].replace('classe', 'class'):<30}{'images':>7}  {'before':^22}  {'after':^22}",
            ]
            lines += [_group(row) for row in rows]
    if report["controls"]:
        lines += [
            "",
            f"Beside it, on the same images:{'':<4}{metric['name'].partition(':')[0]:>14}  {clean_words(report)}",
        ]
        lines.append(f"  {'this repair':<30}{after['metric']:>14.1%}  {after['accuracy']:>14.1%}")
        lines += [_control(row) for row in report["controls"]]
    lines += ["", *(f"* {finding}" for finding in report["findings"])]
    lines += [f"! {warning}" for warning in report["warnings"]]
    return "\n".join(lines)


def _line(name: str, before: float, after: float, change: dict[str, Any] | None) -> str:
    text = f"  {name:<34}{before:>7.1%} -> {after:>6.1%}"
    if change:
        low, high = change["lower"], change["upper"]
        text += f"   change {points(change['value'])}, {level_of(change)} interval {points(low)} to "
        text += f"{points(high)} points"
    return text


def _group(row: dict[str, Any]) -> str:
    def cell(value: float, interval: list[float]) -> str:
        return f"{value:>6.1%} [{interval[0]:>6.1%}, {interval[1]:>6.1%}]"

    before, after = cell(row["before"], row["before_interval"]), cell(row["after"], row["after_interval"])
    return f"  {row['name'][:28]:<28}{row['n']:>7}  {before}  {after}"


def _control(row: dict[str, Any]) -> str:
    text = f"  {row['name']:<30}{row['metric']:>14.1%}  {row['accuracy']:>14.1%}"
    if advantage := row.get("advantage"):
        low, high = advantage["lower"], advantage["upper"]
        text += f"   the repair is ahead by {points(advantage['value'])} [{points(low)}, {points(high)}]"
    return text
