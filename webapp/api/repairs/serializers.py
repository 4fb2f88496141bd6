"""Repairs, in and out."""

from __future__ import annotations

import threading
from typing import Any
from uuid import UUID

from django.urls import reverse
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers
from rest_framework.request import Request

from repair_engine.settings import Device, Explain, Repair, Score, options
from webapp.accounts import rights
from webapp.api.base import Body
from webapp.api.derived import body, field_of, said_in
from webapp.api.fields import WORDS, Flag, Line, WebAddress, Whole
from webapp.jobs import live, naming
from webapp.jobs.followups import CHANGES, MOST_FILTERS
from webapp.jobs.models import Artifact, Event, Job
from webapp.jobs.queueing import BY_STAFF
from webapp.jobs.queueing import WORDS as PRIORITY_WORDS
from webapp.jobs.requests import KINDS
from webapp.jobs.services import MOST_TAGS, TAG_LENGTH
from webapp.jobs.surrogates import MOST
from webapp.jobs.triggers import MOST_TEXT
from webapp.jobs.webhooks import EVENTS, Blocked, check_url

PRIORITY = (
    "Which of your own runs comes first: high, normal or low. It never jumps other people's; urgent, for staff, does."
)


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


class PriorityField(serializers.ChoiceField):
    """A word here, a number in the row."""

    def __init__(self, **more: Any) -> None:
        super().__init__(choices=[*BY_STAFF], **more)

    def to_internal_value(self, data: Any) -> int:
        return BY_STAFF[super().to_internal_value(data)]

    def to_representation(self, value: int) -> str:
        return PRIORITY_WORDS[value]


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


class EditSerializer(Body):
    """What people call a run and how they sort it. What is left out stays as it is."""

    name = Line(required=False, max_length=200, allow_blank=True, help_text="Empty: what was asked of which model.")
    tags = serializers.ListField(
        child=Line(pattern=WORDS, max_length=TAG_LENGTH),
        required=False,
        max_length=MOST_TAGS,
        help_text="All of its tags: they take the place of those that it has.",
    )
    add_tags = serializers.ListField(
        child=Line(pattern=WORDS, max_length=TAG_LENGTH), required=False, max_length=MOST_TAGS,
        help_text="Beside those that it has.",
    )  # fmt: skip
    remove_tags = serializers.ListField(
        child=Line(pattern=WORDS, max_length=TAG_LENGTH), required=False, max_length=MOST_TAGS
    )
    archived = Flag(required=False, help_text="Archived runs are not listed unless they are asked for.")
    priority = PriorityField(required=False, help_text=PRIORITY)
    revision = Whole(
        required=False,
        min_value=0,
        max_value=2**31 - 1,
        help_text="Of the run as it was seen: where it has changed since, 409, and nothing is overwritten. Without it "
        "the last one wins, of name, tags and archive separately.",
    )

    @property
    def changes(self) -> dict:
        """Keyword arguments of `services.edit_job`."""
        words = {"add_tags": "add", "remove_tags": "take_off", "revision": "seen"}
        given = {name: value for name, value in self.validated_data.items() if name != "priority"}
        return {words.get(name, name): value for name, value in given.items()}


class WebhookSerializer(Body):
    """Calls are signed: X-Neuron-Repair-Signature: t=UNIX,v1=HMAC-SHA256(secret, "UNIX." + body)."""

    url = WebAddress(max_length=500)
    secret = Line(required=False, min_length=16, max_length=200, write_only=True)
    events = serializers.ListField(
        child=serializers.ChoiceField(choices=EVENTS), required=False, help_text="Default: all."
    )

    def validate_url(self, url: str) -> str:
        try:
            check_url(url)
        except Blocked as error:
            raise serializers.ValidationError(str(error)) from None
        return url


def surrogates_field(help_text: str) -> serializers.ListField:
    return serializers.ListField(
        child=serializers.UUIDField(),
        required=False,
        max_length=MOST,
        help_text=f"{help_text} models of yours, for the same images and the same classes in the same order, on which "
        "transfer attacks are made for the report. Their own normalization is used.",
    )


class StartSerializer(Body):
    """What every request that starts a run may say."""

    name = Line(required=False, max_length=200, allow_blank=True)
    team = Whole(
        required=False,
        min_value=1,
        max_value=2**63 - 1,
        help_text="A team to which it shall belong: all that it uses is there, and you are an editor. Without it, it "
        "belongs where those things are that are not your own.",
    )
    priority = PriorityField(required=False, help_text=f"{PRIORITY} Default: normal.")
    webhook = WebhookSerializer(required=False)


class CreateRepairSerializer(StartSerializer, body(Repair, Explain, Score, Device)):
    model = serializers.UUIDField()
    dataset = serializers.UUIDField()
    guard = serializers.UUIDField(
        required=False, allow_null=True, help_text="A second labelled set on which clean accuracy must hold too."
    )
    trigger = Line(
        required=False,
        max_length=MOST_TEXT,
        pattern=(r"^[A-Za-z0-9+/]+={0,2}$", "Base 64, without line ends: base64 -w0 patch.png."),
        help_text="Of trigger-success:CLASS: the patch that is pasted on the images, in pixels of the network's "
        "input: a PNG, JPEG or WebP file of at most 1 MiB, in base 64. Of hidden-trigger: for the report alone.",
    )
    triggered = serializers.UUIDField(
        required=False,
        allow_null=True,
        help_text="In the patch's place: a dataset of images that carry the trigger, with their true labels.",
    )
    kind = serializers.ChoiceField(
        choices=KINDS,
        required=False,
        help_text="repair (default), or explain: values, removal curves and pictures of filters, and no checkpoint; or "
        "score: the values of all filters alone. Each takes the options of its verb on the command line. An "
        "explanation's outcome is explained, its page explain.html, its document explain.json; a score's is scored, "
        "its documents score.json and objectives.npz.",
    )
    surrogates = surrogates_field("Of attack-success:")

    @property
    def asked(self) -> dict:
        return {"kind": self.validated_data.get("kind"), **said_in(self.validated_data, Repair, Explain, Score)}


class FollowUpSerializer(StartSerializer, body(Repair, only=CHANGES)):
    """A repair that goes on from a finished run, without a search; all that is not here is as in that run."""

    filters = serializers.ListField(
        child=Line(max_length=300),
        required=False,
        max_length=MOST_FILTERS,
        help_text="Ablate these (site:channel), in this order. Left out: the culprits of metric, by the run's values.",
    )
    metric = Line(
        required=False,
        max_length=1000,
        help_text="One that the run valued (kind score, with also). With filters its own metric is the default.",
    )
    budget = field_of(
        options(Repair)["budget"],
        help_text="Evaluations, of which 30% at most value filters chosen by hand. "
        "Default: the run's; with its values in the place of a search 30% of it.",
    )

    def get_fields(self) -> dict[str, serializers.Field]:
        given = serializers.UUIDField(help_text="The run to go on from: it has succeeded.")
        return {"from": given, **super().get_fields()}

    def unknown(self, name: str, known: list[str]) -> str:
        of_repairs = CreateRepairSerializer().fields
        return "It is as in the run that is gone on from." if name in of_repairs else super().unknown(name, known)


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
    order = serializers.CharField(help_text="value, stepwise, stepwise with a margin, or by hand.")
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


class SetSerializer(Body):
    """A set of filters, in any order; none is the intact model."""

    filters = serializers.ListField(child=Line(max_length=300), max_length=MOST_FILTERS)


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
