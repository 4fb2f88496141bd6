"""Attacks: start one. It is then a job as a repair is: watched, canceled and fetched under /repairs/."""

from __future__ import annotations

from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers, status
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from webapp import access
from webapp.api.attacks.serializers import CreateAttackSerializer
from webapp.api.repairs.serializers import CreatedRepairSerializer, RepairSerializer
from webapp.api.uploads.views import PROBLEM
from webapp.jobs.attacks import AskedAttack, create_attack


class AttackList(APIView):
    """Attacks on models and on their repairs."""

    @extend_schema(
        parameters=[
            OpenApiParameter(
                "Idempotency-Key",
                str,
                OpenApiParameter.HEADER,
                description="Sent again with the same request, it gives the same attack.",
            )
        ],
        request=CreateAttackSerializer,
        responses={
            202: CreatedRepairSerializer,
            200: RepairSerializer,
            400: PROBLEM,
            404: PROBLEM,
            409: PROBLEM,
            422: PROBLEM,
        },
    )
    def post(self, request: Request) -> Response:
        """Attack a model, or a model and its repair. The answer's url is where it is watched; its outcome is attacked,
        its document attack.json, its page attack.html; attack.csv has every image's predictions, attack.npz the fixed
        set."""
        data = CreateAttackSerializer(data=request.data)
        data.is_valid(raise_exception=True)
        values, user = data.validated_data, request.user
        webhook = values.get("webhook") or {}
        key = request.headers.get("Idempotency-Key", "").strip()
        if len(key) > 200:
            raise serializers.ValidationError({"Idempotency-Key": "At most 200 characters."})
        job, new = create_attack(
            owner=user,
            asked=AskedAttack.from_json(data.asked),
            model=access.model_for(user, values["model"]) if values.get("model") else None,
            dataset=access.dataset_for(user, values["dataset"]) if values.get("dataset") else None,
            repair=access.job_for(user, values["repair"]) if values.get("repair") else None,
            surrogates=[access.model_for(user, pk) for pk in values.get("surrogates", [])],
            device=values["device"],
            name=values.get("name", ""),
            idempotency_key=key or None,
            webhook_url=webhook.get("url", ""),
            webhook_secret=webhook.get("secret", ""),
            webhook_events=webhook.get("events"),
        )
        kind = CreatedRepairSerializer if new else RepairSerializer
        body = kind(job, context={"request": request}).data
        code = status.HTTP_202_ACCEPTED if new else status.HTTP_200_OK
        return Response(body, status=code, headers={"Location": body["url"], "Retry-After": "2"})
