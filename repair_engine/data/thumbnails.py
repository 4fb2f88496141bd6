"""Thumbnails of a zip's images, decoded in a one-shot child process and packed into one file."""

from __future__ import annotations

import io
import os
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from PIL import Image

from repair_engine.data.reading import labels_in_column, read_metadata
from repair_engine.errors import BadInput
from repair_engine.models.decoding import Progress
from repair_engine.models.images import decode
from repair_engine.support import sandbox
from repair_engine.support.archive import list_images, open_archive, read_entry
from repair_engine.support.thumbnail_pack import LARGE, SMALL, Writer

_FRAME = struct.Struct("<4I")  # bytes of the small picture, of the large one; width, height. No small one: bytes of why
_MOST = {SMALL: 1 << 17, LARGE: 1 << 19}  # bytes of a picture
_WHY = 2000  # bytes
_EXACT = 64  # pixels: up to this side no pixel is lost, for there are few of them
_QUALITY = 80


def make(path: Path, target: Path, name: str = "", split: str = "", progress: Progress | None = None) -> None:
    """Write the pack of a zip's images to `target`.

    An image that cannot be decoded is in the pack with the reason.

    Args:
        name: the zip's own name, for messages.
        split: the top folder to read alone, where the zip holds splits.
        progress: called after each image; may raise to cancel.

    Raises:
        BadInput: the zip cannot be read, or its images took too long.
    """
    name = name or path.name
    with open_archive(path, name) as archive:
        listing = list_images(archive, path.stat().st_size, name, split)
        metadata = read_metadata(archive, listing)
        by_column = labels_in_column(listing, metadata)
    labels = metadata.labels if by_column and metadata.labels is not None else listing.folders
    count, megabytes = len(listing.images), path.stat().st_size >> 20
    seconds = 600 + 2 * megabytes + count // 20
    limits = sandbox.Limits(2 << 30, 1 << 20, cpu_seconds=seconds, wall_seconds=3 * seconds)
    with target.open("wb") as file:
        frames = _Frames(Writer(file), count, progress)
        asked = {"name": name, "split": split}
        # WebP's plugin is imported before the child shuts itself in.
        sandbox.call(
            "thumbnails", asked, limits, {"path": path}, imports=("PIL.WebPImagePlugin",), pours={"out": frames.take}
        )
        frames.end()
        frames.writer.close([entry.filename for entry in listing.images], labels, metadata.attributes)


class _Frames:
    """Takes what the child pours, in pieces of any size, and believes none of it."""

    def __init__(self, writer: Writer, count: int, progress: Progress | None) -> None:
        self.writer = writer
        self._count, self._progress, self._held = count, progress, bytearray()

    def take(self, piece: bytes) -> None:
        self._held += piece
        while (length := self._whole()) is not None:
            self._add(bytes(self._held[:length]))
            del self._held[:length]
            if self._progress is not None:
                self._progress(self.writer.count, self._count)

    def end(self) -> None:
        if self._held or self.writer.count != self._count:
            raise _unusable()

    def _whole(self) -> int | None:
        """Bytes of the next frame; None: there is more to come. Raises BadInput: that is no frame."""
        if len(self._held) < _FRAME.size:
            return None
        small, large, _, _ = _FRAME.unpack_from(self._held)
        most = (_MOST[SMALL], _MOST[LARGE]) if small else (0, _WHY)
        if small > most[0] or large > most[1] or self.writer.count >= self._count:
            raise _unusable()
        length = _FRAME.size + small + large
        return length if len(self._held) >= length else None

    def _add(self, frame: bytes) -> None:
        small, _, width, height = _FRAME.unpack_from(frame)
        pictures = frame[_FRAME.size : _FRAME.size + small], frame[_FRAME.size + small :]
        if not small:
            return self.writer.missing(pictures[1].decode(errors="replace"))
        if not all(_is_webp(picture) for picture in pictures if picture):
            raise _unusable()
        return self.writer.add(*pictures, width, height)


def _is_webp(data: bytes) -> bool:
    return data[:4] == b"RIFF" and data[8:12] == b"WEBP"


def _unusable() -> BadInput:
    return BadInput("The thumbnails cannot be made: the process that read the images gave no usable answer.")


def run_task(payload: Mapping[str, Any]) -> dict[str, Any]:
    """The child's part of `make`."""
    path, name = Path(payload["path"]), payload["name"]
    with open_archive(path, name) as archive, os.fdopen(payload["out"], "wb", closefd=False) as out:
        listing = list_images(archive, path.stat().st_size, name, payload["split"])
        for entry in listing.images:
            _pour(lambda: read_entry(archive, entry), entry.filename, out.write)  # noqa: B023
    return {}


def _pour(data: Callable[[], bytes], name: str, write: Callable[[bytes], object]) -> None:
    try:
        image = decode(data(), name)
        small, large = pictures(image)
    except BadInput as error:
        why = error.whole
    except Exception as error:  # a damaged image may make Pillow fail in any way
        why = f"{name} cannot be shown: {type(error).__name__}: {error}"
    else:
        write(_FRAME.pack(len(small), len(large), *image.size) + small + large)
        return
    said = why.encode(errors="replace")[:_WHY]
    write(_FRAME.pack(0, len(said), 0, 0) + said)


def pictures(image: Image.Image) -> tuple[bytes, bytes]:
    """The small and the large picture as WebP; no large one where the small one has every pixel.

    As the network is given it: in RGB by Pillow's own conversion, EXIF rotation not applied. It is not cropped.
    """
    seen = image.convert("RGB")
    if max(seen.size) <= SMALL:
        return _webp(seen, lossless=max(seen.size) <= _EXACT), b""
    seen.thumbnail((LARGE, LARGE), Image.Resampling.LANCZOS, reducing_gap=2.0)
    large = _webp(seen)
    seen.thumbnail((SMALL, SMALL), Image.Resampling.LANCZOS)
    return _webp(seen), large


def _webp(image: Image.Image, lossless: bool = False) -> bytes:
    out = io.BytesIO()
    image.save(out, "WEBP", quality=_QUALITY, method=2, lossless=lossless)
    return out.getvalue()
