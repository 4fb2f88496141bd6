"""What torchvision's published weights say about classes and preprocessing. Nothing is downloaded."""

from __future__ import annotations

from dataclasses import dataclass

from repair_engine.models.architectures import list_architectures
from repair_engine.models.preprocessing import Preprocessing


@dataclass(frozen=True)
class WeightsMetadata:
    """Metadata of one set of torchvision weights.

    Attributes:
        variant: which weights, such as "IMAGENET1K_V1".
        categories: class names in index order.
        resize, crop: pixels (shorter side, square).
        mean, std: per channel, of pixels in [0, 1].
        interpolation: "bilinear" or "bicubic".
    """

    variant: str
    categories: tuple[str, ...]
    resize: int
    crop: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: str

    @property
    def preprocessing(self) -> Preprocessing:
        """Of these weights (3 channels)."""
        return Preprocessing(self.resize, self.crop, self.mean, self.std, 3, self.interpolation)


def weights_metadata(name: str, variant: str = "IMAGENET1K_V1") -> WeightsMetadata | None:
    """Classes and preprocessing of torchvision's weights for an architecture; None where it has none.

    `variant` falls back to the architecture's first weights. Version 1 is preferred over torchvision's
    default because 256/224 is also what most people train with.
    """
    if name not in list_architectures():
        return None
    from torchvision.models import get_model_weights

    members = {member.name: member for member in get_model_weights(name)}
    if not members:
        return None
    chosen = members.get(variant) or next(iter(members.values()))
    transforms = chosen.transforms()
    return WeightsMetadata(
        variant=chosen.name,
        categories=tuple(chosen.meta["categories"]),
        resize=int(transforms.resize_size[0]),
        crop=int(transforms.crop_size[0]),
        mean=tuple(transforms.mean),
        std=tuple(transforms.std),
        interpolation=transforms.interpolation.value,
    )
