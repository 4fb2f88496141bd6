"""Explain and repair trained image classifiers: a checkpoint or a module in memory in, a repaired one and a report out.

    import repair_engine as nr
    fixed = nr.repair(model, images, metric="accuracy")

Importing this changes nothing in the process and loads no torch; what is exported is loaded when it is asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from repair_engine.api import (
        attack,
        compare,
        evaluate,
        explain,
        inspect,
        open_images,
        open_model,
        repair,
        score,
        verify,
    )
    from repair_engine.errors import BadInput, Cancelled, NoPlayers, VerificationFailed

__version__ = "0.1.0"  # the only place: the package, reports, the API's document and `--version` take it from here

__all__ = [
    "BadInput",
    "Cancelled",
    "NoPlayers",
    "VerificationFailed",
    "attack",
    "compare",
    "evaluate",
    "explain",
    "inspect",
    "open_images",
    "open_model",
    "repair",
    "score",
    "verify",
]

_ERRORS = ("BadInput", "Cancelled", "NoPlayers", "VerificationFailed")


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{'errors' if name in _ERRORS else 'api'}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
