"""Tell another server that a repair has started or ended (or a person, by mail). Signed, tried a bounded number of
times.

The body is the repair as the API shows it. `X-Neuron-Repair-Signature: t=UNIX,v1=HEX` where HEX is
HMAC-SHA256(secret, "UNIX." + body): the receiver checks it and refuses old times, so no call can be replayed.
The URL comes from a user: it must not reach what only the server can reach. So the name is resolved once,
every address must be public, the connection goes to that very address, and redirects are not followed.
"""

from __future__ import annotations

import hashlib
import hmac
import http.client
import json
import logging
import socket
import ssl
import threading
from contextlib import suppress
from datetime import timedelta
from urllib.parse import quote, urlsplit

from django.conf import settings
from django.db.models import F
from django.utils import timezone

from webapp.api.mailing import mail
from webapp.api.repairs.serializers import RepairSerializer
from webapp.jobs.models import Delivery, Job
from webapp.jobs.webhooks import MAIL, Blocked, check_address, check_url

log = logging.getLogger(__name__)
PAUSES = (30, 120, 600, 3600, 6 * 3600)  # seconds before the second, third … attempt
_AS_IT_IS = "%/?:@!$&'()*+,;=-._~[]"  # of a path or query; what is not ASCII is percent-encoded


def sign(secret: str, body: bytes, at: int) -> str:
    mac = hmac.new(secret.encode(), f"{at}.".encode() + body, hashlib.sha256)
    return f"t={at},v1={mac.hexdigest()}"


def deliver(pk: str) -> None:
    """One attempt: claim it by moving its due time, call, record."""
    delivery = (
        Delivery.objects.select_related("job__model", "job__made_by")
        .filter(pk=pk, state=Delivery.State.PENDING)
        .first()
    )
    now = timezone.now()
    if delivery is None or delivery.due_at > now:
        return
    last = delivery.attempts >= len(PAUSES)
    pause = PAUSES[min(delivery.attempts, len(PAUSES) - 1)]
    mine = Delivery.objects.filter(pk=pk, state=Delivery.State.PENDING, attempts=delivery.attempts)
    if not mine.update(attempts=F("attempts") + 1, due_at=now + timedelta(seconds=pause)):
        return
    row = Delivery.objects.filter(pk=pk)
    row.update(called_at=now, status=None)
    try:
        if delivery.event == MAIL:
            mail(delivery.job)
        else:
            status = _call(delivery)
            row.update(status=status)
            if not 200 <= status < 300:
                raise OSError(f"answered {status}")
    except Blocked as error:
        row.update(state=Delivery.State.FAILED, last_error=str(error)[:300])
    except (OSError, ValueError, http.client.HTTPException) as error:
        state = Delivery.State.FAILED if last else Delivery.State.PENDING
        row.update(state=state, last_error=f"{type(error).__name__}: {error}"[:300])
        log.info("webhook %s: %s", pk, error)
    else:
        row.update(state=Delivery.State.DELIVERED, last_error="")


def _call(delivery: Delivery) -> int:
    job: Job = delivery.job
    at = int(timezone.now().timestamp())
    body = json.dumps(
        {"id": str(delivery.pk), "event": delivery.event, "repair": RepairSerializer(job).data}, default=str
    ).encode()
    headers = {
        "Content-Type": "application/json",
        "User-Agent": "neuron-repair-webhook/1",
        "X-Neuron-Repair-Event": delivery.event,
        "X-Neuron-Repair-Delivery": str(delivery.pk),
        "X-Neuron-Repair-Signature": sign(job.webhook_secret, body, at),
    }
    return _post(job.webhook_url, body, headers)


def _post(url: str, body: bytes, headers: dict[str, str]) -> int:
    """POST to the address that was checked, not to whatever the name resolves to a moment later."""
    check_url(url)
    parts = urlsplit(url)
    secure = parts.scheme == "https"
    port = parts.port or (443 if secure else 80)
    found = socket.getaddrinfo(parts.hostname, port, type=socket.SOCK_STREAM)
    for *_, place in found:
        check_address(str(place[0]))
    connection = http.client.HTTPConnection(parts.hostname, port, timeout=settings.WEBHOOK_TIMEOUT)
    raw = socket.create_connection(found[0][4][:2], timeout=settings.WEBHOOK_TIMEOUT)
    if secure:
        raw = ssl.create_default_context().wrap_socket(
            raw, server_hostname=parts.hostname, do_handshake_on_connect=False
        )
    # The socket's own timeout is that of a single read: a server that sends a byte now and then would keep us for ever.
    end = threading.Timer(2 * settings.WEBHOOK_TIMEOUT, _cut, (raw,))
    end.daemon = True
    end.start()
    try:
        if isinstance(raw, ssl.SSLSocket):
            raw.do_handshake()
        connection.sock = raw
        path = quote(parts.path or "/", safe=_AS_IT_IS) + (
            f"?{quote(parts.query, safe=_AS_IT_IS)}" if parts.query else ""
        )
        connection.request("POST", path, body, headers)
        return connection.getresponse().status
    finally:
        end.cancel()
        connection.close()
        raw.close()


def _cut(connection: socket.socket) -> None:
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
