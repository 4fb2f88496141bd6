"""A classifier as segments between sites: masked runs, reuse of prefixes, mean constants.

Filters are numbered 0..n−1 in site order, then by channel. A coalition is a bool row [n], true = present.
"""

from __future__ import annotations

import copy
import difflib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import fx

from repair_engine.errors import BadInput, NoPlayers
from repair_engine.network.graph import FlatGraph, batch_dim, capture, live_after
from repair_engine.network.masks import Masks
from repair_engine.network.segments import segment_module
from repair_engine.network.sites import NotAPlayer, Site, find_sites

State = tuple[torch.Tensor, ...]


@dataclass(frozen=True)
class Coverage:
    """Share of the network's parameters that belong to players (convolution, bias and norm)."""

    players: int
    total: int

    @property
    def share(self) -> float:
        return self.players / self.total if self.total else 0.0


class Network:
    """A captured classifier whose filters can be switched off per sample.

    Attributes:
        sites: in the order of computation.
        not_players: convolutions without a site, with reasons.
        n_filters: number of players.
        offsets: int64 [sites + 1], first filter of each site.
        constants: [n] on the device; what an absent filter's output is replaced by. NaN until set.
        dtype: of weights, states and constants: float32, or what `lowered` made of it.
        classes: number of logits (1 = a binary classifier with threshold 0).
    """

    def __init__(self, graph: FlatGraph, sites: Sequence[Site], not_players: Sequence[NotAPlayer]) -> None:
        if not sites:
            reasons = "; ".join(f"{p.name}: {p.reason}" for p in not_players[:5]) or "it has no convolutions"
            raise NoPlayers(f"No filter of this network can be ablated and written back exactly ({reasons}).")
        self.sites, self.not_players = tuple(sites), tuple(not_players)
        self.offsets = np.concatenate([[0], np.cumsum([s.channels for s in sites])]).astype(np.int64)
        self.n_filters = int(self.offsets[-1])
        shape = graph.logits.meta["val"].shape
        self.classes = int(shape[1]) if len(shape) == 2 else 1
        self.device = next(iter(graph.tensors.values())).device
        # oneDNN's convolutions are up to twice as fast on channels-last tensors, and need no reordering between them.
        self.layout = torch.channels_last if self.device.type == "cpu" else torch.contiguous_format
        self.dtype = torch.float32
        self.constants = torch.full((self.n_filters,), float("nan"), device=self.device)
        self.coverage = _coverage(graph, sites)
        self._segments, self._repeat_dims = _cut(graph, sites, self.layout)

    @classmethod
    def capture(
        cls, module: torch.nn.Module, example: torch.Tensor, dtypes: Mapping[str, torch.dtype] | None = None
    ) -> Network:
        """Captures `module` on float images `example` [2, C, H, W], on their device.

        Args:
            dtypes: key of the state dict -> dtype in the file; None = float32.

        Raises:
            BadInput: torch.export cannot capture it, or it does not return logits [B, classes].
            NoPlayers: it has no site.
        """
        graph = capture(module.to(example.device), example)
        return cls(graph, *find_sites(graph, dtypes))

    def lowered(self, dtype: torch.dtype) -> Network:
        """The same filters and constants, computed in `dtype` (bfloat16): faster, and rounded. Logits stay float32."""
        low = copy.copy(self)
        low.dtype, low.constants = dtype, self.constants.to(dtype)
        low._segments = [copy.deepcopy(segment).to(dtype) for segment in self._segments]
        return low

    # Names of filters -----------------------------------------------------------------------------------

    def filter_id(self, player: int) -> str:
        """`site:channel` of a player."""
        site = int(np.searchsorted(self.offsets, player, side="right")) - 1
        return f"{self.sites[site].name}:{player - int(self.offsets[site])}"

    def player(self, filter_id: str) -> int:
        """The player of `site:channel`.

        Raises:
            BadInput: no such site or channel, naming what there is.
        """
        name, _, channel = filter_id.rpartition(":")
        index = {s.name: i for i, s in enumerate(self.sites)}
        if name not in index or not channel.isdecimal():
            known = ", ".join(s.name for s in self.sites[:8])
            close = ", ".join(difflib.get_close_matches(name, index, n=3))
            why = next((f" ({p.reason})" for p in self.not_players if p.name == name), "")
            raise BadInput(
                f"{filter_id!r} names no filter of this network{why}.",
                (f"Did you mean {close}? " if close and name not in index else "")
                + f"Filters are written site:channel; the first sites are {known}. `inspect` lists all.",
            )
        site = index[name]
        if int(channel) >= self.sites[site].channels:
            raise BadInput(f"{filter_id!r}: site {name} has channels 0 to {self.sites[site].channels - 1}.")
        return int(self.offsets[site]) + int(channel)

    def site_of(self, players: np.ndarray) -> np.ndarray:
        """Site index [m] of players [m]."""
        return np.searchsorted(self.offsets, players, side="right") - 1

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
        masks = masks.view(-1, self.n_filters)
        for k, segment in enumerate(self._segments):
            if k:
                start, stop = int(self.offsets[k - 1]), int(self.offsets[k])
                constants = self.constants[start:stop].view(1, -1, 1, 1)
                mask = masks[:, start:stop].view(len(masks), -1, 1, 1)
                state = (constants + mask * (state[0] - constants), *state[1:])
            state = segment(*state)
        return two_dimensional(state[0])

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
        return Masks(coalitions, self.constants, self.offsets)

    # Statistics of outputs ------------------------------------------------------------------------------

    def mean_outputs(
        self,
        batches: Iterable[torch.Tensor],
        tick: Callable[[int], None] | None = None,
        at_once: int | None = None,
    ) -> torch.Tensor:
        """Mean output of every filter, float64 [n], over images and positions of the intact network.

        Args:
            at_once: images of a forward; sums are over whole batches either way, and come out the same.
        """
        sums = torch.zeros(self.n_filters, dtype=torch.float64)
        count = 0
        for images in batches:
            sums += self._reduce(images, lambda y: y.double().mean((2, 3)), at_once)
            count += len(images)
            if tick:
                tick(len(images))
        return sums / count

    def state_sizes(self, image: torch.Tensor) -> list[int]:
        """Bytes of the state before each segment, for one image [1, C, H, W]."""
        state, sizes = self.start(image), []
        with torch.inference_mode():
            for segment in self._segments:
                sizes.append(sum(t.numel() * t.element_size() for t in state))
                state = segment(*state)
        return sizes

    def response_norms(self, images: torch.Tensor, at_once: int | None = None) -> torch.Tensor:
        """ℓ2 norm of every filter's output, summed over the images [B, C, H, W], float64 [n]; see `mean_outputs`."""
        return self._reduce(images, lambda y: y.double().flatten(2).norm(dim=2), at_once)

    def _reduce(
        self, images: torch.Tensor, reduce: Callable[[torch.Tensor], torch.Tensor], at_once: int | None
    ) -> torch.Tensor:
        """Sums over the images of what `reduce` makes of each site's output, [B, channels]."""
        parts: list[list[torch.Tensor]] = [[] for _ in self.sites]
        with torch.inference_mode():
            for few in images.split(at_once or len(images)):
                state = self.start(few)
                for found, segment in zip(parts, self._segments):
                    state = segment(*state)
                    found.append(reduce(state[0]))
        return torch.cat([torch.cat(found).sum(0).cpu() for found in parts])


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
    size = {graph.names[p]: t.numel() for p, t in graph.tensors.items() if graph.names[p]}
    running = {k for s in sites for k in s.norm_keys[2:]}
    buffers = {k for k in size if k.endswith(("running_mean", "running_var", "num_batches_tracked"))} | running
    keys = {k for s in sites for k in (s.weight, s.bias, *s.norm_keys[:2]) if k}
    return Coverage(sum(size[k] for k in keys), sum(v for k, v in size.items() if k not in buffers))
