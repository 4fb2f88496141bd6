"""The small ViT's pictures: what trains it is none of what is left for the repair, and its units are of all kinds."""

from __future__ import annotations

from collections import Counter

import numpy as np
import torch

from repair_engine.network import Network
from samples import small_vit
from samples.images import GARMENTS, SIZE, TAG_NAMES


def test_what_trains_it_is_not_left_for_the_repair() -> None:
    trained, left = small_vit.parts()
    seen = {picture.tobytes() for picture in trained.pixels}
    assert not seen & {picture.tobytes() for picture in left.pixels}
    names, dress = [garment.name for garment in GARMENTS], ("Dress", "red")
    counts = [Counter((names[c], TAG_NAMES[t]) for c, t in zip(p.labels, p.tags)) for p in (trained, left)]
    assert counts[0] == {(name, "blue"): 120 for name in names} | {dress: 120, ("Dress", "blue"): 4}
    assert counts[1] == {(name, tag): 60 for name in names for tag in TAG_NAMES}


def test_training_pictures_are_moved_by_up_to_two_pixels() -> None:
    images = torch.zeros(40, 3, SIZE, SIZE)
    images[:, :, 10, 20] = 1.0
    moved = small_vit._moved(images, torch.Generator().manual_seed(0))
    assert moved.shape == images.shape
    places = torch.nonzero(moved[:, 0] == 1.0)[:, 1:].numpy()
    assert len(places) == 40
    assert set(map(tuple, np.abs(places - [10, 20]).tolist())) <= {(a, b) for a in range(3) for b in range(3)}
    assert len(set(map(tuple, places.tolist()))) > 10
    assert set(moved.unique().tolist()) <= {-1.0, 0.0, 1.0}


def test_its_units() -> None:
    network = Network.capture(small_vit.network(8).eval(), torch.zeros(2, 3, SIZE, SIZE))
    counts = Counter(
        {kind: sum(s.channels for s in network.sites if s.kind == kind) for kind in network.coverage.kinds}
    )
    assert counts == {"filter": 64, "hidden": 1024, "head": 16}
