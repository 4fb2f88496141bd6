"""The tour in docs/python.md and the notebook run as they stand, and say what is so."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]


def run(source: str, space: dict[str, Any]) -> Any:
    """Runs it as a cell does: the value of a last expression is what comes out, and is shown."""
    *body, last = ast.parse(source).body
    shown = isinstance(last, ast.Expr)
    exec(compile(ast.Module(body if shown else [*body, last], []), "cell", "exec"), space)
    if not shown:
        return None
    value = eval(compile(ast.Expression(last.value), "cell", "eval"), space)  # type: ignore[attr-defined]
    html = getattr(value, "_repr_html_", None)
    if html is not None:
        assert html().startswith("<")
    return value


def test_the_tour(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    text = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert len(blocks) == 7
    monkeypatch.chdir(tmp_path)
    space: dict[str, Any] = {}
    for block in blocks:
        run(block, space)
    said = capsys.readouterr().out
    assert "<Images 600 images in memory: 600 of 3×16×16, 2 classes, columns tag>" in said
    fixed = space["fixed"]
    assert fixed.repaired
    assert fixed.gain["value"] > 0.1
    assert (tmp_path / "out" / "report.html").is_file()
    state = space["model"].state_dict()
    changed = {key for key, value in fixed.state_dict().items() if not (value == state[key]).all()}
    assert {unit.rpartition(":")[0] + ".weight" for unit in fixed.units} <= changed
    assert str(space["found"].table()[0]["unit"]) in said


def test_the_notebook(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its cells in order, without a kernel: nothing in them needs one."""
    notebook = json.loads((ROOT / "examples" / "notebook.ipynb").read_text(encoding="utf-8"))
    assert notebook["nbformat"] == 4
    monkeypatch.chdir(ROOT)
    space: dict[str, Any] = {}
    values = [run("".join(cell["source"]), space) for cell in notebook["cells"] if cell["cell_type"] == "code"]
    before, after = values[1], values[5]
    assert before["swapped"] < before["usual"] - 0.2
    assert after["swapped"][1] > after["swapped"][0] + 0.2
    assert values[4].repaired
