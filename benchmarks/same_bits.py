"""Do two states of this project give the same bits? The same commands, run by a named commit and by this tree.

The commit is checked out into a folder of its own; both read this tree's samples. Everything that a command leaves is
compared: JSON and CSV for what they say, but for versions, times and what was added on purpose (`ON_PURPOSE`);
checkpoints and arrays bit for bit. Pages (HTML) only have to be there: what they show is in the JSON.
"""

from __future__ import annotations

import csv
import json
import os
import re
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import safe_open

from benchmarks.tables import grid

ROOT = Path(__file__).resolve().parents[1]
SAMPLES = ROOT / "samples"
CHANGING = frozenset({"created", "seconds", "versions"})  # keys of JSON whose values are of one run, or of one state
BY_HAND = "features.3.squeeze:8,features.9.squeeze:44,features.7.squeeze:28,features.7.expand1x1:19"
SHOWN = 20  # differences of one file
# What later commits changed on purpose: a place in a JSON document (or PLACE=VALUE), or a file, as patterns, and why.
# It is left out on both sides, counted and named; every other value must be the same.
ON_PURPOSE: dict[str, str] = {
    r"\.edit([.[].*)?": "what the repair changed, and how each edit did: there are several since (docs/edits.md)",
    r"\.controls\[.*": "rivals are chosen as the repair is (number of filters, limits), more of them, with Holm's "
    "correction (docs/edits.md)",
    r"\.reasons\[.*": "of no repair: which numbers of filters failed by what, and rivals (`documents.reasons`)",
    r"\.findings\[\d+\]=.* control .*": "sentences on the rivals: see controls",
    r"\.findings\[\]": "how many findings there are: see controls",
    r"\.files\.choice\..*": "a file that was added: see choice.npz",
    r"\.files\.values\..*": "a file that was added: see values.npz",
    r"(.*\.)?curve\[\d+\]\.success": "success of a trigger, beside every number of filters (docs/backdoors.md)",
    r"(.*\.)?curve\[\d+\]\.goal": "what a repair may be chosen by, beside every number of filters (docs/report.md)",
    r"(.*\.)?limits\.goal": "the same, as asked for",
    r"header\.trigger.*": "the trigger that an objective had, in the arrays' header (docs/backdoors.md)",
    r"header\.corruption.*": "how an objective's images were corrupted, in the arrays' header (docs/corruptions.md)",
    r".*beyond_limits(\[.*)?": "limits that a repair breaks on report images (docs/edits.md)",
    r".*/choice\.npz": "outcomes of every prefix, for choosing again after a run (docs/followups.md)",
    r".*/values\.npz": "values that another repair may start from",
}


class Different(Exception):
    """The tables, where something is not the same."""


class Failed(Exception):
    """A command did not run on one side: its last words."""


def _sample(name: str) -> tuple[list[str], list[str]]:
    """A shipped sample as options: the model alone, and with its data."""
    folder = SAMPLES / name
    said = json.loads((folder / "sample.json").read_text())
    read = said["preprocessing"]
    options = ["--model", folder / said["model"], "--classes", folder / said["classes"], "--device", "cpu"]
    options += ["--architecture", said["architecture"], "--num-classes", said["num_classes"]]
    options += ["--resize", read["resize"] or "none", "--crop", read["crop"] or "none"]
    model = [str(option) for option in (*options, "--mean", *read["mean"], "--std", *read["std"])]
    return model, [*model, "--data", str((folder / said["data"]).resolve())]


def commands() -> dict[str, list[str]]:
    """Name -> what is run in a folder that belongs to one side; later ones read what earlier ones left."""
    (alone, tags), (_, balanced) = _sample("stock_tags"), _sample("stock_tags_balanced")
    fair = ["--metric", "subgroup-recall:subgroup"]
    few = ["--attack-images", "24", "--subset", "24", "--queries", "10"]
    small = ["--remove", "8", "--random-draws", "2", "--curve-images", "100", "--pictures", "1", "--visualize", "1"]
    made = {
        "inspect": ["inspect", *tags],
        "evaluate": ["evaluate", *tags, *fair, "--ablate", BY_HAND],
        "score": ["score", *tags, *fair, "--also", "subgroups", "--budget", "60000", "--out", "score"],
        "repair": ["repair", *tags, *fair, "--budget", "20000", "--seed", "3", "--out", "repair"],
        "values": ["repair", *tags, *fair, "--values", "score", "--choose", "one-se", "--budget", "20000"],
        "by-hand": ["repair", *tags, *fair, "--filters", BY_HAND, "--compact", "--budget", "8000"],
        "apply": ["apply", *alone, "--plan", "by-hand/repair.json", "--without", BY_HAND.partition(",")[0]],
        "balanced": ["repair", *balanced, "--metric", "accuracy", "--estimator", "cmcs", "--order", "value"],
        "adversary": ["repair", *tags, "--metric", "attack-success", *few, "--budget", "6000", "--out", "adversary"],
        "explain": ["explain", *tags, "--metric", "recall:Coat", "--budget", "15000", *small, "--out", "explain"],
        "attack": ["attack", *tags, "--repaired", "by-hand/repaired.safetensors", *few, "--out", "attack"],
        "compare": ["compare", "score", "explain", "--out", "compare"],
    }
    made["values"] += ["--out", "values"]
    made["by-hand"] += ["--out", "by-hand"]
    made["apply"] += ["--out", "apply.safetensors"]
    made["balanced"] += ["--budget", "24000", "--constant", "bn_beta", "--out", "balanced"]
    return made


@dataclass
class Compared:
    """One file of both sides.

    Attributes:
        kind: how it was compared.
        values: how many numbers, words or bytes were.
        left_out: pattern of `ON_PURPOSE` -> how many values of either side.
    """

    name: str
    kind: str
    values: int = 0
    differences: list[str] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)


def same_bits(
    before: str, say: Callable[[str], None], only: list[str] | None = None, after: str = "", work: Path | None = None
) -> str:
    """Runs and compares all, or the commands named; gives the tables as Markdown.

    Args:
        after: a commit in place of this tree, which must not change meanwhile.
        work: a folder to keep what the sides wrote, by commit: later commands can be run later on, and what a commit
            wrote is not made again.

    Raises:
        Different: with the same tables.
        Failed: a command that should give a result gave none.
        KeyError: there is no such commit or command.
    """
    wanted = commands()
    if unknown := sorted(set(only or ()) - set(wanted)):
        raise KeyError(f"There is no command {', '.join(unknown)}; there are {', '.join(wanted)}.")
    wanted = {name: command for name, command in wanted.items() if not only or name in only}
    with ExitStack() as until_the_end:
        scratch = until_the_end.enter_context(tempfile.TemporaryDirectory(prefix="same-bits-"))
        trees = [
            until_the_end.enter_context(_checked_out(at, f"{scratch}/{at}")) if at else ROOT for at in (before, after)
        ]
        folders = [Path(work or scratch, side) for side in (before, after or "this tree")]
        for folder in folders:
            folder.mkdir(parents=True, exist_ok=True)
        with ThreadPoolExecutor(2) as both:
            for name, command in wanted.items():
                say(name)
                for run in [
                    both.submit(_run, name, command, tree, folder)
                    for tree, folder in zip(trees, folders)
                    if tree == ROOT or not (folder / f"{name}.exit").exists()
                ]:
                    run.result()
        compared = [c for c in compare_folders(*folders) if re.split(r"[/.]", c.name)[0] in wanted]
    return told(before, compared, after)


class _checked_out:
    """A commit in a git worktree of its own, gone at the end."""

    def __init__(self, commit: str, tree: str) -> None:
        self.commit, self.tree = commit, Path(tree)

    def __enter__(self) -> Path:
        made = _git("worktree", "add", "--detach", str(self.tree), self.commit)
        if made.returncode:
            raise KeyError(f"git cannot check out {self.commit!r}: {made.stderr.strip()}")
        return self.tree

    def __exit__(self, *_: object) -> None:
        _git("worktree", "remove", "--force", str(self.tree))


def _git(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, text=True, check=False)


def _run(name: str, command: list[str], tree: Path, folder: Path) -> None:
    """Leaves NAME.exit and NAME.json (stdout) beside what the command writes itself. Raises Failed."""
    around = {**os.environ, "PYTHONPATH": str(tree), "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "repair_engine", *command, "--json"],
        cwd=folder, env=around, capture_output=True, text=True, check=False,
    )  # fmt: skip
    (folder / f"{name}.json").write_text(done.stdout)
    (folder / f"{name}.exit").write_text(str(done.returncode))
    if done.returncode not in (0, 5):  # 5: no repair found
        raise Failed(f"{name} ended with exit code {done.returncode} {folder.name}:\n{done.stderr[-2000:]}")


def compare_folders(before: Path, after: Path) -> list[Compared]:
    """Every file of either, by its name."""
    names = sorted({p.relative_to(side).as_posix() for side in (before, after) for p in side.rglob("*") if p.is_file()})
    return [_compare(name, before / name, after / name) for name in names]


def _compare(name: str, before: Path, after: Path) -> Compared:
    kind, read = _KINDS.get(before.suffix, ("bytes", _bytes))
    found = Compared(name, kind)
    if pattern := _purpose(name):
        return Compared(name, "left out", left_out=Counter([pattern]))
    for side, path in (("before", before), ("after", after)):
        if not path.is_file():
            found.differences.append(f"is not there {side}")
    if found.differences:
        return found
    sides = [read(path) for path in (before, after)]
    if before.suffix in (".json", ".npz"):
        sides = [_without(leaves, found.left_out) for leaves in sides]
    for one, other in zip_longest(*sides, fillvalue=("(ends)", None)):
        found.values += 1
        if one != other:
            found.differences.append(f"{one[0]}: {_short(one[1])} → {_short(other[1])}" + _elsewhere(one, other))
    return found


def _purpose(*names: str) -> str | None:
    """The pattern of `ON_PURPOSE` that a file's name, or a place or PLACE=VALUE, fits."""
    return next((pattern for pattern in ON_PURPOSE if any(re.fullmatch(pattern, name) for name in names)), None)


def _without(leaves: Iterator[tuple[str, Any]], left_out: Counter[str]) -> Iterator[tuple[str, Any]]:
    """The values that must be the same; the others are counted."""
    for place, value in leaves:
        said = f"{place}={value}" if isinstance(value, str) else place  # arrays have their place alone
        if pattern := _purpose(place, said):
            left_out[pattern] += 1
        else:
            yield place, value


def _elsewhere(one: tuple[str, Any], other: tuple[str, Any]) -> str:
    return "" if one[0] == other[0] else f" (at {other[0]})"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}…"


def _json(path: Path) -> Iterator[tuple[str, Any]]:
    yield from _leaves(json.loads(path.read_text() or "null"), "")


def _leaves(value: Any, where: str) -> Iterator[tuple[str, Any]]:
    """Place -> number, word or nothing; in the order of the file, which is part of it."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if key not in CHANGING:
                yield from _leaves(inner, f"{where}.{key}")
    elif isinstance(value, list):
        yield f"{where}[]", len(value)
        for i, inner in enumerate(value):
            yield from _leaves(inner, f"{where}[{i}]")
    else:
        yield where, repr(value)


def _csv(path: Path) -> Iterator[tuple[str, Any]]:
    with path.open(newline="") as file:
        for i, row in enumerate(csv.reader(file)):
            yield f"row {i}", row


def _arrays(path: Path) -> Iterator[tuple[str, Any]]:
    """Name, type, shape and bytes; an array that holds JSON is read as such, for it tells times too."""
    with np.load(path, allow_pickle=False) as archive:
        for name in archive.files:
            array = archive[name]
            text = _text(array)
            if text is not None:
                yield from _leaves(text, name)
            else:
                yield name, (str(array.dtype), array.shape, array.tobytes())


def _text(array: np.ndarray) -> Any:
    """The JSON that it holds, as bytes or as one word; None: it holds numbers."""
    raw = bytes(array) if array.dtype == np.uint8 else str(array).encode() if array.shape == () else b""
    try:
        return json.loads(raw) if raw[:1] in (b"{", b"[") else None
    except ValueError:
        return None


def _tensors(path: Path) -> Iterator[tuple[str, Any]]:
    """The file whole; where it differs, its tensors say where."""
    with safe_open(path, "numpy") as file:
        yield "metadata", file.metadata()
        for name in file.keys():  # noqa: SIM118 (it is no dictionary)
            array = file.get_tensor(name)
            yield name, (str(array.dtype), array.shape, array.tobytes())
    yield from _bytes(path)


def _bytes(path: Path) -> Iterator[tuple[str, Any]]:
    yield "bytes", path.read_bytes()


def _there(path: Path) -> Iterator[tuple[str, Any]]:
    yield "is there", path.suffix


_KINDS: dict[str, tuple[str, Callable[[Path], Iterator[tuple[str, Any]]]]] = {
    ".json": ("values", _json),
    ".csv": ("rows", _csv),
    ".npz": ("arrays", _arrays),
    ".safetensors": ("bytes", _tensors),
    ".html": ("is there", _there),
}


def told(before: str, compared: list[Compared], after: str = "") -> str:
    """The tables. Raises Different, with them, where there is a difference."""
    this = after or _git("rev-parse", "--short", "HEAD").stdout.strip() + (
        "+" if _git("status", "--porcelain").stdout else ""
    )
    rows = [[c.name, c.kind, f"{c.values:,}", str(len(c.differences))] for c in compared]
    total = sum(len(c.differences) for c in compared)
    changing = ", ".join(sorted(CHANGING))
    purpose = sum((c.left_out for c in compared), Counter())
    parts = [
        f"# The same bits: {before} and {this}",
        f"{len(compared)} files, {total} differences. Left out of JSON, wherever they stand: {changing}.",
        grid(["file", "compared", "parts", "differences"], rows),
    ]
    if purpose:
        said = [[f"`{pattern}`", f"{n:,}", ON_PURPOSE[pattern]] for pattern, n in purpose.items()]
        parts.append("Left out, for it was changed on purpose:\n\n" + grid(["place", "values", "why"], said))
    for c in compared:
        if c.differences:
            more = len(c.differences) - SHOWN
            lines = [f"- {text}" for text in c.differences[:SHOWN]] + ([f"- and {more} more"] if more > 0 else [])
            parts.append(f"## {c.name}\n\n" + "\n".join(lines))
    text = "\n\n".join(parts)
    if total:
        raise Different(text)
    return text
