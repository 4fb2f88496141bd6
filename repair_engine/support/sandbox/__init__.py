"""One-shot child processes in which uploaded files are parsed: with nothing in reach but what they are given."""

from repair_engine.errors import SandboxTooWeak
from repair_engine.support.sandbox.layers import in_force, require, sentence, try_layers
from repair_engine.support.sandbox.parent import LAYERS, REQUIRE, TASKS, Limits, call, not_usable, required, warm

__all__ = [
    "LAYERS",
    "REQUIRE",
    "TASKS",
    "Limits",
    "SandboxTooWeak",
    "call",
    "in_force",
    "not_usable",
    "require",
    "required",
    "sentence",
    "try_layers",
    "warm",
]
