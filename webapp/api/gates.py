"""Gates of a finished run."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from drf_spectacular.utils import extend_schema
from rest_framework import serializers, status
from rest_framework.request import Request
from rest_framework.response import Response

from repair_engine.documents.gates import MOST, MOST_BYTES, read
from repair_engine.errors import BadInput
from repair_engine.settings import Gate
from webapp.api.base import APIView, Body
from webapp.api.derived import body
from webapp.api.fields import Line, Text
from webapp.api.problems import PROBLEM
from webapp.jobs import access, gating
from webapp.jobs.models import GateCheck

VERDICTS, OF_ALL = ["passed", "failed", "skipped"], ["passed", "failed"]


class GateSerializer(body(Gate)):  # type: ignore[misc]
    """What a figure of the report must be: min, max, or both."""

    rules = {"anyOf": [{"required": ["min"]}, {"required": ["max"]}]}


class GatesSerializer(Body):
    """A list of gates, or the text of a file of them."""

    rules = {"oneOf": [{"required": ["gates"]}, {"required": ["text"]}]}

    gates = GateSerializer(many=True, required=False, min_length=1, max_length=MOST)
    text = Text(required=False, max_length=MOST_BYTES, help_text="A gate file, as it is: YAML or JSON.")
    file_name = Line(required=False, max_length=200, help_text="What the file is called, for who reads of it later.")

    def validate(self, data: dict[str, Any]) -> dict[str, Any]:
        called = {"file_name": data.get("file_name", "")}
        if ("gates" in data) == ("text" in data):
            raise serializers.ValidationError("Give either gates or text.")
        if "text" in data:
            return called | {"gates": gating.parse(data["text"])}
        try:
            return called | {"gates": read([dict(one) for one in data["gates"]], "gates")}
        except BadInput as error:
            raise serializers.ValidationError({"gates": [error.said]}) from None


class JudgedGateSerializer(serializers.Serializer):
    gate = serializers.DictField(help_text="As it was asked; what has its default is left out.")
    text = serializers.CharField(help_text="The same in words.")
    value = serializers.FloatField(allow_null=True)
    lower = serializers.FloatField(allow_null=True, help_text="Of its interval, where the report has one.")
    upper = serializers.FloatField(allow_null=True)
    n = serializers.IntegerField(allow_null=True, help_text="Images that it rests on; null: the report does not say.")
    verdict = serializers.ChoiceField(VERDICTS)
    why = serializers.CharField(help_text="What led to it, unless the figure did: too few images.")


class GateCheckSerializer(serializers.ModelSerializer):
    """What gates said to this run."""

    sha256 = serializers.CharField(help_text="Of the gates, whatever the form of their file.")
    verdict = serializers.ChoiceField(OF_ALL, source="judged.verdict")
    report_sha256 = serializers.CharField(source="judged.report_sha256")
    outcome = serializers.CharField(source="judged.outcome")
    gates = JudgedGateSerializer(many=True, source="judged.gates")
    by = serializers.CharField(
        source="by.username", default=None, help_text="Who judged it first, where that is known."
    )

    class Meta:
        model = GateCheck
        fields = ["sha256", "file_name", "verdict", "outcome", "report_sha256", "gates", "by", "created_at"]


class NewGateCheckSerializer(GateCheckSerializer):
    """With its texts."""

    summary = serializers.CharField(help_text="Markdown, for a pull request.")
    junit = serializers.CharField(help_text="XML: a case for each gate.")

    class Meta(GateCheckSerializer.Meta):
        fields = [*GateCheckSerializer.Meta.fields, "summary", "junit"]


class RepairGates(APIView):
    """Judged on the report by the rules of `neuron-repair gate`: the same gates give the same verdict offline."""

    @extend_schema(responses={200: GateCheckSerializer(many=True), 404: PROBLEM})
    def get(self, request: Request, pk: UUID) -> Response:
        """What has been judged, the newest first."""
        rows = (
            access.job_for(request.user, pk, access.SEE).gate_checks.select_related("by").order_by("-created_at", "-pk")
        )
        return Response(GateCheckSerializer(rows, many=True).data)

    @extend_schema(
        request=GatesSerializer,
        responses={
            200: NewGateCheckSerializer, 201: NewGateCheckSerializer, **dict.fromkeys((400, 404, 409, 422), PROBLEM),
        },
    )  # fmt: skip
    def post(self, request: Request, pk: UUID) -> Response:
        """Judge the run, and keep what was found. 200: these gates were judged before; 409: there is no report yet;
        422: its report cannot have such a figure."""
        job = access.job_for(request.user, pk, access.EDIT)
        data = GatesSerializer(data=request.data)
        data.is_valid(raise_exception=True)
        row, texts, made = gating.judge(job, **data.validated_data, by=request.user)
        found = {**GateCheckSerializer(row).data, **texts}
        return Response(found, status=status.HTTP_201_CREATED if made else status.HTTP_200_OK)
