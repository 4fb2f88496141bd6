"""The model under study: the plain one as data, and the same cut at its units, with what an ablated unit gives."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TypedDict

import numpy as np
import torch

from repair_engine.models.formats import Checkpoint
from repair_engine.network.constants import constant_of
from repair_engine.network.network import Network
from repair_engine.network.write_back import Edit, edits_of, write_back
from repair_engine.support.memory import Room


class ConstantsFrom(TypedDict, total=False):
    """Where mean constants come from; `sha256` names the means that are used."""

    shared: bool
    parties: int
    images: int
    sha256: str


@dataclass(frozen=True)
class Subject:
    """See the module's text.

    Attributes:
        checkpoint: of a file, or of a module in memory (`Checkpoint.held`).
        network: with its constants.
        constant: what these are taken from where that is possible, "mean" or "bn_beta".
        room: how much at once fits into the memory that the run may take.
        biases: that write the constants, float64 [outputs] (`stored_constants`).
        constants_from: where the mean constants come from, for the record.
    """

    checkpoint: Checkpoint
    network: Network
    constant: str
    room: Room
    biases: torch.Tensor = field(default_factory=lambda: torch.empty(0))
    constants_from: ConstantsFrom = field(default_factory=lambda: ConstantsFrom())

    @property
    def device(self) -> torch.device:
        return self.network.device

    def edits(self, player: int) -> tuple[Edit, ...]:
        """What ablates one unit in the checkpoint."""
        return edits_of(self.network, self.checkpoint.tensors, self.biases, player, self.constant)

    def ablated(self, players: Iterable[int]) -> dict[str, torch.Tensor]:
        """The checkpoint's tensors with units ablated (`write_back`)."""
        return write_back(self.checkpoint.tensors, self.network, self.biases, players, self.constant)

    def constant_from(self, player: int) -> str:
        """What a unit's constant was taken from: "mean" or "bn_beta"."""
        site = self.network.sites[int(self.network.site_of(np.array([player]))[0])]
        return constant_of(site, self.constant)
