"""Responses of units: their outputs before the activation, where "most negative" still means something.

After a ReLU a filter that sees the opposite of what it looks for is 0, as one that sees nothing; and no gradient says
how to make it see more.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import fx

from repair_engine.network.activations import is_activation
from repair_engine.network.graph import aten
from repair_engine.network.network import Network
from repair_engine.network.places import Grid, grids

_IN_PLACE = {aten.relu_.default}


class Responses:
    """Runs a network as far as some units' sites and gives their outputs before the activation.

    Args:
        network: intact; nothing is ablated.
    """

    def __init__(self, network: Network) -> None:
        self.network = network
        self._heads: dict[int, fx.GraphModule] = {}
        self._grids: list[Grid | None] | None = None

    def grid(self, site: int) -> Grid | None:
        """Where on the image a site's positions lie; None where no image ran yet, or where they have no places."""
        return None if self._grids is None else self._grids[site]

    def maps(self, images: torch.Tensor, site: int) -> torch.Tensor:
        """Outputs [B, channels, H, W] of a site before its activation; differentiable in the images [B, C, H, W].

        Positions lie as on the image, without those that have no place there (class tokens; see `grid`). Where none has
        one they lie along H, with W = 1. Of a head it is the ℓ2 norm of its values.
        """
        self._look(images)
        state = self.network.start(images)
        for k in range(site):
            state = self.network.run(state, k)
        return self._mapped(site, self._head(site)(*state))

    def _look(self, images: torch.Tensor) -> None:
        if self._grids is None:
            self._grids = grids(self.network, images[:1].detach())

    def _mapped(self, site: int, output: torch.Tensor) -> torch.Tensor:
        one, grid = self.network.sites[site], self.grid(site)
        found = one.layout.of_images(output, one.channels)
        if one.rows.width > 1:
            found = found.unflatten(1, (-1, one.rows.width)).norm(dim=2)
        if grid is not None:
            return grid.on(found.flatten(2))
        while found.dim() < 4:
            found = found.unsqueeze(-1)
        return found.flatten(3)

    def means(self, images: torch.Tensor, players: Sequence[int] | np.ndarray) -> torch.Tensor:
        """Responses [B, m] of players [m]: means over positions, float32, without gradients."""
        return self.reduced(images, players)[0]

    def reduced(self, images: torch.Tensor, players: Sequence[int] | np.ndarray) -> torch.Tensor:
        """Mean, largest and smallest response over positions, float32 [3, B, m], of players [m], without gradients."""
        self._look(images)
        players = np.asarray(players)
        sites = self.network.site_of(players)
        out = torch.empty(3, len(images), len(players), device=images.device)
        with torch.inference_mode():
            state = self.network.start(images)
            for site in range(int(sites.max()) + 1):
                here = np.flatnonzero(sites == site)
                if len(here):
                    channels = torch.from_numpy(players[here] - int(self.network.offsets[site]))
                    found = self._mapped(site, self._head(site)(*state))[:, channels.to(images.device)]
                    taken = torch.stack([found.mean((2, 3)), found.amax((2, 3)), found.amin((2, 3))])
                    out[:, :, torch.from_numpy(here).to(images.device)] = taken.to(out.dtype)
                state = self.network.run(state, site)
        return out

    def _head(self, site: int) -> fx.GraphModule:
        if site not in self._heads:
            self._heads[site] = _before_activation(self.network.segment(site))
        return self._heads[site]


def _before_activation(segment: fx.GraphModule) -> fx.GraphModule:
    """A segment that ends in its site's output, without the last activation and all that serves it alone."""
    graph = fx.Graph()
    copied: dict[fx.Node, fx.Node] = {}
    result = next(n for n in segment.graph.nodes if n.op == "output").args[0][0]
    while result.target in (aten.clone.default, aten.alias.default, aten.detach.default, aten.dropout.default):
        result = result.args[0]
    if result.op == "call_function" and (is_activation(result.target) or result.target in _IN_PLACE):
        result = result.args[0]
    needed = _ancestors(result)
    for node in segment.graph.nodes:
        if node.op == "placeholder" or node in needed:
            copied[node] = graph.node_copy(node, lambda n: copied[n])
    graph.output(copied[result])
    return fx.GraphModule(segment, graph)


def _ancestors(node: fx.Node) -> set[fx.Node]:
    found, frontier = {node}, [node]
    while frontier:
        for before in frontier.pop().all_input_nodes:
            if before not in found:
                found.add(before)
                frontier.append(before)
    return found
