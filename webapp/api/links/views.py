"""Links at which a finished run can be seen without an account: list, make, revoke."""

from __future__ import annotations

from uuid import UUID

from drf_spectacular.utils import extend_schema
from rest_framework import serializers, status
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.reverse import reverse

from webapp.api.base import APIView, Body
from webapp.api.fields import Line
from webapp.api.problems import PROBLEM
from webapp.api.tokens.views import to_come
from webapp.jobs import access, sharing
from webapp.jobs.models import ShareLink


class LinkSerializer(Body, serializers.ModelSerializer):
    name = Line(required=False, max_length=100, help_text="For whom; nobody else sees it.")

    class Meta:
        model = ShareLink
        fields = ["id", "name", "weights", "expires_at", "created_at", "seen_at"]
        read_only_fields = ["id", "created_at", "seen_at"]
        extra_kwargs = {
            "weights": {
                "help_text": "The checkpoint goes with it, and what else of the files a model is made of. Default: "
                "reports and tables alone."
            },
            "expires_at": {"help_text": "When it stops working; null (the default): when it is revoked."},
            "seen_at": {"help_text": "When it was last opened, to the minute."},
        }

    validate_expires_at = staticmethod(to_come)


class CreatedLinkSerializer(LinkSerializer):
    url = serializers.URLField(read_only=True, help_text="Shown this once.")

    class Meta(LinkSerializer.Meta):
        fields = [*LinkSerializer.Meta.fields, "url"]


class LinkList(APIView):
    """Links to one run."""

    @extend_schema(operation_id="repairs_links_list", responses={200: LinkSerializer(many=True), 404: PROBLEM})
    def get(self, request: Request, pk: UUID) -> Response:
        """Those that were not revoked, the newest first (never their addresses)."""
        return Response(LinkSerializer(access.links_of(access.job_for(request.user, pk, access.OWN)), many=True).data)

    @extend_schema(
        request=LinkSerializer,
        responses={201: CreatedLinkSerializer, **dict.fromkeys((400, 404, 409), PROBLEM)},
    )
    def post(self, request: Request, pk: UUID) -> Response:
        """Make a link: whoever has its address sees the result with its images, without an account, to read only. 409:
        the run has not succeeded."""
        job = access.job_for(request.user, pk, access.OWN)
        data = LinkSerializer(data=request.data)
        data.is_valid(raise_exception=True)
        link, token = sharing.create_link(job=job, **data.validated_data)
        url = reverse("shared:run", args=[token], request=request)
        return Response({**LinkSerializer(link).data, "url": url}, status=status.HTTP_201_CREATED)


class LinkDetail(APIView):
    """One link."""

    @extend_schema(responses={204: None, 404: PROBLEM})
    def delete(self, request: Request, pk: UUID, link: int) -> Response:
        """Revoke it, at once and for good."""
        sharing.revoke_link(link=access.link_for(request.user, pk, link))
        return Response(status=status.HTTP_204_NO_CONTENT)
