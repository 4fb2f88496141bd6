"""Runs that cost only what changed: along a walk (`Trail`) and for single flips (`toggled_logits`)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from repair_engine.network.network import Network, State, two_dimensional


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
        self._images = network.start(images)
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
        self._logits = two_dimensional(state[0])
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
        state = network.start(images)
        for k in range(int(site_of.max(initial=-1)) + 1):
            state = network.step(state, k, base)  # the state at the cut behind site k, site not yet masked
            here = np.flatnonzero(site_of == k)
            if not len(here):
                continue
            masked = network.mask(state, k, base)
            for chunk in (here[i : i + flips] for i in range(0, len(here), flips)):
                flipped = _flipped(network, state, masked, k, coalition, players[chunk])
                flipped = network.run(flipped, k + 1)
                for later in range(k + 2, len(network.sites) + 1):
                    flipped = network.step(flipped, later, base)
                use(chunk, two_dimensional(flipped[0]).unflatten(0, (len(chunk), -1)))


def _flipped(
    network: Network, state: State, masked: State, site: int, coalition: np.ndarray, players: np.ndarray
) -> State:
    """The masked state behind `site` for K coalitions that each flip one of its filters `players` [K].

    Only the flipped channels are written; everything else is copied once.
    """
    channels = players - int(network.offsets[site])
    copies = network.expand(masked, site + 1, len(players))
    output = copies[0] if len(players) > 1 else masked[0].clone()
    views = output.unflatten(0, (len(players), -1))
    for removes in (True, False):
        rows = np.flatnonzero(coalition[players] == removes)
        if not len(rows):
            continue
        at, columns = (torch.from_numpy(x).to(output.device) for x in (rows, channels[rows]))
        if removes:
            views[at, :, columns] = network.constants[torch.from_numpy(players[rows])].view(-1, 1, 1, 1)
        else:
            views[at, :, columns] = state[0][:, columns].transpose(0, 1)
    return (output, *copies[1:])


def _deepest_within(sizes: dict[int, int], budget: int) -> set[int]:
    kept, total = set(), 0
    for k in sorted(sizes, reverse=True):
        if total + sizes[k] <= budget:
            kept.add(k)
            total += sizes[k]
    return kept
