"""Prints the table of docs/units.md; with --write it puts it there. All families take about ten minutes and 4 GB."""

from __future__ import annotations

import argparse
import sys

from tests.repair_engine.units.families import DOCS, FAMILIES, placed, table


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.repair_engine.units", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NETWORK", help="only these; the other rows stay what they are")
    parser.add_argument("--write", action="store_true")
    args = parser.parse_args()
    if unknown := set(args.names) - {family.name for family in FAMILIES}:
        parser.error(f"no families: {', '.join(sorted(unknown))}")
    document = DOCS.read_text(encoding="utf-8")
    made = table(document, args.names, lambda line: print(line, file=sys.stderr, flush=True))
    print(made)
    if args.write:
        DOCS.write_text(placed(document, made), encoding="utf-8")


if __name__ == "__main__":
    main()
