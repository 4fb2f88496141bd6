"""Where a verb's result goes: one JSON document, or text for people."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TextIO, TypeVar

from repair_engine.settings import AsJson

Document = TypeVar("Document")


def emit(here: AsJson, to: TextIO, document: Document, text: Callable[[Document], str]) -> None:
    """Prints the document to the command's stdout."""
    print(json.dumps(document, indent=1) if here.json else text(document), file=to)
