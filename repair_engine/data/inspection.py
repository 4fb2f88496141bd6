"""What an uploaded zip holds, found out in a one-shot child process that decodes every image once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from repair_engine.data.reading import labels_in_column, read_metadata
from repair_engine.errors import BadInput
from repair_engine.models.images import TURNED, decode, is_deep, turned
from repair_engine.support import sandbox
from repair_engine.support.archive import check_not_folder, list_images, open_archive, read_entry
from repair_engine.support.outputs import sha256

MAX_VALUES = 1000  # of one column, the most frequent first


@dataclass(frozen=True)
class ArchiveInfo:
    """A valid image set at a glance.

    Attributes:
        n_images: number of images.
        folders: class folder (or label, where the labels are a column's) -> number of images, in sorted order.
        columns: attribute column -> value -> number of images (at most MAX_VALUES values).
        distinct: attribute column -> number of different values.
        sizes: "WIDTHxHEIGHT" -> number of images, the most frequent first.
        modes: Pillow's mode (L, RGB, P …) -> number of images.
        sha256: of the zip.
        warnings: for the user.
    """

    n_images: int
    folders: Mapping[str, int]
    columns: Mapping[str, Mapping[str, int]]
    distinct: Mapping[str, int]
    sizes: Mapping[str, int]
    modes: Mapping[str, int]
    sha256: str
    warnings: tuple[str, ...]


def inspect_archive(
    path: str | Path, name: str = "", limits: sandbox.Limits | None = None, split: str = ""
) -> ArchiveInfo:
    """Check a zip completely: structure, metadata.csv and every image.

    Args:
        name: the zip's own name, for messages.
        limits: of the child; by default they grow with the file.
        split: the top folder to read alone, where the zip holds splits.

    Raises:
        BadInput: everything that makes the zip unusable, naming the entry.
    """
    path = Path(path)
    if limits is None:
        megabytes = (path.stat().st_size >> 20) if path.is_file() else 0
        limits = sandbox.Limits(2 << 30, 1 << 20, cpu_seconds=300 + megabytes, wall_seconds=900 + 3 * megabytes)
    name = name or path.name
    check_not_folder(path, name)
    if not path.is_file():
        raise BadInput(f"There is no file {path}.")
    answer = sandbox.call("archive", {"name": name, "split": split}, limits, {"path": path})
    try:
        found = ArchiveInfo(**{**answer, "warnings": tuple(answer["warnings"])})
        if type(found.n_images) is not int or not all(isinstance(value, str) for value in found.warnings):
            raise TypeError("types")
        for counts in (found.folders, found.distinct, found.sizes, found.modes, *found.columns.values()):
            if not all(type(count) is int for count in counts.values()):
                raise TypeError("counts")
    except (TypeError, KeyError, AttributeError) as error:
        raise sandbox.not_usable(error) from error
    return found


def run_task(payload: Mapping[str, Any]) -> dict[str, Any]:
    """The child's part of `inspect_archive`."""
    return asdict(inspect_here(Path(payload["path"]), payload["name"], payload["split"]))


def inspect_here(path: Path, name: str, split: str = "") -> ArchiveInfo:
    """`inspect_archive` in this process."""
    sizes: Counter[str] = Counter()
    modes: Counter[str] = Counter()
    deep: list[str] = []
    rotated: list[str] = []
    with open_archive(path, name) as archive:
        listing = list_images(archive, path.stat().st_size, name, split)
        file_names = [entry.filename for entry in listing.images]
        metadata = read_metadata(archive, listing)
        by_column = labels_in_column(listing, metadata)
        for entry in listing.images:
            image = decode(read_entry(archive, entry), entry.filename)
            sizes[f"{image.width}x{image.height}"] += 1
            modes[image.mode] += 1
            if is_deep(image):
                deep.append(entry.filename)
            if turned(image):
                rotated.append(entry.filename)
    warnings = list(listing.warnings)
    if deep:
        warnings.append(f"{len(deep)} images have more than 8 bits per channel, such as {deep[0]}: they are clipped.")
    if rotated:
        warnings.append(f"{len(rotated)} images {TURNED}, such as {rotated[0]}.")
    if listing.unsure and not by_column:
        warnings.append(f"{listing.unsure} Only models that have class names can be run on these images.")
    classes = metadata.labels if by_column and metadata.labels is not None else listing.folders
    counts = {column: Counter(values) for column, values in metadata.attributes.items()}
    return ArchiveInfo(
        n_images=len(file_names),
        folders=dict(sorted(Counter(classes).items())),
        columns={column: dict(count.most_common(MAX_VALUES)) for column, count in counts.items()},
        distinct={column: len(count) for column, count in counts.items()},
        sizes=dict(sizes.most_common(MAX_VALUES)),
        modes=dict(modes.most_common()),
        sha256=sha256(path),
        warnings=tuple(warnings),
    )
