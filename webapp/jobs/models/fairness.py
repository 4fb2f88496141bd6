"""Who comes next: what people have had of the workers, and how much they may have. `jobs.fair` counts."""

from __future__ import annotations

from django.conf import settings
from django.core.validators import MinValueValidator
from django.db import models

from webapp.accounts.models import User


class Lane(models.Model):
    """The work of one queue (`cpu`, `gpu`). Its row is locked while a worker is given a shard: one after the other."""

    queue = models.CharField(primary_key=True, max_length=10)
    virtual = models.FloatField(default=0.0)  # where the last share began that was served; never falls
    taken_at = models.DateTimeField(null=True, blank=True)  # the last time that a worker was given a shard
    rung_at = models.DateTimeField(null=True, blank=True)  # and that the reaper rang for what waits
    rings = models.PositiveSmallIntegerField(default=0)  # in a row that nobody followed
    reaped_at = models.DateTimeField(null=True, blank=True)  # the last time that one of its workers did, after a shard

    def __str__(self) -> str:
        return self.queue


class Share(models.Model):
    """What one person has had of one lane."""

    # null: the account was closed, and runs of its teams go on
    user = models.ForeignKey(User, on_delete=models.SET_NULL, related_name="shares", null=True, blank=True)
    queue = models.CharField(max_length=10)
    virtual = models.FloatField(default=0.0)  # worker seconds, charged and divided by the weight; who has least is next
    served = models.FloatField(default=0.0)  # worker seconds that were used

    class Meta:
        constraints = [models.UniqueConstraint(fields=["user", "queue"], name="one_share_per_person_and_lane")]

    def __str__(self) -> str:
        return f"{self.user_id} in {self.queue}"


class Allowance(models.Model):
    """What staff have set for one person in the place of the settings. null: as the settings say; 0: no limit."""

    user = models.OneToOneField(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="allowance", primary_key=True
    )
    weight = models.FloatField(default=1.0, validators=[MinValueValidator(0.01)])  # of their share: 2 is twice as much
    running = models.PositiveIntegerField(null=True, blank=True)  # runs at work at once
    queued = models.PositiveIntegerField(null=True, blank=True)  # runs that wait; more are refused
    workers = models.PositiveIntegerField(null=True, blank=True)  # of one kind, at once

    def __str__(self) -> str:
        return f"of {self.user_id}"
