"""Corruptions against plain torch, Pillow and colorsys; the published parameters; the same bits from the same image."""

from __future__ import annotations

import colorsys
import hashlib
import io

import numpy as np
import pytest
import torch
from PIL import Image

from repair_engine.data import corruptions
from repair_engine.data.corruptions import PARAMETERS, check_corruptible, corrupted, digest_of, published_set
from repair_engine.errors import BadInput
from repair_engine.settings import CORRUPTIONS

DIGEST = digest_of("some image", 0)


def picture(channels: int, side: int, seed: int = 0) -> np.ndarray:
    """Smooth shapes with noise, and some black and white pixels, uint8 [C, H, W]."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:side, : side + 3]
    shapes = [127 + 90 * np.sin((x + c) / 5) * np.cos(y / (4 + c)) for c in range(channels)]
    found = np.clip(np.stack(shapes) + rng.normal(0, 20, (channels, side, side + 3)), 0, 255).astype(np.uint8)
    found[:, 0, :4], found[:, 1, :4] = 0, 255
    return found


def expected(image: np.ndarray, kind: str, parameter: float, digest: str) -> np.ndarray:
    """The same by other means: torch's convolution, Pillow, colorsys; in float64 before it is rounded, [C, H, W]."""
    share = torch.from_numpy(image).double() / 255
    if kind == "gaussian_noise":
        seed = int.from_bytes(bytes.fromhex(digest), "big")
        noise = np.random.Generator(np.random.PCG64(seed)).normal(0.0, 1.0, image.shape)
        return np.clip(share.numpy() + parameter * noise, 0, 1) * 255
    if kind == "gaussian_blur":
        at = torch.arange(-int(4 * parameter + 0.5), int(4 * parameter + 0.5) + 1).double()
        line = torch.exp(-(at**2) / (2 * parameter**2))
        kernel = torch.outer(line, line) / line.sum() ** 2
        wide = torch.nn.functional.pad(share[:, None], [len(at) // 2] * 4, mode="replicate")
        return torch.nn.functional.conv2d(wide, kernel[None, None])[:, 0].numpy() * 255
    if kind == "jpeg_compression":
        written = io.BytesIO()
        mode = "L" if len(image) == 1 else "RGB"
        whole = Image.frombytes(mode, image.shape[:0:-1], np.moveaxis(image, 0, -1).tobytes())
        whole.save(written, format="JPEG", quality=int(parameter))
        read = np.array(Image.open(io.BytesIO(written.getvalue())).convert(mode), np.float64)
        return np.moveaxis(read.reshape(*image.shape[1:], -1), -1, 0)
    if kind == "contrast":
        return torch.lerp(share.mean(dim=(1, 2), keepdim=True).expand_as(share), share, parameter).numpy() * 255
    out = np.empty(image.shape)
    for y in range(image.shape[1]):
        for x in range(image.shape[2]):
            h, s, v = colorsys.rgb_to_hsv(*np.broadcast_to(share[:, y, x].numpy(), 3).tolist())
            out[:, y, x] = np.array(colorsys.hsv_to_rgb(h, s, min(v + parameter, 1.0)))[: len(image)] * 255
    return out


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("kind", CORRUPTIONS)
def test_each_kind_is_what_other_code_makes_of_it(kind: str, channels: int) -> None:
    image = picture(channels, 32)
    for severity in range(1, 6):
        found = corrupted(image, kind, severity, DIGEST)
        assert (found.dtype, found.shape) == (np.uint8, image.shape)
        wanted = expected(image, kind, PARAMETERS["CIFAR-10-C"][kind][severity - 1], DIGEST)
        assert np.abs(found - wanted).max() <= 0.5 + 1e-6, severity
        assert not np.array_equal(found, image)


def test_blur_of_large_images_is_torchs_too() -> None:
    image = picture(3, 130)
    wanted = expected(image, "gaussian_blur", 6.0, DIGEST)
    assert np.abs(corrupted(image, "gaussian_blur", 5, DIGEST) - wanted).max() <= 0.5 + 1e-6


def test_parameters_are_the_published_ones() -> None:
    """hendrycks/robustness: ImageNet-C/create_c/make_cifar_c.py, make_tinyimagenet_c.py, make_imagenet_c.py."""
    assert PARAMETERS["CIFAR-10-C"]["gaussian_noise"] == (0.04, 0.06, 0.08, 0.09, 0.10)
    assert PARAMETERS["CIFAR-10-C"]["gaussian_blur"] == (0.4, 0.6, 0.7, 0.8, 1)
    assert PARAMETERS["CIFAR-10-C"]["jpeg_compression"] == (80, 65, 58, 50, 40)
    assert PARAMETERS["Tiny-ImageNet-C"]["jpeg_compression"] == (65, 58, 50, 40, 25)
    assert PARAMETERS["ImageNet-C"]["gaussian_noise"] == (0.08, 0.12, 0.18, 0.26, 0.38)
    assert PARAMETERS["ImageNet-C"]["gaussian_blur"] == (1, 2, 3, 4, 6)
    sides = {8: "CIFAR-10-C", 47: "CIFAR-10-C", 48: "Tiny-ImageNet-C", 127: "Tiny-ImageNet-C", 128: "ImageNet-C"}
    assert {side: published_set((3, side, side + 200)) for side in sides} == sides
    for of in PARAMETERS.values():
        assert tuple(of) == CORRUPTIONS
        assert all(len(values) == 5 for values in of.values())


def test_each_severity_is_stronger_and_its_noise_is_the_same_one() -> None:
    image = np.full((1, 32, 32), 128, np.uint8)
    moved = [corrupted(image, "gaussian_noise", severity, DIGEST).astype(int) - 128 for severity in range(1, 6)]
    spread = [np.std(one) / 255 for one in moved]
    assert spread == pytest.approx([0.04, 0.06, 0.08, 0.09, 0.10], rel=0.05)
    assert np.corrcoef(moved[0].ravel(), moved[4].ravel())[0, 1] > 0.99


def test_noise_is_the_images_and_the_seeds_own() -> None:
    image = picture(1, 32)
    assert digest_of("ab", 7) == hashlib.sha256(b"7 ab").hexdigest()
    once, again = (corrupted(image, "gaussian_noise", 3, digest_of("ab", 7)) for _ in range(2))
    assert np.array_equal(once, again)
    for other in (digest_of("ab", 8), digest_of("cd", 7)):
        assert not np.array_equal(once, corrupted(image, "gaussian_noise", 3, other))


def test_bits_are_known() -> None:
    """Of a small image, on any machine; JPEG by the library that made these."""
    image = np.random.default_rng(0).integers(0, 256, (3, 16, 19), np.uint8)
    made = {
        kind: hashlib.sha256(corrupted(image, kind, 3, DIGEST).tobytes()).hexdigest()[:12]
        for kind in CORRUPTIONS
        if kind != "jpeg_compression"
    }
    assert made == KNOWN


KNOWN = {
    "gaussian_noise": "033fc172df93",
    "gaussian_blur": "4f9e1a8eea0f",
    "brightness": "b76bc040f5a4",
    "contrast": "6ecd3441f52b",
}


def test_floating_point_images_are_rounded_to_grey_levels() -> None:
    found = corruptions.grey_levels(np.array([0.0, 0.5, 1.0, 0.1], np.float32))
    assert found.tolist() == [0, 128, 255, 26]


@pytest.mark.parametrize(
    ("kinds", "shape", "says"),
    [
        (("gaussian_blur",), (3, 8, 40), "too small for gaussian_blur: its kernel at severity 5 is 9 pixels"),
        (("contrast",), (4, 40, 40), "greyscale and colour images; these have 4"),
    ],
)
def test_images_that_cannot_be_corrupted_are_refused(kinds: tuple[str, ...], shape: tuple[int, ...], says: str) -> None:
    with pytest.raises(BadInput, match=says):
        check_corruptible(kinds, shape)
    check_corruptible(("contrast",), (3, 8, 8))
    check_corruptible(CORRUPTIONS, (1, 9, 9))
