"""docs/formats.md shows what the product does today."""

from __future__ import annotations

import pytest

from tests.repair_engine.formats import tables
from tests.repair_engine.formats.rows import DOCS, placed, rendered


@pytest.mark.parametrize("name", tables.TABLES)
def test_the_table_in_the_docs_is_not_stale(name: str) -> None:
    if name == "huggingface":
        pytest.importorskip("transformers")
    document = DOCS.read_text(encoding="utf-8")
    again = placed(document, name, rendered(tables.TABLES[name]))
    assert again == document, "docs/formats.md is stale: python -m tests.repair_engine.formats --write"
