"""What each kind of edit may change, and how much it changed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from repair_engine.edits.model import Tensors, changed
from repair_engine.network import Network
from repair_engine.network.sites import Site
from repair_engine.network.tunable import Head, Tunable, rows_of
from repair_engine.network.write_back import Edit

Parts = dict[str, Tensor | None]  # key -> mask of what may change, broadcast to the tensor; None: all of it


@dataclass(frozen=True)
class Kind:
    """One kind of edit.

    Attributes:
        ablates: it ablates culprits first, and tunes with them ablated.
        tunes: "constants", "culprits", "biases", "head" or "all"; "" = nothing.
        words: what is done, as in a sentence's subject.
    """

    ablates: bool
    tunes: str
    words: str


KINDS = {
    "ablate": Kind(True, "", "ablating culprits"),
    "constants": Kind(True, "constants", "ablating culprits and tuning their constants"),
    "culprits": Kind(False, "culprits", "retraining the culprits alone"),
    "head": Kind(False, "head", "refitting the last layer"),
    "biases": Kind(False, "biases", "tuning biases and norms"),
    "ablate+head": Kind(True, "head", "ablating culprits and refitting the last layer"),
    "ablate+biases": Kind(True, "biases", "ablating culprits and tuning biases and norms"),
    "all": Kind(False, "all", "tuning all weights"),  # a control alone
}
CONTROLS = {  # kinds that stand beside every repair
    "head": "last layer refitted",
    "biases": "biases and norms tuned",
    "all": "all weights tuned, short",
}


def parts_of(
    kind: Kind, network: Network, tensors: Tensors, players: np.ndarray, ablation: tuple[Edit, ...]
) -> Parts | str:
    """What may be tuned, or why nothing can.

    Args:
        players: the culprits, [k].
        ablation: the edits that ablate them, of kinds that do.
    """
    tunable = network.tunable
    if kind.tunes == "head":
        if not isinstance(tunable.head, Head):
            return tunable.head
        return dict.fromkeys(tunable.head.keys)
    if kind.tunes == "constants":
        return _constants(network, tensors, players)
    if kind.tunes == "culprits":
        return _own_rows(network, tensors, players, tunable)
    keys = tunable.biases if kind.tunes == "biases" else tunable.weights
    keys = tuple(key for key in keys if key in tensors)
    if not keys:
        return "no bias and no norm of this network stands alone in the file"
    fixed: dict[str, set[int]] = {}
    for edit in ablation:
        if not edit.added:
            fixed.setdefault(edit.key, set()).add(edit.channel)
    return {key: _rows(tensors[key], fixed[key], keep=False) if key in fixed else None for key in keys}


def _constants(network: Network, tensors: Tensors, players: np.ndarray) -> Parts | str:
    """The biases that carry the culprits' constants."""
    rows: dict[str, set[int]] = {}
    for site, channel in _places(network, players):
        if site.norm != "absorbed" and site.gate is None:
            own = (channel,) if site.norm in ("batch", "group") else site.bias_rows.of(channel)
            rows.setdefault(site.bias_key, set()).update(own)
    if not rows:
        return "the culprits' constants are taken up by other layers, where they cannot be tuned alone"
    return {key: _rows(tensors[key], these, keep=True) for key, these in rows.items()}


def _own_rows(network: Network, tensors: Tensors, players: np.ndarray, tunable: Tunable) -> Parts | str:
    """Rows of the culprits' weights, biases and norms."""
    rows: dict[str, set[int]] = {}
    for site, channel in _places(network, players):
        for key, these in _rows_of(site, channel):
            if key in tunable.weights and key not in tunable.shared:
                rows.setdefault(key, set()).update(these)
    if not rows:
        return "the culprits' weights are computed from others (a parametrization), so they cannot be retrained alone"
    return {key: _rows(tensors[key], these, keep=True) for key, these in rows.items()}


def _rows_of(site: Site, channel: int) -> list[tuple[str, tuple[int, ...]]]:
    """Key -> rows that are one unit's own."""
    found = [(site.weight, tuple(site.rows.of(channel)))]
    if site.bias:
        found.append((site.bias, tuple(site.bias_rows.of(channel))))
    if site.gate is not None:
        found += [(site.gate.weight, tuple(site.gate.rows.of(channel)))]
        found += [(site.gate.bias, tuple(site.gate.bias_rows.of(channel)))] if site.gate.bias else []
    return found + [(key, (channel,)) for key in site.norm_keys if key]


def _places(network: Network, players: np.ndarray) -> list[tuple[Site, int]]:
    sites = network.site_of(np.asarray(players, np.int64))
    return [(network.sites[int(s)], network.channel(int(p))) for s, p in zip(sites, players, strict=True)]


def _rows(tensor: Tensor, these: set[int], keep: bool) -> Tensor:
    """A mask of rows: these alone, or all but these."""
    mask = torch.zeros(rows_of(tensor), dtype=torch.bool)
    mask[sorted(these)] = True
    return (mask if keep else ~mask).view(-1, *(1,) * (tensor.dim() - 1))


def touched(network: Network, before: Tensors, after: Tensors) -> tuple[int, int]:
    """How many units an edit touches, and how many parameters.

    A filter counts once, whatever of its weight, bias and norm changed; of layers that have no units every output
    counts that changed.
    """
    found = changed(before, after)
    parameters = sum(int((tensor != before[key]).sum()) for key, tensor in found.items())
    rows = {key: _changed_rows(before[key], tensor) for key, tensor in found.items()}
    units = 0
    for site in network.sites:
        own = {key for key, _ in _rows_of(site, 0)} & set(rows)
        if not own:
            continue
        seen = [False] * site.channels
        for channel in range(site.channels):
            for key, these in _rows_of(site, channel):
                if key in own:
                    seen[channel] |= bool(rows[key][list(these)].any())
        units += sum(seen)
        for key in own:
            for channel in range(site.channels):
                rows[key][list(dict(_rows_of(site, channel))[key])] = False
    layers: dict[str, Tensor] = {}
    for key, own_rows in rows.items():
        name = key.rpartition(".")[0]
        known = layers.get(name)
        layers[name] = own_rows if known is None or len(known) != len(own_rows) else known | own_rows
    return units + sum(int(these.sum()) for these in layers.values()), parameters


def _changed_rows(before: Tensor, after: Tensor) -> Tensor:
    different = before != after
    return different.flatten(1).any(1) if different.dim() > 1 else different.reshape(-1)
