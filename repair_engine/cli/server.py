"""`neuron-repair serve` and `demo`: the web application is a program of its own, started in the place of this one.

It stands above the engine, which knows its name and nothing else of it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib.util import find_spec

from repair_engine.errors import BadInput

VERBS = {
    "serve": "the web application: pages, REST API and workers on this machine (serve --help)",
    "demo": "the same, and a repair of the shipped samples through its API (demo --help)",
}
_COMMANDS = {"serve": "dev", "demo": "demo"}
_NEEDED = ("webapp", "django", "rest_framework", "drf_spectacular", "celery", "redis", "granian", "whitenoise")


def start_if_asked(arguments: Sequence[str]) -> None:
    """Becomes the web application where the first argument asks for it. Raises BadInput: it is not installed."""
    if not arguments or arguments[0] not in VERBS:
        return
    missing = [name for name in _NEEDED if find_spec(name) is None]
    if missing:
        raise BadInput(
            f"{arguments[0]}: the web application is not installed here ({', '.join(missing)} missing).",
            "pip install neuron-repair[web]",
        )
    os.execv(sys.executable, [sys.executable, "-m", "webapp", _COMMANDS[arguments[0]], *arguments[1:]])
