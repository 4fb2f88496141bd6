"""A case's mean constants: from its own score images, or common ones that several parties made together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from repair_engine.data.images import Images
from repair_engine.network import Network, constant_of
from repair_engine.network.channel_sums import ChannelSums, Party, means_sha256, read_sums, split_fingerprint
from repair_engine.network.subject import ConstantsFrom, Subject
from repair_engine.question.request import RepairRequest
from repair_engine.support.progress import BATCH, Progress


@dataclass(frozen=True)
class Means:
    """Mean outputs float64 [outputs], and where they come from, for the record (JSON-able)."""

    values: torch.Tensor
    origin: ConstantsFrom


def means_of(request: RepairRequest, subject: Subject, images: Images, progress: Progress) -> Means:
    """Those of the file that the request names, else those over the score images.

    Raises:
        BadInput: the file is of another model, other preprocessing, or another split of these images.
    """
    path = request.constants
    if path is None:
        values, count = own_means(subject, images, progress)
        return Means(values, _origin(subject, values.numpy(), 1, count, shared=False))
    shared = read_sums(path)
    own = _plain_preprocessing(images)
    shared.check_fits(
        request.name_of("constants"), subject.checkpoint.sha256, _filters(subject.network), own, _party(images)
    )
    means = shared.means
    return Means(torch.from_numpy(means), _origin(subject, means, len(shared.parties), shared.images, shared=True))


def own_means(subject: Subject, images: Images, progress: Progress) -> tuple[torch.Tensor, int]:
    """Mean outputs float64 [outputs] over the score images and positions of the intact network, and how many images."""
    score = images.rows("score")
    seen = 0

    def tick(count: int) -> None:
        nonlocal seen
        seen += count
        progress("computing mean constants", seen / len(score))

    inputs = images.inputs(score, BATCH, subject.device)
    return subject.network.mean_outputs(inputs, tick, subject.room.reducing), len(score)


def channel_sums(subject: Subject, images: Images, progress: Progress) -> ChannelSums:
    """The sums over the score images, to be merged with those of other parties."""
    means, count = own_means(subject, images, progress)
    positions = np.concatenate([np.full(site.outputs, site.spatial) for site in subject.network.sites])
    counts = (count * positions).astype(np.int64)
    return ChannelSums(
        means.numpy() * counts,
        counts,
        _filters(subject.network),
        subject.checkpoint.sha256,
        _plain_preprocessing(images),
        (_party(images),),
    )


def _filters(network: Network) -> tuple[str, ...]:
    """The id of each output's unit; a head's stands there once for each of its features."""
    sites = zip(network.sites, network.offsets)
    return tuple(
        network.filter_id(int(first) + c) for s, first in sites for c in range(s.channels) for _ in s.rows.of(c)
    )


def _party(images: Images) -> Party:
    score = images.splits.score
    return Party(images.dataset.sha256, split_fingerprint(score), len(score))


def _plain_preprocessing(images: Images) -> dict[str, Any]:
    """As JSON has it: lists in the place of tuples."""
    given = images.dataset.preprocessing.to_json()
    return {key: list(value) if isinstance(value, tuple) else value for key, value in given.items()}


def _origin(subject: Subject, means: np.ndarray, parties: int, images: int, shared: bool) -> ConstantsFrom:
    """`sha256` names the means that are used; filters whose constant is their batch norm's β count as 0."""
    sites = subject.network.sites
    kept = np.repeat(
        [constant_of(site, subject.constant) == "mean" for site in sites], [site.outputs for site in sites]
    )
    return {
        "shared": shared,
        "parties": parties,
        "images": images,
        "sha256": means_sha256(np.where(kept, means, 0.0)),
    }
