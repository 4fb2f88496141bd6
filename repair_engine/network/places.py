"""Where on the image the positions of a site lie: which token is which patch.

One image runs through the network, and with every tensor goes one of its shape that says where on the image each number
comes from: x + i·y in [0, 1], NaN for what has no place (class and register tokens, weights, sums over all positions).
Operators that rearrange are run on these places; whatever else an architecture does to its tokens comes out of that:
windows, shifted or not, merged patches, tokens that are read row by row.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx
from torch.fx.node import map_aggregate

from repair_engine.network.graph import aten
from repair_engine.network.linear import LINEAR
from repair_engine.network.network import Network
from repair_engine.network.origins import REARRANGING
from repair_engine.network.sites import CONVOLUTIONS, Site

_TAKING = {aten.index.Tensor, aten.index_select.default, aten.gather.default, aten.flip.default}
_PADDING = {aten.constant_pad_nd.default, aten.pad.default}
_PRODUCTS = {aten.matmul.default, aten.bmm.default}
_OVER_PLANES = CONVOLUTIONS | {
    aten.avg_pool2d.default,
    aten.max_pool2d.default,
    aten.adaptive_avg_pool2d.default,
    aten.adaptive_max_pool2d.default,
    aten.upsample_bilinear2d.vec,
    aten.upsample_nearest2d.vec,
    aten.upsample_bicubic2d.vec,
}
_NONE = complex(float("nan"), float("nan"))
_APART = 1e-5  # of the image's side: places that are nearer are one


@dataclass(frozen=True)
class Grid:
    """Positions of a site on the image.

    Attributes:
        height, width: cells.
        cells: int64 [positions], the cell of each, row by row; −1 for one without a place.
    """

    height: int
    width: int
    cells: torch.Tensor

    @property
    def left_out(self) -> int:
        """Positions without a place on the image: class and register tokens, padding."""
        return int((self.cells < 0).sum())

    def on(self, responses: torch.Tensor) -> torch.Tensor:
        """[…, positions] -> […, height, width]; where several positions are one cell, their mean."""
        size = self.height * self.width
        cells = self.cells.to(responses.device)
        if not torch.equal(self.cells, torch.arange(size)):
            placed = cells >= 0
            sums = responses.new_zeros((*responses.shape[:-1], size))
            counts = torch.bincount(cells[placed], minlength=size).to(responses.dtype)
            responses = sums.index_add(-1, cells[placed], responses[..., placed]) / counts
        return responses.unflatten(-1, (self.height, self.width))


def grids(network: Network, image: torch.Tensor) -> list[Grid | None]:
    """The grid of each site's positions for one image [1, C, H, W]; None where they do not lie in rows and columns."""
    one = image[:1]
    rows, columns = (_centres(0.0, 1.0, size) for size in one.shape[2:])
    where = torch.complex(columns[None, :].expand(len(rows), -1), rows[:, None].expand(-1, len(columns)))
    (started,) = network.start(one)
    state: tuple[Any, ...] = (_Placed(started, where.to(one.device).expand(one.shape)),)
    found: list[Grid | None] = []
    with torch.inference_mode():
        for k, site in enumerate(network.sites):
            state = _Run(network.segment(k)).run(*state)
            found.append(_grid(state[0].where, site))
    return found


def _grid(where: torch.Tensor, site: Site) -> Grid | None:
    places = site.layout.of_images(where, site.channels)[0].cpu()
    places = places.reshape(len(places), -1)
    first, known = places[0], ~places[0].isnan()
    if not known.any() or not torch.equal(places.isnan(), (~known).expand_as(places)):
        return None
    if float((places[:, known] - first[known]).abs().max()) > _APART:
        return None
    (columns, width), (rows, height) = (_ranks(part) for part in (first[known].real, first[known].imag))
    cells = torch.full(first.shape, -1)
    cells[known] = rows * width + columns
    whole = len(cells[known].unique()) == height * width
    return Grid(height, width, cells) if whole and height * width > 1 else None


def _ranks(values: torch.Tensor) -> tuple[torch.Tensor, int]:
    """The place of each value among the different ones, and how many these are."""
    ordered, order = values.sort()
    steps = torch.cat([torch.zeros(1, dtype=torch.int64), (ordered.diff() > _APART).long()]).cumsum(0)
    ranks = torch.empty_like(steps)
    ranks[order] = steps
    return ranks, int(steps[-1]) + 1


@dataclass(frozen=True)
class _Placed:
    """A tensor, and where on the image its numbers come from: complex128 of its shape."""

    tensor: torch.Tensor
    where: torch.Tensor


class _Run(fx.Interpreter):
    """Runs a segment on tensors with their places."""

    def call_function(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if target is operator.getitem and isinstance(args[0], tuple | list):
            return args[0][args[1]]
        out = target(*_each(args, _tensor), **_each(kwargs, _tensor))
        if not isinstance(out, torch.Tensor | tuple | list):
            return out
        if target in REARRANGING | _TAKING:
            where = target(*_each(args, _where), **_each(kwargs, _where))
            where = [where] if isinstance(out, torch.Tensor) else list(where)
        elif target in _PADDING:
            where = [torch.constant_pad_nd(_where(args[0]), list(args[1]), _NONE)]
        else:
            rule = _rule(target)
            ins = [_Placed(x, _where(x)) if isinstance(x, torch.Tensor) else x for x in (*args, *kwargs.values())]
            ins = [x for x in ins if isinstance(x, _Placed)]
            where = [rule(ins, one) for one in ([out] if isinstance(out, torch.Tensor) else out)]
        if isinstance(out, torch.Tensor):
            return _Placed(out, where[0])
        return tuple(_Placed(*both) for both in zip(out, where, strict=True))


def _each(value: Any, function: Callable[[Any], Any]) -> Any:
    return map_aggregate(value, function)


def _tensor(value: Any) -> Any:
    return value.tensor if isinstance(value, _Placed) else value


def _where(value: Any) -> Any:
    """Places; of a weight none. Indices stay what they are."""
    if isinstance(value, _Placed):
        return value.where if value.tensor.is_floating_point() else value.tensor
    is_weight = isinstance(value, torch.Tensor) and value.is_floating_point()
    return _nowhere(value) if is_weight else value


def _nowhere(like: torch.Tensor) -> torch.Tensor:
    return torch.full((), _NONE, dtype=torch.complex128, device=like.device).expand(like.shape)


_Rule = Callable[[Sequence[_Placed], torch.Tensor], torch.Tensor]


def _rule(target: Any) -> _Rule:
    if target in _OVER_PLANES:
        return _over_planes
    if target is LINEAR:
        return _linear
    if target in _PRODUCTS:
        return _product
    return _of_queries if target is aten.scaled_dot_product_attention.default else _elementwise


def _elementwise(ins: Sequence[_Placed], out: torch.Tensor) -> torch.Tensor:
    """The mean of the places that are known, of inputs that fit the output."""
    fitting = [x.where for x in ins if x.where.is_complex() and _fits(x.where.shape, out.shape)]
    if not fitting:
        return _nowhere(out)
    if len(fitting) == 1:
        return fitting[0].expand(out.shape)
    thin = [_thin(where) for where in fitting]
    shape = torch.broadcast_shapes(*(where.shape for where in thin))
    return _mean(torch.stack([where.expand(shape) for where in thin]), 0)[0].expand(out.shape)


def _thin(where: torch.Tensor) -> torch.Tensor:
    """Places without the dimensions along which they are expanded: channels of a plane, for one, all have the same."""
    for d, stride in enumerate(where.stride()):
        where = where.narrow(d, 0, 1) if stride == 0 and where.shape[d] > 1 else where
    return where


def _fits(shape: torch.Size, into: torch.Size) -> bool:
    return len(shape) <= len(into) and all(a in (1, b) for a, b in zip(shape[::-1], into[::-1]))


def _linear(ins: Sequence[_Placed], out: torch.Tensor) -> torch.Tensor:
    """Of each position that of all that is read there (a patch of pixels, merged patches)."""
    return _unless_everywhere(ins[0].where, _mean(ins[0].where, -1)).expand(out.shape)


def _of_queries(ins: Sequence[_Placed], out: torch.Tensor) -> torch.Tensor:
    return _mean(ins[0].where, -1).expand(out.shape)


def _product(ins: Sequence[_Placed], out: torch.Tensor) -> torch.Tensor:
    """Attention's weights have their queries' places, and so has what they mix, on whichever side they stand."""
    rows, columns = (_unless_everywhere(x.where, _mean(x.where, d)) for x, d in zip(ins, (-1, -2)))
    return (columns if rows.isnan().all() else rows).expand(out.shape)


def _over_planes(ins: Sequence[_Placed], out: torch.Tensor) -> torch.Tensor:
    """Of a plane of evenly spaced rows and columns one of others."""
    if out.dim() != 4 or ins[0].where.dim() != 4:
        return _nowhere(out)
    plane = _mean(_mean(ins[0].where, 1), 0)[0, 0]
    rows = _resized(plane.imag, out.shape[2])
    columns = _resized(plane.real.T, out.shape[3])
    if rows is None or columns is None:
        return _nowhere(out)
    shape = (len(rows), len(columns))
    return torch.complex(columns.expand(shape), rows[:, None].expand(shape)).expand(out.shape)


def _resized(coordinate: torch.Tensor, size: int) -> torch.Tensor | None:
    """A coordinate [n, m], the same in each row and evenly spaced, as `size` rows over the same stretch."""
    known = torch.nonzero(~coordinate.isnan().all(1)).flatten()
    if not len(known):
        return None
    values = coordinate[known].nanmean(1)
    step = float((values[-1] - values[0]) / (known[-1] - known[0])) if len(known) > 1 else 1.0
    start = float(values[0]) - step * (int(known[0]) + 0.5)
    even = start + step * (torch.arange(len(coordinate), device=coordinate.device) + 0.5)[:, None]
    if bool(((coordinate - even).abs() > _APART).any()):
        return None
    return _centres(start, start + step * len(coordinate), size).to(coordinate.device)


def _centres(low: float, high: float, size: int) -> torch.Tensor:
    return low + (high - low) * (torch.arange(size, dtype=torch.float64) + 0.5) / size


def _mean(where: torch.Tensor, dim: int) -> torch.Tensor:
    """Mean of the known places along a dimension that is kept; NaN where none is."""
    known = ~where.isnan()
    sums = torch.where(known, where, 0).sum(dim, keepdim=True)
    return sums / known.sum(dim, keepdim=True)


def _unless_everywhere(before: torch.Tensor, mean: torch.Tensor) -> torch.Tensor:
    """Means over parts of the image; nowhere, if what is left of different places is one."""
    known = mean[~mean.isnan()]
    if len(known) and _spread(known) <= _APART < _spread(before[~before.isnan()]):
        return _nowhere(mean)
    return mean


def _spread(places: torch.Tensor) -> float:
    return float((places - places[0]).abs().max())
