"""The folder of results: what a run may put there, and what an earlier run left.

A checkpoint must belong to the report beside it. So a run removes the files that the earlier run's repair.json
vouches for by hash, and never a file that nobody vouches for.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from repair_engine.errors import BadInput

_CHECKPOINTS = (
    "repaired.safetensors",
    "repaired.pth",
    "repaired.pt",
    "repaired.onnx",
    "repaired_compact.safetensors",
    "repaired/model.safetensors",
)
HUGGING_FACE = "repaired"  # folder of a repaired Hugging Face model


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def make_folder(option: str, out: Path) -> None:
    """Makes the folder before any work is done.

    Raises:
        BadInput: it is a file, or cannot be made or written to.
    """
    if out.exists() and not out.is_dir():
        raise BadInput(f"{option}: {out} is a file.", "Name a folder.")
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadInput(f"{option}: the folder {out} cannot be made ({error.strerror}).", "Name another one.") from error
    if not os.access(out, os.W_OK | os.X_OK):
        raise BadInput(f"{option}: the folder {out} cannot be written to.", "Name another one.")


def check_folder(out: Path, inputs: Iterable[str]) -> None:
    """Makes the folder of a repair, and sees to it that a run loses nothing there.

    Raises:
        BadInput: see `make_folder`; or it holds an input, or a checkpoint that no earlier run vouches for.
    """
    make_folder("--out", out)
    for name in _CHECKPOINTS:
        path = out / name
        if not path.exists():
            continue
        if any(path.samefile(given) for given in inputs):
            raise BadInput(
                f"{path} is the model to be repaired, and --out is its folder: the result would take its place.",
                "Name another folder.",
            )
        if path not in _vouched(out):
            raise BadInput(
                f"--out: {path} is not of an earlier run; beside a new report it would be mistaken for its result.",
                "Move it away, or name another folder.",
            )


def publish(made: Path, out: Path) -> None:
    """Moves a finished run's files into the folder of results, in the place of the earlier run's.

    Wherever this is stopped, a checkpoint in the folder is whole, and the report beside it is its own: the earlier
    run's files go first, repair.json comes before what it vouches for, the checkpoints come last.
    """
    clear(out)
    files = {path.relative_to(made).as_posix(): path for path in made.rglob("*") if path.is_file()}
    for name in sorted(files, key=lambda n: (n in _CHECKPOINTS, n != "repair.json", n)):
        target = out / name
        target.parent.mkdir(exist_ok=True)
        part = target.with_name(f".{target.name}.part")
        shutil.copyfile(files[name], part)
        part.replace(target)


def clear(out: Path) -> None:
    """Removes the files of the earlier run that repair.json vouches for, its report, and at last repair.json."""
    for path in _vouched(out):
        path.unlink()
    if (out / "repair.json").exists():
        for name in ("report.json", "report.html", "repair.json"):
            (out / name).unlink(missing_ok=True)


def _vouched(out: Path) -> list[Path]:
    try:
        files = json.loads((out / "repair.json").read_text())["files"].values()
        named = [(_inside(out, file["name"]), file["sha256"]) for file in files]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return []
    return [path for path, digest in named if path.is_file() and sha256(path) == digest]


def _inside(out: Path, name: str) -> Path:
    """A file of the folder, or of the folder of a repaired Hugging Face model in it; nothing outside."""
    parts = Path(name).parts
    return out / HUGGING_FACE / parts[-1] if parts[:-1] == (HUGGING_FACE,) else out / parts[-1]
