"""How much one account may keep on the disk (`NR_USER_QUOTA_BYTES`): its uploads with their thumbnails, its results,
what is arriving, and the repaired checkpoints to come; and likewise what belongs to the teams that it pays for.

Everything that adds to it looks and writes in one transaction that locks the account's row: any number at once, in any
number of processes, get no more room together than there is.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol

from django.conf import settings
from django.db import transaction
from django.db.models import Q, QuerySet, Sum

from webapp import clock
from webapp.accounts.models import User
from webapp.library.errors import Refused
from webapp.library.models import Blob, DatasetUpload, ModelUpload, Reservation, Thumbnails

TOUCH = timedelta(seconds=30)
STALE = timedelta(minutes=15)  # nothing arrived for so long: the process that held the room has died


class Runs(Protocol):
    """What runs keep. They stand above uploads, and say it here: see `count`."""

    def results_of(self, kept: Q) -> QuerySet:
        """The names of blobs that are results of the account's runs.

        Args:
            kept: of `kept_by`.
        """

    def expected_of(self, kept: Q) -> int:
        """Bytes that runs under way will keep."""


_runs: Runs | None = None


def count(runs: Runs) -> None:
    global _runs
    _runs = runs


def kept_by(account: User, at: str = "") -> Q:
    """The things that count in the quota of this account: its own, and those of the teams that it pays for.

    Args:
        at: where they stand from the rows that are filtered, such as "dataset__".
    """
    return Q(**{f"{at}owner": account}) | Q(**{f"{at}owner": None, f"{at}team__payer": account})


@dataclass(frozen=True)
class Usage:
    """Bytes. A file that is there twice counts once."""

    uploads: int  # with their thumbnails
    results: int
    arriving: int  # room held for uploads under way
    expected: int  # of each run that has not ended its model's size: a repaired checkpoint has it

    @property
    def total(self) -> int:
        return self.uploads + self.results + self.arriving + self.expected

    @property
    def most(self) -> int:
        return settings.USER_QUOTA_BYTES


def usage(owner: User, *, besides: Reservation | None = None) -> Usage:
    kept = kept_by(owner)
    kinds = (
        ModelUpload.objects.filter(kept),
        DatasetUpload.objects.filter(kept),
        Thumbnails.objects.filter(kept_by(owner, "dataset__")).exclude(blob=None),
    )
    uploaded = Q()
    for rows in kinds:
        uploaded |= Q(pk__in=rows.values("blob"))
    assert _runs is not None, "webapp.jobs is not installed"
    results = Q(pk__in=_runs.results_of(kept_by(owner, "job__")))
    uploads = _sum(Blob.objects.filter(uploaded), "size")
    under_way = Reservation.objects.filter(owner=owner, touched_at__gt=clock.now() - STALE)
    return Usage(
        uploads=uploads,
        results=_sum(Blob.objects.filter(uploaded | results), "size") - uploads,
        arriving=_sum(under_way.exclude(pk=besides.pk) if besides else under_way, "size"),
        expected=_runs.expected_of(kept),
    )


def _sum(rows, field: str) -> int:
    return rows.aggregate(total=Sum(field))["total"] or 0


def lock(owner: User) -> None:
    """Until the transaction ends, nobody else adds to what this account keeps. (SQLite: BEGIN has done it.)"""
    User.objects.select_for_update(no_key=True).get(pk=owner.pk)


def check(owner: User, more: int, what: str, *, besides: Reservation | None = None) -> None:
    """Raises Refused unless there is room for so many bytes more. Call it in a transaction, after `lock`."""
    now = usage(owner, besides=besides)
    if now.total + more > now.most:
        raise Refused(
            f"With {what} ({more:,} bytes) you would keep {now.total + more:,} bytes; you may keep {now.most:,}. Now: "
            f"uploads {now.uploads:,}, results {now.results:,}, arriving {now.arriving:,}, held for runs that have not "
            f"ended {now.expected:,}.",
            "Delete repairs, models or datasets that you no longer use, or wait for what is under way.",
            status=413,
        )


@transaction.atomic
def reserve(owner: User, size: int) -> Reservation | None:
    """Hold room for an upload before its first byte is written. None: there is none."""
    lock(owner)
    try:
        check(owner, size, "this file")
    except Refused:
        return None
    return Reservation.objects.create(owner=owner, size=size, touched_at=clock.now())


def touch(reservation: Reservation) -> None:
    """Say now and then that the upload goes on."""
    now = clock.now()
    if now - reservation.touched_at > TOUCH:
        reservation.touched_at = now
        Reservation.objects.filter(pk=reservation.pk).update(touched_at=now)


def release(reservation: Reservation) -> None:
    Reservation.objects.filter(pk=reservation.pk).delete()


def release_stale() -> None:
    Reservation.objects.filter(touched_at__lt=clock.now() - STALE).delete()
