"""What is kept beside a run, or before it: what gates said, answers that workers gave, links to it."""

from __future__ import annotations

from django.conf import settings
from django.db import models

from webapp import clock
from webapp.jobs.models.runs import Job
from webapp.library.models import DatasetUpload, ModelUpload, OnDemand


class GateCheck(models.Model):
    """What a set of gates said to a run's report."""

    job = models.ForeignKey(Job, on_delete=models.CASCADE, related_name="gate_checks")
    sha256 = models.CharField(max_length=64)  # of the gates
    passed = models.BooleanField()
    judged = models.JSONField()  # the engine's GatesRecord
    file_name = models.CharField(max_length=200, blank=True)  # what whoever sent the gates calls their file
    by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, related_name="+", null=True, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["id"]
        constraints = [models.UniqueConstraint(fields=["job", "sha256"], name="one_check_per_gates")]

    def __str__(self) -> str:
        return f"{self.sha256[:12]} of {self.job_id}"


class SigningKey(models.Model):
    """The public half of a key that signs receipts, or did."""

    id = models.CharField(max_length=16, primary_key=True)  # as `signatures.id_of` names it
    public = models.CharField(max_length=44)  # 32 bytes in base 64
    created_at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return self.id


class Receipt(models.Model):
    """What was done for a repair, signed."""

    job = models.OneToOneField(Job, on_delete=models.CASCADE, related_name="receipt", primary_key=True)
    key = models.ForeignKey(SigningKey, on_delete=models.PROTECT, related_name="+")
    text = models.TextField()  # exactly as it is signed
    signature = models.CharField(max_length=88)  # 64 bytes in base 64
    created_at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return f"{self.job_id} by {self.key_id}"


class WhatIf(OnDemand):
    """What a set of units does to the select images of a run: asked for by who looks, answered once by a worker."""

    made, words = "figures", "figures of a set of units"
    given_up = ("These figures could not be computed. Export the choice to have it measured.", "")

    job = models.ForeignKey(Job, on_delete=models.CASCADE, related_name="what_ifs")
    digest = models.CharField(max_length=64)  # of the set, whatever its order
    units = models.JSONField()  # sorted
    figures = models.JSONField(null=True, blank=True)  # null: not yet
    note = models.CharField(max_length=200, blank=True)  # what is done now, for people
    share = models.FloatField(default=0.0)  # of that, done
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["id"]
        constraints = [models.UniqueConstraint(fields=["job", "digest"], name="one_answer_per_set_of_units")]

    def __str__(self) -> str:
        return f"{len(self.units)} units of {self.job_id}"


class UnitStudy(OnDemand):
    """What is found out about one unit of a finished run when somebody first looks at it; see `jobs.studies`."""

    class What(models.TextChoices):
        EFFECT = "effect"  # of ablating it alone, and the images that it responds to
        PICTURE = "picture"  # an image made for it

    made, words = "result", "card of this unit"

    job = models.ForeignKey(Job, on_delete=models.CASCADE, related_name="unit_studies")
    unit = models.TextField()  # site:channel
    what = models.CharField(max_length=10, choices=What)
    result = models.JSONField(null=True)  # small pictures in it as data URLs; null: not yet
    note = models.CharField(max_length=200, blank=True)  # what is done now, for people
    share = models.FloatField(default=0.0)  # of that, done

    class Meta:
        constraints = [models.UniqueConstraint(fields=["job", "unit", "what"], name="one_study_of_a_kind_per_unit")]

    def __str__(self) -> str:
        return f"{self.what} of {self.unit}"


class Baseline(OnDemand):
    """What a model recognises of a dataset before any run, and how fast it is searched here; see `jobs.baselines`."""

    made, words = "speed", "baseline"

    model = models.ForeignKey(ModelUpload, on_delete=models.CASCADE, related_name="baselines")
    dataset = models.ForeignKey(DatasetUpload, on_delete=models.CASCADE, related_name="baselines")
    figures = models.JSONField(null=True)  # null: not yet; they come before the speed
    speed = models.JSONField(null=True)
    note = models.CharField(max_length=200, blank=True)  # what is done now, for people
    share = models.FloatField(default=0.0)  # of that, done

    class Meta:
        constraints = [models.UniqueConstraint(fields=["model", "dataset"], name="one_baseline_per_pair")]

    def __str__(self) -> str:
        return f"{self.model_id} on {self.dataset_id}"

    @property
    def state(self) -> str:
        """What is known: "nothing", "figures" or "speed", which is all; or it "failed"."""
        if self.speed is None and self.error:
            return "failed"
        return "nothing" if self.figures is None else "figures" if self.speed is None else "speed"


class ShareLink(models.Model):
    """An address at which anybody who has it sees a finished run. Only its SHA-256 is stored (`jobs.sharing`)."""

    job = models.ForeignKey(Job, on_delete=models.CASCADE, related_name="share_links")
    name = models.CharField(max_length=100, blank=True)  # for whom
    digest = models.CharField(max_length=64, unique=True)
    weights = models.BooleanField(default=False)  # the checkpoint goes with it, and what else a model is made of
    expires_at = models.DateTimeField(null=True, blank=True)  # null: never
    created_at = models.DateTimeField(auto_now_add=True)
    seen_at = models.DateTimeField(null=True, blank=True)  # when it was last opened, about
    revoked_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-created_at", "-id"]

    def __str__(self) -> str:
        return self.name or f"link {self.pk}"

    @property
    def expired(self) -> bool:
        return self.expires_at is not None and self.expires_at <= clock.now()
