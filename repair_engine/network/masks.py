"""Masks of coalitions on the device, applied to a site's output in one pass."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from repair_engine.network.sites import Site


@dataclass(frozen=True)
class Numbering:
    """Units and their outputs in site order: a head has several outputs, any other unit one.

    Attributes:
        sites: in the order of computation.
        units: int64 [sites + 1], first unit of each site.
        outputs: int64 [sites + 1], first output of each site.
    """

    sites: Sequence[Site]
    units: np.ndarray
    outputs: np.ndarray

    @classmethod
    def of(cls, sites: Sequence[Site]) -> Numbering:
        def firsts(counts: list[int]) -> np.ndarray:
            return np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)

        return cls(tuple(sites), firsts([s.channels for s in sites]), firsts([s.outputs for s in sites]))

    def site_of(self, units: np.ndarray) -> np.ndarray:
        """Site index [m] of units [m]."""
        return np.searchsorted(self.units, units, side="right") - 1

    def outputs_of(self, units: np.ndarray) -> np.ndarray:
        """Outputs int64 [m, width] of units [m] of one site."""
        site = int(self.site_of(units[:1])[0])
        width = self.sites[site].rows.width
        first = self.outputs[site] + (units - self.units[site]) * width
        return first[:, None] + np.arange(width)

    def spread(self, of_units: torch.Tensor) -> torch.Tensor:
        """[…, units] -> […, outputs]: each output gets its unit's."""
        if self.units[-1] == self.outputs[-1]:
            return of_units
        widths = np.repeat([s.rows.width for s in self.sites], [s.channels for s in self.sites])
        return of_units.repeat_interleave(torch.from_numpy(widths).to(of_units.device), -1)

    def along(self, of_outputs: torch.Tensor, site: int, rest: float) -> torch.Tensor:
        """[R, outputs] -> [R, size] along the axis of a site's tensor, with `rest` where no unit lies."""
        one = self.sites[site]
        part = of_outputs[:, int(self.outputs[site]) : int(self.outputs[site + 1])]
        if one.layout.is_whole(one.channels):
            return part
        places = one.layout.places.all(one.channels).to(part.device)
        whole = torch.full((len(part), one.layout.size), rest, dtype=part.dtype, device=part.device)
        return whole.index_copy(1, places, part)


class Masks:
    """Coalitions over one network's units: one for each group of samples, or one for each image.

    An output y becomes fill + y·keep with keep 1 and fill 0 for a present filter, 0 and its constant for an absent
    one: exact for finite y, and several times faster on a CPU than a selection by a mask of bools.

    Args:
        coalitions: bool [R, n], true = present.
        per_image: row b is for image b of every copy of the images, else row k for all images of copy k.
        constants: float32 [outputs] on the device.
        numbering: of the network's units.
    """

    def __init__(
        self,
        coalitions: np.ndarray,
        constants: torch.Tensor,
        numbering: Numbering,
        per_image: bool = False,
    ) -> None:
        coalitions = np.atleast_2d(coalitions)
        present = numbering.spread(torch.from_numpy(np.array(coalitions)).to(constants.device))
        self._keep = present.to(constants.dtype)
        self._fill = torch.where(present, torch.zeros_like(constants), constants)
        self._numbering, self._per_image = numbering, per_image
        # Known on the host, so that a device is not waited for to learn that a site has nothing to mask.
        self._removes = np.add.reduceat(~coalitions.all(axis=0), numbering.units[:-1], dtype=np.int64) > 0

    def __len__(self) -> int:
        return len(self._keep)

    def apply(self, output: torch.Tensor, site: int) -> torch.Tensor:
        """A site's output for K·B images, copy-major, with the absent units at their constants."""
        if site < 0 or not self._removes[site]:
            return output
        layout = self._numbering.sites[site].layout
        keep, fill = (self._numbering.along(x, site, rest) for x, rest in ((self._keep, 1.0), (self._fill, 0.0)))
        masked = torch.empty_like(output)
        source, into = layout.first(output), layout.first(masked)
        positions = (1,) * (source.dim() - 2)
        if len(self) == 1:
            shape: tuple[int, ...] = (1, -1, *positions)
        elif self._per_image:
            inner = (1,) if layout.per_image > 1 else ()
            parts = (-1, len(self), layout.per_image) if inner else (-1, len(self))
            shape = (1, len(self), *inner, keep.shape[1], *positions)
            source, into = source.unflatten(0, parts), into.unflatten(0, parts)
        else:
            shape = (len(self), 1, -1, *positions)
            source, into = source.unflatten(0, (len(self), -1)), into.unflatten(0, (len(self), -1))
        torch.addcmul(fill.reshape(shape), source, keep.reshape(shape), out=into)
        return masked
