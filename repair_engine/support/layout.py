"""Which folders of a zip are classes and which are splits."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Sequence

from repair_engine.errors import BadInput

NONE = "none"  # as --split-folder: the top folders are the classes, whatever they look like
LAYOUT = "The layout is class/name.png, one folder per class, and optionally metadata.csv beside the folders."
_SPLIT = re.compile(r"(train|training|val|valid|validation|test|testing|dev|eval)([ _-]?(set|split|data|images|\d+))?")


def common_root(paths: Sequence[str], flat: bool = False) -> str:
    """The folder above the class folders (of flat images: above the images), with its slash, or ""."""
    parts = [path.split("/") for path in paths]
    first = parts[0][0]
    return f"{first}/" if all(len(p) >= (2 if flat else 3) and p[0] == first for p in parts) else ""


def split_root(
    root: str, paths: Sequence[str], tables: Sequence[str], split: str, known: Collection[str], name: str
) -> str:
    """The root within the chosen split, or `root` where there are no splits.

    Args:
        root: of the top folders.
        paths, tables: all images, and every metadata.csv.
        split: the top folder that is asked for, NONE, or "" (not said).
        known: the class names, where they are known.

    Raises:
        BadInput: there are splits and none is chosen, or there is no such folder.
    """
    tops = sorted({path.removeprefix(root).partition("/")[0] for path in paths if "/" in path.removeprefix(root)})
    if split == NONE:
        return root
    if split:
        if split.strip("/") not in tops:
            raise BadInput(f"{name} has no folder {split!r}.", f"Its top folders: {', '.join(tops[:20]) or 'none'}.")
        return f"{root}{split.strip('/')}/"
    why = _splits(root, paths, tables, known)
    if why:
        raise BadInput(
            f"{name}: the top folders are {', '.join(tops[:12])}, which are splits, not classes: {why}.",
            f"Choose one: --split-folder {_quoted(tops[0])} (in the browser and the API: split folder). The product "
            f"makes its own splits. If they are the classes: --split-folder {NONE}.",
        )
    return root


def _splits(root: str, paths: Sequence[str], tables: Sequence[str], known: Collection[str]) -> str:
    """Why the top folders are splits; "" where they are not, or where there is one only."""
    below: dict[str, set[str]] = defaultdict(set)  # "" stands for images right in the top folder
    for path in paths:
        top, slash, rest = path.removeprefix(root).partition("/")
        if not slash:
            return ""
        below[top].add(rest.partition("/")[0] if "/" in rest else "")
    if known and set(below) <= set(known):
        return ""
    if all(_SPLIT.fullmatch(top.casefold()) for top in below):
        return "so they are called"
    if len(below) < 2:
        return ""
    if all(f"{root}{top}/metadata.csv" in tables for top in below):
        return "each has a metadata.csv of its own"
    first, *others = below.values()
    if "" not in first and len(first) > 1 and all(one == first for one in others):
        return f"each has the same subfolders ({', '.join(sorted(first)[:8])})"
    return ""


def _quoted(name: str) -> str:
    return name if re.fullmatch(r"[\w.-]+", name) else f"'{name}'"
