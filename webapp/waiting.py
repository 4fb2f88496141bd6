"""Who has seen a run may wait for it to change, in the place of asking again every other second.

`GET` with `If-None-Match: ETAG` (of an earlier answer) and `Prefer: wait=25` (RFC 7240) is answered as soon as what is
shown differs from what that answer showed, or after 25 seconds with 304. These two headers and not `?wait=&after=`:
the address stays that of the run; a server or proxy that knows nothing of waiting answers at once, rightly; and an
entity tag covers everything that is shown, where the number of an event does not grow with each evaluation.

A view says what it found (`unless_seen`) and never waits. Where the server can hold a request (`webapp.serving.watch`:
on its event loop, without a thread or a database connection), it asks the view again when a run has changed or the
time is over: rights are looked at then as they were when the request came.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from uuid import UUID

from django.http import HttpRequest, HttpResponse
from django.utils.http import parse_etags

from webapp.jobs import live
from webapp.jobs.models import Job

KEY = "webapp.waiting"  # in the environ, where the server can hold the request
LONGEST = 60  # seconds; proxies commonly give up after 60
_WAIT = re.compile(r"(?:^|[,;])\s*wait\s*=\s*\"?(\d{1,9})\"?\s*(?=$|[,;])", re.IGNORECASE)


@dataclass
class Wait:
    """What the server and the view tell each other of one request.

    Attributes:
        seconds: how long it may be held; 0: not asked for.
        seen: by the view: the caller has seen these runs at these versions. Empty: the answer is to be sent.
        again: the view was asked before, for the same request.
    """

    seconds: int
    seen: dict[UUID, str] = field(default_factory=dict)
    again: bool = False


def seconds_of(prefer: str) -> int:
    """Of the header Prefer; 0: it says nothing of waiting."""
    found = _WAIT.search(prefer)
    return min(int(found[1]), LONGEST) if found else 0


def tag_of(versions: dict[UUID, str]) -> str:
    """The entity tag of what is shown of runs at these versions. Weak: the time that passes is not in it."""
    named = " ".join(sorted(f"{pk}:{version}" for pk, version in versions.items()))
    return f'W/"{hashlib.sha256(named.encode()).hexdigest()[:24]}"'


def unless_seen(request: HttpRequest, jobs: Iterable[Job], make: Callable[[], HttpResponse]) -> HttpResponse:
    """What `make` gives, of jobs that `live.watched` has read for who asks; or that they have seen it."""
    versions = {job.pk: live.version(job) for job in jobs}
    tag, wait = tag_of(versions), request.META.get(KEY)
    if tag in parse_etags(request.headers.get("If-None-Match", "")):
        answer = HttpResponse(status=204 if "HX-Request" in request.headers else 304)  # htmx would show a 304
        if wait is not None:
            wait.seen = versions
    else:
        answer = make()
    answer.headers["ETag"] = tag
    answer.headers["Cache-Control"] = "private, no-cache"
    if wait is not None and wait.seconds:
        answer.headers["Preference-Applied"] = f"wait={wait.seconds}"
    return answer
