"""Attacks, in. What comes out is a job as of a repair, with the outcome attacked."""

from __future__ import annotations

from rest_framework import serializers

from repair_engine.settings import Attack, Device
from webapp.api.derived import body, said_in
from webapp.api.repairs.bodies import StartSerializer, surrogates_field


def _given(*names: str) -> dict:
    return {"required": list(names), "properties": {name: {"type": "string"} for name in names}}


class CreateAttackSerializer(StartSerializer, body(Attack, Device)):
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
    surrogates = surrogates_field("With a repair:")

    @property
    def asked(self) -> dict:
        return said_in(self.validated_data, Attack)
