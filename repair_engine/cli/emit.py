"""Where a verb's result goes: one JSON document, or text for people."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, TextIO

from repair_engine.settings import AsJson


def emit(here: AsJson, to: TextIO, document: dict[str, Any], text: Callable[[dict[str, Any]], str]) -> None:
    """Prints the document to the command's stdout."""
    print(json.dumps(document, indent=1) if here.json else text(document), file=to)
