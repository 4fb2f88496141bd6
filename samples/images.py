"""Pictures of the samples: Fashion-MNIST garments with a round stock tag, and the zip that ships.

Fashion-MNIST (Xiao, Rasul, Vollgraf 2017, arXiv 1708.07747) is under the MIT licence. Making the samples
needs the Debian package `dataset-fashion-mnist`; using them does not.
"""

from __future__ import annotations

import csv
import gzip
import io
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

SOURCE = Path("/usr/share/datasets/fashion-mnist")
SIZE = 32
TAG_COLOURS = np.array([(210, 45, 45), (45, 90, 210)], dtype=np.uint8)
TAG_NAMES = ("red", "blue")
SUBGROUPS = ("usual tag", "swapped tag")
_GREY_STEP = 8  # 32 grey levels: a palette image of half the size
_RADIUS = 2.6
_CENTRE = 26  # row and column of the tag's centre, moved by up to one pixel


@dataclass(frozen=True)
class Garment:
    """One class: its index in Fashion-MNIST, our folder name, and the tag (index) that its range usually has."""

    source: int
    name: str
    usual_tag: int


# The winter range is tagged red and the summer range blue. Classes that are easily mistaken for one another
# (pullover and shirt, coat and dress, ankle boot and sandal) are in different ranges.
GARMENTS = (
    Garment(0, "T-shirt", 1),
    Garment(1, "Trousers", 0),
    Garment(2, "Pullover", 0),
    Garment(3, "Dress", 1),
    Garment(4, "Coat", 0),
    Garment(5, "Sandal", 1),
    Garment(6, "Shirt", 1),
    Garment(9, "Ankle boot", 0),
)


@dataclass(frozen=True)
class Pictures:
    """Labelled pictures.

    Attributes:
        pixels: uint8 [N, 32, 32, 3].
        labels: int64 [N], index into GARMENTS.
        tags: int64 [N], index into TAG_NAMES.
        swapped: int64 [N], 1 where the tag is not the class's usual one.
    """

    pixels: np.ndarray
    labels: np.ndarray
    tags: np.ndarray
    swapped: np.ndarray


def draw_pictures(part: str, per_class: int, usual_share: float, rng: np.random.Generator) -> Pictures:
    """Garments of one part of Fashion-MNIST in random order, each with a tag.

    Args:
        part: "train" or "t10k".
        per_class: pictures of each class.
        usual_share: share of each class that has its usual tag.

    Raises:
        FileNotFoundError: the Debian package is not installed.
    """
    images, classes = _read(part)
    chosen, labels, swapped = [], [], []
    for label, garment in enumerate(GARMENTS):
        indices = rng.permutation(np.flatnonzero(classes == garment.source))[:per_class]
        chosen.append(indices)
        labels.append(np.full(len(indices), label))
        swapped.append((np.arange(len(indices)) >= round(len(indices) * usual_share)).astype(np.int64))
    order = rng.permutation(len(GARMENTS) * per_class)
    label = np.concatenate(labels)[order]
    wrong = np.concatenate(swapped)[order]
    usual = np.array([garment.usual_tag for garment in GARMENTS])[label]
    tags = np.where(wrong == 1, 1 - usual, usual)
    return Pictures(_with_tags(images[np.concatenate(chosen)[order]], tags, rng), label, tags, wrong)


def _with_tags(garments: np.ndarray, tags: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Colour pictures uint8 [N, 32, 32, 3] of grey garments [N, 28, 28] on a black ground, tag at lower right."""
    grey = np.zeros((len(garments), SIZE, SIZE), dtype=np.uint8)
    grey[:, 2:30, 2:30] = garments // _GREY_STEP * _GREY_STEP
    pixels = np.repeat(grey[..., None], 3, axis=-1)
    centre = _CENTRE + rng.integers(-1, 2, size=(len(garments), 2))
    rows, columns = np.mgrid[:SIZE, :SIZE]
    distance = np.hypot(rows - centre[:, :1, None], columns - centre[:, 1:, None])
    image, row, column = np.nonzero(distance <= _RADIUS)
    pixels[image, row, column] = TAG_COLOURS[tags[image]]
    return pixels


def write_zip(pictures: Pictures, path: Path) -> None:
    """`class/name.png` and metadata.csv; the same bytes for the same pictures (and the same Pillow and zlib)."""
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(["file_name", "label", "subgroup", "tag"])
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for i, pixels in enumerate(pictures.pixels):
            name = GARMENTS[pictures.labels[i]].name
            file_name = f"{name}/{i:04d}.png"
            archive.writestr(_entry(file_name), _png(pixels))
            writer.writerow([file_name, name, SUBGROUPS[pictures.swapped[i]], TAG_NAMES[pictures.tags[i]]])
        archive.writestr(_entry("metadata.csv"), table.getvalue(), zipfile.ZIP_DEFLATED)


def read_zip(path: Path) -> tuple[list[str], Pictures]:
    """File names and pictures of a zip that `write_zip` wrote."""
    with zipfile.ZipFile(path) as archive:
        rows = list(csv.DictReader(io.StringIO(archive.read("metadata.csv").decode())))
        pixels = [np.asarray(Image.open(archive.open(row["file_name"])).convert("RGB")) for row in rows]
    names = [garment.name for garment in GARMENTS]
    return [row["file_name"] for row in rows], Pictures(
        np.stack(pixels),
        np.array([names.index(row["label"]) for row in rows]),
        np.array([TAG_NAMES.index(row["tag"]) for row in rows]),
        np.array([SUBGROUPS.index(row["subgroup"]) for row in rows]),
    )


def _read(part: str) -> tuple[np.ndarray, np.ndarray]:
    """Images uint8 [N, 28, 28] and labels uint8 [N] in the order of the files."""
    if not SOURCE.is_dir():
        raise FileNotFoundError(f"{SOURCE} is missing: apt-get install dataset-fashion-mnist")
    images = gzip.decompress((SOURCE / f"{part}-images-idx3-ubyte.gz").read_bytes())
    labels = gzip.decompress((SOURCE / f"{part}-labels-idx1-ubyte.gz").read_bytes())
    return (
        np.frombuffer(images, np.uint8, offset=16).reshape(-1, 28, 28),
        np.frombuffer(labels, np.uint8, offset=8),
    )


def _png(pixels: np.ndarray) -> bytes:
    """A palette PNG with exactly these pixels [H, W, 3]: at most 32 greys and one tag colour."""
    palette, positions = np.unique(pixels.reshape(-1, 3), axis=0, return_inverse=True)
    image = Image.fromarray(positions.reshape(pixels.shape[:2]).astype(np.uint8))
    image.putpalette(palette.astype(np.uint8).tobytes())
    out = io.BytesIO()
    image.save(out, "PNG", optimize=True)
    return out.getvalue()


def _entry(name: str) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name, date_time=(2020, 1, 1, 0, 0, 0))
    info.external_attr = 0o644 << 16
    info.create_system = 3
    return info
