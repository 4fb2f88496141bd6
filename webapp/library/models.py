"""Uploaded models and datasets. The bytes are blobs on disk, named by their SHA-256 and shared."""

from __future__ import annotations

import uuid
from pathlib import Path

from django.conf import settings
from django.db import models

from webapp.accounts.models import Owned, belongs
from webapp.library.store import get_store

ARRIVING = "arriving"  # folder of the store: what goes straight there, until it has been checked and used


class Blob(models.Model):
    """A stored file, named by its content: two uploads of the same file are one blob."""

    sha256 = models.CharField(primary_key=True, max_length=64)
    size = models.BigIntegerField()  # bytes
    created_at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return self.sha256[:12]

    @property
    def stored_as(self) -> str:
        """Its name in the store."""
        return f"blobs/{self.sha256[:2]}/{self.sha256}"

    @property
    def path(self) -> Path:
        """The file, to be read; what an object store holds is brought here first.

        Raises:
            Damaged, StoreAway: see `library.store.Store.fetch`.
        """
        return get_store().fetch(self.stored_as, self.sha256)

    @property
    def is_there(self) -> bool:
        return get_store().exists(self.stored_as)


class Reservation(models.Model):
    """Room that an upload under way holds in its owner's quota. It goes with the request, or when it is stale."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    owner = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="+")
    size = models.BigIntegerField()  # bytes, at most
    touched_at = models.DateTimeField()

    def __str__(self) -> str:
        return f"{self.size} bytes"


class ResumableUpload(models.Model):
    """A file that comes in as many pieces as its line is cut into (`library.resumable`). It goes when its room does."""

    class Kind(models.TextChoices):
        MODEL = "model"
        DATASET = "dataset"

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    owner = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="+")
    reservation = models.OneToOneField(Reservation, on_delete=models.CASCADE, related_name="+")
    kind = models.CharField(max_length=10, choices=Kind, blank=True)  # what it shall be; '': not said
    file_name = models.CharField(max_length=255)  # as announced, never used as a path
    size = models.BigIntegerField()  # bytes, as announced
    offset = models.BigIntegerField(default=0)  # bytes that are on the disk and count
    sha256 = models.CharField(max_length=64, blank=True)  # as announced; of what arrived, once all is here
    metadata = models.TextField(blank=True)  # tus's Upload-Metadata, as it was sent
    begun = models.TextField(blank=True)  # the store's id of it, where it goes straight there (`library.direct`)
    mark = models.CharField(max_length=255, blank=True)  # of the object that was read back and checked
    expires_at = models.DateTimeField()
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["-created_at", "-id"]

    def __str__(self) -> str:
        return f"{self.offset} of {self.size} bytes of {self.file_name}"

    @property
    def path(self) -> Path:
        return settings.INCOMING_DIR / f"tus-{self.pk}"

    @property
    def stored_as(self) -> str:
        """Its name in the store, where it goes straight there."""
        return f"{ARRIVING}/{self.pk}"

    @property
    def is_whole(self) -> bool:
        return self.offset == self.size

    @property
    def percent(self) -> int:
        return 100 * self.offset // self.size


class Upload(Owned):
    """What models and datasets have in common: whose they are, a blob and the outcome of the check."""

    class State(models.TextChoices):
        VALIDATING = "validating"
        READY = "ready"
        REJECTED = "rejected"

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    blob = models.ForeignKey(Blob, on_delete=models.PROTECT, related_name="+")
    name = models.CharField(max_length=200)  # for people; starts as the file's name
    file_name = models.CharField(max_length=255)  # as uploaded, never used as a path
    state = models.CharField(max_length=10, choices=State, default=State.VALIDATING)
    error = models.TextField(blank=True)  # what is wrong, for people
    mend = models.TextField(blank=True)  # how to mend it; may span lines
    detail = models.TextField(blank=True)  # for operators
    facts = models.JSONField(default=dict)  # what the check found: shapes and counts, for the pages
    warnings = models.JSONField(default=list)
    attempts = models.PositiveSmallIntegerField(default=0)
    rung_at = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)
    validated_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        abstract = True
        ordering = ["-created_at", "-id"]

    def __str__(self) -> str:
        return self.name


class ModelUpload(Upload):
    """A checkpoint together with what is needed to build its network."""

    architecture = models.CharField(max_length=100)
    num_classes = models.PositiveIntegerField()  # 0: the check takes it from the file
    options = models.JSONField(default=dict)  # keyword arguments of the architecture
    weights = models.CharField(max_length=10, blank=True)  # 'model' or 'ema', where the file holds both
    key = models.CharField(max_length=200, blank=True)  # the entry of the file that holds the state dict
    strip_prefix = models.CharField(max_length=200, blank=True)  # of the keys that are the network's
    classes_text = models.TextField(blank=True)  # the class list as it was sent
    class_names = models.JSONField(default=list)  # in index order, read by the check; empty: not known yet
    preprocessing = models.JSONField(null=True, blank=True)  # null: the engine's default for the architecture
    settings_digest = models.CharField(max_length=64)  # of all of the above: the natural key with the blob

    class Meta(Upload.Meta):
        constraints = [
            models.UniqueConstraint(
                fields=["owner", "blob", "settings_digest"], name="one_model_per_file_and_settings"
            ),
            models.UniqueConstraint(
                fields=["team", "blob", "settings_digest"],
                condition=models.Q(owner=None),
                name="one_model_of_a_team_per_file_and_settings",
            ),
            belongs("model"),
        ]


class DatasetUpload(Upload):
    """A zip of labelled images (ImageFolder layout, optional metadata.csv)."""

    split_folder = models.CharField(max_length=200, blank=True)  # the top folder that is read; 'none': they are classes

    class Meta(Upload.Meta):
        constraints = [
            models.UniqueConstraint(fields=["owner", "blob", "split_folder"], name="one_dataset_per_file_and_split"),
            models.UniqueConstraint(
                fields=["team", "blob", "split_folder"],
                condition=models.Q(owner=None),
                name="one_dataset_of_a_team_per_file_and_split",
            ),
            belongs("dataset"),
        ]

    @property
    def columns(self) -> dict[str, dict[str, int]]:
        """Column -> value -> images, in the file's order, which PostgreSQL's jsonb does not keep."""
        found = self.facts.get("columns", {})
        return {name: found[name] for name in self.facts.get("column_order", found)}


class OnDemand(models.Model):
    """Something that a worker makes when somebody first wants to see it (`library.on_demand`)."""

    made: str  # the field that is null until it is made
    words: str  # what it is, for people

    error = models.TextField(blank=True)  # why there is none, for people
    mend = models.TextField(blank=True)
    detail = models.TextField(blank=True)  # for operators
    attempts = models.PositiveSmallIntegerField(default=0)  # begun ones; the message names the one it asks for
    rung_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        abstract = True

    @property
    def given_up(self) -> tuple[str, str]:
        """What is said where several attempts came to nothing: `error` and `mend`."""
        return (
            f"The {self.words} could not be made.",
            "Try again; if that does not help, ask the operator to look at the log.",
        )


class Thumbnails(OnDemand):
    """The pictures of a dataset, small and in one file: made by a worker when somebody first wants to see them."""

    made, words = "blob", "thumbnails"

    dataset = models.OneToOneField(DatasetUpload, on_delete=models.CASCADE, related_name="thumbnails")
    blob = models.ForeignKey(Blob, on_delete=models.PROTECT, related_name="+", null=True, blank=True)  # null: not yet
    done = models.PositiveIntegerField(default=0)  # images so far

    def __str__(self) -> str:
        return f"thumbnails of {self.dataset_id}"
