"""Writes what stands in files about options, between their markers: `python -m repair_engine.settings`."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from repair_engine import settings
from repair_engine.settings.fields import Option, Settings, declared_by, options
from repair_engine.settings.texts import flag_of, help_of, written
from repair_engine.settings.verbs import ASKED, COMMANDS

ROOT = Path(__file__).resolve().parents[2]
QUOTES = '"""'
_VALUES = {
    "flag": "", "whole": "whole number", "real": "number", "text": "text", "texts": "texts", "reals": "numbers",
    "size": "pixels, or H,W, or none", "pairs": "KEY=VALUE",
}  # fmt: skip


def client_text() -> str:
    """Options of the one-file client, which imports nothing: what it takes over the web, by what takes it."""
    takes = {verb: _web(record) for verb, record in ASKED.items()}
    takes |= {"run": _web(settings.Device), "model": _web(settings.ModelUpload), "images": _web(settings.ImagesUpload)}
    takes["follow"] = [one for group in settings.FOLLOWED for one in _web(group)] + [options(settings.Repair)["budget"]]
    every = {one.name: one for group in takes.values() for one in group}
    rows = []
    for name, one in every.items():
        choices = ",".join(one.words) if one.kind == "text" else ""
        cells = (name, flag_of(one), one.off, one.kind, choices, one.metavar, help_of(one))
        rows.append(" | ".join(cells))
    names = [f"{verb}: {' '.join(one.name for one in group)}" for verb, group in takes.items()]
    return "".join(
        f"{title} = {QUOTES}\\\n" + "".join(f"{line}\n" for line in lines) + f"{QUOTES}  # noqa: E501\n"
        for title, lines in (("_OPTIONS", rows), ("_TAKES", names))
    )


def _web(record: type[Settings]) -> list[Option]:
    return [one for one in options(record).values() if not one.here]


def docs_text() -> str:
    """Every option of every verb, by group, and what keeps some from the web."""
    by: dict[type, list[str]] = {
        kind: [] for record, _ in COMMANDS.values() for kind in dict.fromkeys(declared_by(record).values())
    }
    for verb, (record, _) in COMMANDS.items():
        for kind in dict.fromkeys(declared_by(record).values()):
            by[kind].append(verb)
    lines: list[str] = []
    for kind, verbs in by.items():
        own = [one for one in options(kind).values() if declared_by(kind)[one.name] is kind and not one.positional]
        if own:
            lines += [f"### {(kind.__doc__ or '').splitlines()[0].rstrip('.')}", ""]
            lines += [f"Of {', '.join(f'`{verb}`' for verb in verbs)}.", ""]
            lines += ["| command line | everywhere else | values | default | |", "|---|---|---|---|---|"]
            lines += [*map(_row, own), ""]
    return "\n".join(lines)


def _row(one: Option) -> str:
    flag = f"`{flag_of(one)}`" + (f", `{one.off}`" if one.off else "")
    name = f"not over the web: {one.here}" if one.here else f"`{one.name}`"
    default = "" if one.default in (None, (), "", False) else f"`{written(one, one.default)}`"
    cells = (flag, name, _values(one), "needed" if one.required else default, one.help)
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def _values(one: Option) -> str:
    if one.words and one.kind == "text":
        return ", ".join(f"`{word}`" for word in one.words)
    said = _VALUES[one.kind]
    if bounds := _bounds(one.low, one.high, one.open):
        said += f" {bounds}"
    return said + (f"; on a server {_bounds(*one.served, False)}" if one.served else "")


def _bounds(low: float | None, high: float | None, open: bool) -> str:
    least, most = (f"{bound:,.15g}" if bound is not None else "" for bound in (low, high))
    if least and most:
        return f"{'between' if open else 'from'} {least} {'and' if open else 'to'} {most}"
    return f"{'above' if open else 'from'} {least}" if least else ""


PLACES: dict[str, tuple[str, str, Callable[[], str]]] = {
    "clients/neuron_repair.py": ("# options: begin\n", "# options: end\n", client_text),
    "docs/options.md": ("<!-- options: begin -->\n", "<!-- options: end -->\n", docs_text),
}


def stale(write: bool = False) -> list[str]:
    """Files whose options are not those that are declared; `write`: mended."""
    found = []
    for name, (begin, end, text) in PLACES.items():
        before = (ROOT / name).read_text(encoding="utf-8")
        head, rest = before.split(begin)
        after = head + begin + text() + end + rest.split(end)[1]
        if after != before:
            found.append(name)
            if write:
                (ROOT / name).write_text(after, encoding="utf-8")
    return found


if __name__ == "__main__":
    print("\n".join(stale(write=True)) or "Nothing was stale.", file=sys.stderr)
