"""Worlds that tests share."""

from __future__ import annotations

import pytest

from tests.repair_engine import tiny


@pytest.fixture(scope="session")
def skewed(tmp_path_factory: pytest.TempPathFactory) -> tiny.World:
    """A network trained on images with a dark ground only: it fails those with a light one."""
    return tiny.make_world(tmp_path_factory.mktemp("skewed"), skewed=True)


@pytest.fixture(scope="session")
def uneven(tmp_path_factory: pytest.TempPathFactory) -> tiny.World:
    """As `skewed`, and no cat is on a light ground: the subgroups have three and two classes."""
    shown = tiny.images(80, seed=3, absent="cat")
    return tiny.make_world(tmp_path_factory.mktemp("uneven"), shown, skewed=True)


@pytest.fixture(scope="session")
def sabotaged(tmp_path_factory: pytest.TempPathFactory) -> tiny.World:
    """A network that one filter, `spy:0`, makes wrong on half of the images with a light ground."""
    return tiny.make_sabotaged(tmp_path_factory.mktemp("sabotaged"), tiny.images(144, seed=1))
