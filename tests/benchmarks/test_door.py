"""Benchmarks and experiments use the Python API; what lies below it comes in by one door each."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DOORS = {"benchmarks": {"engine.py"}, "experiments": {"common.py", "charts.py"}}


@pytest.mark.parametrize("folder", DOORS)
def test_nothing_below_the_api_is_imported_elsewhere(folder: str) -> None:
    through = set()
    for path in (ROOT / folder).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            named = [node.module] if isinstance(node, ast.ImportFrom) else []
            named += [one.name for one in node.names] if isinstance(node, ast.Import) else []
            if any((name or "").startswith("repair_engine.") for name in named):
                through.add(path.relative_to(ROOT / folder).as_posix())
    assert through == DOORS[folder]
