"""Who may look at which part of a case."""

from collections.abc import Iterator
from pathlib import Path

import repair_engine

ROOT = Path(repair_engine.__file__).parent


def modules(*rooms: str) -> Iterator[tuple[str, str]]:
    """Name and text of the engine's modules outside some of its rooms."""
    for path in ROOT.rglob("*.py"):
        name = path.relative_to(ROOT)
        if name.parts[0] not in rooms:
            yield str(name), path.read_text(encoding="utf-8")


def test_paths_and_names_are_for_verbs_and_documents() -> None:
    asked = [
        name for name, text in modules("case", "documents", "verbs") if "case.sources" in text or "case.request" in text
    ]
    assert not asked


def test_the_metric_about_attacks_is_named_in_settings_alone() -> None:
    assert not [name for name, text in modules("settings") if '"attack-success"' in text]
