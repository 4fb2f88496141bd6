"""From a decoded image to the network's input, bit for bit as torchvision's transforms do it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from repair_engine.errors import BadInput
from repair_engine.models.images import MODES, convert
from repair_engine.support.torchvision import import_torchvision

if TYPE_CHECKING:
    from torch import Tensor

Size = int | tuple[int, int]
INTERPOLATIONS = ("nearest", "bilinear", "bicubic", "box", "hamming", "lanczos")


@dataclass(frozen=True)
class Preprocessing:
    """Resize, CenterCrop, ToTensor, Normalize of torchvision.transforms on Pillow images.

    Attributes:
        resize: shorter side in pixels, or (height, width), or None.
        crop: side of the central square in pixels, or (height, width), or None.
        mean, std: per channel, of pixels in [0, 1]; empty = 0 and 1.
        channels: 1 = greyscale, 3 = RGB (2 and 4 are these with alpha).
        interpolation: one of INTERPOLATIONS.
        tensors: resized as uint8 tensors instead of Pillow images, and cropped at the centre rounded down, as the image
            processors of Hugging Face transformers do it.
        longest: with a resize of the shorter side: the longer one becomes no longer than this.
        bgr: the network reads the channels in the order blue, green, red; mean and std are in the order of the images.
        normalized: the images are floating point as the network takes them; nothing is done to them.
    """

    resize: Size | None = None
    crop: Size | None = None
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    channels: int = 3
    interpolation: str = "bilinear"
    tensors: bool = False
    longest: int | None = None
    bgr: bool = False
    normalized: bool = False

    def __post_init__(self) -> None:
        if self.channels not in MODES:
            raise BadInput(f"Images have 1 to 4 channels, not {self.channels}.")
        object.__setattr__(self, "mean", tuple(map(float, self.mean)) or (0.0,) * self.channels)
        object.__setattr__(self, "std", tuple(map(float, self.std)) or (1.0,) * self.channels)
        for name, values in (("mean", self.mean), ("std", self.std)):
            if len(values) != self.channels:
                raise BadInput(
                    f"The {name} has {_counted(len(values), 'number')}; the network reads "
                    f"{_counted(self.channels, 'channel')}.",
                    f"Give a mean and a std of {_counted(self.channels, 'number')}, for pixels in [0, 1]."
                    + (" Where none is given, those of torchvision's weights are taken." if len(values) == 3 else ""),
                )
        if not all(math.isfinite(v) for v in self.mean) or not all(math.isfinite(v) and v > 0 for v in self.std):
            raise BadInput("The mean must be finite and the std positive.")
        if self.interpolation not in INTERPOLATIONS:
            raise BadInput(f"The interpolation {self.interpolation!r} is none of {', '.join(INTERPOLATIONS)}.")
        for name, size in (("resize", self.resize), ("crop", self.crop)):
            if size is not None and not all(1 <= side <= 10_000 for side in _sides(size)):
                raise BadInput(f"The option {name} is {size}; it must be 1 to 10,000 pixels.")

    def for_channels(self, channels: int) -> Preprocessing:
        """The same for a network that reads so many channels; a mean of 0 and a std of 1 fit any number of them."""
        mean = self.mean if any(self.mean) else ()
        std = self.std if any(s != 1 for s in self.std) else ()
        return replace(self, channels=channels, mean=mean, std=std)

    def pixels(self, image: Image.Image) -> np.ndarray:
        """uint8 [C, H, W]: converted, resized and cropped."""
        image = convert(image, self.channels)
        if self.tensors:
            return self._tensor_pixels(np.array(image))
        if self.moves_pixels:
            image = self._resized(image)
        pixels = np.array(image)
        return np.ascontiguousarray(pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1))

    @property
    def moves_pixels(self) -> bool:
        """Whether images are resized or cropped, which is torchvision's work: slow to import."""
        return self.tensors or self.resize is not None or self.crop is not None

    def _resized(self, image: Image.Image) -> Image.Image:
        import_torchvision()
        from torchvision.transforms import InterpolationMode
        from torchvision.transforms import functional as transforms

        if self.resize is not None:
            size = [self.resize] if isinstance(self.resize, int) else list(self.resize)
            image = transforms.resize(image, size, InterpolationMode(self.interpolation))
        if self.crop is not None:
            image = transforms.center_crop(image, list(_sides(self.crop)))
        return image

    def _tensor_pixels(self, pixels: np.ndarray) -> np.ndarray:
        """The same of uint8 [H, W] or [H, W, C], as transformers' processors do it."""
        import torch

        import_torchvision()
        from torchvision.transforms import InterpolationMode
        from torchvision.transforms.v2 import functional as transforms

        tensor = torch.from_numpy(pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1).copy())
        if self.resize is not None:
            size = list(self.resize) if isinstance(self.resize, tuple) else self._by_shortest(*tensor.shape[1:])
            mode = InterpolationMode("nearest-exact" if self.interpolation == "nearest" else self.interpolation)
            tensor = transforms.resize(tensor, size, interpolation=mode, antialias=True)
        if self.crop is not None:
            height, width = _sides(self.crop)
            across, down = max(width - tensor.shape[2], 0), max(height - tensor.shape[1], 0)
            tensor = transforms.pad(tensor, [across // 2, down // 2, (across + 1) // 2, (down + 1) // 2])
            top, left = (tensor.shape[1] - height) // 2, (tensor.shape[2] - width) // 2
            tensor = tensor[:, top : top + height, left : left + width]
        return np.ascontiguousarray(tensor.numpy())

    def _by_shortest(self, height: int, width: int) -> list[int]:
        """Height and width where the shorter side becomes `resize`, and the longer one no more than `longest`."""
        assert isinstance(self.resize, int)
        short, exact = self.resize, float(self.resize)
        if self.longest is not None and max(height, width) / min(height, width) * short > self.longest:
            exact = self.longest * min(height, width) / max(height, width)
            short = round(exact)
        if min(height, width) == short and self.longest is not None:
            return [height, width]
        long = int(exact * max(height, width) / min(height, width))
        return [long, short] if width <= height else [short, long]

    def unit(self, pixels: Tensor) -> Tensor:
        """See `unit`."""
        return unit(pixels)

    def standardize(self, unit: Tensor) -> Tensor:
        """float32 [B, C, H, W] in [0, 1] -> the network's input (differentiable)."""
        import torch

        mean, std = (
            torch.tensor(values, dtype=unit.dtype, device=unit.device).view(-1, 1, 1)
            for values in (self.mean, self.std)
        )
        standardized = unit.sub(mean).div(std)
        return standardized.flip(-3) if self.bgr else standardized

    def normalize(self, pixels: Tensor) -> Tensor:
        """uint8 or float [B, C, H, W] -> the network's input, float32, bit-identical to ToTensor and Normalize."""
        return self.standardize(self.unit(pixels))

    def to_json(self) -> dict[str, Any]:
        unusual = {
            "tensors": False,
            "longest": None,
            "bgr": False,
            "normalized": False,
        }  # said where they are not as usual
        return {key: value for key, value in asdict(self).items() if key not in unusual or value != unusual[key]}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Preprocessing:
        plain: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in data.items()}
        return cls(**plain)


def unit(pixels: Tensor) -> Tensor:
    """uint8 [B, C, H, W] -> float32 in [0, 1], the space in which attacks work; float pixels are there already."""
    import torch

    return pixels if pixels.is_floating_point() else pixels.to(torch.float32).div(255)


def _counted(n: int, what: str) -> str:
    return f"{n} {what}" if n == 1 else f"{n} {what}s"


def _sides(size: Size) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else (size[0], size[1])
