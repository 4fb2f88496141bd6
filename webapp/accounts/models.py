"""People, their API tokens, and how often somebody tried to be one of them."""

from __future__ import annotations

from django.contrib.auth.models import AbstractUser
from django.db import models
from django.utils import timezone


class User(AbstractUser):
    """An account."""

    mail_at_end = models.BooleanField(default=False)  # of each run that the person started
    notes_in_browser = models.BooleanField(default=False)  # likewise, while a page is open


class Role(models.TextChoices):
    """In a team; `rights` says what each allows."""

    VIEWER = "viewer", "Viewer: sees everything"
    EDITOR = "editor", "Editor: adds models and datasets, starts runs"
    OWNER = "owner", "Owner: deletes, shares with strangers, manages the team"


class Team(models.Model):
    """People who have things in common."""

    name = models.CharField(max_length=100)
    # In whose quota the team's own things count: who made it, until another owner takes their place.
    payer = models.ForeignKey(User, on_delete=models.PROTECT, related_name="paid_teams")
    viewers_take_weights = models.BooleanField(default=False)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["name", "id"]

    def __str__(self) -> str:
        return self.name


class Membership(models.Model):
    team = models.ForeignKey(Team, on_delete=models.CASCADE, related_name="memberships")
    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="memberships")
    role = models.CharField(max_length=6, choices=Role)
    joined_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["joined_at", "id"]
        constraints = [models.UniqueConstraint(fields=["team", "user"], name="one_membership_per_person")]

    def __str__(self) -> str:
        return f"{self.user_id} in {self.team_id}: {self.role}"


class Invitation(models.Model):
    """To a person by name, or to whoever has a link and is the first to accept it. Of a link the SHA-256 is stored."""

    team = models.ForeignKey(Team, on_delete=models.CASCADE, related_name="invitations")
    role = models.CharField(max_length=6, choices=Role)
    name = models.CharField(max_length=150, blank=True)  # as it was typed; of a link empty
    user = models.ForeignKey(
        User, on_delete=models.CASCADE, related_name="+", null=True, blank=True
    )  # who had the name
    digest = models.CharField(max_length=64, unique=True, null=True, blank=True)
    invited_by = models.ForeignKey(User, on_delete=models.CASCADE, related_name="+")
    created_at = models.DateTimeField(auto_now_add=True)
    expires_at = models.DateTimeField()
    accepted_at = models.DateTimeField(null=True, blank=True)
    declined_at = models.DateTimeField(null=True, blank=True)  # not told to who invited

    class Meta:
        ordering = ["-created_at", "-id"]

    def __str__(self) -> str:
        return f"{self.name or 'a link'} to {self.team_id}"


class Owned(models.Model):
    """A thing of a person's or of a team's; `rights` says who may do what with it."""

    # null: it belongs to its team. PROTECT: files go with it, which `jobs.closing` sees to.
    owner = models.ForeignKey(User, on_delete=models.PROTECT, related_name="%(class)ss", null=True, blank=True)
    # with an owner: it is shared with these people
    team = models.ForeignKey(Team, on_delete=models.PROTECT, related_name="%(class)ss", null=True, blank=True)
    made_by = models.ForeignKey(User, on_delete=models.SET_NULL, related_name="+", null=True, blank=True)

    class Meta:
        abstract = True

    @property
    def home(self) -> User | Team:
        """Whose it is."""
        found = self.owner or self.team
        assert found is not None, "a constraint of the table"
        return found

    @property
    def payer(self) -> User:
        """In whose quota it counts."""
        return self.owner or self.team.payer  # type: ignore[union-attr]


def belongs(table: str) -> models.CheckConstraint:
    """The constraint of `Owned`, for the table's own `Meta`."""
    there = models.Q(owner__isnull=False) | models.Q(team__isnull=False)
    return models.CheckConstraint(condition=there, name=f"{table}_belongs_to_somebody")


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
