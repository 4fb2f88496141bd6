"""Whether parties' estimates are of the same thing: model, players, metric, constants, truncation, attack."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

from repair_engine.documents.estimates import MODEL_KEYS, PartyEstimate
from repair_engine.documents.records import some_of
from repair_engine.errors import BadInput

_SHOWN = 80

# What must be equal, in the order in which it is looked at: (what it is, how it is found, how to mend it).
_EQUAL: tuple[tuple[str, Callable[[PartyEstimate], Any], str], ...] = (
    (
        "model (sha256)",
        lambda p: p.document["model"]["sha256"],
        "All parties need the same model file, bit for bit.",
    ),
    (
        "architecture",
        lambda p: [p.document["model"][key] for key in MODEL_KEYS[1:]],
        "Give --architecture, --num-classes and --arch-option as the others do.",
    ),
    (
        "players",
        lambda p: list(p.filters),
        "Use the same version of this program and of torch everywhere.",
    ),
    ("classes", lambda p: p.document["classes"], "Give the same --classes file everywhere."),
    ("metric", lambda p: p.document["metric"]["name"], "Score the same --metric everywhere."),
    (
        "attack settings",
        lambda p: p.document["metric"].get("attack"),
        "Give the same --attack, --norm, --epsilon, --steps, --step-size and --restarts everywhere.",
    ),
    (
        "trigger",
        lambda p: some_of(p.document["metric"].get("trigger", {}), ("sha256", "at", "opacity")),
        "Give the same patch with the same --trigger-at and --trigger-opacity everywhere.",
    ),
    (
        "corruption",
        lambda p: some_of(p.document["metric"].get("corruption", {}), ("severity", "published", "parameters")),
        "Give the same --severity everywhere.",
    ),
    (
        "preprocessing",
        lambda p: p.document["preprocessing"],
        "Give the same --resize, --crop, --mean, --std and --interpolation everywhere.",
    ),
    ("kind of constant", lambda p: p.document["constants"]["kind"], "Give the same --constant everywhere."),
    (
        "constants (sha256)",
        lambda p: p.document["constants"]["sha256"],
        "Filters must be ablated to the same constants: `constants` at each party, `constants merge` of what they "
        "sent, then `score --constants FILE` with the result at each party.",
    ),
    (
        "precision",
        lambda p: p.run.get("precision", "float32"),  # an earlier version's do not say it
        "Give --precision float32 everywhere: a machine without fast bfloat16 falls back to it.",
    ),
    (
        "rule of truncation",
        lambda p: p.document["truncation"]["rule"],
        "Use --estimator cmcs (or fast) everywhere, or a walk (tmab, monte_carlo) everywhere.",
    ),
    (
        "depth",
        lambda p: p.document["truncation"]["depth"],
        "Values with different truncation do not add up: give the same --depth everywhere, the largest of these.",
    ),
)


def check_fit(parties: Sequence[PartyEstimate]) -> None:
    """Raises BadInput where two estimates are not of the same thing, or two are of the same images."""
    first = parties[0]
    for what, of, mend in _EQUAL:
        try:
            found = [of(party) for party in parties]
        except (KeyError, TypeError) as error:
            raise BadInput(f"An estimate does not say its {what} ({error}).") from error
        for party, value in zip(parties, found):
            if value != found[0]:
                raise BadInput(
                    f"{first.name} and {party.name} differ in {what}: {_shown(found[0])} and {_shown(value)}.", mend
                )
    seen: dict[str, str] = {}
    for party in parties:
        digest = str(party.document["data"]["sha256"])
        if digest in seen:
            raise BadInput(
                f"{seen[digest]} and {party.name} are of the same image set (sha256 {digest[:12]}…).",
                "Each image must count once: leave one of them out.",
            )
        seen[digest] = party.name


def _shown(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
