"""Where a verb's result goes: one JSON document, or text for people."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from typing import Any


def emit(args: argparse.Namespace, document: dict[str, Any], text: Callable[[dict[str, Any]], str]) -> None:
    """Prints the document to the command's stdout."""
    print(json.dumps(document, indent=1) if args.json else text(document), file=args.stdout)
