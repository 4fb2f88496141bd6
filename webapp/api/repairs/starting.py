"""What all requests that start a job have in common."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from drf_spectacular.utils import OpenApiParameter
from rest_framework import serializers, status
from rest_framework.request import Request
from rest_framework.response import Response

from webapp.api.problems import PROBLEM
from webapp.api.repairs.serializers import CreatedRepairSerializer, RepairSerializer
from webapp.jobs import access
from webapp.jobs.models import Job

IDEMPOTENCY_KEY = OpenApiParameter(
    "Idempotency-Key",
    {"type": "string", "maxLength": 200, "pattern": "^[ -~]*$"},
    OpenApiParameter.HEADER,
    description="Sent again with the same request, it gives the run that it started.",
)


# The answers to such a request, by status; for the OpenAPI document.
STARTED = {
    202: CreatedRepairSerializer,
    200: RepairSerializer,
    **dict.fromkeys((400, 403, 404, 409, 413, 422), PROBLEM),
}


def of_any_job(request: Request, values: Mapping[str, Any]) -> dict[str, Any]:
    """Name, team, priority, idempotency key and webhook, as `jobs.services.create_job` takes them, of `values`.

    Raises:
        ValidationError: the key is too long, or not of printable ASCII.
    """
    webhook = values.get("webhook") or {}
    key = request.headers.get("Idempotency-Key", "").strip()
    if len(key) > 200:
        raise serializers.ValidationError({"Idempotency-Key": "At most 200 characters."})
    if not (key.isascii() and key.isprintable()):
        raise serializers.ValidationError({"Idempotency-Key": "Printable ASCII characters only."})
    return {
        "name": values.get("name", ""),
        "team": access.team_for(request.user, values["team"], access.EDIT) if values.get("team") else None,
        "priority": values.get("priority", Job.Priority.NORMAL),
        "idempotency_key": key or None,
        "webhook_url": webhook.get("url", ""),
        "webhook_secret": webhook.get("secret", ""),
        "webhook_events": webhook.get("events"),
    }


def started(request: Request, job: Job, new: bool) -> Response:
    """202 for a job that was taken on, 200 for one that the idempotency key has started before."""
    kind = CreatedRepairSerializer if new else RepairSerializer
    body = kind(job, context={"request": request}).data
    code = status.HTTP_202_ACCEPTED if new else status.HTTP_200_OK
    return Response(body, status=code, headers={"Location": body["url"], "Retry-After": "2"})
