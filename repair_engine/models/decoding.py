"""From the images of a zip to preprocessed pixels: a stream, so that who decodes need not be who keeps them.

With `apart` the images are decoded in a one-shot child process, which pours their pixels into a pipe: a decoder that is
taken over by an image of somebody else's is shut in there, and gives wrong pixels at the worst.
"""

from __future__ import annotations

import hashlib
import os
import struct
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import numpy as np

from repair_engine.errors import BadInput
from repair_engine.models.images import TURNED, decode, is_deep, see_through, turned
from repair_engine.models.preprocessing import Preprocessing
from repair_engine.support import sandbox
from repair_engine.support.archive import Listing, list_images, open_archive, read_entry

MAX_PIXEL_BYTES = 256 << 30
Progress = Callable[[int, int], None]  # images done, images in all; may raise to cancel
Allocate = Callable[[tuple[int, ...]], np.ndarray]
_SHAPE = struct.Struct("<3I")  # comes first: channels, height, width
_LARGEST = 1 << 16  # side of an image
_RESIZING = ("torchvision.transforms.v2.functional",)  # what `Preprocessing.pixels` imports where it moves pixels


class Basin:
    """Takes pixels as they come, in pieces of any size, into an array made when their shape is known.

    Attributes:
        images: uint8 [N, C, H, W]; None before the shape has come.
        hashes: sha256 of each image that is complete.
    """

    def __init__(self, count: int, allocate: Allocate, progress: Progress | None) -> None:
        self.images: np.ndarray | None = None
        self.hashes: list[str] = []
        self._count, self._allocate, self._progress = count, allocate, progress
        self._head, self._at = b"", 0

    def take(self, piece: bytes) -> None:
        """Raises ValueError: a shape that no image has, or more than was announced."""
        if self.images is None:
            self._head += piece
            if len(self._head) < _SHAPE.size:
                return
            shape = _SHAPE.unpack_from(self._head)
            if not all(1 <= size <= _LARGEST for size in shape) or self._count * np.prod(shape) > MAX_PIXEL_BYTES:
                raise ValueError(f"images of shape {shape}")
            self.images = self._allocate((self._count, *shape))
            piece = self._head[_SHAPE.size :]
        flat = self.images.reshape(-1)
        end = self._at + len(piece)
        if end > flat.size:
            raise ValueError("more pixels than images")
        flat[self._at : end] = np.frombuffer(piece, np.uint8)
        self._at = end
        each = flat.size // self._count
        while (len(self.hashes) + 1) * each <= end:
            self.hashes.append(hashlib.sha256(self.images[len(self.hashes)].tobytes()).hexdigest())
            if self._progress is not None:
                self._progress(len(self.hashes), self._count)

    def filled(self) -> np.ndarray:
        """The array. Raises ValueError where pixels are missing."""
        if self.images is None or len(self.hashes) != self._count:
            raise ValueError("pixels are missing")
        return self.images


def pour(
    archive: ZipFile, listing: Listing, preprocessing: Preprocessing, write: Callable[[bytes], object]
) -> list[str]:
    """Decodes image by image and writes what `Basin` takes; gives warnings.

    Raises:
        BadInput: an image that is damaged or cannot be converted, or images of different sizes; names the image.
    """
    shape: tuple[int, ...] | None = None
    oddities: dict[str, list[str]] = defaultdict(list)
    count = len(listing.images)
    for entry in listing.images:
        image = decode(read_entry(archive, entry), entry.filename)
        if is_deep(image):
            oddities["have more than 8 bits per channel; brighter values than 255 are clipped"].append(entry.filename)
        if getattr(image, "n_frames", 1) > 1:
            oddities["are animated; their first frame is used"].append(entry.filename)
        if turned(image):
            oddities[TURNED].append(entry.filename)
        if see_through(image):
            oddities["have transparent parts; their colours are read without it, as ImageFolder does"].append(
                entry.filename
            )
        if _smaller(image.size, preprocessing):
            oddities["are smaller than the crop and get black borders"].append(entry.filename)
        try:
            pixels = preprocessing.pixels(image)
        except ValueError as error:
            raise BadInput(f"{entry.filename} cannot be converted: {error}.") from error
        if shape is None:
            shape = pixels.shape
            if count * pixels.size > MAX_PIXEL_BYTES:
                raise BadInput(f"{listing.name}: {count:,} images of shape {shape} are too many to hold.")
            write(_SHAPE.pack(*shape))
        if pixels.shape != shape:
            first, (_, height, width) = listing.images[0].filename, shape
            raise BadInput(
                f"The images differ in size: {first} is {width} × {height}, "
                f"{entry.filename} is {pixels.shape[2]} × {pixels.shape[1]}.",
                "Give --resize and --crop as the network was trained with (for ImageNet mostly 256 and 224).",
            )
        write(pixels.tobytes())
    return [f"{len(names)} images {what}, such as {names[0]}." for what, names in oddities.items()]


def pour_apart(
    path: Path,
    listing: Listing,
    split: str,
    known: Sequence[str],
    preprocessing: Preprocessing,
    basin: Basin,
    picked: np.ndarray | None = None,
) -> list[str]:
    """As `pour` into the basin, in a child. Raises BadInput, and what the basin's progress raises.

    Args:
        picked: indices of the listing's images among all of the zip's; None: it has them all.
    """
    megabytes = path.stat().st_size >> 20
    limits = sandbox.Limits(2 << 30, 1 << 20, cpu_seconds=600 + 2 * megabytes, wall_seconds=1800 + 6 * megabytes)
    asked = {
        "name": listing.name,
        "split": split,
        "known": list(known),
        "preprocessing": preprocessing.to_json(),
        "picked": None if picked is None else picked.tolist(),
    }
    try:
        imports = _RESIZING if preprocessing.moves_pixels else ()
        answer = sandbox.call("pixels", asked, limits, {"path": path}, imports=imports, pours={"pixels": basin.take})
        basin.filled()
        return [str(warning)[:2000] for warning in answer["warnings"]]
    except BadInput:
        raise
    except (ValueError, KeyError, TypeError) as error:
        raise sandbox.not_usable(error) from error


def run_task(payload: Mapping[str, Any]) -> dict[str, Any]:
    """The child's part of `pour_apart`."""
    path, name = Path(payload["path"]), payload["name"]
    preprocessing = Preprocessing.from_json(payload["preprocessing"])
    with open_archive(path, name) as archive, os.fdopen(payload["pixels"], "wb", closefd=False) as out:
        listing = list_images(archive, path.stat().st_size, name, payload["split"], payload["known"])
        if payload["picked"] is not None:
            listing = listing.only(payload["picked"])
        return {"warnings": pour(archive, listing, preprocessing, out.write)}


def _smaller(size: tuple[int, int], preprocessing: Preprocessing) -> bool:
    if preprocessing.crop is None or isinstance(preprocessing.resize, tuple):
        return False
    crop = preprocessing.crop if isinstance(preprocessing.crop, tuple) else (preprocessing.crop,) * 2
    shorter = min(size) if preprocessing.resize is None else preprocessing.resize
    return shorter < max(crop)
