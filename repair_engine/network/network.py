"""A classifier as segments between sites: masked runs, reuse of prefixes, mean constants.

Units are numbered 0..n−1 in site order, then by channel. A coalition is a bool row [n], true = present. A unit has one
output, but a head, whose values have several features: what is said of outputs (means, constants) is of each.
"""

from __future__ import annotations

import copy
import difflib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import fx

from repair_engine.errors import BadInput, NoPlayers
from repair_engine.network.graph import FlatGraph, batch_dim, capture, live_after
from repair_engine.network.live import LiveBytes
from repair_engine.network.masks import Masks, Numbering
from repair_engine.network.segments import segment_module
from repair_engine.network.sites import KINDS, Gate, NotAPlayer, Site
from repair_engine.network.tunable import tunable
from repair_engine.network.units import find_units
from repair_engine.support.memory import Footprint

State = tuple[torch.Tensor, ...]


@dataclass(frozen=True)
class Coverage:
    """Share of the network's parameters that belong to players (their rows of weight and bias, and their norm).

    Attributes:
        kinds: of units -> their parameters.
    """

    players: int
    total: int
    kinds: Mapping[str, int]

    @property
    def share(self) -> float:
        return self.players / self.total if self.total else 0.0


class Network:
    """A captured classifier whose units can be switched off per sample.

    Attributes:
        sites: in the order of computation.
        not_players: layers without a site, with reasons.
        n_filters: number of players, of all kinds.
        offsets: int64 [sites + 1], first unit of each site.
        numbering: of units and their outputs.
        constants: [outputs] on the device; what an absent unit's outputs are replaced by. NaN until set.
        dtype: of weights, states and constants: float32, or what `lowered` made of it.
        classes: number of logits (1 = a binary classifier with threshold 0).
        tunable: what beside its units an edit may change.
    """

    def __init__(self, graph: FlatGraph, sites: Sequence[Site], not_players: Sequence[NotAPlayer]) -> None:
        if not sites:
            reasons = "; ".join(f"{p.name}: {p.reason}" for p in not_players[:5])
            raise NoPlayers(
                "No unit of this network can be ablated and written back exactly "
                f"({reasons or 'it has no convolutions, hidden units or heads of the kind asked for'})."
            )
        self.sites, self.not_players = tuple(sites), tuple(not_players)
        self.numbering = Numbering.of(sites)
        self.offsets = self.numbering.units
        self.n_filters = int(self.offsets[-1])
        shape = graph.logits.meta["val"].shape
        self.classes = int(shape[1]) if len(shape) == 2 else 1
        self.device = next(iter(graph.tensors.values())).device
        # oneDNN's convolutions are up to twice as fast on channels-last tensors, and need no reordering between them.
        self.layout = torch.channels_last if self.device.type == "cpu" else torch.contiguous_format
        self.dtype = torch.float32
        self.constants = torch.full((self.n_outputs,), float("nan"), device=self.device)
        self.coverage, self.tunable = _coverage(graph, sites), tunable(graph)
        self._segments, self._repeat_dims = _cut(graph, sites, self.layout)
        self._footprints: dict[torch.Size, Footprint] = {}

    @classmethod
    def capture(
        cls,
        module: torch.nn.Module,
        example: torch.Tensor,
        dtypes: Mapping[str, torch.dtype] | None = None,
        units: str = "all",
    ) -> Network:
        """Captures `module` on float images `example` [2, C, H, W], on their device.

        Args:
            dtypes: key of the state dict -> dtype in the file; None = float32.
            units: which kinds are players: "filters", "hidden", "heads" or "all".

        Raises:
            BadInput: torch.export cannot capture it, or it does not return logits [B, classes].
            NoPlayers: it has no site.
        """
        graph = capture(module.to(example.device), example)
        sites, others = find_units(graph, dtypes, units)
        found = cls(graph, sites, others)
        mixed = found._mixed(example)
        if not mixed:
            return found
        reason = "images and positions share a dimension there, in an order that copies of the images would not keep"
        others += tuple(NotAPlayer(s.name, s.channels, reason, s.kind) for i, s in enumerate(sites) if i in mixed)
        return cls(graph, [s for i, s in enumerate(sites) if i not in mixed], others)

    @property
    def n_outputs(self) -> int:
        return int(self.numbering.outputs[-1])

    def _mixed(self, example: torch.Tensor) -> set[int]:
        """Sites whose cut cannot be repeated for copies of the images: not image after image along its dimension."""
        sizes = [[t.shape for t in state] for state in self._states(example)]
        if all(d is None or s[d] == 2 for of, dims in zip(sizes, self._repeat_dims) for s, d in zip(of, dims)):
            return set()
        generator = torch.Generator().manual_seed(0)
        first, second, third = (torch.randn(example[:1].shape, generator=generator).to(example) for _ in range(3))
        found = set()
        states = zip(self._states(torch.cat([first, second])), self._states(torch.cat([first, third])))
        for cut, ((one, other), dims) in enumerate(zip(states, self._repeat_dims)):
            for a, b, dim in zip(one, other, dims):
                half = 0 if dim is None else a.shape[dim] // 2
                if dim is not None and not torch.allclose(
                    a.narrow(dim, 0, half), b.narrow(dim, 0, half), rtol=1e-4, atol=1e-6
                ):
                    found.add(cut - 1)
        return found

    def _states(self, images: torch.Tensor) -> Iterator[State]:
        """The states before each segment."""
        state = self.start(images)
        for segment in self._segments:
            yield state
            with torch.inference_mode():
                state = segment(*state)

    def lowered(self, dtype: torch.dtype, layout: torch.memory_format | None = None) -> Network:
        """The same filters and constants, computed in `dtype` (bfloat16): faster, and rounded. Logits stay float32.

        Args:
            layout: of images and weights in memory; None: as it is.
        """
        low = copy.copy(self)
        low.dtype, low.constants, low.layout = dtype, self.constants.to(dtype), layout or self.layout
        low._footprints = {}
        low._segments = [copy.deepcopy(segment).to(dtype).to(memory_format=low.layout) for segment in self._segments]
        return low

    # Names of units -------------------------------------------------------------------------------------

    def filter_id(self, player: int) -> str:
        """`site:channel` of a player; `site:head3` of a head."""
        site = self.sites[int(self.site_of(np.array([player]))[0])]
        return f"{site.name}:{'head' * (site.kind == 'head')}{self.channel(player)}"

    def players(self, filter_ids: Iterable[str]) -> np.ndarray:
        """Players of `site:channel`, in that order, int64 [m]. Raises BadInput, see `player`."""
        return np.array([self.player(name) for name in filter_ids], dtype=np.int64)

    def channel(self, player: int) -> int:
        """Place of a player among its site's."""
        return player - int(self.offsets[int(self.site_of(np.array([player]))[0])])

    def kind(self, player: int) -> str:
        """ "filter", "hidden" or "head"."""
        return self.sites[int(self.site_of(np.array([player]))[0])].kind

    def constant(self, player: int) -> float:
        """What ablation fixes a unit to; of a head the mean over its features."""
        return float(self.constants[self.numbering.outputs_of(np.array([player]))[0]].double().mean())

    def player(self, filter_id: str) -> int:
        """The player of `site:channel`.

        Raises:
            BadInput: no such site or channel, naming what there is.
        """
        name, _, channel = filter_id.rpartition(":")
        is_head = channel.startswith("head")
        number = channel.removeprefix("head")
        index = {(s.name, s.kind == "head"): i for i, s in enumerate(self.sites)}
        site = index.get((name, is_head))
        if site is None or not number.isdecimal():
            names = list(dict.fromkeys(s.name for s in self.sites))
            close = ", ".join(difflib.get_close_matches(name, names, n=3))
            why = next((f" ({p.reason})" for p in self.not_players if p.name == name), "")
            heads = any(s.kind == "head" for s in self.sites)
            raise BadInput(
                f"{filter_id!r} names no filter of this network{why}.",
                (f"Did you mean {close}? " if close and name not in names else "")
                + f"Filters are written site:channel{' (heads site:head3)' if heads else ''}; the first sites are "
                f"{', '.join(names[:8])}. `inspect` lists all.",
            )
        if int(number) >= self.sites[site].channels:
            raise BadInput(f"{filter_id!r}: site {name} has channels 0 to {self.sites[site].channels - 1}.")
        return int(self.offsets[site]) + int(number)

    def site_of(self, players: np.ndarray) -> np.ndarray:
        """Site index [m] of players [m]."""
        return self.numbering.site_of(players)

    # Runs -----------------------------------------------------------------------------------------------

    def start(self, images: torch.Tensor) -> State:
        """The state before segment 0: the images in the memory layout that the segments run in."""
        return (images.to(self.dtype).contiguous(memory_format=self.layout),)

    def logits(self, images: torch.Tensor) -> torch.Tensor:
        """Logits [B, classes] of the intact network on normalized images [B, C, H, W]."""
        state = self.start(images)
        with torch.inference_mode():
            for segment in self._segments:
                state = segment(*state)
        return two_dimensional(state[0])

    def masked_logits(self, images: torch.Tensor, coalitions: np.ndarray) -> torch.Tensor:
        """Logits [K, B, classes] of K coalitions [K, n] on the same images [B, C, H, W], as one batch of K·B."""
        with torch.inference_mode():
            state = self.expand(self.start(images), 0, len(coalitions))
            masks = self.masks(coalitions)
            for k in range(len(self._segments)):
                state = self.step(state, k, masks)
        return two_dimensional(state[0]).unflatten(0, (len(coalitions), -1))

    def soft_logits(self, images: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
        """Logits [B, classes] with masks in [0, 1], float [n] or one row per image [B, n]; differentiable in them."""
        state = self.start(images)
        masks = self.numbering.spread(masks.view(-1, self.n_filters))
        for k, segment in enumerate(self._segments):
            if k:
                state = (self._softly(state[0], k - 1, masks), *state[1:])
            state = segment(*state)
        return two_dimensional(state[0])

    def _softly(self, output: torch.Tensor, site: int, masks: torch.Tensor) -> torch.Tensor:
        layout = self.sites[site].layout
        viewed = layout.first(output)
        positions = (1,) * (viewed.dim() - 2)
        constants = self.numbering.along(self.constants[None], site, 0.0).view(1, -1, *positions)
        mask = self.numbering.along(masks, site, 1.0)
        if layout.per_image > 1 and len(mask) > 1:
            mask = mask.repeat_interleave(layout.per_image, 0)
        mask = mask.view(len(mask), -1, *positions)
        return layout.back(constants + mask * (viewed - constants))

    def step(self, state: State, segment: int, masks: Masks) -> State:
        """Runs one segment: masks its incoming site and returns the state at the next cut.

        `state` is what segment `segment` − 1 left, its site not yet masked (segment 0: the images).
        """
        return self.run(self.mask(state, segment - 1, masks), segment)

    def run(self, state: State, segment: int) -> State:
        """Runs one segment on a state whose site is masked already."""
        return self._segments[segment](*state)

    def segment(self, site: int) -> fx.GraphModule:
        """The module that runs from the cut before a site to its output."""
        return self._segments[site]

    def mask(self, state: State, site: int, masks: Masks) -> State:
        """The state at the cut behind `site` with that site masked (site −1: the images, as they are)."""
        return (masks.apply(state[0], site), *state[1:])

    def expand(self, state: State, segment: int, copies: int) -> State:
        """The state repeated for `copies` coalitions, coalition-major, along each tensor's batch dimension."""
        if copies == 1:
            return state
        return tuple(
            t if dim is None else _repeat(t, dim, copies)
            for t, dim in zip(state, self._repeat_dims[segment], strict=True)
        )

    def masks(self, coalitions: np.ndarray) -> Masks:
        return Masks(coalitions, self.constants, self.numbering)

    # Statistics of outputs ------------------------------------------------------------------------------

    def mean_outputs(
        self,
        batches: Iterable[torch.Tensor],
        tick: Callable[[int], None] | None = None,
        at_once: int | None = None,
    ) -> torch.Tensor:
        """Mean of every output, float64 [outputs], over images and positions of the intact network.

        Args:
            at_once: images of a forward; sums are over whole batches either way, and come out the same.
        """
        sums = torch.zeros(self.n_outputs, dtype=torch.float64)
        count = 0
        for images in batches:
            sums += self._reduce(images, _means, at_once)
            count += len(images)
            if tick:
                tick(len(images))
        return sums / count

    def footprint(self, image: torch.Tensor) -> Footprint:
        """What one image [1, C, H, W] takes; found once for each size of image."""
        if image.shape not in self._footprints:
            self._footprints[image.shape] = self._measure(image)
        return self._footprints[image.shape]

    def _measure(self, image: torch.Tensor) -> Footprint:
        weights = [t for s in self._segments for t in (*s.parameters(), *s.buffers())] + [self.constants]
        present = np.ones((1, self.n_filters), dtype=bool)
        states = [sum(t.numel() * t.element_size() for t in state) for state in self._states(image)]
        with torch.no_grad(), LiveBytes(weights) as forward:
            state, masks = self.start(image), self.masks(present)
            for k in range(len(self._segments)):
                state = self.step(state, k, masks)
        with LiveBytes(weights) as backward:
            ones = torch.ones(1, self.n_filters, dtype=self.dtype, device=self.device, requires_grad=True)
            torch.autograd.grad(self.soft_logits(image, ones).sum(), ones)
        return Footprint(tuple(states), forward.peak, backward.peak)

    def response_norms(self, images: torch.Tensor, at_once: int | None = None) -> torch.Tensor:
        """ℓ2 norm of every unit's output, summed over the images [B, C, H, W], float64 [n]; see `mean_outputs`."""
        return self._reduce(images, _norms, at_once)

    def _reduce(
        self, images: torch.Tensor, reduce: Callable[[torch.Tensor, Site], torch.Tensor], at_once: int | None
    ) -> torch.Tensor:
        """Sums over the images of what `reduce` makes of each site's output, [B, outputs, positions …]."""
        parts: list[list[torch.Tensor]] = [[] for _ in self.sites]
        with torch.inference_mode():
            for few in images.split(at_once or len(images)):
                state = self.start(few)
                for found, site, segment in zip(parts, self.sites, self._segments):
                    state = segment(*state)
                    found.append(reduce(site.layout.of_images(state[0], site.channels), site))
        return torch.cat([torch.cat(found).sum(0).cpu() for found in parts])


def _means(outputs: torch.Tensor, site: Site) -> torch.Tensor:
    return outputs.double().mean(tuple(range(2, outputs.dim()))) if outputs.dim() > 2 else outputs.double()


def _norms(outputs: torch.Tensor, site: Site) -> torch.Tensor:
    """[B, channels]."""
    width = site.rows.width
    together = outputs if width == 1 else outputs.unflatten(1, (-1, width))
    return together.double().flatten(2).norm(dim=2) if together.dim() > 2 else together.double().abs()


def predictions(logits: torch.Tensor) -> torch.Tensor:
    """Predicted class, int64 [...], of logits [..., classes]; a single logit is a binary classifier at 0."""
    return (logits[..., 0] > 0).long() if logits.shape[-1] == 1 else logits.argmax(-1)


def check_finite(logits: torch.Tensor) -> None:
    """Raises BadInput where logits [N, classes] of the intact network are NaN or infinite: no class is predicted."""
    bad = int((~torch.isfinite(logits)).any(-1).sum())
    if bad:
        raise BadInput(
            f"The network's outputs are NaN or infinite on {bad} of {len(logits)} images: it predicts no class there.",
            "Check --mean and --std (of pixels in [0, 1]), --resize, --crop, and that these are the trained weights.",
        )


def two_dimensional(logits: torch.Tensor) -> torch.Tensor:
    """Logits float32 [B, classes] of what the network returned, [B, classes] or [B]."""
    return (logits.unsqueeze(1) if logits.dim() == 1 else logits).float()


def _repeat(tensor: torch.Tensor, dim: int, copies: int) -> torch.Tensor:
    """`tensor` repeated along `dim`; unlike torch's repeat, it keeps the memory layout."""
    if dim != 0 or tensor.dim() != 4:
        return tensor.repeat(*(copies if i == dim else 1 for i in range(tensor.dim())))
    channels_last = tensor.is_contiguous(memory_format=torch.channels_last) and not tensor.is_contiguous()
    layout = torch.channels_last if channels_last else torch.contiguous_format
    out = torch.empty(
        (copies * len(tensor), *tensor.shape[1:]), dtype=tensor.dtype, device=tensor.device, memory_format=layout
    )
    out.unflatten(0, (copies, -1)).copy_(tensor)
    return out


def _cut(
    graph: FlatGraph, sites: Sequence[Site], layout: torch.memory_format
) -> tuple[list[fx.GraphModule], list[list[int | None]]]:
    segments: list[fx.GraphModule] = []
    repeat_dims: list[list[int | None]] = [[0]]
    inputs: tuple = (graph.image,)
    begin = 0
    for site in sites:
        outputs = live_after(graph, site.position, graph.nodes[site.position])
        segments.append(segment_module(graph, inputs, graph.nodes[begin : site.position + 1], outputs, layout))
        repeat_dims.append([batch_dim(graph, n) for n in outputs])
        inputs, begin = outputs, site.position + 1
    segments.append(segment_module(graph, inputs, graph.nodes[begin:], (graph.logits,), layout))
    return segments, repeat_dims


def _coverage(graph: FlatGraph, sites: Sequence[Site]) -> Coverage:
    size = {graph.names[p]: t for p, t in graph.tensors.items() if graph.names[p]}
    buffers = {k for k in size if k.endswith(("running_mean", "running_var", "num_batches_tracked"))}
    buffers |= {k for s in sites for k in s.norm_keys[2:]}
    kinds: dict[str, int] = {}
    for site in sites:
        halves: list[Site | Gate] = [site] if site.gate is None else [site, site.gate]
        rows = [(h.weight, h.rows.width) for h in halves] + [(h.bias, h.bias_rows.width) for h in halves if h.bias]
        of_rows = sum(site.channels * width * size[key][0].numel() for key, width in rows)
        norms = sum(size[key].numel() for key in site.norm_keys[:2] if key)
        kinds[site.kind] = kinds.get(site.kind, 0) + of_rows + norms
    total = sum(t.numel() for k, t in size.items() if k not in buffers)
    return Coverage(sum(kinds.values()), total, {kind: kinds[kind] for kind in KINDS if kind in kinds})
