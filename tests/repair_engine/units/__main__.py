"""Prints the table of docs/units.md; with --write it puts it there. Takes about ten minutes and 4 GB."""

from __future__ import annotations

import sys

from tests.repair_engine.units.families import DOCS, placed, table


def main() -> None:
    made = table(lambda line: print(line, file=sys.stderr, flush=True))
    print(made)
    if "--write" in sys.argv[1:]:
        DOCS.write_text(placed(DOCS.read_text(encoding="utf-8"), made), encoding="utf-8")


if __name__ == "__main__":
    main()
