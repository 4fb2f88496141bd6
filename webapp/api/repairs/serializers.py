"""Repairs, in and out."""

from __future__ import annotations

from dataclasses import fields

from django.urls import reverse
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from webapp.api.base import Body
from webapp.api.fields import Flag, Line, Real, WebAddress, Whole
from webapp.jobs import selectors
from webapp.jobs.followups import MOST_FILTERS
from webapp.jobs.models import Artifact, Event, Job
from webapp.jobs.requests import (
    ATTACKS,
    BOUNDS,
    CHOICES,
    CONSTANTS,
    ESTIMATORS,
    KINDS,
    NORMS,
    ORDERS,
    PRECISIONS,
    SIDES,
    Asked,
)
from webapp.jobs.services import DEVICES
from webapp.jobs.surrogates import MOST
from webapp.jobs.webhooks import EVENTS, Blocked, check_url


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
    eta_seconds = serializers.FloatField(allow_null=True)
    workers = serializers.IntegerField()
    held = serializers.CharField(help_text="Why work waits: a full disk, a pause after a failed attempt. Empty else.")
    waiting = serializers.BooleanField()
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
    parent = serializers.PrimaryKeyRelatedField(
        read_only=True, allow_null=True, help_text="The run that it goes on from; null if none, or if that was deleted."
    )
    followups = serializers.PrimaryKeyRelatedField(
        many=True, read_only=True, help_text="Repairs that go on from this run."
    )
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
    results = ArtifactSerializer(source="artifacts", many=True)

    class Meta:
        model = Job
        fields = [
            "id", "url", "name", "state", "outcome", "fault", "error", "mend", "model", "dataset", "guard",
            "parent", "followups", "audited", "request", "device",
            "progress", "summary", "result", "warnings", "results", "created_at", "started_at",
            "finished_at",
        ]  # fmt: skip
        read_only_fields = fields

    def get_url(self, job: Job) -> str:
        return _absolute(self, reverse("api:repair", args=[job.pk]))

    @extend_schema_field(ProgressSerializer)
    def get_progress(self, job: Job) -> dict:
        return selectors.progress(job).to_json()


class RepairRowSerializer(serializers.ModelSerializer):
    """A repair in a list."""

    url = serializers.SerializerMethodField()

    class Meta:
        model = Job
        fields = [
            "id", "url", "name", "state", "outcome", "error", "model", "dataset", "parent", "device",
            "created_at", "finished_at",
        ]  # fmt: skip

    def get_url(self, job: Job) -> str:
        return _absolute(self, reverse("api:repair", args=[job.pk]))


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


def within(name: str) -> dict[str, float]:
    """The bounds of a knob, as `Asked` has them."""
    low, high = BOUNDS[name]
    return {"min_value": low, "max_value": high}


class PgdFields(Body):
    """What may be changed of a PGD preset, in a repair and in an attack alike."""

    steps = Whole(**within("steps"), required=False)
    step_size = Real(**within("step_size"), required=False, help_text="Of one gradient step, in pixels of [0, 1].")
    restarts = Whole(**within("restarts"), required=False, help_text="Random starts; any may succeed.")
    targeted = Flag(required=False, allow_null=True, default=None, help_text="The preset's if null.")
    random_start = Flag(required=False, allow_null=True, default=None, help_text="The preset's if null.")


class LimitFields(Body):
    """How a repair is chosen, of the ranked culprits."""

    max_clean_drop = Real(
        **within("max_clean_drop"),
        required=False,
        help_text="How far clean accuracy may fall, as a share. Default: 0.02.",
    )
    max_subgroup_drop = Real(
        **within("max_subgroup_drop"),
        required=False,
        help_text="How far any subgroup may fall, as a share. Default: 0.1.",
    )
    max_filters = Whole(**within("max_filters"), required=False, help_text="Default: 50.")
    choose = serializers.ChoiceField(
        choices=CHOICES,
        required=False,
        help_text="How many filters: the best on the select images (best), or the fewest within one standard error of "
        "it (one-se).",
    )
    order = serializers.ChoiceField(
        choices=ORDERS,
        required=False,
        help_text="Of removal: by value and stepwise, whichever does better on the select images (auto, for up to 45% "
        "of the budget in addition), or by value alone.",
    )


class CreateRepairSerializer(LimitFields, PgdFields):
    model = serializers.UUIDField()
    dataset = serializers.UUIDField()
    guard = serializers.UUIDField(required=False, allow_null=True)
    name = Line(required=False, max_length=200, allow_blank=True)
    device = serializers.ChoiceField(choices=DEVICES, default="auto")
    kind = serializers.ChoiceField(
        choices=KINDS,
        required=False,
        help_text="repair (default), or explain: values, removal curves and pictures of filters, and no checkpoint; or "
        "score: the values of all filters alone. Neither of the two takes max_clean_drop, max_subgroup_drop, "
        "max_filters, choose, order, queries and subset. An explanation's outcome is explained, its page explain.html, "
        "its document explain.json; a score's is scored, its documents score.json and objectives.npz.",
    )
    also = serializers.ListField(
        child=Line(max_length=1000),
        required=False,
        max_length=1000,
        help_text="Of kind score: value these, too, on the same evaluations. Each is a metric, subgroup:COLUMN=VALUE, "
        "classes, subgroups, or all.",
    )
    metric = Line(
        max_length=1000,
        help_text="accuracy, recall:CLASS, subgroup-recall:COLUMN or attack-success. Of several columns "
        "(subgroup-recall:COLUMN,COLUMN) the subgroups are the combinations of values that occur; a name with a comma "
        "in it stands in double quotes.",
    )
    group = Line(
        required=False,
        allow_null=True,
        max_length=100,
        help_text="A column whose values never cross the splits.",
    )
    estimator = serializers.ChoiceField(choices=ESTIMATORS, required=False)
    constant = serializers.ChoiceField(
        choices=CONSTANTS,
        required=False,
        help_text="What an ablated filter's output becomes: its mean (default), or what its batch norm's beta gives.",
    )
    precision = serializers.ChoiceField(
        choices=PRECISIONS,
        required=False,
        help_text="Of the search: float32 (default), or bfloat16, which is faster where the worker's processor has it "
        "and is given up where its predictions differ. What is reported is float32 always.",
    )
    memory = serializers.CharField(
        required=False,
        max_length=20,
        help_text="That each process may take for it, such as 2G (default) or 1500M; on a GPU, of its "
        "memory, by default a quarter. Changes no figure.",
    )
    top_k = Whole(**within("top_k"), required=False)
    side = serializers.ChoiceField(choices=SIDES, required=False)
    budget = Whole(
        **within("budget"),
        required=False,
        allow_null=True,
        help_text="Evaluations. Default: chosen by a short calibration.",
    )
    seed = Whole(**within("seed"), required=False, default=0)
    batch_size = Whole(**within("batch_size"), required=False, help_text="Images per draw.")
    attack = serializers.ChoiceField(choices=ATTACKS, required=False, help_text="PGD preset of attack-success.")
    norm = serializers.ChoiceField(choices=NORMS, required=False, help_text="linf (default), or l2 with an epsilon.")
    epsilon = Real(
        required=False, min_value=0, help_text="In pixels of [0, 1]; in l2 the Euclidean length of the whole change."
    )
    attack_images = Whole(**within("attack_images"), required=False)
    queries = Whole(
        **within("queries"), required=False, help_text="Of the black-box attack in the report, per image; 0 = none."
    )
    subset = Whole(**within("subset"), required=False, help_text="Images that are queried, at most.")
    webhook = WebhookSerializer(required=False)

    compact = Flag(
        required=False,
        default=False,
        help_text="Also write repaired_compact.safetensors: the network without the culprits' channels where they can "
        "be removed. It is not equal to the repaired checkpoint and is measured by itself: result.compact.",
    )
    surrogates = serializers.ListField(
        child=serializers.UUIDField(),
        required=False,
        max_length=MOST,
        help_text="Of attack-success: models of yours, for the same images and the same classes in the same order, on "
        "which transfer attacks are made for the report. Their own normalization is used.",
    )

    NOT_ASKED = ("model", "dataset", "guard", "name", "device", "webhook", "surrogates")

    @property
    def asked(self) -> dict:
        return {name: value for name, value in self.validated_data.items() if name not in self.NOT_ASKED}


class FollowUpSerializer(LimitFields):
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
    name = Line(required=False, max_length=200, allow_blank=True)
    budget = Whole(
        **within("budget"),
        required=False, allow_null=True,
        help_text="Evaluations, of which 30% at most value filters chosen by hand. "
        "Default: the run's; with its values in the place of a search 30% of it."
    )  # fmt: skip
    queries = Whole(**within("queries"), required=False)
    subset = Whole(**within("subset"), required=False)
    webhook = WebhookSerializer(required=False)

    def get_fields(self) -> dict[str, serializers.Field]:
        given = serializers.UUIDField(help_text="The run to go on from: it has succeeded.")
        return {"from": given, **super().get_fields()}

    def unknown(self, name: str, known: list[str]) -> str:
        of_repairs = {field.name for field in fields(Asked)} | {"model", "dataset", "guard", "device", "kind"}
        return "It is as in the run that is gone on from." if name in of_repairs else super().unknown(name, known)


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


def _absolute(serializer: serializers.BaseSerializer, path: str) -> str:
    request = serializer.context.get("request")
    return request.build_absolute_uri(path) if request else path
