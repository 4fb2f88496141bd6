"""Files of several parts, which are as small as S3 takes them."""

from __future__ import annotations

import os

import pytest

from tests.webapp.direct.helpers import PART
from webapp.library import direct


@pytest.fixture(autouse=True)
def small_parts(monkeypatch):
    monkeypatch.setattr(direct, "PART", PART)


@pytest.fixture
def content() -> bytes:
    return os.urandom(2 * PART + 12345)  # three parts
