"""What is asked of runs: to start, to change, to go on from one."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from repair_engine.settings import Device, Explain, Repair, Score, options
from webapp.api.base import Body
from webapp.api.derived import body, field_of, said_in
from webapp.api.fields import WORDS, Flag, Line, WebAddress, Whole
from webapp.jobs.followups import CHANGES, MOST_FILTERS
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


class PriorityField(serializers.ChoiceField):
    """A word here, a number in the row."""

    def __init__(self, **more: Any) -> None:
        super().__init__(choices=[*BY_STAFF], **more)

    def to_internal_value(self, data: Any) -> int:
        return BY_STAFF[super().to_internal_value(data)]

    def to_representation(self, value: int) -> str:
        return PRIORITY_WORDS[value]


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


class SetSerializer(Body):
    """A set of filters, in any order; none is the intact model."""

    filters = serializers.ListField(child=Line(max_length=300), max_length=MOST_FILTERS)
