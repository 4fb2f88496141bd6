"""How often somebody may try: counters in the database, which all processes and machines share.

A try is counted before the password is looked at, each counter by one UPDATE that only succeeds below the limit: of
tries sent at once none slips through. The key of an account is the row that Django's look-up finds (else the name as it
would look it up), so all spellings of a name count for one account.

Three limits, each for a quarter of an hour from the first try: of one account from one address, of one address for
whatever accounts, and of one account from all addresses. The last one would let anybody keep the owner out, so a
browser that has signed in to the account before (a signed cookie, ended by a change of password) has a counter of its
own and is not touched by what strangers do.
"""

from __future__ import annotations

import ipaddress
import secrets
from dataclasses import dataclass
from datetime import timedelta

from django.core import signing
from django.db.models import F
from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from django.utils.crypto import constant_time_compare, salted_hmac

from webapp.accounts.models import AttemptCount, User

WINDOW = 15 * 60  # seconds
PER_ACCOUNT_AND_ADDRESS = PER_DEVICE = 10
PER_ADDRESS = 50
PER_ACCOUNT = 100
RESETS_PER_ADDRESS, RESETS_PER_MAILBOX = 20, 3
COOKIE, COOKIE_AGE, _SALT = "known_browser", 365 * 24 * 3600, "accounts.known_browser"


@dataclass(frozen=True)
class Counter:
    key: str
    most: int


def take(*counters: Counter) -> bool:
    """Count one try on each; False, and none counted, where one of them is full."""
    taken: list[Counter] = []
    for counter in counters:
        if not _take(counter):
            give_back(*taken)
            return False
        taken.append(counter)
    return True


def give_back(*counters: Counter) -> None:
    """The try was none: the password was right."""
    for counter in counters:
        AttemptCount.objects.filter(key=_digest(counter.key), count__gt=0).update(count=F("count") - 1)


def _take(counter: Counter) -> bool:
    now = timezone.now()
    until = now + timedelta(seconds=WINDOW)
    if secrets.randbelow(100) == 0:
        AttemptCount.objects.filter(until__lte=now).delete()
    key = _digest(counter.key)
    AttemptCount.objects.bulk_create([AttemptCount(key=key, until=until)], ignore_conflicts=True)
    row = AttemptCount.objects.filter(key=key)
    row.filter(until__lte=now).update(count=0, until=until)
    return bool(row.filter(count__lt=counter.most).update(count=F("count") + 1))


def _digest(key: str) -> str:
    """People type passwords where names belong: what was typed is not kept."""
    return salted_hmac("accounts.attempts", key, algorithm="sha256").hexdigest()


def address_of(request: HttpRequest) -> str:
    """Who calls; of IPv6 the network, for one machine has 2^64 addresses of it."""
    try:
        ip = ipaddress.ip_address(request.META.get("REMOTE_ADDR", ""))
    except ValueError:
        return "unknown"
    if ip.version == 6:
        return str(ip.ipv4_mapped or ipaddress.ip_network((ip, 64), strict=False))
    return str(ip)


def sign_in_counters(request: HttpRequest, name: str) -> list[Counter]:
    """What a try to sign in counts for.

    Args:
        name: as the form cleaned it, the way it goes to the look-up.
    """
    address = address_of(request)
    user = User.objects.filter(**{User.USERNAME_FIELD: name}).first()
    account = f"account:{user.pk}" if user else f"name:{name}"
    everybody = Counter(f"address:{address}", PER_ADDRESS)
    device = _device(request, user) if user else ""
    if device:
        return [everybody, Counter(f"device:{account}:{device}", PER_DEVICE)]
    pair = Counter(f"pair:{account}:{address}", PER_ACCOUNT_AND_ADDRESS)
    return [everybody, pair, Counter(account, PER_ACCOUNT)]


def password_counter(user: User) -> Counter:
    """For a signed-in browser that must give the old password."""
    return Counter(f"change:{user.pk}", PER_DEVICE)


def reset_counters(request: HttpRequest, mailbox: str) -> list[Counter]:
    return [
        Counter(f"reset-from:{address_of(request)}", RESETS_PER_ADDRESS),
        Counter(f"reset-to:{mailbox.casefold()}", RESETS_PER_MAILBOX),
    ]


def remember_browser(request: HttpRequest, response: HttpResponse, user: User) -> None:
    """This browser knows the password."""
    value = signing.dumps([secrets.token_hex(8), user.get_session_auth_hash()], salt=f"{_SALT}.{user.pk}")
    response.set_cookie(
        COOKIE, value, max_age=COOKIE_AGE, httponly=True, samesite="Lax", secure=request.is_secure(), path="/account/"
    )


def _device(request: HttpRequest, user: User) -> str:
    try:
        device, known = signing.loads(request.COOKIES.get(COOKIE, ""), salt=f"{_SALT}.{user.pk}", max_age=COOKIE_AGE)
    except (signing.BadSignature, ValueError):
        return ""
    return device if constant_time_compare(known, user.get_session_auth_hash()) else ""
