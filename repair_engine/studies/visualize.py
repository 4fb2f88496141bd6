"""Feature visualization: an image that makes one filter respond strongly, found by gradient ascent.

After Olah, Mordvintsev & Schubert, "Feature Visualization", Distill 2017 (doi 10.23915/distill.00007): the image is
parametrized by its Fourier coefficients, of equal energy at all frequencies, in decorrelated colours, and every step
sees it moved, scaled and turned at random, so that no pattern survives that only one alignment sees.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from repair_engine.data.pixels import Pixels
from repair_engine.network import Responses

STEPS = 128
COPIES = 2  # randomly moved copies that a step sees
_RATE = 0.05
_ENERGY = 0.25  # of the coefficients; larger ones drive pixels into black and white
_START = 0.01  # standard deviation of the coefficients that the ascent starts from
_JITTER, _SCALE, _TURN = 1 / 16, 0.1, math.radians(8)  # of the side; half of the range of sizes; either way
_STREAM = 0xE3
_AT_ONCE = 16  # images


@dataclass(frozen=True)
class Visualization:
    """An optimized image.

    Attributes:
        player: the filter; sign: +1 made its response as positive as possible, −1 as negative.
        pixels: uint8 [C, H, W].
        start, response: of the filter to the image that was started from and to `pixels` as they are.
    """

    player: int
    sign: int
    pixels: np.ndarray
    start: float
    response: float


def visualize(
    responses: Responses,
    player: int,
    sign: int,
    colours: torch.Tensor,
    size: tuple[int, int],
    standardize: Callable[[torch.Tensor], torch.Tensor],
    seed: int,
    steps: int = STEPS,
    tick: Callable[[int], None] | None = None,
) -> Visualization:
    """Ascends on the mean over positions of the filter's response (see `Responses`), times `sign`.

    Args:
        colours: square root of the colours' covariance, float32 [C, C] (`colour_root`).
        size: height and width of the network's images.
        standardize: pixels in [0, 1] [B, C, H, W] -> the network's input, differentiable.
        seed: with player and sign it fixes start and moves.
        tick: called after each step with 1.
    """
    network = responses.network
    device, channels = network.device, len(colours)
    site = int(network.site_of(np.array([player]))[0])
    channel = player - int(network.offsets[site])
    key = np.random.SeedSequence([seed, _STREAM, player, sign + 1]).generate_state(1)[0]
    generator = torch.Generator().manual_seed(int(key))
    energy = _energies(size).to(device)
    start = torch.randn((channels, *energy.shape, 2), generator=generator) * _START
    coefficients = start.to(device).requires_grad_(True)
    optimizer = torch.optim.Adam([coefficients], lr=_RATE)
    mix = colours.to(device)

    def image() -> torch.Tensor:
        waves = torch.fft.irfft2(torch.view_as_complex(coefficients) * energy, s=size, norm="ortho")
        return torch.sigmoid(torch.einsum("cd,dhw->chw", mix, waves))[None]

    def response(images: torch.Tensor) -> torch.Tensor:
        return responses.maps(standardize(images), site)[:, channel].mean()

    def of_stored() -> tuple[np.ndarray, float]:
        with torch.no_grad():
            pixels = image().mul(255).round().clamp(0, 255).to(torch.uint8)
            return pixels[0].cpu().numpy(), float(response(pixels.to(torch.float32).div(255)))

    first = of_stored()[1]
    for _ in range(steps):
        optimizer.zero_grad()
        moved = _moved(image().expand(COPIES, -1, -1, -1), generator)
        (-sign * response(moved)).backward()
        optimizer.step()
        if tick:
            tick(1)
    pixels, last = of_stored()
    return Visualization(player, sign, pixels, first, last)


def _of_bytes(pixels: torch.Tensor) -> torch.Tensor:
    return pixels.double().div(255)


def colour_root(pixels: Pixels, unit: Callable[[torch.Tensor], torch.Tensor] = _of_bytes) -> torch.Tensor:
    """Square root [C, C] of the covariance of the colours of images [N, C, H, W]; its largest row has norm 1.

    Args:
        unit: the images -> float64 in [0, 1]; by default uint8 ones.
    """
    parts = [slice(i, i + _AT_ONCE) for i in range(0, len(pixels), _AT_ONCE)]  # float64: eight times

    def flat(part: slice) -> torch.Tensor:
        return unit(pixels[part]).transpose(0, 1).flatten(1)

    positions = sum(flat(part).shape[1] for part in parts)
    mean = torch.stack([flat(part).sum(1, keepdim=True) for part in parts]).sum(0) / positions
    products = [(centred := flat(part) - mean) @ centred.T for part in parts]
    covariance = torch.stack(products).sum(0) / max(positions - 1, 1) + 1e-6 * torch.eye(len(mean), dtype=torch.float64)
    values, vectors = torch.linalg.eigh(covariance)
    root = vectors * values.clamp_min(0).sqrt() @ vectors.T
    return (root / root.norm(dim=1).max()).float()


def _energies(size: tuple[int, int]) -> torch.Tensor:
    """What the coefficients [H, W // 2 + 1] are multiplied by: 1 / frequency, as in natural images."""
    rows, columns = torch.fft.fftfreq(size[0]), torch.fft.rfftfreq(size[1])
    frequency = torch.sqrt(rows[:, None] ** 2 + columns[None] ** 2)
    return _ENERGY / torch.clamp(frequency, min=1.0 / max(size))


def _moved(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Each image [B, C, H, W] shifted, shrunk and turned at random; mirrored beyond its edges."""
    draws = torch.rand((len(images), 4), generator=generator) * 2 - 1
    angle, scale = draws[:, 0] * _TURN, 1 + (1 + draws[:, 1]) * _SCALE  # outwards: what is not seen is not optimized
    shift = draws[:, 2:] * 2 * _JITTER  # the sampling grid spans [-1, 1]
    cosine, sine = torch.cos(angle) * scale, torch.sin(angle) * scale
    rows = (torch.stack([cosine, -sine, shift[:, 0]], 1), torch.stack([sine, cosine, shift[:, 1]], 1))
    grid = F.affine_grid(torch.stack(rows, 1), list(images.shape), align_corners=False).to(images)
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="reflection", align_corners=False)
