"""People, their API tokens, and how often somebody tried to be one of them."""

from __future__ import annotations

from django.contrib.auth.models import AbstractUser
from django.db import models
from django.utils import timezone


class User(AbstractUser):
    """An account. Every model, dataset, repair and token belongs to exactly one."""


class ApiToken(models.Model):
    """A key for the REST API. Only its SHA-256 is stored: the key is shown once, when it is made."""

    class Scope(models.TextChoices):
        READ = "read", "Read only"
        RUN = "run", "Read, upload, start, cancel and delete"

    owner = models.ForeignKey(User, on_delete=models.CASCADE, related_name="tokens")
    name = models.CharField(max_length=100)
    hint = models.CharField(max_length=12)  # the first characters, to tell tokens apart in a list
    digest = models.CharField(max_length=64, unique=True)
    scope = models.CharField(max_length=4, choices=Scope, default=Scope.RUN)
    expires_at = models.DateTimeField(null=True, blank=True)  # null: never
    created_at = models.DateTimeField(auto_now_add=True)
    last_used_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-created_at", "-id"]

    def __str__(self) -> str:
        return f"{self.name} ({self.hint}…)"

    @property
    def expired(self) -> bool:
        return self.expires_at is not None and self.expires_at <= timezone.now()


class AttemptCount(models.Model):
    """Tries of one kind since its window began; see `attempts`."""

    key = models.CharField(max_length=64, primary_key=True)
    count = models.PositiveIntegerField(default=0)
    until = models.DateTimeField(db_index=True)
