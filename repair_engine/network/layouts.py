"""How units lie in the tensor at their site: which dimension is theirs, and which one grows with the images."""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Rows:
    """Which rows of a tensor (or places along a dimension) belong to each unit: start + stride·c, `width` in a run."""

    start: int = 0
    stride: int = 1
    width: int = 1

    def of(self, unit: int) -> range:
        first = self.start + self.stride * unit
        return range(first, first + self.width)

    def all(self, units: int) -> torch.Tensor:
        """int64 [units · width], unit after unit."""
        first = self.start + self.stride * torch.arange(units)
        return (first[:, None] + torch.arange(self.width)).flatten()


EACH = Rows()  # row c is unit c's


@dataclass(frozen=True)
class Layout:
    """The dimensions of a site's tensor.

    Attributes:
        batch: the dimension that grows with the images.
        axis: the dimension along which units lie; all others are positions.
        per_image: places along `batch` of one image, image after image (windows of attention).
        size: length of `axis`.
        places: of the units along `axis`.
    """

    batch: int = 0
    axis: int = 1
    per_image: int = 1
    size: int = 0
    places: Rows = EACH

    def first(self, output: torch.Tensor) -> torch.Tensor:
        """A view [images · per_image, size, positions …] of a site's output."""
        plain = (self.batch, self.axis) == (0, 1)
        return output if plain else output.movedim((self.batch, self.axis), (0, 1))

    def back(self, viewed: torch.Tensor) -> torch.Tensor:
        """The inverse of `first`."""
        plain = (self.batch, self.axis) == (0, 1)
        return viewed if plain else viewed.movedim((0, 1), (self.batch, self.axis))

    def of_images(self, output: torch.Tensor, units: int) -> torch.Tensor:
        """The units' outputs alone, [images, units · width, positions …]."""
        viewed = self.first(output)
        if self.per_image > 1:
            viewed = viewed.unflatten(0, (-1, self.per_image)).movedim(1, -1)
        if self.is_whole(units):
            return viewed
        return viewed[:, self.places.all(units).to(viewed.device)]

    def is_whole(self, units: int) -> bool:
        """True where nothing but the units' outputs lies along `axis`, in their order."""
        width = self.places.width
        return self.places == Rows(0, width, width) and units * width == self.size


PLAIN = Layout()
