"""CSV files: no cell is taken for a formula, every text comes back, numbers stay numbers."""

from __future__ import annotations

import ast
import csv
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from repair_engine.support import tables
from repair_engine.support.tables import Figure, harmless, original

HOSTILE = [
    "=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "\x00=1", "\x1b[31m", "＝1", "＠x", " =1", "\u200b=1",
    '"=1', "'=1", "''=1", "=cmd|' /C calc'!A0", "x;=1", "x,=1", "x\t=1", "x\n-1", "x; '=1", "x;;=1", "\t\t=1",
]  # fmt: skip
HARMLESS = ["", "cat", "a-b", "a=b", "n@x", "female & dark", "'quoted'", "conv1.0:3", "x; y", "1-2", "Größe"]


@pytest.mark.parametrize("text", HOSTILE)
def test_begins_with_an_apostrophe_wherever_a_spreadsheet_may_cut(text):
    written = harmless(text)
    for cell in re.split(r"[,;|\t\r\n]", written):
        assert not re.match(r"['\"\s]*[=+\-@＝＋－＠\x00-\x1f]", cell) or cell.startswith("'"), (written, cell)
    assert written != text
    assert original(written) == text


@pytest.mark.parametrize("text", HARMLESS)
def test_other_texts_stay(text):
    assert harmless(text) == original(text) == text


@given(st.text(alphabet="=+-@'\"\t\r\n ;,|a＝\x00\x7f", max_size=12))
def test_every_text_comes_back(text):
    assert original(harmless(text)) == text


def test_round_trip_of_a_file(tmp_path):
    header = ["file_name", "=column", "value"]
    with tables.writing(tmp_path / "t.csv", header) as rows:
        for text in (*HOSTILE, *HARMLESS):
            rows.writerow([text, f"x{text}", -0.25])
    read = tables.read(tmp_path / "t.csv")
    assert [row["file_name"] for row in read] == [*HOSTILE, *HARMLESS]
    assert [row["=column"] for row in read] == [f"x{text}" for text in (*HOSTILE, *HARMLESS)]
    assert {row["value"] for row in read} == {"-0.25"}


def test_numbers_are_written_as_they_are(tmp_path):
    numbers = [-1, -0.5, np.float64(-2.5), np.int64(-3), Figure("-1e-05"), None]
    with tables.writing(tmp_path / "t.csv", [f"c{i}" for i in range(len(numbers))]) as rows:
        rows.writerow(numbers)
    with (tmp_path / "t.csv").open() as file:
        assert list(csv.reader(file))[1] == ["-1", "-0.5", "-2.5", "-3", "-1e-05", ""]


def test_a_row_of_another_length_is_refused(tmp_path):
    (tmp_path / "t.csv").write_text("a,b\n1\n")
    with pytest.raises(ValueError):
        tables.read(tmp_path / "t.csv")


def test_no_other_code_writes_csv():
    """`columns.py` writes a metric's argument, not a file."""
    root = Path(__file__).resolve().parents[3]
    writers = set()
    for path in [*(root / "repair_engine").rglob("*.py"), *(root / "webapp").rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            made = isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
            if made and node.func.attr in ("writer", "DictWriter", "to_csv"):
                writers.add(path.relative_to(root).as_posix())
    assert writers == {"repair_engine/support/tables.py", "repair_engine/data/columns.py"}
