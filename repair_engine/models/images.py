"""Decoding one image: JPEG, PNG and WebP by Pillow, nothing else."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

from repair_engine.errors import BadInput

FORMATS = ("JPEG", "PNG", "WEBP")
MAX_PIXELS = 64_000_000
MODES = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}  # channels -> Pillow's mode
TURNED = (
    "carry an EXIF rotation, which is not applied, as in torchvision's ImageFolder (Hugging Face's datasets applies it)"
)
_DEEP = ("I", "F")  # Pillow's modes of more than 8 bits start with these


def decode(data: bytes, name: str) -> Image.Image:
    """The decoded image in its own mode. Like torchvision's ImageFolder it ignores EXIF orientation.

    Raises:
        BadInput: not one of the formats, too many pixels, or damaged; names the image.
    """
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
        if image.width * image.height > MAX_PIXELS:
            raise BadInput(f"{name} has {image.width} × {image.height} pixels; at most {MAX_PIXELS:,} are decoded.")
        image.load()
    except UnidentifiedImageError as error:
        raise BadInput(f"{name} is not a JPEG, PNG or WebP image, or its start is damaged.") from error
    except Image.DecompressionBombError as error:
        raise BadInput(f"{name} has too many pixels: {error}") from error
    except (
        OSError,
        SyntaxError,
        ValueError,
        EOFError,
        zlib.error,
        struct.error,
        IndexError,
        TypeError,
    ) as error:
        raise BadInput(f"{name} is a corrupt image: {error}.", "Replace it or take it out of the zip.") from error
    return image


def is_deep(image: Image.Image) -> bool:
    """More than 8 bits per channel: Pillow's conversion clips such pixels instead of scaling them."""
    return image.mode.startswith(_DEEP)


def turned(image: Image.Image) -> bool:
    """It carries an EXIF rotation or mirroring, which is not applied here."""
    return image.getexif().get(ExifTags.Base.Orientation, 1) in range(2, 9)


def see_through(image: Image.Image) -> bool:
    """Some of it is transparent; `convert` to RGB leaves that out."""
    if not image.has_transparency_data:
        return False
    return bool(np.asarray(image.convert("RGBA").getchannel("A")).min() < 255)


def convert(image: Image.Image, channels: int) -> Image.Image:
    """Pillow's own conversion, as torchvision's ImageFolder does it."""
    return image.convert(MODES[channels])
