"""A Hugging Face folder as one zip, for where a single file is sent. Nothing but its known files is unpacked.

It is unpacked in a one-shot child process, which gets descriptors to write to and no names.
"""

from __future__ import annotations

import os
import zipfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from repair_engine.errors import BadInput
from repair_engine.models import hf_models
from repair_engine.models.formats.convert import MAX_FILE_BYTES
from repair_engine.support import sandbox
from repair_engine.support.archive import check_entry, check_size, entries_of, stream_entry

SUFFIX = ".zip"
NAMES = (hf_models.CONFIG, hf_models.WEIGHTS, hf_models.PREPROCESSOR, hf_models.JOINT)
_MAX_JSON = 16 << 20
_WHAT = (
    "The zip holds config.json, model.safetensors and usually preprocessor_config.json, at its top or in one folder, "
    "as model.save_pretrained(FOLDER) writes them."
)
_AGAIN = "Make the zip again from the folder that save_pretrained wrote, without links."


def unpack(path: Path, folder: Path, name: str) -> hf_models.Folder:
    """Writes the zip's files that are known (`NAMES`) into `folder`, and opens that.

    Args:
        path: of the zip.
        folder: is made; the files get our names, whatever stands in the zip.
        name: the zip's own name, for messages.

    Raises:
        BadInput: no zip; links, absolute paths, `..`, encrypted or overlapping entries, bombs; files missing or twice;
            and what `hf_models.open_folder` refuses.
    """
    size = check_size(path, name, MAX_FILE_BYTES)
    folder.mkdir(parents=True, exist_ok=True)
    megabytes = size >> 20
    limits = sandbox.Limits(1 << 30, MAX_FILE_BYTES, cpu_seconds=120 + megabytes, wall_seconds=300 + 3 * megabytes)
    writes = {one: folder / one for one in NAMES}
    found = sandbox.call("hugging face", {"name": name}, limits, {"path": path}, writes).get("found")
    for one, target in writes.items():
        if not isinstance(found, list) or one not in found:
            target.unlink()
    return hf_models.open_folder(folder)


def run_task(payload: Mapping[str, Any]) -> dict[str, Any]:
    """The child's part of `unpack`: which of the files there are."""
    path, name = Path(payload["path"]), payload["name"]
    found = []
    try:
        with zipfile.ZipFile(path) as archive:
            for entry in _wanted(archive, path.stat().st_size, name):
                found.append(entry.filename.rpartition("/")[2])
                _write(archive, entry, found[-1], payload[found[-1]])
    except (zipfile.BadZipFile, NotImplementedError, UnicodeDecodeError) as error:
        raise BadInput(f"{name} is not a zip archive, or it is damaged: {error}.", _WHAT) from error
    return {"found": found}


def pack(folder: Path, out: Path) -> None:
    """The zip of a repaired folder's files: stored, with one date, so the same files give the same bytes."""
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
        for path in sorted(folder.iterdir()):
            entry = zipfile.ZipInfo(f"{folder.name}/{path.name}")
            entry.external_attr = 0o644 << 16
            entry.file_size = path.stat().st_size  # from 2 GiB on it needs the larger header
            with path.open("rb") as source, archive.open(entry, "w") as target:
                while piece := source.read(1 << 20):
                    target.write(piece)


def _wanted(archive: zipfile.ZipFile, size: int, name: str) -> list[zipfile.ZipInfo]:
    """The known files, all of one folder. Raises BadInput."""
    entries = entries_of(archive, name)
    for entry in entries:
        check_entry(entry, name, _AGAIN)
    twice = [n for n, count in Counter(entry.filename for entry in entries).items() if count > 1]
    if twice:
        raise BadInput(f"{name} holds the entry {twice[0]!r} twice.")
    if (packed := sum(entry.compress_size for entry in entries)) > size:
        raise BadInput(f"{name} is an archive bomb: its entries overlap (they claim {packed:,} of {size:,} bytes).")
    places = [
        e.filename.removesuffix(hf_models.CONFIG) for e in entries if e.filename.split("/")[-1] == hf_models.CONFIG
    ]
    if len(places) != 1 or places[0].count("/") > 1:
        held = ", ".join(entry.filename for entry in entries[:8])
        found = f"its config.json in {places[0]}" if places else "no config.json"
        found = f"config.json at {len(places)} places" if len(places) > 1 else found
        raise BadInput(f"{name} holds {found}. Among its entries: {held}.", _WHAT)
    by_name = {entry.filename: entry for entry in entries}
    if f"{places[0]}{hf_models.WEIGHTS}" not in by_name:
        others = ", ".join(n.removeprefix(places[0]) for n in by_name if n.startswith(places[0]) and n != places[0])
        raise BadInput(
            f"{name} has no {hf_models.WEIGHTS} beside its config.json; there are: {others}.",
            "model.save_pretrained(FOLDER) writes one (max_shard_size='100GB' where it writes several).",
        )
    return [by_name[f"{places[0]}{one}"] for one in NAMES if f"{places[0]}{one}" in by_name]


def _write(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, name: str, handle: int) -> None:
    limit = MAX_FILE_BYTES if name == hf_models.WEIGHTS else _MAX_JSON
    with os.fdopen(handle, "wb", closefd=False) as file:
        for piece in stream_entry(archive, entry, limit):
            file.write(piece)
