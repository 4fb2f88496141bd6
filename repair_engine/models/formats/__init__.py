"""Checkpoints in and out: safetensors, state dicts that torch.save wrote, and ONNX models."""

from repair_engine.models.formats.checkpoint import Checkpoint, Source
from repair_engine.models.formats.convert import convert, load, read
from repair_engine.models.formats.onnx_file import is_onnx
from repair_engine.models.formats.writing import write

__all__ = ["Checkpoint", "Source", "convert", "is_onnx", "load", "read", "write"]
