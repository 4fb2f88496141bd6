"""A trigger given as a patch: a small image that is pasted on others, in pixels of the network's input."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from repair_engine.errors import BadInput
from repair_engine.models.images import convert, decode
from repair_engine.support import sandbox

MAX_BYTES = 4 << 20  # of the patch's file
_MOST_PIXELS = 4_000_000
_CORNERS = ("top-left", "top-right", "bottom-left", "bottom-right")


@dataclass(frozen=True)
class Patch:
    """See the module's text.

    Attributes:
        pixels: uint8 [C, h, w].
        cover: share of the patch in the pixels under it, in [0, 1], float64 [h, w].
        sha256: of its file, or of its pixels.
    """

    pixels: np.ndarray
    cover: np.ndarray
    sha256: str

    @property
    def size(self) -> tuple[int, int]:
        """Width and height."""
        return self.pixels.shape[2], self.pixels.shape[1]


@dataclass(frozen=True)
class Paste:
    """A patch and where it goes."""

    patch: Patch
    x: int
    y: int
    opacity: float

    @classmethod
    def at(cls, patch: Patch, place: str, opacity: float, shape: tuple[int, ...]) -> Paste:
        """On images of a shape [C, H, W].

        Args:
            place: a corner, "center", or "X,Y" of the patch's upper left corner.

        Raises:
            BadInput: the patch has other channels than the images, or does not lie inside of them.
        """
        (width, height), (channels, rows, columns) = patch.size, shape
        if len(patch.pixels) != channels:
            raise BadInput(f"The trigger has {len(patch.pixels)} channels; the images have {channels}.", "", "trigger")
        if width > columns or height > rows:
            raise BadInput(
                f"The trigger is {width} × {height} pixels, larger than the network's input of {columns} × {rows}.",
                "It is given in pixels of the network's input, after resizing and cropping: make it smaller.",
                "trigger",
            )
        if place == "center":
            x, y = (columns - width) // 2, (rows - height) // 2
        elif place in _CORNERS:
            x = columns - width if place.endswith("right") else 0
            y = rows - height if place.startswith("bottom") else 0
        else:
            x, y = (int(part) for part in place.split(","))
        if x + width > columns or y + height > rows:
            raise BadInput(
                f"At {x},{y} the trigger of {width} × {height} pixels does not lie inside of the network's input of "
                f"{columns} × {rows}.",
                f"The last place is {columns - width},{rows - height}.",
                "trigger_at",
            )
        return cls(patch, x, y, opacity)

    def on(self, images: np.ndarray) -> np.ndarray:
        """The images [N, C, H, W] with the patch, of their type: uint8, or floating point in [0, 1]."""
        (width, height), out = self.patch.size, np.array(images)
        there = out[:, :, self.y : self.y + height, self.x : self.x + width]
        share, patch = self.opacity * self.patch.cover, self.patch.pixels.astype(np.float64)
        if out.dtype != np.uint8:
            there[:] = there * (1 - share) + patch / 255 * share
        else:
            there[:] = np.rint(there * (1 - share) + patch * share)
        return out


def read_patch(path: str | Path, channels: int, name: str = "", apart: bool = False) -> Patch:
    """A patch from a PNG, WebP or JPEG file.

    Args:
        channels: of the images that it goes on.
        name: the file's own name, for messages.
        apart: decode it in a child process, for it is somebody else's.

    Raises:
        BadInput: it is no such file, or wholly transparent; or the images have an alpha channel of their own.
    """
    path = Path(path)
    asked = {"name": name or path.name, "channels": channels}
    if apart:
        limits = sandbox.Limits(1 << 30, 1 << 20, cpu_seconds=30, wall_seconds=120)
        try:
            return _patch(sandbox.call("patch", asked, limits, {"path": path}))
        except (ValueError, KeyError, TypeError) as error:
            raise sandbox.not_usable(error) from error
    return _patch(run_task({**asked, "path": path}))


def patch_of(image: Any, channels: int) -> Patch:
    """A patch in memory: Pillow's image, or an array [C, h, w], uint8 or floating point in [0, 1].

    Raises:
        BadInput: it is neither.
    """
    if isinstance(image, Image.Image):
        return _patch(_split(image, channels))
    array = np.asarray(image)
    if array.ndim != 3 or not array.size or array.dtype.kind not in "uf":
        raise BadInput(
            f"The trigger is an array of shape {list(array.shape)} and type {array.dtype}.",
            "Give [C, h, w], uint8 or floating point in [0, 1], or Pillow's image, or the path of a file.",
            "trigger",
        )
    if array.dtype.kind == "f":
        if not ((array >= 0) & (array <= 1)).all():
            raise BadInput("The trigger's pixels are floating point and not in [0, 1].", "", "trigger")
        array = np.rint(array * 255)
    pixels = np.ascontiguousarray(array, np.uint8)
    return Patch(pixels, np.ones(pixels.shape[1:]), hashlib.sha256(pixels.tobytes()).hexdigest())


def run_task(payload: Mapping[str, Any]) -> dict[str, Any]:
    """The child's part of `read_patch`: size, and pixels and cover in base 64."""
    path, name = Path(payload["path"]), payload["name"]
    if path.stat().st_size > MAX_BYTES:
        raise BadInput(f"The trigger {name} is larger than {MAX_BYTES >> 20} MiB: it is no patch.", "", "trigger")
    data = path.read_bytes()
    try:
        image = decode(data, name)
    except BadInput as error:
        raise BadInput(f"The trigger: {error.problem}", "Give a PNG, WebP or JPEG image.", "trigger") from error
    return _split(image, payload["channels"]) | {"sha256": hashlib.sha256(data).hexdigest()}


def _split(image: Image.Image, channels: int) -> dict[str, Any]:
    """As JSON: width, height, channels, pixels, cover, sha256 of the pixels."""
    if channels not in (1, 3):
        raise BadInput(
            "A patch is pasted on greyscale or colour images; these have an alpha channel of their own.",
            "Give a zip of triggered images (--triggered).",
            "trigger",
        )
    if image.width * image.height > _MOST_PIXELS:
        raise BadInput(f"The trigger has {image.width} × {image.height} pixels: it is no patch.", "", "trigger")
    cover = image.convert("RGBA").getchannel("A").tobytes()
    pixels = convert(image.convert("RGBA").convert("RGB") if image.mode == "P" else image, channels).tobytes()
    return {
        "size": [image.width, image.height, channels],
        "pixels": base64.b64encode(pixels).decode(),
        "cover": base64.b64encode(cover).decode(),
        "sha256": hashlib.sha256(pixels + cover).hexdigest(),
    }


def _patch(said: Mapping[str, Any]) -> Patch:
    """Raises ValueError, KeyError or TypeError where the answer of a child is none."""
    width, height, channels = map(int, said["size"])
    pixels = np.frombuffer(base64.b64decode(said["pixels"]), np.uint8).reshape(height, width, channels)
    cover = np.frombuffer(base64.b64decode(said["cover"]), np.uint8).reshape(height, width) / 255
    if not cover.any():
        raise BadInput("The trigger is wholly transparent: it changes nothing.", "", "trigger")
    return Patch(np.ascontiguousarray(pixels.transpose(2, 0, 1)), cover, str(said["sha256"])[:64])
