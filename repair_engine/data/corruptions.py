"""Common corruptions of images, with the parameters of the published sets (Hendrycks & Dietterich 2019, arXiv
1903.12261; github.com/hendrycks/robustness): noise, blur, JPEG, brightness and contrast at severities 1 to 5.

Each image is corrupted by itself, from its pixels and a seed alone, so whoever has it can make the same again. Where
the published code cuts fractions of a grey level off, these are rounded: then no bit rests on the last bit of a
product.
"""

from __future__ import annotations

import hashlib
import io
import math
from collections.abc import Callable

import numpy as np
from PIL import Image, features

from repair_engine.errors import BadInput
from repair_engine.settings import CORRUPTIONS, SEVERITIES

_CIFAR, _TINY, _IMAGENET = "CIFAR-10-C", "Tiny-ImageNet-C", "ImageNet-C"
_FROM = ((128, _IMAGENET), (48, _TINY), (0, _CIFAR))  # the shorter side's pixels
# Published set -> kind -> its parameter at severities 1 to 5.
PARAMETERS: dict[str, dict[str, tuple[float, ...]]] = {
    _CIFAR: {
        "gaussian_noise": (0.04, 0.06, 0.08, 0.09, 0.10),
        "gaussian_blur": (0.4, 0.6, 0.7, 0.8, 1.0),
        "jpeg_compression": (80, 65, 58, 50, 40),
        "brightness": (0.05, 0.1, 0.15, 0.2, 0.3),
        "contrast": (0.75, 0.5, 0.4, 0.3, 0.15),
    },
    _TINY: {
        "gaussian_noise": (0.04, 0.08, 0.12, 0.15, 0.18),
        "gaussian_blur": (0.5, 0.75, 1.0, 1.25, 1.5),
        "jpeg_compression": (65, 58, 50, 40, 25),
        "brightness": (0.1, 0.2, 0.3, 0.4, 0.5),
        "contrast": (0.4, 0.3, 0.2, 0.1, 0.05),
    },
    _IMAGENET: {
        "gaussian_noise": (0.08, 0.12, 0.18, 0.26, 0.38),
        "gaussian_blur": (1.0, 2.0, 3.0, 4.0, 6.0),
        "jpeg_compression": (25, 18, 15, 10, 7),
        "brightness": (0.1, 0.2, 0.3, 0.4, 0.5),
        "contrast": (0.4, 0.3, 0.2, 0.1, 0.05),
    },
}
_CUT = 4.0  # standard deviations at which the blur's kernel ends


def published_set(shape: tuple[int, ...]) -> str:
    """The published set whose parameters images of shape [C, H, W] get: that of images about as large."""
    return next(name for least, name in _FROM if min(shape[1:]) >= least)


def check_corruptible(kinds: tuple[str, ...], shape: tuple[int, ...]) -> None:
    """Raises BadInput where images of shape [C, H, W] cannot be corrupted so: other channels, or too small to blur."""
    if shape[0] not in (1, 3):
        raise BadInput(
            f"Corruptions are those of greyscale and colour images; these have {shape[0]} channels.", "", "metric"
        )
    widest = max(PARAMETERS[published_set(shape)]["gaussian_blur"])
    needed = 2 * _radius(widest) + 1
    if "gaussian_blur" in kinds and min(shape[1:]) < needed:
        raise BadInput(
            f"Images of {shape[2]} × {shape[1]} pixels are too small for gaussian_blur: its kernel at severity "
            f"{SEVERITIES[1]} is {needed} pixels wide.",
            "Name the other kinds: corrupted-accuracy:gaussian_noise,jpeg_compression,brightness,contrast.",
            "metric",
        )


def digest_of(pixel_hash: str, seed: int) -> str:
    """What an image's noise, and its place when kinds are dealt, are decided by: SHA-256 of "SEED PIXELHASH", in hex.

    Args:
        pixel_hash: of the image (`Dataset.pixel_hashes`).
    """
    return hashlib.sha256(f"{seed} {pixel_hash}".encode()).hexdigest()


def grey_levels(images: np.ndarray) -> np.ndarray:
    """Images as uint8; floating point ones in [0, 1] are rounded."""
    return images if images.dtype == np.uint8 else np.rint(np.clip(images, 0, 1) * 255).astype(np.uint8)


def corrupted(image: np.ndarray, kind: str, severity: int, digest: str) -> np.ndarray:
    """One image, uint8 [C, H, W], corrupted; of the same shape and type.

    Args:
        kind: one of `CORRUPTIONS`.
        severity: 1 to 5.
        digest: see `digest_of`; the noise of all severities is the same one, larger.
    """
    parameter = PARAMETERS[published_set(image.shape)][kind][severity - 1]
    return _MADE_BY[kind](image, parameter, digest)


def jpeg_library() -> str:
    """What compresses here: JPEG's bits are its own."""
    turbo = features.version("libjpeg_turbo")
    return f"libjpeg-turbo {turbo}" if turbo else f"libjpeg {features.version('jpg')}"


def _stored(share: np.ndarray) -> np.ndarray:
    return np.rint(np.clip(share, 0, 1) * 255).astype(np.uint8)


def _noise(image: np.ndarray, deviation: float, digest: str) -> np.ndarray:
    drawn = np.random.default_rng(int(digest, 16)).standard_normal(image.shape)
    return _stored(image / 255 + deviation * drawn)


def _radius(sigma: float) -> int:
    return int(_CUT * sigma + 0.5)


def _blur(image: np.ndarray, sigma: float, _: str) -> np.ndarray:
    """By rows, then by columns; beyond the edge lies the edge's pixel. Sums in a fixed order: no library's choice."""
    radius = _radius(sigma)
    taps = [math.exp(-0.5 * (i / sigma) ** 2) for i in range(-radius, radius + 1)]
    whole = sum(taps)
    found = image / 255
    for axis in (1, 2):
        wide = np.pad(found, [(radius, radius) if a == axis else (0, 0) for a in range(3)], mode="edge")
        n = found.shape[axis]
        found = np.zeros_like(found)
        for i, tap in enumerate(taps):
            found += (tap / whole) * (wide[:, i : i + n] if axis == 1 else wide[:, :, i : i + n])
    return _stored(found)


def _jpeg(image: np.ndarray, quality: float, _: str) -> np.ndarray:
    """Written and read by Pillow, with its usual subsampling of colours."""
    shown = image[0] if len(image) == 1 else np.ascontiguousarray(image.transpose(1, 2, 0))
    file = io.BytesIO()
    Image.fromarray(shown).save(file, "JPEG", quality=int(quality))
    with Image.open(io.BytesIO(file.getvalue())) as read:
        pixels = np.asarray(read)
    return np.ascontiguousarray(pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1))


def _brightness(image: np.ndarray, added: float, _: str) -> np.ndarray:
    """V of HSV is raised; hue and saturation stay, so all channels grow by one factor. Black becomes grey."""
    share = image / 255
    value = share.max(axis=0, keepdims=True)
    raised = np.minimum(value + added, 1.0)
    return _stored(np.where(value > 0, share * (raised / np.where(value > 0, value, 1.0)), raised))


def _contrast(image: np.ndarray, kept: float, _: str) -> np.ndarray:
    """Of each channel's distance from its mean a share is kept."""
    mean = image.sum(axis=(1, 2), keepdims=True, dtype=np.int64) / (image.shape[1] * image.shape[2]) / 255
    return _stored((image / 255 - mean) * kept + mean)


_MADE_BY: dict[str, Callable[[np.ndarray, float, str], np.ndarray]] = {
    "gaussian_noise": _noise,
    "gaussian_blur": _blur,
    "jpeg_compression": _jpeg,
    "brightness": _brightness,
    "contrast": _contrast,
}
assert tuple(_MADE_BY) == CORRUPTIONS
