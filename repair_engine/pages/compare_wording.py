"""The sentences of a comparison, from its document alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from repair_engine.support.words import decimal, p_value, percent


def headline(document: Mapping[str, Any]) -> list[str]:
    """The two figures that say most."""
    found = document["agreement"]
    if found["spearman"] is None:
        first = f"No rank correlation: {found['n']} filters were sampled by both."
    else:
        first = f"Spearman's rank correlation of the values is {decimal(found['spearman'], 2)} (n = {found['n']:,})"
        if found["corrected"] is not None:
            first += f", about {decimal(found['corrected'], 2)} when corrected for sampling noise"
        first += "."
    if not document["overlaps"]:
        return [first, "Fewer than two were sampled by both: there are no ends to compare."]
    rows = [r for r in document["overlaps"] if r["k"] == _shown_k(document)]
    second = " and ".join(f"{r['shared']} of the {r['k']} {r['end']} filters" for r in rows)
    chance = percent(rows[0]["by_chance"])
    among = "" if found["n"] == document["filters"] else f" of the {found['n']:,} that both sampled"
    return [first, f"Both share {second}{among}; chance gives {chance} of them."]


def differs_text(document: Mapping[str, Any]) -> str:
    """What is not the same on both sides; budgets with their figures."""
    said = []
    for what in document["differs"]:
        figures = [side["run"].get(what) for side in document["results"]]
        known = what in ("budget", "evaluations") and None not in figures
        said.append(f"{what} ({figures[0]:,} and {figures[1]:,})" if known else what)
    return ", ".join(said) or "nothing that is recorded"


def _shown_k(document: Mapping[str, Any]) -> int:
    ks = sorted({row["k"] for row in document["overlaps"]})
    return 20 if 20 in ks else ks[-1]


def agreement_text(document: Mapping[str, Any]) -> list[str]:
    """The correlation with what it does and does not say."""
    found = document["agreement"]
    known = [None if r is None else percent(r, 0) for r in found["reliabilities"]]
    said = []
    if found["spearman"] is not None:
        said.append(f"Spearman {decimal(found['spearman'], 3)} over the {found['n']:,} filters that both runs sampled.")
    said.append(
        "Estimates are noisy, and noise pulls a correlation towards zero: two runs of the same question do not reach 1 "
        "either."
    )
    if all(known):
        said.append(f"Share of the values' variance that is not sampling noise: {known[0]} in A, {known[1]} in B.")
    if found["corrected"] is not None:
        cut = " (cut off there: the quotient was beyond it)" if found["cut"] else ""
        said.append(
            f"Divided by the square root of both shares (Spearman 1904): {decimal(found['corrected'], 3)}{cut}. For "
            "ranks this is an approximation, and it is unsteady where the shares are small."
        )
    else:
        said.append("No correction for noise: it would divide by a share that is 0 or not known.")
    said.append("Ghorbani & Zou 2020 (§4) saw 0.3 between values for clean and for adversarial images.")
    return said


def compare_text(document: Mapping[str, Any]) -> str:
    """What the verb prints for people."""
    lines = [f"{called}: {side['path']} ({side['metric']['text']})" for called, side in zip("AB", document["results"])]
    lines += [f"Differs: {differs_text(document)}", *headline(document)]
    lines += [f"  {said}" for said in agreement_text(document)]
    lines.append(f"{'end':<16}{'k':>6}{'shared':>8}{'share':>8}{'chance':>8}{'p':>9}")
    lines += [
        f"{r['end']:<16}{r['k']:>6}{r['shared']:>8}{r['share']:>8.0%}{r['by_chance']:>8.1%}{p_value(r['p']):>9}"
        for r in document["overlaps"]
    ]
    if "out" in document:
        lines.append(f"Page: {document['out']}/compare.html")
    return "\n".join([*lines, *(f"warning: {w}" for w in document["warnings"])])
