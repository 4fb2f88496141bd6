"""Runs that cost only what changed: along a walk (`Trail`) and for single flips (`flipped_logits`)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from repair_engine.network.masks import Masks
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
        self._images = network.start(images)
        self._stored: dict[int, State] = {}
        sizes = {k: size * len(images) for k, size in enumerate(network.footprint(images[:1]).states) if k}
        self._keep = _deepest_within(sizes, byte_budget)
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
        with torch.inference_mode():
            for k in range(start, len(network.sites) + 1):
                state = network.step(state, k, masks)
                if k + 1 in self._keep:
                    self._stored[k + 1] = state
        self._coalition = coalition.copy()
        self._logits = two_dimensional(state[0])
        return self._logits


def flipped_logits(
    network: Network,
    images: torch.Tensor,
    coalitions: np.ndarray,
    players: np.ndarray,
    max_batch: int,
    use: Callable[[np.ndarray, torch.Tensor], None],
) -> torch.Tensor:
    """Logits of `coalitions` [B, classes]; and with one player flipped at a time, given to `use`.

    Flips of one site share their start state and run as one batch of K·B.

    Args:
        coalitions: bool [B, n], image b under row b; or [1, n], all images under it.
        players: int64 [m], any order.
        max_batch: upper bound of K·B for a batch of K flips (at least one flip is run at a time).
        use: called with (positions int64 [K] into `players`, logits [K, B, classes]).
    """
    base = Masks(coalitions, network.constants, network.numbering, per_image=True)
    site_of = network.site_of(players)
    flips = max(1, max_batch // len(images))
    with torch.inference_mode():
        state = network.step(network.start(images), 0, base)
        for site in range(len(network.sites)):
            masked = network.mask(state, site, base)
            here = np.flatnonzero(site_of == site)
            for chunk in (here[i : i + flips] for i in range(0, len(here), flips)):
                flipped = network.run(_flipped(network, state, masked, site, coalitions, players[chunk]), site + 1)
                for later in range(site + 2, len(network.sites) + 1):
                    flipped = network.step(flipped, later, base)
                use(chunk, two_dimensional(flipped[0]).unflatten(0, (len(chunk), -1)))
            state = network.run(masked, site + 1)
    return two_dimensional(state[0])


def _flipped(
    network: Network, state: State, masked: State, site: int, coalitions: np.ndarray, players: np.ndarray
) -> State:
    """The masked state behind `site` for K copies of the images that each flip one of its units `players` [K].

    Only the flipped units' outputs are written; everything else is copied once.
    """
    one = network.sites[site]
    copies = network.expand(masked, site + 1, len(players))
    output = copies[0] if len(players) > 1 else masked[0].clone()
    source, into = one.layout.first(state[0]), one.layout.first(output).unflatten(0, (len(players), -1))
    outputs = network.numbering.outputs_of(players)  # [K, width]
    places = one.layout.places.all(one.channels)[torch.from_numpy(outputs - network.numbering.outputs[site])]
    places, positions = places.to(output.device), (1,) * (source.dim() - 2)
    constants = network.constants[torch.from_numpy(outputs).to(output.device)]
    present = torch.from_numpy(coalitions[:, players].T.copy()).to(output.device)  # [K, B or 1]
    if one.layout.per_image > 1 and present.shape[1] > 1:
        present = present.repeat_interleave(one.layout.per_image, 1)
    flipped = torch.where(
        present.view(len(players), 1, -1, *positions),
        constants.view(*places.shape, 1, *positions),
        source.movedim(0, 1)[places],
    )  # [K, width, B, positions …]
    rows = torch.arange(len(players), device=output.device)
    into[rows[:, None], :, places] = flipped
    return (output, *copies[1:])


def _deepest_within(sizes: dict[int, int], budget: int) -> set[int]:
    kept, total = set(), 0
    for k in sorted(sizes, reverse=True):
        if total + sizes[k] <= budget:
            kept.add(k)
            total += sizes[k]
    return kept
