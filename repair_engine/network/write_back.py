"""Write-back: the edits of a checkpoint's tensors that fix a filter's output to its constant.

Architecture, keys, shapes and dtypes stay. Physical removal of a filter is something else: under zero padding it
changes the borders.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import torch

from repair_engine.network.constants import constant_of
from repair_engine.network.network import Network
from repair_engine.network.sites import Site


@dataclass(frozen=True)
class Edit:
    """Row `channel` of tensor `key` becomes `value` everywhere, or grows by `value` where `added`."""

    key: str
    channel: int
    value: float
    added: bool = False


def edits(site: Site, channel: int, bias: float, constant: str = "mean") -> tuple[Edit, ...]:
    """The edits that make channel `channel` of a site put out act(bias), whatever the input.

    Args:
        bias: the solved bias, as rounded to the stored dtype (`stored_constants`).
        constant: "mean" or "bn_beta": then γ = 0 is all, and β is kept.
    """
    row = site.zeroed or site.weight
    norm_weight, norm_bias, running_mean, running_var = site.norm_keys
    if constant_of(site, constant) == "bn_beta":
        return (Edit(norm_weight, channel, 0.0),)
    if site.norm == "none":
        return (Edit(row, channel, 0.0), Edit(site.bias, channel, bias))
    if site.norm == "absorbed":
        shifts = (Edit(a.mean, a.offset + channel, -a.times * bias, added=True) for a in site.absorbers)
        return (Edit(row, channel, 0.0), *shifts)
    if site.norm == "group":
        # The convolution's row stays: zeroing it would change the statistics its siblings are normalized with.
        return (Edit(norm_weight, channel, 0.0), Edit(norm_bias, channel, bias))
    conv_bias = (Edit(site.bias, channel, 0.0),) if site.bias else ()
    return (
        Edit(row, channel, 0.0),
        *conv_bias,
        Edit(norm_weight, channel, 0.0),
        Edit(norm_bias, channel, bias),
        Edit(running_mean, channel, 0.0),
        Edit(running_var, channel, 1.0),
    )


def write_back(
    tensors: Mapping[str, torch.Tensor],
    network: Network,
    biases: torch.Tensor,
    players: Iterable[int],
    constant: str = "mean",
) -> dict[str, torch.Tensor]:
    """The checkpoint's tensors with the given filters ablated.

    Args:
        tensors: key -> tensor of the intact checkpoint; not changed.
        biases: float64 [n] from `stored_constants`.
        players: the filters to ablate.
        constant: "mean" or "bn_beta", as the biases were made.

    Returns:
        A mapping with the same keys in the same order, shapes and dtypes; untouched tensors are shared.
    """
    found = (edit for player in players for edit in edits_of(network, biases, player, constant))
    return apply_edits(tensors, found)


def edits_of(network: Network, biases: torch.Tensor, player: int, constant: str = "mean") -> tuple[Edit, ...]:
    """The edits that ablate one filter; see `write_back`."""
    index = int(network.site_of(np.array([player]))[0])
    site, channel = network.sites[index], player - int(network.offsets[index])
    return edits(site, channel, float(biases[player]), constant)


def apply_edits(tensors: Mapping[str, torch.Tensor], found: Iterable[Edit]) -> dict[str, torch.Tensor]:
    """The tensors with the edits made in the given order; untouched tensors are shared."""
    written = dict(tensors)
    copied: set[str] = set()
    for edit in found:
        if edit.key not in copied:
            written[edit.key] = tensors[edit.key].clone()
            copied.add(edit.key)
        before = written[edit.key][edit.channel].double() if edit.added else 0.0
        written[edit.key][edit.channel] = before + edit.value
    return written
