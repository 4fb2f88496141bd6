"""A case's mean constants: from its own score images, or common ones that several parties made together."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from repair_engine.data.pixels import Rows
from repair_engine.network import Network, constant_of
from repair_engine.network.channel_sums import ChannelSums, Party, means_sha256, read_sums, split_fingerprint
from repair_engine.support.progress import BATCH, Progress

if TYPE_CHECKING:
    from repair_engine.case.case import Case


@dataclass(frozen=True)
class Means:
    """Mean outputs float64 [outputs], and where they come from, for the record (JSON-able)."""

    values: torch.Tensor
    origin: dict[str, Any]


def means_of(case: Case, progress: Progress) -> Means:
    """Those of the file that the request names, else those over the case's score images.

    Raises:
        BadInput: the file is of another model, other preprocessing, or another split of these images.
    """
    path = case.request.constants
    if path is None:
        values, _ = own_means(case, progress)
        return Means(values, _origin(case, values.numpy(), 1, len(case.splits.score), shared=False))
    shared = read_sums(path)
    own = _plain_preprocessing(case)
    shared.check_fits(
        case.request.name_of("constants"), case.checkpoint.sha256, _filters(case.network), own, _party(case)
    )
    means = shared.means
    return Means(torch.from_numpy(means), _origin(case, means, len(shared.parties), shared.images, shared=True))


def own_means(case: Case, progress: Progress) -> tuple[torch.Tensor, int]:
    """Mean outputs float64 [outputs] over the score images and positions of the intact network, and how many images."""
    score = Rows(case.pixels, case.splits.score)
    seen = 0

    def tick(count: int) -> None:
        nonlocal seen
        seen += count
        progress("computing mean constants", seen / len(score))

    def batches() -> Iterator[torch.Tensor]:
        for i in range(0, len(score), BATCH):
            yield case.normalize(score[i : i + BATCH].to(case.network.device))

    return case.network.mean_outputs(batches(), tick, case.room.reducing), len(score)


def channel_sums(case: Case, progress: Progress) -> ChannelSums:
    """The sums over the case's score images, to be merged with those of other parties."""
    means, images = own_means(case, progress)
    positions = np.concatenate([np.full(site.outputs, site.spatial) for site in case.network.sites])
    counts = (images * positions).astype(np.int64)
    return ChannelSums(
        means.numpy() * counts,
        counts,
        _filters(case.network),
        case.checkpoint.sha256,
        _plain_preprocessing(case),
        (_party(case),),
    )


def _filters(network: Network) -> tuple[str, ...]:
    """The id of each output's unit; a head's stands there once for each of its features."""
    sites = zip(network.sites, network.offsets)
    return tuple(
        network.filter_id(int(first) + c) for s, first in sites for c in range(s.channels) for _ in s.rows.of(c)
    )


def _party(case: Case) -> Party:
    score = case.splits.score
    return Party(case.dataset.sha256, split_fingerprint(score), len(score))


def _plain_preprocessing(case: Case) -> dict[str, Any]:
    """As JSON has it: lists in the place of tuples."""
    given = case.dataset.preprocessing.to_json()
    return {key: list(value) if isinstance(value, tuple) else value for key, value in given.items()}


def _origin(case: Case, means: np.ndarray, parties: int, images: int, shared: bool) -> dict[str, Any]:
    """`sha256` names the means that are used; filters whose constant is their batch norm's β count as 0."""
    used = [constant_of(site, case.request.constant) == "mean" for site in case.network.sites]
    kept = np.repeat(used, [site.outputs for site in case.network.sites])
    return {
        "shared": shared,
        "parties": parties,
        "images": images,
        "sha256": means_sha256(np.where(kept, means, 0.0)),
    }
