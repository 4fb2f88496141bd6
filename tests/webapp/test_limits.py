"""How many requests of the API an account may make in a minute."""

from __future__ import annotations

import time

import pytest
from django.core.cache import cache
from django.core.cache.backends.redis import RedisCache
from redis.exceptions import ConnectionError

from webapp.api import limits

URL = "/api/v1/models/"


@pytest.fixture
def three(world, settings, monkeypatch):
    """Requests in a minute, counted in this process; the minute began 20 seconds ago."""
    settings.CACHES = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}
    settings.API_PER_MINUTE = 3
    now = [1_800_000_000.0 // 60 * 60 + 20]
    monkeypatch.setattr(limits.time, "time", lambda: now[0])
    cache.clear()
    return world, now


def standing(answer) -> tuple[int, str, str, str]:
    return (answer.status_code, *(answer[f"X-RateLimit-{name}"] for name in ("Limit", "Remaining", "Reset")))


def test_a_client_is_told_and_then_refused_until_the_next_minute(three):
    world, now = three
    told = [standing(world.owner.api.get(URL)) for _ in range(3)]
    assert told == [(200, "3", left, "40") for left in ("2", "1", "0")]
    refused = world.owner.api.post(URL, {})
    assert standing(refused) == (429, "3", "0", "40")
    assert (refused["Retry-After"], refused["Content-Type"]) == ("40", "application/problem+json")
    assert world.owner.browser.get(URL).status_code == 429, "a browser of the same account counts, too"
    assert world.team_mate.api.get(URL).status_code == 200
    now[0] += 40
    assert standing(world.owner.api.get(URL)) == (200, "3", "2", "60")


def test_without_redis_nobody_is_refused(world, settings, monkeypatch):
    settings.API_PER_MINUTE = 1
    settings.CACHES = {"default": {"BACKEND": "django.core.cache.backends.redis.RedisCache", "LOCATION": "redis://x"}}

    def away(*_: object, **__: object) -> None:
        raise ConnectionError("refused")

    monkeypatch.setattr(RedisCache, "add", away)
    for _ in range(3):
        answer = world.owner.api.get(URL)
        assert answer.status_code == 200
        assert "X-RateLimit-Limit" not in answer


def test_a_redis_that_is_away_is_not_waited_for(settings):
    """As it is set up: no second try, and a second at most."""
    url = settings.CACHES["default"]
    settings.CACHES = {"default": {**url, "LOCATION": "redis://127.0.0.1:9/0"}}
    begun = time.monotonic()
    with pytest.raises(ConnectionError):
        cache.incr("x")
    assert time.monotonic() - begun < 0.5


def test_there_is_no_limit_unless_it_is_set(world):
    assert "X-RateLimit-Limit" not in world.owner.api.get(URL)
