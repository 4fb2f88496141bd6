"""What travels between rounds and workers: the state of a run and the result of a block."""

from __future__ import annotations

import dataclasses
import hashlib

import numpy as np

from shapley.base import Bools, Floats, Settings
from shapley.moments import Moments
from shapley.paired import PairedMoments
from shapley.storage import pack, unpack

ENDS = 4  # columns of the ends of a full walk: V(N), V(at stop), V(empty), V(at stop) - V(empty)


def fingerprint(settings: Settings) -> str:
    return hashlib.sha256(settings.to_json().encode()).hexdigest()[:16]


@dataclasses.dataclass(frozen=True)
class State:
    """Everything that merged rounds leave behind; with the settings it determines all that follows."""

    settings_key: str  # fingerprint of the settings it belongs to
    round: int  # the next round, 0-based
    depth: int | None  # most players removed in a draw; None: the next round is the pilot
    active: Bools  # [n] players measured in the next round
    moments: Moments  # of n players' samples: marginals for walks, unscaled Delta for cmcs
    spread: Floats  # [M, n] sum of (sample - mean of the rounds before its own)^2, for `bounds.anytime`
    walks: Moments  # of full walks' ends, ENDS columns
    screened: PairedMoments  # fast: guesses [S], of all players; otherwise of 0 quantities
    paired: PairedMoments  # fast: difference, smooth difference and guesses [2 + S] of the players sampled
    evaluations: int  # spent
    stopped: str | None  # None while there is a next round; then 'converged' or 'budget'

    def to_bytes(self) -> bytes:
        fields = {
            "settings_key": self.settings_key,
            "round": self.round,
            "depth": self.depth,
            "evaluations": self.evaluations,
            "stopped": self.stopped,
        }
        arrays = {"active": self.active, "spread": self.spread}
        arrays |= _arrays("moments", self.moments) | _arrays("walks", self.walks)
        return pack(fields, arrays | _arrays("screened", self.screened) | _arrays("paired", self.paired))

    @classmethod
    def from_bytes(cls, data: bytes) -> State:
        """Inverse of `to_bytes`, to the bit. Raises ValueError on anything else."""
        fields, arrays = unpack(data)
        try:
            return cls(
                active=arrays["active"],
                spread=arrays["spread"],
                moments=_moments("moments", arrays),
                walks=_moments("walks", arrays),
                screened=_paired("screened", arrays),
                paired=_paired("paired", arrays),
                **fields,
            )
        except (KeyError, TypeError) as error:
            raise ValueError(f"not a stored state: {error}") from None


@dataclasses.dataclass(frozen=True)
class BlockResult:
    """Sufficient statistics of one block's draws."""

    round: int
    block: int
    draws: int
    agreement: Floats  # [G] pilot: sum over its walks of the agreement at each depth looked at; otherwise [0]
    cutoff: float  # agreement at or below which the game's coalitions are dead; NaN: none ever is
    moments: Moments
    walks: Moments
    screened: PairedMoments
    paired: PairedMoments
    evaluations: int

    def to_bytes(self) -> bytes:
        fields = {
            "round": self.round,
            "block": self.block,
            "draws": self.draws,
            "cutoff": None if np.isnan(self.cutoff) else self.cutoff,
            "evaluations": self.evaluations,
        }
        arrays = _arrays("moments", self.moments) | _arrays("walks", self.walks)
        arrays |= _arrays("screened", self.screened) | _arrays("paired", self.paired)
        return pack(fields, arrays | {"agreement": self.agreement})

    @classmethod
    def from_bytes(cls, data: bytes) -> BlockResult:
        """Inverse of `to_bytes`, to the bit. Raises ValueError on anything else."""
        fields, arrays = unpack(data)
        try:
            cutoff = fields.pop("cutoff")
            return cls(
                moments=_moments("moments", arrays),
                walks=_moments("walks", arrays),
                screened=_paired("screened", arrays),
                paired=_paired("paired", arrays),
                agreement=arrays["agreement"],
                cutoff=float("nan") if cutoff is None else cutoff,
                **fields,
            )
        except (KeyError, TypeError) as error:
            raise ValueError(f"not a stored block result: {error}") from None


def _arrays(name: str, moments: Moments | PairedMoments) -> dict[str, np.ndarray]:
    return {f"{name}.{field.name}": getattr(moments, field.name) for field in dataclasses.fields(moments)}


def _paired(name: str, arrays: dict[str, np.ndarray]) -> PairedMoments:
    return PairedMoments(arrays[f"{name}.count"], arrays[f"{name}.mean"], arrays[f"{name}.products"])


def _moments(name: str, arrays: dict[str, np.ndarray]) -> Moments:
    return Moments(arrays[f"{name}.count"], arrays[f"{name}.mean"], arrays[f"{name}.m2"])
