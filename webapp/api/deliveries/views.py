"""Calls to webhooks: see them, and send one again."""

from __future__ import annotations

from uuid import UUID

from drf_spectacular.utils import extend_schema
from rest_framework import serializers, status
from rest_framework.request import Request
from rest_framework.response import Response

from webapp.api.base import APIView, ListQuery, ListView
from webapp.api.problems import PROBLEM
from webapp.jobs import access, webhooks
from webapp.jobs.models import Delivery


class DeliverySerializer(serializers.ModelSerializer):
    repair = serializers.UUIDField(source="job_id")
    attempts = serializers.IntegerField(help_text="Since it was last asked for.")
    status = serializers.IntegerField(allow_null=True, help_text="HTTP, of the latest answer; null: there was none.")
    last_error = serializers.CharField(help_text="Empty once it has arrived.")

    class Meta:
        model = Delivery
        fields = ["id", "repair", "event", "state", "attempts", "status", "last_error", "created_at", "called_at"]


class DeliveryQuery(ListQuery):
    repair = serializers.UUIDField(required=False)
    state = serializers.ChoiceField(Delivery.State.choices, required=False)


class DeliveryList(ListView):
    """Calls to the webhooks of your runs, and of those of teams in which you are an editor; the latest first."""

    queries = {"GET": DeliveryQuery}
    serializer_class = DeliverySerializer

    def get_queryset(self):
        columns = {"repair": "job", "state": "state"}
        asked = {column: self.query[name] for name, column in columns.items() if name in self.query}
        return access.deliveries_of(self.request.user).filter(**asked)


class DeliveryAgain(APIView):
    """One call."""

    @extend_schema(request=None, responses={202: DeliverySerializer, 404: PROBLEM, 409: PROBLEM})
    def post(self, request: Request, pk: UUID) -> Response:
        """Send it once more, with the run as it is now and the same `id`. 409: it is under way."""
        found = access.delivery_for(request.user, pk)
        webhooks.call_again(found)
        found.refresh_from_db()
        return Response(DeliverySerializer(found).data, status=status.HTTP_202_ACCEPTED)
