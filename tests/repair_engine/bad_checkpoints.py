"""Checkpoints that are to be refused: written, and the refusal they get."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from repair_engine.errors import BadInput
from repair_engine.models.architectures import Architecture
from repair_engine.models.formats.convert import parse
from tests.repair_engine.models.test_checkpoint_round_trip import TINY


def refuse(path: Path, architecture: Architecture = TINY, name: str = "") -> BadInput:
    with pytest.raises(BadInput) as caught:
        parse(path, architecture, None, name or path.name)
    return caught.value


def saved(tmp_path: Path, content: Any) -> Path:
    path = tmp_path / "in.pth"
    torch.save(content, path)
    return path
