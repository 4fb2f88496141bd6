"""The folder of results: what a run may put there, and what an earlier run left.

A checkpoint must belong to the report beside it. So a run removes the files that the earlier run's repair.json
vouches for by hash, and never a file that nobody vouches for.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from repair_engine.errors import BadInput
from repair_engine.support.scratch import scratch, unbroken

_CHECKPOINTS = (
    "repaired.safetensors",
    "repaired.pth",
    "repaired.pt",
    "repaired.onnx",
    "repaired_compact.safetensors",
    "repaired/model.safetensors",
)
# Each of these verbs leaves a filters.csv beside its document.
_SHARING = {"repair.json": "a repair", "explain.json": "an explanation", "merged.json": "a merged estimate"}
HUGGING_FACE = "repaired"  # folder of a repaired Hugging Face model


def sha256(path: Path) -> str:
    """Of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_json(document: Mapping[str, Any], path: Path) -> None:
    """As all documents are written."""
    path.write_text(json.dumps(document, indent=1))


def listed(folder: Path, names: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """Role -> name and sha256 of files in a folder, from role -> name: how documents name their files."""
    return {role: {"name": name, "sha256": sha256(folder / name)} for role, name in names.items()}


@contextmanager
def claimed(out: Path | None, writes: str = "") -> Iterator[None]:
    """The folder of results (None: there is none) for one run alone, made before any work is done.

    Args:
        writes: the document that the run leaves there, where files with it have the same names as those of other verbs.

    Raises:
        BadInput: it is a file, cannot be made or written to, another run is writing into it, or it holds another verb's
            results that this run would replace.
    """
    if out is None:
        yield
        return
    _make_folder(out)
    handle = os.open(out, os.O_RDONLY | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BadInput(
                f"--out: another run is writing into {out}.", "Name another folder, or wait until that run has ended."
            ) from None
        except OSError:
            pass  # a file system without locks on folders
        for name, what in _SHARING.items():
            if writes in _SHARING and name != writes and (out / name).exists():
                raise BadInput(
                    f"--out: {out} holds {what}, whose files {_SHARING[writes]} would replace.", "Name another folder."
                )
        yield
    finally:
        os.close(handle)


def _make_folder(out: Path) -> None:
    try:
        if out.exists() and not out.is_dir():
            raise BadInput(f"--out: {out} is a file.", "Name a folder.")
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadInput(f"--out: the folder {out} cannot be made ({error.strerror}).", "Name another one.") from error
    if not os.access(out, os.W_OK | os.X_OK):
        raise BadInput(f"--out: the folder {out} cannot be written to.", "Name another one.")


def check_folder(out: Path, inputs: Iterable[str]) -> None:
    """Sees to it that a repair loses nothing in its folder.

    Raises:
        BadInput: it holds an input, or a checkpoint that no earlier run vouches for.
    """
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
    """Moves a finished repair's files into the folder of results, in the place of the earlier run's.

    As `replace`; and wherever this is killed, a checkpoint in the folder is whole, and the report beside it is its own:
    the earlier run's files go first, repair.json comes before what it vouches for, the checkpoints come last.
    """
    with _copied(made, out) as parts, unbroken():
        clear(out)
        for name in sorted(parts, key=lambda n: (n in _CHECKPOINTS, n != "repair.json", n)):
            parts[name].replace(out / name)


def replace(made: Path, out: Path) -> None:
    """Moves files into the folder of results, in the place of those of the same names.

    All of them or, where there is no room or the program is told to stop, none.

    Raises:
        OSError: they cannot be written there; the folder is as it was.
    """
    with _copied(made, out) as parts, unbroken():
        for name, part in parts.items():
            part.replace(out / name)


@contextmanager
def results(out: Path) -> Iterator[Path]:
    """A folder to write results into; at the end they take their places in `out` (`replace`)."""
    with scratch("results") as folder:
        made = folder / "made"
        made.mkdir()
        yield made
        replace(made, out)


@contextmanager
def _copied(made: Path, out: Path) -> Iterator[dict[str, Path]]:
    """Name -> its copy on the file system of `out`, under a hidden name."""
    files = {path.relative_to(made).as_posix(): path for path in sorted(made.rglob("*")) if path.is_file()}
    parts = {name: (out / name).with_name(f".{Path(name).name}.part") for name in files}
    folders = {part.parent for part in parts.values() if not part.parent.exists()}
    try:
        for name, part in parts.items():
            part.parent.mkdir(exist_ok=True)
            try:
                shutil.copyfile(files[name], part)
            except OSError as error:  # it would name the source
                raise OSError(error.errno, error.strerror or str(error), str(part)) from error
        yield parts
    finally:
        for part in parts.values():
            part.unlink(missing_ok=True)
        for folder in folders:
            with suppress(OSError):  # not empty: the files are in their places
                folder.rmdir()


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
