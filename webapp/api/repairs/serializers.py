"""Runs as they are shown; what is asked of them is in `bodies`."""

from __future__ import annotations

import threading
from uuid import UUID

from django.urls import reverse
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers
from rest_framework.request import Request

from webapp.accounts import rights
from webapp.api.repairs.bodies import PriorityField
from webapp.jobs import live, naming
from webapp.jobs.models import Artifact, Event, Job


class ArtifactSerializer(serializers.ModelSerializer):
    url = serializers.SerializerMethodField()
    sha256 = serializers.CharField(source="blob_id")
    size = serializers.IntegerField(source="blob.size", help_text="Bytes.")

    class Meta:
        model = Artifact
        fields = ["name", "url", "media_type", "size", "sha256"]

    def get_url(self, artifact: Artifact) -> str:
        return _absolute(self, reverse("api:result", args=[artifact.job_id, artifact.name]))


class ProgressSerializer(serializers.Serializer):
    state = serializers.ChoiceField(choices=Job.State.choices)
    phase = serializers.CharField()
    note = serializers.CharField()
    round = serializers.IntegerField()
    evaluations = serializers.IntegerField()
    evaluations_total = serializers.IntegerField()
    percent = serializers.FloatField()
    eta_seconds = serializers.FloatField(allow_null=True, help_text="Of the phase, at most.")
    eta_total_seconds = serializers.FloatField(
        allow_null=True, help_text="Until the run has ended, roughly; null where nothing is known of it."
    )
    workers = serializers.IntegerField()
    held = serializers.CharField(help_text="Why work waits: a full disk, a pause after a failed attempt. Empty else.")
    paused = serializers.BooleanField(help_text="Until somebody resumes it (POST to resume/).")
    behind = serializers.IntegerField(
        help_text="Of a run that waits because whoever started it runs as many as they may: how many. 0 else."
    )
    waiting = serializers.BooleanField()
    queue_position = serializers.IntegerField(
        allow_null=True,
        help_text="Of a run that no worker has begun, its place among the same person's that wait for its kind of "
        "device, from 1. People take turns.",
    )
    worker_alive = serializers.BooleanField()
    retries = serializers.IntegerField()
    elapsed_seconds = serializers.FloatField(allow_null=True)


class RepairSerializer(serializers.ModelSerializer):
    url = serializers.SerializerMethodField()
    outcome = serializers.ChoiceField(
        choices=Job.Outcome.choices, allow_blank=True, help_text="Empty until the repair has succeeded."
    )
    fault = serializers.CharField(
        help_text="Whose, of a failure: input (mend it) or server (POST to retry/ goes on from what is done)."
    )
    parent = serializers.SerializerMethodField(
        help_text="The run that it goes on from; null if none, if that was deleted, or is somebody else's."
    )
    team = serializers.PrimaryKeyRelatedField(
        read_only=True, allow_null=True, help_text="To which it belongs, or with which it is shared; null: yours alone."
    )
    shared = serializers.SerializerMethodField(help_text="With the team, by the person whose it is.")
    started_by = serializers.CharField(source="live_maker", allow_null=True, help_text="null: the account was closed.")
    revision = serializers.IntegerField(
        help_text="Grows with each change of name, tags or archive; a change may name the one that it saw."
    )
    priority = PriorityField(read_only=True, help_text="Among the runs of whoever started it; urgent: before all.")
    followups = serializers.SerializerMethodField(help_text="Repairs that go on from this run.")
    audited = serializers.PrimaryKeyRelatedField(
        read_only=True,
        allow_null=True,
        help_text="Of an attack: the repair whose checkpoint is attacked beside the model.",
    )
    request = serializers.DictField(help_text="What was asked.")
    progress = serializers.SerializerMethodField()
    summary = serializers.DictField(help_text="What preparing found: filters, splits, the budget chosen.")
    result = serializers.DictField(help_text="The report's headline.")
    warnings = serializers.ListField(child=serializers.CharField())
    results = serializers.SerializerMethodField()
    tags = serializers.SerializerMethodField()
    archived = serializers.SerializerMethodField()

    class Meta:
        model = Job
        fields = [
            "id", "url", "name", "state", "outcome", "fault", "error", "mend", "model", "dataset", "guard", "triggered",
            "parent", "followups", "audited", "request", "device", "priority", "team", "shared",
            "started_by",
            "tags", "archived", "revision", "progress", "summary", "result", "warnings", "results", "created_at",
            "started_at", "finished_at",
        ]  # fmt: skip
        read_only_fields = fields

    def to_representation(self, job: Job) -> dict:
        return super().to_representation(live.seen(job))

    def get_url(self, job: Job) -> str:
        return _absolute(self, reverse("api:repair", args=[job.pk]))

    @extend_schema_field({"type": "array", "items": {"type": "string", "format": "uuid"}})
    def get_followups(self, job: Job) -> list[str]:
        me = _reader(self, job)
        return [str(UUID(row["id"])) for row in job.live_followups if row["team"] or row["owner"] == me]

    @extend_schema_field({"type": ["string", "null"], "format": "uuid"})
    def get_parent(self, job: Job) -> str | None:
        return _parent(self, job)

    def get_shared(self, job: Job) -> bool:
        return job.team_id is not None and job.owner_id is not None

    @extend_schema_field(ArtifactSerializer(many=True))
    def get_results(self, job: Job) -> list[dict]:
        found = job.artifacts.select_related("blob") if job.ended else []  # there are none before
        return ArtifactSerializer(found, many=True, context=self.context).data

    def get_tags(self, job: Job) -> list[str]:
        return [row["word"] for row in job.live_tags]

    def get_archived(self, job: Job) -> bool:
        return job.archived_at is not None

    @extend_schema_field(ProgressSerializer)
    def get_progress(self, job: Job) -> dict:
        return live.progress(job).to_json()


_own = threading.local()


def shown(job: Job, request: Request) -> dict:
    """The job as RepairSerializer shows it to who asks. Of those one is made a thread: making all their fields takes
    longer than to fill them in, and hundreds may ask at once."""
    if not hasattr(_own, "serializer"):
        _own.serializer = RepairSerializer()
    _own.serializer._context = {"request": request}
    try:
        return _own.serializer.to_representation(job)
    finally:
        _own.serializer._context = {}


class RepairRowSerializer(serializers.ModelSerializer):
    """A repair in a list."""

    url = serializers.SerializerMethodField()
    kind = serializers.ChoiceField(choices=list(naming.KINDS), help_text="by-hand: its filters were chosen by hand.")
    budget = serializers.IntegerField(allow_null=True, help_text="Evaluations; null until one was chosen.")
    gain = serializers.SerializerMethodField(
        help_text="Of a finished repair: change of its metric on the report images, with its interval."
    )
    tags = serializers.SerializerMethodField()
    archived = serializers.SerializerMethodField()
    parent = serializers.SerializerMethodField()

    class Meta:
        model = Job
        fields = [
            "id", "url", "name", "kind", "state", "outcome", "error", "model", "dataset", "parent", "team", "device",
            "seed", "budget", "gain", "tags", "archived", "created_at", "finished_at",
        ]  # fmt: skip

    def get_tags(self, job: Job) -> list[str]:
        return [tag.word for tag in job.tagged]  # type: ignore[attr-defined]  # by `listing.rows`

    def get_url(self, job: Job) -> str:
        return _absolute(self, reverse("api:repair", args=[job.pk]))

    @extend_schema_field(
        {
            "type": ["object", "null"],
            "properties": {key: {"type": ["number", "null"]} for key in ("value", "lower", "upper")},
        }
    )
    def get_gain(self, job: Job) -> dict | None:
        if job.gain is None:
            return None
        return {"value": job.gain, "lower": job.gain_lower, "upper": job.gain_upper}

    def get_archived(self, job: Job) -> bool:
        return job.archived_at is not None

    @extend_schema_field({"type": ["string", "null"], "format": "uuid"})
    def get_parent(self, job: Job) -> str | None:
        return _parent(self, job)


class FiguresSerializer(serializers.Serializer):
    """Of the select images, where choices are made: optimistic."""

    k = serializers.IntegerField(help_text="Filters ablated; of a set that is no prefix 1.")
    objective = serializers.FloatField(help_text="The metric, as shown.")
    clean = serializers.FloatField(help_text="Accuracy on clean images.")
    guard = serializers.FloatField(allow_null=True, help_text="Accuracy on the guard set.")
    subgroup_drop = serializers.FloatField(
        allow_null=True, help_text="Largest loss of recall of any subgroup of at least 30 images."
    )
    true_label = serializers.FloatField(
        allow_null=True, help_text="Share of the attacked images that are predicted as what they are."
    )
    success = serializers.FloatField(
        allow_null=True, help_text="Share of the images with a trigger that it gives its class."
    )
    won = serializers.IntegerField(help_text="Clean images newly right.")
    lost = serializers.IntegerField(help_text="Clean images newly wrong.")
    classes = serializers.ListField(child=serializers.IntegerField(), help_text="Right images of each class.")
    subgroups = serializers.ListField(child=serializers.IntegerField(), help_text="Right images of each subgroup.")
    broken = serializers.ListField(child=serializers.CharField(), help_text="Which limits it breaks, in words.")
    feasible = serializers.BooleanField(help_text="It keeps all limits.")


class OrderSerializer(serializers.Serializer):
    order = serializers.CharField(
        help_text="value, certainty, stepwise, stepwise with a margin, gates, stepwise among gates, "
        "stepwise among gates with a margin, or by hand."
    )
    units = serializers.ListField(child=serializers.CharField(), help_text="In the order of removal.")
    steps = FiguresSerializer(many=True, help_text="With nothing ablated, then after each removal.")


class ChoiceSerializer(serializers.Serializer):
    """Every prefix that a repair tried, on its select images."""

    metric = serializers.DictField(help_text="{name, text, goal}.")
    k = serializers.IntegerField(help_text="What the repair chose, of the first order.")
    images = serializers.DictField(help_text="Their numbers: {select, metric, guard}.")
    limits = serializers.DictField()
    classes = serializers.ListField(child=serializers.DictField(), help_text="{name, n}.")
    subgroups = serializers.ListField(child=serializers.DictField(), help_text="{name, n}.")
    orders = OrderSerializer(many=True)


class SetSaidSerializer(serializers.Serializer):
    filters = serializers.ListField(child=serializers.CharField())
    figures = FiguresSerializer(allow_null=True, help_text="null: a worker is asked for them.")
    note = serializers.CharField(help_text="What it does now.")
    share = serializers.FloatField(help_text="How much of that is done.")
    error = serializers.CharField(help_text="Why there will be no figures; empty else.")


class CreatedRepairSerializer(RepairSerializer):
    """A new repair; shows the webhook's secret, this once."""

    webhook_secret = serializers.CharField(read_only=True)

    class Meta(RepairSerializer.Meta):
        fields = [*RepairSerializer.Meta.fields, "webhook_secret"]
        read_only_fields = fields


class EventSerializer(serializers.ModelSerializer):
    data = serializers.DictField()

    class Meta:
        model = Event
        fields = ["id", "kind", "data", "created_at"]


class LiveSerializer(serializers.Serializer):
    """What a page that watches a repair needs, in one answer."""

    progress = ProgressSerializer()
    leaders = serializers.ListField(
        child=serializers.DictField(), help_text="Present top culprits: {id, value, lower, upper, samples}."
    )
    series = serializers.ListField(child=serializers.DictField(), help_text="One point per merged round.")
    events = EventSerializer(many=True)


def _reader(serializer: serializers.BaseSerializer, job: Job) -> int | None:
    """For whom it is written: who asks, or (a webhook) who started the run."""
    request = serializer.context.get("request")
    return request.user.pk if request else job.made_by_id


def _parent(serializer: serializers.BaseSerializer, job: Job) -> str | None:
    reader = _reader(serializer, job)
    shown = job.parent_id is not None and reader is not None and rights.sees_parent(reader, job)
    return str(job.parent_id) if shown else None


def _absolute(serializer: serializers.BaseSerializer, path: str) -> str:
    request = serializer.context.get("request")
    return request.build_absolute_uri(path) if request else path
