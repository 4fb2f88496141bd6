"""What files say of options is what is declared."""

from __future__ import annotations

from repair_engine.settings.__main__ import stale


def test_the_client_and_the_docs_have_the_options_of_today() -> None:
    assert stale() == [], "run python -m repair_engine.settings"
