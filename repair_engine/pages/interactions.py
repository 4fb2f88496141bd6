"""What a report says of how its culprits work together."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from repair_engine.pages import rendering
from repair_engine.support.words import count, level_of

if TYPE_CHECKING:
    from repair_engine.documents.interactions import InteractionsRecord, Pair

KINDS = {
    "only together": "help only together",
    "together": "help each other",
    "overlap": "overlap",
    "": "no interaction shown",
}
_ORDER = [*KINDS]


def together_said(found: InteractionsRecord, edit: str | None) -> list[str]:
    """Which culprits the repair rests on, and how many pairs interact."""
    rows, pairs = found["culprits"], found["pairs"]
    needed = [row for row in rows if row["last"]["lower"] > 0]
    shown = f"first {len(rows)} of {found['of']}" if len(rows) < found["of"] else str(len(rows))
    interacting = {kind: sum(pair["kind"] == kind for pair in pairs) for kind in KINDS}
    told = [f"{n} {KINDS[kind]}" for kind, n in interacting.items() if n and kind]
    few = f"{len(needed) or 'none'} of the {shown} {'is' if len(needed) < 2 else 'are'}"
    said = [
        f"On {count(found['n'], 'report image')}, {few} "
        f"shown to be needed, with the whole {level_of(rows[0]['last'])} interval of what is lost without it above 0.",
        f"Of {count(len(pairs), 'pair')}, {', '.join(told) or 'none is shown to interact'}: a pair's interaction is "
        "what ablating both gains beyond what each gains alone, with p-values adjusted over all pairs (Holm).",
    ]
    if edit not in (None, "ablate"):
        said.append("All of this is of ablation alone, at the mean constants, without what was tuned besides.")
    return said


def interacting(found: InteractionsRecord) -> list[Pair]:
    """Pairs with an interaction that is shown; those that help only together first, then by its size."""
    shown = [pair for pair in found["pairs"] if pair["kind"]]
    return sorted(shown, key=lambda pair: (_ORDER.index(pair["kind"]), -abs(pair["interaction"]["value"])))


INTERACTIONS: dict[str, Any] = {**rendering.named(together_said, interacting), "PAIR": KINDS}
