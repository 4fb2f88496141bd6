"""Attacks: start one. It is then a job as a repair is: watched, canceled and fetched under /repairs/."""

from __future__ import annotations

from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from webapp import access
from webapp.api.attacks.serializers import CreateAttackSerializer
from webapp.api.repairs.serializers import CreatedRepairSerializer, RepairSerializer
from webapp.api.repairs.starting import of_any_job, started
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
            413: PROBLEM,
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
        job, new = create_attack(
            owner=user,
            asked=AskedAttack.from_json(data.asked),
            model=access.model_for(user, values["model"]) if values.get("model") else None,
            dataset=access.dataset_for(user, values["dataset"]) if values.get("dataset") else None,
            repair=access.job_for(user, values["repair"]) if values.get("repair") else None,
            surrogates=[access.model_for(user, pk) for pk in values.get("surrogates", [])],
            device=values["device"],
            **of_any_job(request, values),
        )
        return started(request, job, new)
