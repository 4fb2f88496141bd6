"""The samples that ship: `samples/NAME/sample.json` says what to upload and what to ask."""

from __future__ import annotations

import importlib.util
import json
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

from django.conf import settings


@dataclass(frozen=True)
class Sample:
    """One shipped example.

    Attributes:
        folder: where its files are.
        title: what it shows, in a sentence.
        model, data: file names within the folder.
        architecture, num_classes, options, classes, preprocessing: what the model is.
        request: fields of the repair, as the REST API takes them; `metric` at least.
    """

    name: str
    folder: Path
    title: str
    model: str
    data: str
    architecture: str
    num_classes: int
    request: dict[str, Any]
    options: dict[str, Any] = field(default_factory=dict)
    classes: str | None = None
    preprocessing: dict[str, Any] | None = None
    guard: str | None = None


def find_samples() -> list[Sample]:
    """All that ship, in the order of their folders' names."""
    return [read_sample(path.parent) for path in sorted((settings.SHIPPED / "samples").glob("*/sample.json"))]


def read_sample(folder: Path) -> Sample:
    values = json.loads((folder / "sample.json").read_text())
    known = {name: values[name] for name in Sample.__dataclass_fields__ if name in values}
    return Sample(**{"name": folder.name, **known, "folder": folder})


@cache
def client() -> ModuleType:
    """The API client that ships for CI: the demo uses the product the way its users do."""
    path = settings.SHIPPED / "clients" / "neuron_repair.py"
    spec = importlib.util.spec_from_file_location("neuron_repair_client", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
