"""The sentences of a report about corrupted images."""

from __future__ import annotations

from typing import TYPE_CHECKING

from repair_engine.support.words import count

if TYPE_CHECKING:
    from repair_engine.documents.records import RepairRecord

PARAMETERS = {
    "gaussian_noise": "standard deviation, pixels in [0, 1]",
    "gaussian_blur": "standard deviation, pixels",
    "jpeg_compression": "JPEG quality",
    "brightness": "added to V of HSV",
    "contrast": "contrast that is kept",
}


def corruption_said(document: RepairRecord) -> str:
    """What was made of which images, in a few sentences."""
    record, section = document["metric"]["corruption"], document["corruption"]
    kinds = [kind.replace("_", " ") for kind in record["parameters"]]
    turns = ", each in one of the kinds, which take turns within each class" if len(kinds) > 1 else ""
    return (
        f"Units were valued and chosen on images corrupted by {_listed(kinds)} at severity {record['severity']}{turns}"
        f"; the parameters are those of {record['published']}. The headline is of all "
        f"{count(section['images']['report'], 'report image')}, corrupted in the same way; this table is of "
        f"{section['shown']:,} of them, every one in each kind and severity."
    )


def kind_said(kind: str) -> str:
    """A row's name: the kind, and what its parameter is."""
    return f"{kind.replace('_', ' ')} ({PARAMETERS[kind]})" if kind in PARAMETERS else kind


def _listed(words: list[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
