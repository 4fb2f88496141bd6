"""Jobs, their shards, and what they leave behind.

A job is one request. A block is a fixed, seeded piece of its sampling; a shard is the run of consecutive
blocks that one worker leases. Preparing and finishing are shards too (of no blocks), so that claim, lease,
fencing, attempts and cancel are the same for everything a worker does.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import models
from django.db.models import Q

from webapp.accounts.models import Owned, belongs
from webapp.jobs import naming
from webapp.jobs.models.fairness import Share
from webapp.library.models import Blob, DatasetUpload, ModelUpload

PREPARE, FINISH = "prepare", "finish"  # the phases that are no sampling; the others are the engine's


class Job(Owned):
    class State(models.TextChoices):
        STARTING = "starting"  # no worker has begun
        PROCESSING = "processing"
        SUCCEEDED = "succeeded"  # also when the honest answer is "no repair found"
        FAILED = "failed"
        CANCELED = "canceled"

    class Priority(models.IntegerChoices):
        """Among one's own runs; URGENT alone, which staff give, comes before other people's."""

        LOW = -1
        NORMAL = 0
        HIGH = 1
        URGENT = 2

    class Outcome(models.TextChoices):
        REPAIRED = "repaired"
        NO_REPAIR = "no_repair_found"
        NOT_SHOWN = "not_shown_to_help"  # filters chosen by hand: their checkpoint was written all the same
        EXPLAINED = "explained"
        SCORED = "scored"
        ATTACKED = "attacked"

    ACTIVE = (State.STARTING, State.PROCESSING)

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    name = models.CharField(max_length=200, blank=True)
    model = models.ForeignKey(ModelUpload, on_delete=models.PROTECT, related_name="jobs")
    dataset = models.ForeignKey(DatasetUpload, on_delete=models.PROTECT, related_name="jobs")
    guard = models.ForeignKey(
        DatasetUpload, on_delete=models.PROTECT, related_name="guarded_jobs", null=True, blank=True
    )
    triggered = models.ForeignKey(
        DatasetUpload, on_delete=models.PROTECT, related_name="triggered_jobs", null=True, blank=True
    )  # images that carry a backdoor's trigger; a patch is an artifact
    parent = models.ForeignKey("self", on_delete=models.SET_NULL, related_name="followups", null=True, blank=True)
    surrogates = models.ManyToManyField(ModelUpload, related_name="surrogate_jobs", blank=True)  # order: see request
    audited = models.ForeignKey(
        "self", on_delete=models.RESTRICT, related_name="audits", null=True, blank=True
    )  # of an attack: the repair whose checkpoint is attacked beside the model
    request = models.JSONField(default=dict)  # metric, estimator, budget, limits, seed … as asked
    device = models.CharField(max_length=10)  # 'cpu' or 'cuda': the kind of device the job is pinned to

    state = models.CharField(max_length=10, choices=State, default=State.STARTING)
    phase = models.CharField(max_length=20, default=PREPARE)
    round = models.PositiveIntegerField(default=0)  # of the phase, while it samples
    outcome = models.CharField(max_length=20, choices=Outcome, blank=True)
    fault = models.CharField(max_length=10, blank=True)  # of a failure: 'input' or 'server'
    error = models.TextField(blank=True)  # short, for people
    mend = models.TextField(blank=True)  # what they can do about it
    detail = models.TextField(blank=True)  # for operators
    work = models.CharField(max_length=64, blank=True)  # what preparing wrote, see `files.keep_directory`
    summary = models.JSONField(default=dict)  # what preparing found
    result = models.JSONField(default=dict)  # what finishing found, the report's headline
    warnings = models.JSONField(default=list)
    held = models.CharField(max_length=300, blank=True)  # why it cannot move on just now, for people
    priority = models.SmallIntegerField(choices=Priority, default=Priority.NORMAL)
    share = models.ForeignKey(Share, on_delete=models.PROTECT, related_name="jobs", null=True, blank=True)
    revision = models.PositiveIntegerField(default=0)  # grows with each change of name, tags, archive

    idempotency_key = models.CharField(max_length=200, null=True, blank=True)
    request_digest = models.CharField(max_length=64, blank=True)
    webhook_url = models.URLField(max_length=500, blank=True)
    webhook_secret = models.CharField(max_length=200, blank=True)
    webhook_events = models.JSONField(default=list)

    # What lists sort and search by, written with what it is taken from: JSON of a thousand runs is not read for a page.
    title = models.CharField(max_length=500, blank=True)
    kind = models.CharField(max_length=10, default=naming.REPAIR)  # a key of naming.KINDS
    seed = models.BigIntegerField(default=0)
    budget = models.BigIntegerField(null=True, blank=True)  # evaluations, as asked or as preparing chose it
    gain = models.FloatField(null=True, blank=True)  # of a repair: change of its metric on the report images
    gain_lower = models.FloatField(null=True, blank=True)
    gain_upper = models.FloatField(null=True, blank=True)

    created_at = models.DateTimeField(auto_now_add=True)
    archived_at = models.DateTimeField(null=True, blank=True)  # not shown in lists unless they are asked for it
    deleted_at = models.DateTimeField(null=True, blank=True)  # as good as gone; for some minutes it can come back
    started_at = models.DateTimeField(null=True, blank=True)
    admitted_at = models.DateTimeField(null=True, blank=True)  # since when it counts among one's running ones
    paused_at = models.DateTimeField(null=True, blank=True)
    phase_started_at = models.DateTimeField(null=True, blank=True)
    cancel_requested_at = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)
    swept_at = models.DateTimeField(null=True, blank=True)  # its working files were removed

    class Meta:
        ordering = ["-created_at", "-id"]
        constraints = [
            models.UniqueConstraint(fields=["made_by", "idempotency_key"], name="one_job_per_persons_idempotency_key"),
            belongs("job"),
        ]
        indexes = [
            models.Index(fields=["state"]),
            models.Index(fields=["owner", "deleted_at", "archived_at", "-created_at"], name="runs_of_an_account"),
            models.Index(fields=["team", "deleted_at", "archived_at", "-created_at"], name="runs_of_a_team"),
            models.Index(
                fields=["device", "share"], condition=Q(state__in=("starting", "processing")), name="runs_under_way"
            ),
        ]

    def __str__(self) -> str:
        return self.name or str(self.id)

    def save(self, *args: Any, **kwargs: Any) -> None:
        """With all that lists sort by, unless single fields are saved."""
        if kwargs.get("update_fields") is None:
            if self.share_id is None and not self.ended:
                self.share = self.own_share()
            self.title = naming.title(self.name, self.request, self.model.name, bool(self.audited_id))[:500]
            self.kind = naming.kind_of(self.request)
            self.seed = self.request.get("seed", 0)
            self.budget = self.request.get("budget") or self.summary.get("budget")
            self.gain, self.gain_lower, self.gain_upper = gain_of(self.result)
        super().save(*args, **kwargs)

    def own_share(self) -> Share:
        """Of the lane that it runs in: of whoever started it, or pays for it."""
        return Share.objects.get_or_create(user=self.made_by or self.payer, queue=self.queue)[0]

    @property
    def explains(self) -> bool:
        """It is asked what the metric is made of, not for a repair."""
        return self.request.get("kind") == "explain"

    @property
    def scores(self) -> bool:
        """It is asked for the values of all filters, and for nothing else."""
        return self.request.get("kind") == "score"

    @property
    def searches(self) -> bool:
        """Its filters were neither chosen by hand nor valued by its parent."""
        return not self.request.get("filters") and not self.request.get("stored")

    @property
    def attacks(self) -> bool:
        """It is asked what adversaries achieve."""
        return self.request.get("kind") == "attack"

    @property
    def word(self) -> str:
        """What it is called in sentences."""
        return {"explain": "explanation", "score": "valuation", "attack": "attack"}.get(
            self.request.get("kind", ""), "repair"
        )

    @property
    def checkpoint(self) -> Artifact | None:
        """The repaired checkpoint that it left."""
        if self.outcome not in WRITTEN:
            return None
        return self.artifacts.select_related("blob").filter(name__startswith="repaired.").first()

    @property
    def ended(self) -> bool:
        return self.state not in self.ACTIVE

    @property
    def paused(self) -> bool:
        """Nobody takes any of its shards until somebody resumes it."""
        return self.paused_at is not None and not self.ended

    @property
    def directory(self) -> Path:
        return settings.JOB_DIR / str(self.id)

    @property
    def queue(self) -> str:
        return "gpu" if self.device == "cuda" else "cpu"


WRITTEN = (Job.Outcome.REPAIRED, Job.Outcome.NOT_SHOWN)  # outcomes that leave a checkpoint


def gain_of(result: Mapping[str, Any]) -> tuple[float | None, float | None, float | None]:
    """A repair's change of its metric with its interval, of a job's `result`; None where there is none."""
    found = result.get("gain") or {}
    return found.get("value"), found.get("lower"), found.get("upper")


class Tag(models.Model):
    """A word by which its owner finds a run again."""

    job = models.ForeignKey(Job, on_delete=models.CASCADE, related_name="tags")
    word = models.CharField(max_length=50)

    class Meta:
        ordering = ["word"]
        constraints = [models.UniqueConstraint(fields=["job", "word"], name="one_tag_per_word")]
        indexes = [models.Index(fields=["word"])]

    def __str__(self) -> str:
        return self.word


class Shard(models.Model):
    class State(models.TextChoices):
        PENDING = "pending"
        LEASED = "leased"
        DONE = "done"
        FAILED = "failed"
        CANCELED = "canceled"

    job = models.ForeignKey(Job, on_delete=models.CASCADE, related_name="shards")
    phase = models.CharField(max_length=20)
    round = models.PositiveIntegerField(default=0)
    first_block = models.PositiveIntegerField(default=0)
    tasks = models.JSONField(default=list)  # the blocks, as the engine wrote them
    total = models.BigIntegerField(default=0)  # evaluations, at most
    done = models.BigIntegerField(default=0)  # evaluations so far: of finished blocks, and of the one under way
    parts = models.JSONField(default=list)  # SHA-256 of the files of finished blocks, the first ones of `tasks`
    saved = models.BigIntegerField(default=0)  # evaluations of those blocks: they are never done again
    note = models.CharField(max_length=200, blank=True)  # what preparing or finishing is at
    state = models.CharField(max_length=10, choices=State, default=State.PENDING)
    attempt = models.PositiveIntegerField(default=0)  # counts claims: the fencing token
    failures = models.PositiveIntegerField(default=0)  # attempts that ended badly, all of them
    fruitless = models.PositiveSmallIntegerField(default=0)  # of these, in a row, without one more block: its own fault
    lost = models.PositiveSmallIntegerField(default=0)  # likewise, where the whole worker or its machine went away
    not_before = models.DateTimeField(null=True, blank=True)  # nobody may claim it earlier
    held = models.CharField(max_length=300, blank=True)  # why it waits, for people
    lease_expires = models.DateTimeField(null=True, blank=True)
    worker = models.CharField(max_length=200, blank=True)
    result = models.CharField(max_length=64, blank=True)  # SHA-256 of the file that holds what was computed
    error = models.TextField(blank=True)  # of the last attempt that failed, for operators
    fault = models.CharField(max_length=10, blank=True)  # set where another attempt would end the same
    problem = models.TextField(blank=True)  # why, for people
    mend = models.TextField(blank=True)
    rung_at = models.DateTimeField(null=True, blank=True)  # null: it waits anew, and nobody was told
    claimed_at = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["id"]
        constraints = [
            models.UniqueConstraint(fields=["job", "phase", "round", "first_block"], name="one_shard_per_blocks")
        ]
        indexes = [
            models.Index(fields=["state", "lease_expires"]),
            models.Index(fields=["job", "id"], condition=Q(state="pending"), name="shards_that_wait"),
            models.Index(fields=["job"], condition=Q(state="pending", rung_at=None), name="shards_not_rung_for"),
        ]

    def __str__(self) -> str:
        return f"{self.phase} {self.round}/{self.first_block}"


class PhaseState(models.Model):
    """The merged state of a phase before round `round` (0: the start). Deterministic, so written once."""

    job = models.ForeignKey(Job, on_delete=models.CASCADE, related_name="states")
    phase = models.CharField(max_length=20)
    round = models.PositiveIntegerField()
    sha256 = models.CharField(max_length=64)  # of the engine's bytes, a file in the job's directory
    snapshot = models.JSONField(default=dict)  # a point of the convergence chart, and the leaders
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["id"]
        constraints = [models.UniqueConstraint(fields=["job", "phase", "round"], name="one_state_per_round")]

    def __str__(self) -> str:
        return f"{self.phase} before round {self.round}"


class Artifact(models.Model):
    """A file of the result."""

    job = models.ForeignKey(Job, on_delete=models.CASCADE, related_name="artifacts")
    name = models.CharField(max_length=100)  # report.json, report.html, predictions.csv, repaired.…
    media_type = models.CharField(max_length=100)
    blob = models.ForeignKey(Blob, on_delete=models.PROTECT, related_name="+")

    class Meta:
        ordering = ["name"]
        constraints = [models.UniqueConstraint(fields=["job", "name"], name="one_artifact_per_name")]

    def __str__(self) -> str:
        return self.name


class Event(models.Model):
    """What happened to a job, in order; what the events endpoint lists."""

    job = models.ForeignKey(Job, on_delete=models.CASCADE, related_name="events")
    kind = models.CharField(max_length=30)
    data = models.JSONField(default=dict)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["id"]

    def __str__(self) -> str:
        return self.kind


class Delivery(models.Model):
    """One webhook call, kept until it has been received or given up."""

    class State(models.TextChoices):
        PENDING = "pending"
        DELIVERED = "delivered"
        FAILED = "failed"

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    job = models.ForeignKey(Job, on_delete=models.CASCADE, related_name="deliveries")
    event = models.CharField(max_length=30)
    state = models.CharField(max_length=10, choices=State, default=State.PENDING)
    attempts = models.PositiveSmallIntegerField(default=0)
    due_at = models.DateTimeField()
    called_at = models.DateTimeField(null=True, blank=True)  # the latest attempt
    status = models.PositiveSmallIntegerField(null=True, blank=True)  # HTTP, as that was answered
    last_error = models.CharField(max_length=300, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["created_at"]
        constraints = [models.UniqueConstraint(fields=["job", "event"], name="one_delivery_per_event")]

    def __str__(self) -> str:
        return f"{self.event} -> {self.job_id}"


class Release(models.Model):
    """Whose tables these are: one row, which `migrate` writes."""

    version = models.CharField(max_length=50)
    since = models.DateTimeField(auto_now=True)

    def __str__(self) -> str:
        return self.version


class Worker(models.Model):
    """A worker process that said it was alive. Tells people why nothing moves when there is none."""

    name = models.CharField(primary_key=True, max_length=200)
    incarnation = models.CharField(max_length=32)
    queues = models.JSONField(default=list)
    device = models.CharField(max_length=100, blank=True)
    seen_at = models.DateTimeField()

    def __str__(self) -> str:
        return self.name
