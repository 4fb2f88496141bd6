"""How many requests of the API an account may make in a minute, counted in Redis for all web processes together.

Where Redis is away nobody is refused: it guards against haste alone.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass

from django.conf import settings
from django.core.cache import cache
from redis.exceptions import RedisError
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.throttling import BaseThrottle

from webapp import waiting
from webapp.accounts.attempts import address_of

log = logging.getLogger(__name__)
WINDOW = 60  # seconds


@dataclass(frozen=True)
class Standing:
    """Of an account in the present window; `reset` is in seconds."""

    most: int
    left: int
    reset: int


class PerMinute(BaseThrottle):
    """NR_API_PER_MINUTE; without an account, of an address."""

    standing: Standing | None = None

    def allow_request(self, request: Request, view: object) -> bool:
        most, wait = settings.API_PER_MINUTE, request.META.get(waiting.KEY)
        if not most or (wait is not None and wait.again):  # it was counted when it came
            return True
        window, into = divmod(int(time.time()), WINDOW)
        who = request.user.pk if request.user.is_authenticated else address_of(request._request)
        try:
            cache.add(f"api:{who}:{window}", 0, 2 * WINDOW)
            count = cache.incr(f"api:{who}:{window}")
        except (RedisError, ValueError) as error:  # away; or emptied just now
            log.warning("requests are not counted: %s", error)
            return True
        self.standing = request.standing = Standing(most, max(most - count, 0), WINDOW - into)  # type: ignore[attr-defined]
        return count <= most

    def wait(self) -> float | None:
        return self.standing.reset if self.standing else None


def tell(request: Request, response: Response) -> None:
    """The headers by which a client paces itself."""
    standing: Standing | None = getattr(request, "standing", None)
    if standing is not None:
        for name, value in (("Limit", standing.most), ("Remaining", standing.left), ("Reset", standing.reset)):
            response[f"X-RateLimit-{name}"] = str(value)
