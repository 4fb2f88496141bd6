"""Repairs: start, list, watch, cancel, fetch the results."""

from __future__ import annotations

from uuid import UUID

from django.http import HttpResponseBase
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, PolymorphicProxySerializer, extend_schema
from rest_framework import generics, serializers, status
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from webapp import access
from webapp.api.repairs.serializers import (
    CreatedRepairSerializer,
    CreateRepairSerializer,
    FollowUpSerializer,
    LiveSerializer,
    RepairRowSerializer,
    RepairSerializer,
)
from webapp.api.repairs.starting import of_any_job, started
from webapp.api.uploads.views import PROBLEM
from webapp.downloads import send_artifact
from webapp.jobs import followups, reaper, selectors, services
from webapp.jobs.models import Job
from webapp.jobs.requests import Asked


class RepairList(generics.ListAPIView):
    """Your repairs, the newest first."""

    serializer_class = RepairRowSerializer

    def get_queryset(self):
        rows = access.jobs_of(self.request.user)
        if state := self.request.query_params.get("state"):
            if state not in Job.State.values:
                raise serializers.ValidationError({"state": f"One of {', '.join(Job.State.values)}."})
            rows = rows.filter(state=state)
        return rows

    @extend_schema(parameters=[OpenApiParameter("state", str, enum=Job.State.values)])
    def get(self, request: Request) -> Response:
        return super().get(request)

    @extend_schema(
        parameters=[
            OpenApiParameter(
                "Idempotency-Key",
                str,
                OpenApiParameter.HEADER,
                description="Sent again with the same request, it gives the same repair.",
            )
        ],
        request=PolymorphicProxySerializer(
            "NewRepair", [CreateRepairSerializer, FollowUpSerializer], resource_type_field_name=None
        ),
        responses={
            202: CreatedRepairSerializer,
            200: RepairSerializer,
            400: PROBLEM,
            409: PROBLEM,
            413: PROBLEM,
            422: PROBLEM,
        },
    )
    def post(self, request: Request) -> Response:
        """Start a repair, or with `from` go on from a finished run. 202: it was taken on; 200: this Idempotency-Key
        has started it before."""
        goes_on = isinstance(request.data, dict) and "from" in request.data
        data = (FollowUpSerializer if goes_on else CreateRepairSerializer)(data=request.data)
        data.is_valid(raise_exception=True)
        values, user = data.validated_data, request.user
        more = of_any_job(request, values)
        if goes_on:
            job, new = followups.follow_up(
                owner=user,
                parent=access.job_for(user, values["from"]),
                filters=values.get("filters", ()),
                metric=values.get("metric"),
                changes=values,
                **more,
            )
        else:
            job, new = services.create_job(
                owner=user,
                model=access.model_for(user, values["model"]),
                dataset=access.dataset_for(user, values["dataset"]),
                guard=access.dataset_for(user, values["guard"]) if values.get("guard") else None,
                surrogates=[access.model_for(user, pk) for pk in values.get("surrogates", [])],
                asked=Asked.from_json(data.asked),
                device=values["device"],
                **more,
            )
        return started(request, job, new)


class RepairDetail(APIView):
    """One repair."""

    @extend_schema(responses={200: RepairSerializer, 404: PROBLEM})
    def get(self, request: Request, pk: UUID) -> Response:
        """Where it is, and when it has ended what came of it."""
        reaper.reap()
        job = access.job_for(request.user, pk)
        return Response(RepairSerializer(job, context={"request": request}).data)

    @extend_schema(responses={204: None, 404: PROBLEM, 409: PROBLEM})
    def delete(self, request: Request, pk: UUID) -> Response:
        """Delete an ended repair with its results. Refused (409) while it runs."""
        services.delete_job(job=access.job_for(request.user, pk))
        return Response(status=status.HTTP_204_NO_CONTENT)


class RepairCancel(APIView):
    """Stop a repair."""

    @extend_schema(request=None, responses={200: RepairSerializer, 404: PROBLEM, 409: PROBLEM})
    def post(self, request: Request, pk: UUID) -> Response:
        """Cancel, at any stage. Twice is no error; what has ended otherwise answers 409."""
        job = access.job_for(request.user, pk)
        services.cancel_job(job=job)
        job.refresh_from_db()
        code = status.HTTP_200_OK if job.state == Job.State.CANCELED else status.HTTP_409_CONFLICT
        return Response(RepairSerializer(job, context={"request": request}).data, status=code)


class RepairEvents(APIView):
    """What a page or a client that watches a repair needs."""

    @extend_schema(
        parameters=[OpenApiParameter("after", int, description="Only events with a greater id.")],
        responses={200: LiveSerializer, 404: PROBLEM},
    )
    def get(self, request: Request, pk: UUID) -> Response:
        """Progress, the present leaders, the convergence series, and events after an id."""
        reaper.reap()
        job = access.job_for(request.user, pk)
        try:
            after = int(request.query_params.get("after", 0))
        except ValueError:
            raise serializers.ValidationError({"after": "A whole number."}) from None
        live = {
            "progress": selectors.progress(job).to_json(),
            "leaders": selectors.leaders(job),
            "series": selectors.series(job),
            "events": selectors.events(job, after=after),
        }
        return Response(LiveSerializer(live).data)


class RepairResult(APIView):
    """A file of the result."""

    @extend_schema(
        parameters=[OpenApiParameter("inline", bool, description="Show it instead of downloading it.")],
        responses={(200, "application/octet-stream"): OpenApiTypes.BINARY, 404: PROBLEM},
    )
    def get(self, request: Request, pk: UUID, name: str) -> HttpResponseBase:
        """Download. ETag is the file's sha256; Range is understood; Repr-Digest says the sha256."""
        inline = request.query_params.get("inline") in ("1", "true")
        return send_artifact(request, access.artifact_for(request.user, pk, name), inline=inline)
