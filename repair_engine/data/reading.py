"""A labelled image set, read from a zip in ImageFolder layout."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from zipfile import ZipFile

import numpy as np

from repair_engine.data import cache
from repair_engine.data.metadata import Metadata, parse_metadata
from repair_engine.errors import BadInput
from repair_engine.models.classes import ClassNames, map_labels
from repair_engine.models.decoding import Basin, Progress, pour, pour_apart
from repair_engine.models.preprocessing import Preprocessing
from repair_engine.support.archive import MAX_METADATA_BYTES, Listing, list_images, open_archive, read_entry
from repair_engine.support.layout import LAYOUT
from repair_engine.support.outputs import sha256

IN_MEMORY_BYTES = 1 << 30  # larger pixel arrays live in a file
# From labels [N], column -> values [N], and a digest of each encoded file [N] to indices.
Pick = Callable[[np.ndarray, Mapping[str, tuple[str, ...]], Sequence[str]], np.ndarray]


@dataclass(frozen=True)
class Dataset:
    """Labelled images, preprocessed up to normalization.

    Attributes:
        file_names: as in the zip, sorted, [N].
        labels: class index of each image, int64 [N].
        class_names: in the model's order, [num_classes].
        attributes: column of metadata.csv -> value of each image, [N].
        images: uint8 [N, C, H, W]; may be mapped from a file, read-only.
        pixel_hashes: sha256 of each image's preprocessed pixels, [N].
        preprocessing: how the pixels were made.
        sha256: of the zip.
        warnings, notes: for the report.
        split: the top folder of the zip that was read alone, or "".
    """

    file_names: tuple[str, ...]
    labels: np.ndarray
    class_names: tuple[str, ...]
    attributes: Mapping[str, tuple[str, ...]]
    images: np.ndarray
    pixel_hashes: tuple[str, ...]
    preprocessing: Preprocessing
    sha256: str
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    split: str = ""

    @property
    def identity(self) -> str:
        """Which images these are: the zip, and the part of it that was read."""
        return _identity(self.sha256, self.split)

    def __len__(self) -> int:
        return len(self.file_names)

    def column(self, name: str, least: int = 1) -> tuple[str, ...]:
        """The values of an attribute column, [N].

        Raises:
            BadInput: there is no such column, or it has fewer than `least` different values.
        """
        if name not in self.attributes:
            known = ", ".join(self.attributes) or "no columns (no metadata.csv)"
            raise BadInput(f"The image set has no column {name!r}.", f"It has: {known}.")
        values = self.attributes[name]
        if len(set(values)) < least:
            raise BadInput(f"The column {name} has only the value {values[0]!r}; {least} different ones are needed.")
        return values


def _identity(sha256: str, split: str) -> str:
    return f"{sha256}/{split}" if split else sha256


def read_dataset(
    path: str | Path,
    classes: ClassNames,
    preprocessing: Preprocessing,
    cache_dir: str | Path | None = None,
    name: str = "",
    progress: Progress | None = None,
    split: str = "",
    apart: bool = False,
    pick: Pick | None = None,
) -> Dataset:
    """Read a zip of images.

    Args:
        path: the zip: class/name.png, and optionally metadata.csv (file_name, label, any attributes).
        classes: the model's classes, onto which the folders are mapped.
        preprocessing: gives every image the network's input size.
        cache_dir: where preprocessed pixels are kept for the next time.
        name: the zip's own name, for messages.
        progress: called after each image.
        split: the top folder to read alone, where the zip holds splits; see `list_images`.
        apart: decode the images in a child process, for they are somebody else's.
        pick: which images are decoded, and in which order; by default all.

    Raises:
        BadInput: everything that makes the zip unusable, naming the entry.
    """
    path = Path(path)
    name = name or path.name
    with open_archive(path, name) as archive:
        known = (*classes.names, *classes.folders)
        listing = list_images(archive, path.stat().st_size, name, split, known)
        metadata = read_metadata(archive, listing)
        by_column = labels_in_column(listing, metadata)
        if listing.unsure and not classes.names and not by_column:
            raise BadInput(
                listing.unsure, "Give a classes file: the names of all the model's classes, one per line, in its order."
            )
        values = metadata.labels if by_column and metadata.labels is not None else listing.folders
        mapping = map_labels(values, classes, column=by_column)
        labels = np.array([mapping.index[value] for value in values], np.int64)
        if metadata.labels is not None and not by_column:
            named = ClassNames(classes.num_classes, mapping.names, classes.folders, classes.source)
            _check_labels(metadata.labels, listing, labels, named)
        digest, attributes = sha256(path), metadata.attributes
        picked = None
        if pick is not None:
            picked = pick(labels, attributes, [f"{entry.CRC:08x}-{entry.file_size}" for entry in listing.images])
            listing, labels = listing.only(picked.tolist()), labels[picked]
            attributes = {name: tuple(values[i] for i in picked) for name, values in attributes.items()}
        file_names = tuple(entry.filename for entry in listing.images)

        def decode(basin: Basin) -> list[str]:
            if apart:
                return pour_apart(path, listing, split, known, preprocessing, basin, picked)
            return pour(archive, listing, preprocessing, basin.take)

        key = cache.cache_key(_identity(digest, split), preprocessing, picked)
        pixels = _pixels(decode, len(listing.images), key, cache_dir, progress)
    return Dataset(
        file_names=file_names,
        labels=labels,
        class_names=mapping.names,
        attributes=attributes,
        images=pixels.images,
        pixel_hashes=pixels.hashes,
        preprocessing=preprocessing,
        sha256=digest,
        split=split,
        warnings=(
            *listing.warnings,
            *mapping.warnings,
            *pixels.warnings,
            *twins(pixels.hashes, labels, file_names),
        ),
        notes=mapping.notes + (("The labels are the column label of metadata.csv.",) if by_column else ()),
    )


def read_metadata(archive: ZipFile, listing: Listing) -> Metadata:
    """The table, or an empty one. Raises BadInput, see `parse_metadata`."""
    if listing.metadata is None:
        return Metadata(None, {})
    file_names = [entry.filename for entry in listing.images]
    data = read_entry(archive, listing.metadata, MAX_METADATA_BYTES)
    return parse_metadata(data, file_names, listing.root, listing.outer)


def labels_in_column(listing: Listing, metadata: Metadata) -> bool:
    """Whether the labels are those of metadata.csv (as in Hugging Face's image folders), not the class folders.

    Raises:
        BadInput: an image has neither.
    """
    flat = [entry.filename for entry, folder in zip(listing.images, listing.folders, strict=True) if not folder]
    if not flat and (metadata.labels is None or len(set(listing.folders)) > 1 or len(set(metadata.labels)) == 1):
        return False
    if metadata.labels is None:
        raise BadInput(
            f"{listing.name}: the image {flat[0]} is in no class folder, and metadata.csv has no column label.",
            f"{LAYOUT} Or give metadata.csv a column label.",
        )
    for entry, label in zip(listing.images, metadata.labels, strict=True):
        if not label:
            raise BadInput(f"metadata.csv gives {entry.filename} no label.", "Fill it in, or take the image out.")
    return True


def _check_labels(values: Sequence[str], listing: Listing, labels: np.ndarray, classes: ClassNames) -> None:
    """The label column repeats the folder, or names the same class in another way."""
    if all(value == folder for value, folder in zip(values, listing.folders, strict=True)):
        return
    index = map_labels(values, classes).index
    for value, folder, label, entry in zip(values, listing.folders, labels, listing.images, strict=True):
        if index[value] != label:
            raise BadInput(
                f"metadata.csv labels {entry.filename} as {value!r}, but it is in the folder {folder!r}.",
                "Make both agree, or leave the label column out.",
            )


def _pixels(
    decode: Callable[[Basin], list[str]], count: int, key: str, cache_dir: str | Path | None, progress: Progress | None
) -> cache.Pixels:
    folder = None if cache_dir is None else Path(cache_dir)
    stored = None if folder is None else cache.load_pixels(folder, key)
    if stored is not None:
        return stored
    with cache.NewPixels(folder, IN_MEMORY_BYTES) as maker:
        basin = Basin(count, maker.allocate, progress)
        warnings = decode(basin)
        return maker.store(key, cache.Pixels(basin.filled(), tuple(basin.hashes), tuple(warnings)))


def twins(hashes: Sequence[str], labels: np.ndarray, file_names: Sequence[str]) -> list[str]:
    """Warn of images that are the same to the network, above all under different labels."""
    repeated = sum(count - 1 for count in Counter(hashes).values())
    if not repeated:
        return []
    warnings = [f"{repeated} images are pixel-identical to another one; such images stay in the same split."]
    first: dict[str, int] = {}
    for i, digest in enumerate(hashes):
        j = first.setdefault(digest, i)
        if labels[i] != labels[j]:
            warnings.append(
                f"Pixel-identical images carry different labels, such as {file_names[j]} and {file_names[i]}."
            )
            break
    return warnings
