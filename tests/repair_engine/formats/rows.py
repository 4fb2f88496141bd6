"""One row of a table, and the tables as Markdown."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from repair_engine.errors import BadInput

DOCS = Path(__file__).parents[3] / "docs" / "formats.md"


@dataclass(frozen=True)
class Row:
    """What somebody brings.

    Attributes:
        kind: what it is, in a few words.
        read: makes an example of it in the folder and reads it as the product does. Gives what is said of it (a
            warning, how it was understood; "" = nothing). Raises BadInput where it is refused.
    """

    kind: str
    read: Callable[[Path], str]


def rendered(rows: Sequence[Row]) -> str:
    """The table as Markdown, each row run in an empty folder of its own."""
    lines = ["| what is brought | outcome | what is said |", "|---|---|---|"]
    for row in rows:
        with tempfile.TemporaryDirectory() as folder:
            try:
                outcome, said = "read", row.read(Path(folder))
            except BadInput as error:
                outcome, said = "refused", f"{error.problem} {error.mend}".strip()
            said = said.replace(f"{folder}/", "").replace(folder, "FOLDER")
        lines.append(f"| {row.kind} | {outcome} | {_cell(said)} |")
    return "\n".join(lines)


def placed(document: str, name: str, table: str) -> str:
    """The document with the table between its marks `<!-- NAME -->` and `<!-- /NAME -->`."""
    found = re.compile(rf"(<!-- {name} -->\n).*?(\n<!-- /{name} -->)", re.DOTALL)
    assert found.search(document), f"{DOCS.name} has no marks for the table {name}"
    return found.sub(lambda match: f"{match[1]}{table}{match[2]}", document)


def _cell(text: str) -> str:
    return re.sub(r"\s+", " ", text).replace("|", "\\|").replace("<", "&lt;")
