"""Attacks, in. What comes out is a job as of a repair, with the outcome attacked."""

from __future__ import annotations

from rest_framework import serializers

from webapp.api.fields import Flag, Line, Real, Whole
from webapp.api.repairs.serializers import PgdFields, WebhookSerializer, within
from webapp.jobs.requests import ATTACKS, NORMS
from webapp.jobs.services import DEVICES
from webapp.jobs.surrogates import MOST


def _given(*names: str) -> dict:
    return {"required": list(names), "properties": {name: {"type": "string"} for name in names}}


class CreateAttackSerializer(PgdFields):
    """What adversaries achieve against a model; with a repair, before and after it."""

    rules = {"anyOf": [_given("repair"), _given("model", "dataset")]}

    repair = serializers.UUIDField(
        required=False,
        allow_null=True,
        help_text="A repair that has ended as repaired: its model is the 'before', its checkpoint the 'after'. Give "
        "its seed and group, too, for the images that it was reported on.",
    )
    model = serializers.UUIDField(
        required=False, allow_null=True, help_text="What is attacked. Default: that of the repair."
    )
    dataset = serializers.UUIDField(required=False, allow_null=True, help_text="Default: that of the repair.")
    surrogates = serializers.ListField(
        child=serializers.UUIDField(),
        required=False,
        max_length=MOST,
        help_text="With a repair: models of yours, for the same images and the same classes in the same order, on "
        "which the transfer attacks are made. Their own normalization is used.",
    )
    name = Line(required=False, max_length=200, allow_blank=True)
    device = serializers.ChoiceField(choices=DEVICES, default="auto")
    group = Line(
        required=False, allow_null=True, max_length=100, help_text="A column whose values never cross the splits."
    )
    seed = Whole(**within("seed"), required=False, default=0)
    attack = serializers.ChoiceField(choices=ATTACKS, required=False, help_text="PGD preset. Default: paper.")
    norm = serializers.ChoiceField(choices=NORMS, required=False, help_text="linf (default), or l2 with an epsilon.")
    epsilon = Real(
        required=False,
        allow_null=True,
        min_value=0,
        help_text="In pixels of [0, 1]; in l2 the Euclidean length of the whole change. 0 must change nothing: a test "
        "of the measurement.",
    )
    attack_images = Whole(**within("attack_images"), required=False, help_text="At most. Default: 500.")
    all_images = Flag(required=False, default=False, help_text="Attack all images, not those of the report split.")
    queries = Whole(
        **within("queries"), required=False, help_text="Of the black-box attack, per image (default: 500); 0 = none."
    )
    subset = Whole(
        **within("subset"), required=False, help_text="Most images for queries, curves and self-tests. Default: 100."
    )
    webhook = WebhookSerializer(required=False)

    NOT_ASKED = ("repair", "model", "dataset", "surrogates", "name", "device", "webhook")

    @property
    def asked(self) -> dict:
        return {name: value for name, value in self.validated_data.items() if name not in self.NOT_ASKED}
