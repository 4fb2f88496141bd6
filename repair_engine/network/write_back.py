"""Write-back: the edits of a checkpoint's tensors that fix a unit's output to its constant.

Architecture, keys, shapes and dtypes stay. Physical removal of a unit is something else: under zero padding it
changes the borders.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypedDict

import numpy as np
import torch

from repair_engine.network.constants import constant_of, gate_factor
from repair_engine.network.network import Network
from repair_engine.network.sites import Site


class EditRecord(TypedDict):
    """`Edit` in documents."""

    key: str
    channel: int
    value: float
    added: bool


@dataclass(frozen=True)
class Edit:
    """Row `channel` of tensor `key` becomes `value` everywhere, or grows by `value` where `added`."""

    key: str
    channel: int
    value: float
    added: bool = False

    def to_json(self) -> EditRecord:
        return {"key": self.key, "channel": self.channel, "value": self.value, "added": self.added}


def edits(
    site: Site,
    channel: int,
    biases: Sequence[float],
    tensors: Mapping[str, torch.Tensor],
    constant: str = "mean",
) -> tuple[Edit, ...]:
    """The edits that make unit `channel` of a site put out act(biases), whatever the input.

    Args:
        biases: the solved biases of its outputs, as rounded to the stored dtype (`stored_constants`).
        tensors: of the intact checkpoint; read where a linear layer behind the site takes up the constant.
        constant: "mean" or "bn_beta": then γ = 0 is all, and β is kept.
    """
    norm_weight, norm_bias, running_mean, running_var = site.norm_keys
    zeros = tuple(Edit(site.zeroed or site.weight, row, 0.0) for row in site.rows.of(channel))
    set_to = tuple(Edit(site.bias, row, value) for row, value in zip(site.bias_rows.of(channel), biases))
    if constant_of(site, constant) == "bn_beta":
        return (Edit(norm_weight, channel, 0.0),)
    if site.norm == "absorbed" and site.reader is not None:
        return (*zeros, *_taken_up(site, channel, biases, tensors))
    if site.norm == "none" and site.gate is not None:
        gate = site.gate
        opened = gate_factor(site, tensors[gate.bias].dtype)[0]
        return (
            *(Edit(gate.weight, row, 0.0) for row in gate.rows.of(channel)),
            *(Edit(gate.bias, row, opened) for row in gate.bias_rows.of(channel)),
            *zeros,
            *set_to,
        )
    if site.norm == "none":
        return (*zeros, *set_to)
    (bias,) = biases
    if site.norm == "absorbed":
        shifts = (Edit(a.mean, a.offset + channel, -a.times * bias, added=True) for a in site.absorbers)
        return (*zeros, *shifts)
    if site.norm == "group":
        # The convolution's row stays: zeroing it would change the statistics its siblings are normalized with.
        return (Edit(norm_weight, channel, 0.0), Edit(norm_bias, channel, bias))
    own_bias = tuple(Edit(site.bias, row, 0.0) for row in site.bias_rows.of(channel)) if site.bias else ()
    return (
        *zeros,
        *own_bias,
        Edit(norm_weight, channel, 0.0),
        Edit(norm_bias, channel, bias),
        Edit(running_mean, channel, 0.0),
        Edit(running_var, channel, 1.0),
    )


def _taken_up(
    site: Site, channel: int, constants: Sequence[float], tensors: Mapping[str, torch.Tensor]
) -> tuple[Edit, ...]:
    """What the layer behind gets added to its bias, where a unit's rows are zeros: it then puts out act(0)."""
    reader = site.reader
    assert reader is not None
    columns = tensors[reader.weight].double()[:, list(reader.columns.of(channel))]
    zero = 0.0 if site.gate else float(site.activation(torch.zeros(1)))
    shifts = columns @ (torch.tensor(constants, dtype=torch.float64) - zero)
    return tuple(Edit(reader.bias, row, value, added=True) for row, value in enumerate(shifts.tolist()))


def write_back(
    tensors: Mapping[str, torch.Tensor],
    network: Network,
    biases: torch.Tensor,
    players: Iterable[int],
    constant: str = "mean",
) -> dict[str, torch.Tensor]:
    """The checkpoint's tensors with the given units ablated.

    Args:
        tensors: key -> tensor of the intact checkpoint; not changed.
        biases: float64 [outputs] from `stored_constants`.
        players: the units to ablate.
        constant: "mean" or "bn_beta", as the biases were made.

    Returns:
        A mapping with the same keys in the same order, shapes and dtypes; untouched tensors are shared.
    """
    found = (edit for player in players for edit in edits_of(network, tensors, biases, player, constant))
    return apply_edits(tensors, found)


def edits_of(
    network: Network, tensors: Mapping[str, torch.Tensor], biases: torch.Tensor, player: int, constant: str = "mean"
) -> tuple[Edit, ...]:
    """The edits that ablate one unit; see `write_back`."""
    site = network.sites[int(network.site_of(np.array([player]))[0])]
    own = biases[network.numbering.outputs_of(np.array([player]))[0]].tolist()
    return edits(site, network.channel(player), own, tensors, constant)


def apply_edits(tensors: Mapping[str, torch.Tensor], found: Iterable[Edit]) -> dict[str, torch.Tensor]:
    """The tensors with the edits made; untouched tensors are shared.

    What is added comes first: a bias that takes up another unit's constant may itself be set.
    """
    written = dict(tensors)
    copied: set[str] = set()
    for edit in sorted(found, key=lambda edit: not edit.added):
        if edit.key not in copied:
            written[edit.key] = tensors[edit.key].clone()
            copied.add(edit.key)
        before = written[edit.key][edit.channel].double() if edit.added else 0.0
        written[edit.key][edit.channel] = before + edit.value
    return written
