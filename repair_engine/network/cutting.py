"""Which culprits can be removed from a network, and the tensors and widths without them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import fx, nn

from repair_engine.network.following import CannotCut, Cut, Followed, follow, groups_of
from repair_engine.network.graph import FlatGraph
from repair_engine.network.network import Network
from repair_engine.network.sites import CONVOLUTIONS, Site

_WIDTHS: tuple[tuple[type[nn.Module], str, str], ...] = (  # layer, attribute of its rows, attribute of its columns
    (nn.Conv2d, "out_channels", "in_channels"),
    (nn.Linear, "out_features", "in_features"),
    (nn.BatchNorm2d, "num_features", ""),
)


@dataclass(frozen=True)
class Compact:
    """A network without some of its filters.

    Attributes:
        tensors: key -> tensor of the compact state dict.
        layers: prefix -> attribute -> new width, of the layers that change.
        removed: players that are gone.
        kept: player -> why it could not be removed (it stays ablated).
        biases: prefixes of layers that got a bias they did not have.
    """

    tensors: dict[str, torch.Tensor]
    layers: dict[str, dict[str, int]]
    removed: tuple[int, ...]
    kept: dict[int, str]
    biases: tuple[str, ...]


def compact(
    module: nn.Module,
    graph: FlatGraph,
    network: Network,
    players: Sequence[int],
    tensors: Mapping[str, torch.Tensor],
    ablate: Callable[[Sequence[int]], dict[str, torch.Tensor]],
) -> Compact:
    """Removes what can be removed.

    Args:
        module: the plain intact module, whose layers are named by the tensors' keys.
        graph: the same module captured; its sites are the network's.
        players: the culprits.
        tensors: of the intact checkpoint.
        ablate: these tensors with the given players ablated, for those that must stay.
    """
    by_site: dict[int, list[int]] = defaultdict(list)
    for player in players:
        by_site[int(network.site_of(torch.tensor([player]).numpy())[0])].append(int(player))
    numbering, constants = network.numbering, network.constants.double().cpu()
    starts: dict[fx.Node, Cut] = {}
    cut_sites: dict[int, list[int]] = {}
    kept: dict[int, str] = {}
    for index, members in by_site.items():
        site, first = network.sites[index], int(network.offsets[index])
        if len(members) == site.channels:
            kept[members.pop()] = "its layer would be left without a channel"
        if not members:
            continue
        cut = {player - first: float(constants[numbering.outputs[index] + player - first]) for player in members}
        end = graph.nodes[site.position]
        try:
            _check_own(graph, site)
            followed = follow(graph, {end: cut}, tensors)
            _check_layers(module, site, followed)
        except CannotCut as reason:
            kept |= dict.fromkeys(members, str(reason))
            continue
        starts[end], cut_sites[index] = cut, members
    if not starts:
        return Compact(dict(tensors), {}, (), kept, ())
    work = ablate(list(kept))
    followed = follow(graph, starts, tensors)
    added = _shift_biases(module, followed, work)
    rows: dict[str, set[int]] = {name: set(places) for name, places in followed.rows.items()}
    for index, members in cut_sites.items():
        site, first = network.sites[index], int(network.offsets[index])
        for name in _own_layers(site):
            rows.setdefault(name, set()).update(player - first for player in members)
    layers = _cut(module, work, rows, {name: set(cut) for name, cut in followed.columns.items()})
    removed = tuple(sorted(player for members in cut_sites.values() for player in members))
    return Compact(work, layers, removed, kept, added)


def _own_layers(site: Site) -> list[str]:
    """The convolution, and the batch norm that follows it."""
    own = [site.weight.removesuffix(".weight")]
    return [*own, site.norm_keys[0].removesuffix(".weight")] if site.norm == "batch" else own


def _check_own(graph: FlatGraph, site: Site) -> None:
    if site.kind == "head" or site.layout.axis != 1 or site.gate or site.reader:
        raise CannotCut("only filters, and hidden units of one number an image, are removed")
    if site.zeroed:
        raise CannotCut("its weights are standardized: they are computed from tensors of several widths")
    if site.norm == "group":
        raise CannotCut("its group norm takes its siblings' statistics over it, too")
    for node in graph.nodes:
        weight = node.args[1] if node.target in CONVOLUTIONS else None
        if isinstance(weight, fx.Node) and graph.names.get(weight) == site.weight and groups_of(node) > 1:
            raise CannotCut("its own convolution is grouped")


def _check_layers(module: nn.Module, site: Site, followed: Followed) -> None:
    """Raises CannotCut where a layer is no plain module whose widths can be set."""
    for name in (*_own_layers(site), *followed.columns, *followed.rows):
        try:
            layer = module.get_submodule(name)
        except AttributeError:
            raise CannotCut(f"{name} is no module of its own") from None
        if not isinstance(layer, tuple(kind for kind, _, _ in _WIDTHS)):
            raise CannotCut(f"{name} is a {type(layer).__name__}, whose widths cannot be set")


def _shift_biases(module: nn.Module, followed: Followed, work: dict[str, torch.Tensor]) -> tuple[str, ...]:
    """Puts what removed constants gave to the layers that read them into those layers' biases.

    Args:
        work: key -> tensor; changed.

    Returns:
        The layers that had no bias.
    """
    added = []
    for name, cut in followed.columns.items():
        weight = work[f"{name}.weight"].double()
        places = torch.tensor(list(cut))
        values = torch.tensor(list(cut.values()), dtype=torch.float64)
        shift = weight[:, places].flatten(2).sum(2) @ values if weight.dim() == 4 else weight[:, places] @ values
        key = f"{name}.bias"
        if key not in work:
            added.append(name)
        dtype = work[key].dtype if key in work else work[f"{name}.weight"].dtype
        before = work[key].double() if key in work else 0.0
        work[key] = (before + shift).to(dtype)
    return tuple(added)


def _cut(
    module: nn.Module, work: dict[str, torch.Tensor], rows: Mapping[str, set[int]], columns: Mapping[str, set[int]]
) -> dict[str, dict[str, int]]:
    """Cuts the tensors in `work`; the changed widths."""
    layers: dict[str, dict[str, int]] = {}
    for name in dict.fromkeys((*rows, *columns)):
        gone_rows, gone_columns = rows.get(name, set()), columns.get(name, set())
        for part in ("weight", "bias", "running_mean", "running_var"):
            key = f"{name}.{part}"
            if key not in work:
                continue
            tensor = _without(work[key], 0, gone_rows)
            if part == "weight" and gone_columns:
                tensor = _without(tensor, 1, gone_columns)
            work[key] = tensor.contiguous()
        layer, weight = module.get_submodule(name), work[f"{name}.weight"]
        row, column = next((r, c) for kind, r, c in _WIDTHS if isinstance(layer, kind))
        layers[name] = {row: len(weight)} | ({column: int(weight.shape[1])} if column else {})
    return layers


def _without(tensor: torch.Tensor, dim: int, places: set[int]) -> torch.Tensor:
    kept = torch.tensor([i for i in range(tensor.shape[dim]) if i not in places])
    return tensor.index_select(dim, kept)
