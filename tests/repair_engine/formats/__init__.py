"""The tables of docs/formats.md: each row makes a small input, has it read, and shows what came of it.

`python -m tests.repair_engine.formats` prints the tables; with `--write` it puts them into docs/formats.md.
"""
