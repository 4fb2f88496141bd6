"""One spelling of names in Unicode."""

from __future__ import annotations

import unicodedata


def normal(text: str) -> str:
    """NFC: archives and command lines of a Mac hold decomposed accents."""
    return unicodedata.normalize("NFC", text)
