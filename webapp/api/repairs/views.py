"""Repairs: start, list, watch, cancel, try again, fetch the results."""

from __future__ import annotations

from uuid import UUID

from django.http import HttpResponse, HttpResponseBase
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, PolymorphicProxySerializer, extend_schema
from rest_framework import serializers, status
from rest_framework.request import Request
from rest_framework.response import Response

from webapp import waiting
from webapp.api.base import APIView, ListQuery, ListView, Query
from webapp.api.fields import Line
from webapp.api.problems import PROBLEM
from webapp.api.repairs.bodies import CreateRepairSerializer, EditSerializer, FollowUpSerializer, SetSerializer
from webapp.api.repairs.serializers import (
    ChoiceSerializer,
    LiveSerializer,
    RepairRowSerializer,
    RepairSerializer,
    SetSaidSerializer,
    shown,
)
from webapp.api.repairs.starting import IDEMPOTENCY_KEY, STARTED, of_any_job, started
from webapp.downloads import send_artifact
from webapp.jobs import access, choice, followups, listing, live, queueing, removal, selectors, services
from webapp.jobs.listing import SORTS
from webapp.jobs.models import Job
from webapp.jobs.naming import KINDS
from webapp.jobs.requests import asked
from webapp.jobs.results import MEDIA_TYPES
from webapp.jobs.services import TAG_LENGTH
from webapp.jobs.triggers import Patch
from webapp.library.errors import Refused

WAITS = [
    OpenApiParameter(
        "If-None-Match", str, OpenApiParameter.HEADER,
        description="The ETag of an earlier answer: 304 while what is shown is the same.",
    ),
    OpenApiParameter(
        "Prefer", str, OpenApiParameter.HEADER,
        description=f"wait=SECONDS (RFC 7240, at most {waiting.LONGEST}), with If-None-Match: the answer comes as soon "
        "as something has changed, or after that time. Preference-Applied says that this server does so; others answer "
        "at once.",
    ),
]  # fmt: skip
SEEN = OpenApiResponse(description="It is as it was when the ETag was given; after Prefer: wait, for that long.")
_TYPES = sorted({*MEDIA_TYPES.values(), "application/octet-stream"})


class RepairQuery(ListQuery):
    state = serializers.ChoiceField(Job.State.choices, required=False)
    outcome = serializers.ChoiceField(Job.Outcome.choices, required=False)
    kind = serializers.ChoiceField(list(KINDS), required=False, help_text="by-hand: filters were chosen by hand.")
    model = serializers.UUIDField(required=False)
    dataset = serializers.UUIDField(required=False)
    team = serializers.IntegerField(required=False, min_value=1, max_value=2**63 - 1)
    tag = Line(required=False, max_length=TAG_LENGTH)
    q = Line(required=False, max_length=200, help_text="Words, each in the name, a tag, the model's or dataset's name.")
    archived = serializers.ChoiceField(
        ["false", "true", "all"], required=False, help_text="Archived runs are left out by default (false)."
    )
    sort = serializers.ChoiceField(
        [sign + key for key in SORTS for sign in ("", "-")],
        required=False,
        help_text="With a minus: descending. Default: -created. What has no such figure comes last.",
    )


class DeleteQuery(Query):
    for_good = serializers.BooleanField(required=False, help_text="At once; it cannot come back.")


class EventsQuery(Query):
    after = serializers.IntegerField(
        required=False, min_value=0, max_value=2**63 - 1, help_text="Only events with a greater id."
    )


class ResultQuery(Query):
    inline = serializers.BooleanField(required=False, help_text="Show it instead of downloading it.")


class RepairList(ListView):
    """Your repairs and those of your teams, the newest first unless `sort` says otherwise."""

    queries = {"GET": RepairQuery}

    serializer_class = RepairRowSerializer

    def get_queryset(self):
        runs, asked = access.jobs_of(self.request.user), dict(self.query)
        if (archived := asked.get("archived", "false")) != "all":
            runs = runs.filter(archived_at__isnull=archived == "false")
        if "outcome" in asked:
            runs = runs.filter(outcome=asked["outcome"])
        return listing.rows(listing.chosen(runs, asked))

    @extend_schema(
        parameters=[IDEMPOTENCY_KEY],
        request=PolymorphicProxySerializer(
            "NewRepair", [CreateRepairSerializer, FollowUpSerializer], resource_type_field_name=None
        ),
        responses=STARTED,
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
                parent=access.job_for(user, values["from"], access.EDIT),
                filters=values.get("filters", ()),
                metric=values.get("metric"),
                changes=values,
                **more,
            )
        else:
            job, new = services.create_job(
                owner=user,
                model=access.model_for(user, values["model"], access.EDIT),
                dataset=access.dataset_for(user, values["dataset"], access.EDIT),
                guard=access.dataset_for(user, values["guard"], access.EDIT) if values.get("guard") else None,
                triggered=access.dataset_for(user, values["triggered"], access.EDIT)
                if values.get("triggered")
                else None,
                trigger=Patch.of_text(values["trigger"]) if values.get("trigger") else None,
                surrogates=[access.model_for(user, pk, access.EDIT) for pk in values.get("surrogates", [])],
                asked=asked(data.asked),
                device=values.get("device", "auto"),
                **more,
            )
        return started(request, job, new)


class RepairDetail(APIView):
    """One repair."""

    queries = {"DELETE": DeleteQuery}

    @extend_schema(parameters=WAITS, responses={200: RepairSerializer, 304: SEEN, 404: PROBLEM})
    def get(self, request: Request, pk: UUID) -> HttpResponse:
        """Where it is, and when it has ended what came of it."""
        job = access.watched_job_for(request.user, pk)
        return waiting.unless_seen(request, [job], lambda: Response(shown(job, request)))

    @extend_schema(
        request=EditSerializer, responses={200: RepairSerializer, **dict.fromkeys((400, 403, 404, 409), PROBLEM)}
    )
    def patch(self, request: Request, pk: UUID) -> Response:
        """Rename it, give it tags, put it into the archive or take it out; say which of your runs comes first. What
        is left out stays as it is. 409: it is not as it was seen (`revision`), or has ended and has no priority."""
        job = access.job_for(request.user, pk, access.EDIT)
        data = EditSerializer(data=request.data)
        data.is_valid(raise_exception=True)
        if "priority" in data.validated_data:
            queueing.prioritize(by=request.user, job=job, priority=data.validated_data["priority"])
        if data.changes or "priority" not in data.validated_data:
            services.edit_job(job=job, **data.changes)
        return Response(RepairSerializer(job, context={"request": request}).data)

    @extend_schema(responses={204: None, 404: PROBLEM, 409: PROBLEM})
    def delete(self, request: Request, pk: UUID) -> Response:
        """Delete an ended repair with its results. Refused (409) while it runs. For 10 minutes it can come back
        (`restore/`), and its results count in your quota; with `for_good` it is gone at once."""
        job = access.job_for(request.user, pk, access.OWN)
        removal.delete_job(job)
        if self.query.get("for_good"):
            removal.purge(job)
        return Response(status=status.HTTP_204_NO_CONTENT)


class RepairRestore(APIView):
    """Take a deletion back."""

    @extend_schema(request=None, responses={200: RepairSerializer, 404: PROBLEM})
    def post(self, request: Request, pk: UUID) -> Response:
        """Within 10 minutes of its deletion. 404: it was not deleted, or is gone."""
        job = access.deleted_job_for(request.user, pk)
        removal.restore([job])
        job = access.job_for(request.user, pk, access.SEE)
        return Response(RepairSerializer(job, context={"request": request}).data)


class RepairCancel(APIView):
    """Stop a repair."""

    @extend_schema(request=None, responses={200: RepairSerializer, 404: PROBLEM, 409: PROBLEM})
    def post(self, request: Request, pk: UUID) -> Response:
        """Cancel, at any stage. Twice is no error; what has ended otherwise answers 409."""
        job = access.job_for(request.user, pk, access.EDIT)
        services.cancel_job(job=job)
        job.refresh_from_db()
        if job.state != Job.State.CANCELED:
            raise Refused(f"This {job.word} has ended: it {job.state}.", status=409)
        return Response(RepairSerializer(job, context={"request": request}).data)


class RepairPause(APIView):
    """Let a run's workers go."""

    @extend_schema(request=None, responses={200: RepairSerializer, 404: PROBLEM, 409: PROBLEM})
    def post(self, request: Request, pk: UUID) -> Response:
        """No further piece of it is begun; pieces under way end with their block, and what is done is kept. Twice is no
        error; what has ended answers 409."""
        job = access.job_for(request.user, pk, access.EDIT)
        queueing.pause(by=request.user, job=job)
        return Response(RepairSerializer(job, context={"request": request}).data)


class RepairResume(APIView):
    """Go on with a run that was paused."""

    @extend_schema(request=None, responses={200: RepairSerializer, 404: PROBLEM, 409: PROBLEM})
    def post(self, request: Request, pk: UUID) -> Response:
        """It goes on from the blocks that are done, with the same result as without the pause, when its turn comes.
        What is not paused stays as it is; what has ended answers 409."""
        job = access.job_for(request.user, pk, access.EDIT)
        queueing.resume(by=request.user, job=job)
        return Response(RepairSerializer(job, context={"request": request}).data)


class RepairRetry(APIView):
    """Take up a repair again."""

    @extend_schema(request=None, responses={202: RepairSerializer, 404: PROBLEM, 409: PROBLEM})
    def post(self, request: Request, pk: UUID) -> Response:
        """Go on with what failed on our side (fault: server), from what is done. Anything else answers 409."""
        job = access.job_for(request.user, pk, access.EDIT)
        services.retry_job(job=job)
        job.refresh_from_db()
        return Response(RepairSerializer(job, context={"request": request}).data, status=status.HTTP_202_ACCEPTED)


class RepairChoice(APIView):
    """What a finished repair can be chosen anew from. All figures are of the select images; nothing is written."""

    @extend_schema(responses={200: ChoiceSerializer, 404: PROBLEM, 409: PROBLEM})
    def get(self, request: Request, pk: UUID) -> Response:
        """Every prefix of every order of removal that was tried. 409: the run kept none (it is no repair, or has not
        finished, or is from before they were kept)."""
        return Response(choice.document(access.job_for(request.user, pk, access.SEE)))

    @extend_schema(
        request=SetSerializer,
        responses={200: SetSaidSerializer, 202: SetSaidSerializer, **dict.fromkeys((400, 404, 409), PROBLEM)},
    )
    def post(self, request: Request, pk: UUID) -> Response:
        """What another set of filters does to the select images. 200: answered, once for whoever asks; 202: a worker
        is asked, ask again. A set that breaks a limit is answered like any other. To export it: `POST /repairs/` with
        `from` and `filters`."""
        job = access.job_for(request.user, pk, access.EDIT)
        data = SetSerializer(data=request.data)
        data.is_valid(raise_exception=True)
        found = choice.said(job, data.validated_data["filters"])
        if found["figures"] is None and not found["error"]:
            return Response(found, status=status.HTTP_202_ACCEPTED, headers={"Retry-After": "1"})
        return Response(found)


class RepairEvents(APIView):
    """What a page or a client that watches a repair needs."""

    queries = {"GET": EventsQuery}

    @extend_schema(parameters=WAITS, responses={200: LiveSerializer, 304: SEEN, 404: PROBLEM})
    def get(self, request: Request, pk: UUID) -> HttpResponse:
        """Progress, the present leaders, the convergence series, and events after an id."""
        job = access.watched_job_for(request.user, pk, charts=True)
        return waiting.unless_seen(request, [job], lambda: Response(self._now(job)))

    def _now(self, job: Job) -> dict:
        now = {
            "progress": live.progress(job).to_json(),
            "leaders": live.leaders(job),
            "series": live.series(job),
            "events": selectors.events(job, after=self.query.get("after", 0)),
        }
        return LiveSerializer(now).data


class RepairResult(APIView):
    """A file of the result."""

    queries = {"GET": ResultQuery}

    @extend_schema(
        responses={
            (200, *_TYPES): OpenApiTypes.BINARY,
            (206, *_TYPES): OpenApiTypes.BINARY,
            304: None,
            404: PROBLEM,
            416: OpenApiResponse(description="The range begins behind the file's end."),
        },
    )
    def get(self, request: Request, pk: UUID, name: str) -> HttpResponseBase:
        """Download. ETag is the file's sha256; Range is understood; Repr-Digest says the sha256."""
        inline = self.query.get("inline", False)
        return send_artifact(request, access.artifact_for(request.user, pk, name), inline=inline)
