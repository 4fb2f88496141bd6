"""Checkpoints in and out: safetensors, and state dicts that torch.save wrote."""

from repair_engine.formats.checkpoint import Checkpoint, Source
from repair_engine.formats.convert import convert, load, read
from repair_engine.formats.writing import write

__all__ = ["Checkpoint", "Source", "convert", "load", "read", "write"]
