"""Prints the tables of docs/formats.md; with --write it puts them there."""

from __future__ import annotations

import sys

from tests.repair_engine.formats import tables
from tests.repair_engine.formats.rows import DOCS, placed, rendered


def main() -> None:
    document = DOCS.read_text(encoding="utf-8")
    for name, rows in tables.TABLES.items():
        table = rendered(rows)
        print(f"## {name}\n\n{table}\n")
        document = placed(document, name, table)
    if "--write" in sys.argv[1:]:
        DOCS.write_text(document, encoding="utf-8")


if __name__ == "__main__":
    main()
