"""Which calls to other servers are due: a repair has started or ended. `webapp.api.delivery` makes them.

The URL comes from a user: it must not reach what only the server can reach. A literal address is checked before
anything is stored, a name at each delivery.
"""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

from django.conf import settings
from django.db import transaction
from django.db.models import QuerySet

from webapp import clock
from webapp.accounts.models import User
from webapp.jobs.models import Delivery, Job
from webapp.jobs.public_addresses import is_public
from webapp.library.errors import Refused
from webapp.library.tasks import send

EVENTS = ("repair.started", "repair.finished")
MAIL = "mail.finished"  # to who started the run, told in the same way
LAST = ("repair.finished", MAIL)  # told once of each end


class Blocked(ValueError):
    """The URL may not be called."""


def announce(job: Job, event: str) -> None:
    """Queue a call, if the job asked for this event, and at its end a mail, if who started it did. In the transaction
    of what it tells about."""
    if job.webhook_url and event in (job.webhook_events or EVENTS):
        _queue(job, event)
    if event == EVENTS[-1] and settings.MAIL and _wants_mail(job.made_by):
        _queue(job, MAIL)


def _wants_mail(user: User | None) -> bool:
    return user is not None and user.mail_at_end and bool(user.email) and user.is_active


def calls() -> QuerySet[Delivery]:
    """To webhooks."""
    return Delivery.objects.exclude(event=MAIL)


def call_again(delivery: Delivery) -> None:
    """Send what the webhook was sent, or should have been, once more. Raises Refused: it has no address any more, or is
    under way."""
    if not delivery.job.webhook_url:
        raise Refused("Nobody is called for this run any more.", status=409)
    rows = Delivery.objects.filter(pk=delivery.pk).exclude(state=Delivery.State.PENDING)
    if not rows.update(state=Delivery.State.PENDING, attempts=0, due_at=clock.now(), last_error=""):
        raise Refused("It is sent already: see whether it arrives.", status=409)
    transaction.on_commit(lambda: ring(delivery))


def _queue(job: Job, event: str) -> None:
    delivery, created = Delivery.objects.get_or_create(job=job, event=event, defaults={"due_at": clock.now()})
    if created:
        transaction.on_commit(lambda: ring(delivery))


def ring(delivery: Delivery) -> None:
    send("webapp.jobs.tasks.deliver", str(delivery.pk))


def due() -> list[Delivery]:
    return list(Delivery.objects.filter(state=Delivery.State.PENDING, due_at__lte=clock.now())[:100])


def check_url(url: str) -> None:
    """Raises Blocked when the URL cannot be allowed, before anything is stored."""
    try:
        parts = urlsplit(url)
        port = parts.port
        (parts.hostname or "").encode("idna")
    except ValueError as error:
        raise Blocked(f"the URL cannot be read: {error}") from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise Blocked("the URL must begin with http:// or https:// and name a host")
    if port == 0:
        raise Blocked("the URL's port is between 1 and 65535")
    if parts.username or parts.password:
        raise Blocked("the URL must not hold a user name or password")
    try:
        address = ipaddress.ip_address(parts.hostname)
    except ValueError:
        return  # a name: resolved, and checked, at each delivery
    check_address(str(address))


def check_address(address: str) -> None:
    if not settings.WEBHOOK_ALLOW_PRIVATE and not is_public(address):
        raise Blocked(f"{address} is not a public address (the operator can allow it: NR_WEBHOOK_ALLOW_PRIVATE=1)")
