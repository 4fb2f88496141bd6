"""Attacks: start one. It is then a job as a repair is: watched, canceled and fetched under /repairs/."""

from __future__ import annotations

from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from webapp.api.attacks.serializers import CreateAttackSerializer
from webapp.api.base import APIView
from webapp.api.repairs.starting import IDEMPOTENCY_KEY, STARTED, of_any_job, started
from webapp.jobs import access
from webapp.jobs.attacks import create_attack
from webapp.jobs.requests import asked


class AttackList(APIView):
    """Attacks on models and on their repairs."""

    @extend_schema(
        parameters=[IDEMPOTENCY_KEY],
        request=CreateAttackSerializer,
        responses=STARTED,
    )
    def post(self, request: Request) -> Response:
        """Attack a model, or a model and its repair. The answer's url is where it is watched; its outcome is attacked,
        its document attack.json, its page attack.html; attack.csv has every image's predictions, attack.npz the fixed
        set."""
        data = CreateAttackSerializer(data=request.data)
        data.is_valid(raise_exception=True)
        values, user = data.validated_data, request.user
        things = {
            "model": access.model_for(user, values["model"], access.EDIT) if values.get("model") else None,
            "dataset": access.dataset_for(user, values["dataset"], access.EDIT) if values.get("dataset") else None,
            "repair": access.job_for(user, values["repair"], access.EDIT) if values.get("repair") else None,
            "surrogates": [access.model_for(user, pk, access.EDIT) for pk in values.get("surrogates", [])],
        }
        wanted, more = asked(data.asked, "attack"), of_any_job(request, values)
        job, new = create_attack(owner=user, asked=wanted, device=values.get("device", "auto"), **things, **more)
        return started(request, job, new)
