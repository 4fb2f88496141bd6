"""A classifier as segments between sites: masked runs, reuse of prefixes, mean constants.

Filters are numbered 0..n−1 in site order, then by channel. A coalition is a bool row [n], true = present.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from repair_engine.errors import BadInput, NoPlayers
from repair_engine.network.graph import FlatGraph, batch_dim, capture, live_after, segment_module
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
        constants: float32 [n] on the device; what an absent filter's output is replaced by. NaN until set.
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
        self.constants = torch.full((self.n_filters,), float("nan"), device=self.device)
        self.coverage = _coverage(graph, sites)
        self._segments, self._repeat_dims = _cut(graph, sites)

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
        if name not in index or not channel.isdigit():
            known = ", ".join(s.name for s in self.sites[:8])
            why = next((f" ({p.reason})" for p in self.not_players if p.name == name), "")
            raise BadInput(
                f"{filter_id!r} names no filter of this network{why}.",
                f"Filters are written site:channel; the first sites are {known}. `inspect` lists all.",
            )
        site = index[name]
        if int(channel) >= self.sites[site].channels:
            raise BadInput(f"{filter_id!r}: site {name} has channels 0 to {self.sites[site].channels - 1}.")
        return int(self.offsets[site]) + int(channel)

    def site_of(self, players: np.ndarray) -> np.ndarray:
        """Site index [m] of players [m]."""
        return np.searchsorted(self.offsets, players, side="right") - 1

    # Runs -----------------------------------------------------------------------------------------------

    def logits(self, images: torch.Tensor) -> torch.Tensor:
        """Logits [B, classes] of the intact network on normalized images [B, C, H, W]."""
        state: State = (images,)
        with torch.inference_mode():
            for segment in self._segments:
                state = segment(*state)
        return _two_dimensional(state[0])

    def masked_logits(self, images: torch.Tensor, coalitions: np.ndarray) -> torch.Tensor:
        """Logits [K, B, classes] of K coalitions [K, n] on the same images [B, C, H, W], as one batch of K·B."""
        with torch.inference_mode():
            state = self.expand((images,), 0, len(coalitions))
            return self.resume(state, 0, self.masks(coalitions))

    def resume(self, state: State, segment: int, masks: torch.Tensor) -> torch.Tensor:
        """Runs from the start of `segment` to the logits [K, B, classes].

        `state` is what segment `segment` − 1 left, its site not yet masked (segment 0: the images); masks are bool
        [K, n] and the batch is K·B, coalition-major.
        """
        for k in range(segment, len(self._segments)):
            state = self._segments[k](*self._mask(state, k - 1, masks))
        return _two_dimensional(state[0]).unflatten(0, (len(masks), -1))

    def soft_logits(self, images: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
        """Logits [B, classes] with masks in [0, 1], float [n], for all images; differentiable in the masks."""
        state: State = (images,)
        for k, segment in enumerate(self._segments):
            if k:
                start, stop = int(self.offsets[k - 1]), int(self.offsets[k])
                mask, constants = (t[start:stop].view(1, -1, 1, 1) for t in (masks, self.constants))
                state = (constants + mask * (state[0] - constants), *state[1:])
            state = segment(*state)
        return _two_dimensional(state[0])

    def step(self, state: State, segment: int, masks: torch.Tensor) -> State:
        """Runs one segment: masks its incoming site and returns the state at the next cut."""
        return self._segments[segment](*self._mask(state, segment - 1, masks))

    def expand(self, state: State, segment: int, copies: int) -> State:
        """The state repeated for `copies` coalitions, coalition-major, along each tensor's batch dimension."""
        if copies == 1:
            return state
        dims = self._repeat_dims[segment]
        return tuple(
            t if d is None else t.repeat(*(copies if i == d else 1 for i in range(t.dim())))
            for t, d in zip(state, dims, strict=True)
        )

    def masks(self, coalitions: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(np.atleast_2d(coalitions))).to(self.device)

    def _mask(self, state: State, site: int, masks: torch.Tensor) -> State:
        if site < 0:
            return state
        start, stop = int(self.offsets[site]), int(self.offsets[site + 1])
        present = masks[:, start:stop]
        if bool(present.all()):
            return state
        output = state[0].unflatten(0, (len(masks), -1))
        constants = self.constants[start:stop].view(1, 1, -1, 1, 1)
        masked = torch.where(present[:, None, :, None, None], output, constants)
        return (masked.flatten(0, 1), *state[1:])

    # Statistics of outputs ------------------------------------------------------------------------------

    def mean_outputs(self, batches: Iterable[torch.Tensor], tick: Callable[[int], None] | None = None) -> torch.Tensor:
        """Mean output of every filter, float64 [n], over images and positions of the intact network."""
        sums = torch.zeros(self.n_filters, dtype=torch.float64)
        count = 0
        for images in batches:
            sums += self._reduce(images, lambda y: y.double().mean((2, 3)).sum(0))
            count += len(images)
            if tick:
                tick(len(images))
        return sums / count

    def response_norms(self, images: torch.Tensor) -> torch.Tensor:
        """ℓ2 norm of every filter's output, summed over the images [B, C, H, W], float64 [n]."""
        return self._reduce(images, lambda y: y.double().flatten(2).norm(dim=2).sum(0))

    def _reduce(self, images: torch.Tensor, reduce: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
        state: State = (images,)
        parts = []
        with torch.inference_mode():
            for segment in self._segments[:-1]:
                state = segment(*state)
                parts.append(reduce(state[0]).cpu())
        return torch.cat(parts)


class Trail:
    """Remembers the states of one batch at the cuts, so that a run costs only what changed.

    The coalition of each `logits` call is compared with that of the call before; the run starts at the deepest
    stored state upstream of the first difference. Shapes never change, so the bits are those of a full run.

    Args:
        byte_budget: states that do not fit are not stored (deep ones, which save most per byte, go first) and
            are recomputed from the nearest stored one upstream.
    """

    def __init__(self, network: Network, images: torch.Tensor, byte_budget: int) -> None:
        self.network = network
        self._budget = byte_budget
        self._images: State = (images,)
        self._stored: dict[int, State] = {}
        self._keep: set[int] | None = None
        self._coalition: np.ndarray | None = None
        self._logits: torch.Tensor | None = None

    def logits(self, coalition: np.ndarray) -> torch.Tensor:
        """Logits [B, classes] under one coalition, bool [n]."""
        network, start = self.network, 0
        if self._coalition is not None:
            changed = np.flatnonzero(self._coalition != coalition)
            if not len(changed):
                assert self._logits is not None
                return self._logits
            # The first changed site s masks the input of segment s + 1; the state before it is still valid.
            first = int(network.site_of(changed[:1])[0]) + 1
            start = max((k for k in self._stored if k <= first), default=0)
            self._stored = {k: v for k, v in self._stored.items() if k <= first}
        masks = network.masks(coalition)
        state = self._images if start == 0 else self._stored[start]
        sizes: dict[int, int] = {}
        with torch.inference_mode():
            for k in range(start, len(network.sites) + 1):
                state = network.step(state, k, masks)
                if k < len(network.sites):
                    sizes[k + 1] = sum(t.numel() * t.element_size() for t in state)
                    if self._keep is None or k + 1 in self._keep:
                        self._stored[k + 1] = state
        if self._keep is None:
            self._keep = _deepest_within(sizes, self._budget)
            self._stored = {k: v for k, v in self._stored.items() if k in self._keep}
        self._coalition = coalition.copy()
        self._logits = _two_dimensional(state[0])
        return self._logits


def toggled_logits(
    network: Network,
    images: torch.Tensor,
    coalition: np.ndarray,
    players: np.ndarray,
    max_batch: int,
    use: Callable[[np.ndarray, torch.Tensor], None],
) -> None:
    """Logits of `coalition` with one player flipped at a time; players of one site share their start state.

    Args:
        players: int64 [m], any order.
        max_batch: upper bound of K·B for a batch of K flips (at least one flip is run at a time).
        use: called with (positions int64 [K] into `players`, logits [K, B, classes]).
    """
    base = network.masks(coalition)
    site_of = network.site_of(players)
    flips = max(1, max_batch // len(images))
    with torch.inference_mode():
        state: State = (images,)
        last = int(site_of.max(initial=-1))
        for k in range(last + 1):
            state = network.step(state, k, base)  # the state at the cut behind site k, site not yet masked
            here = np.flatnonzero(site_of == k)
            for chunk in (here[i : i + flips] for i in range(0, len(here), flips)):
                masks = base.repeat(len(chunk), 1)
                rows = torch.arange(len(chunk), device=network.device)
                columns = torch.from_numpy(players[chunk]).to(network.device)
                masks[rows, columns] = ~masks[rows, columns]
                use(chunk, network.resume(network.expand(state, k + 1, len(chunk)), k + 1, masks))


def predictions(logits: torch.Tensor) -> torch.Tensor:
    """Predicted class, int64 [...], of logits [..., classes]; a single logit is a binary classifier at 0."""
    return (logits[..., 0] > 0).long() if logits.shape[-1] == 1 else logits.argmax(-1)


def _two_dimensional(logits: torch.Tensor) -> torch.Tensor:
    return logits.unsqueeze(1) if logits.dim() == 1 else logits


def _deepest_within(sizes: dict[int, int], budget: int) -> set[int]:
    kept, total = set(), 0
    for k in sorted(sizes, reverse=True):
        if total + sizes[k] <= budget:
            kept.add(k)
            total += sizes[k]
    return kept


def _cut(graph: FlatGraph, sites: Sequence[Site]) -> tuple[list[torch.nn.Module], list[list[int | None]]]:
    segments: list[torch.nn.Module] = []
    repeat_dims: list[list[int | None]] = [[0]]
    inputs: tuple = (graph.image,)
    begin = 0
    for site in sites:
        outputs = live_after(graph, site.position, graph.nodes[site.position])
        segments.append(segment_module(graph, inputs, graph.nodes[begin : site.position + 1], outputs))
        repeat_dims.append([batch_dim(graph, n) for n in outputs])
        inputs, begin = outputs, site.position + 1
    segments.append(segment_module(graph, inputs, graph.nodes[begin:], (graph.logits,)))
    return segments, repeat_dims


def _coverage(graph: FlatGraph, sites: Sequence[Site]) -> Coverage:
    size = {graph.names[p]: t.numel() for p, t in graph.tensors.items() if graph.names[p]}
    running = {k for s in sites for k in s.norm_keys[2:]}
    buffers = {k for k in size if k.endswith(("running_mean", "running_var", "num_batches_tracked"))} | running
    keys = {k for s in sites for k in (s.weight, s.bias, *s.norm_keys[:2]) if k}
    return Coverage(sum(size[k] for k in keys), sum(v for k, v in size.items() if k not in buffers))
