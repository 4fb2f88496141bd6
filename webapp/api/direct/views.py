"""Uploads straight to the object store: announced here, sent there, and read back before anything is made of them."""

from __future__ import annotations

from dataclasses import asdict
from uuid import UUID

from drf_spectacular.utils import extend_schema
from rest_framework import serializers, status
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.reverse import reverse

from webapp.api.base import APIView, Body, ListQuery, ListView
from webapp.api.fields import Line
from webapp.api.problems import PROBLEM
from webapp.api.uploads.serializers import SHA256
from webapp.jobs import access
from webapp.library import direct
from webapp.library.models import ResumableUpload


class DirectUploadSerializer(serializers.ModelSerializer):
    arrived = serializers.BooleanField(
        source="is_whole",
        read_only=True,
        help_text="It was completed and is what was announced: it can be made a model or a dataset of.",
    )

    class Meta:
        model = ResumableUpload
        fields = ["id", "kind", "file_name", "size", "sha256", "arrived", "created_at", "expires_at"]
        read_only_fields = fields
        extra_kwargs = {
            "kind": {"help_text": "model or dataset, as announced."},
            "size": {"help_text": "Bytes, as announced."},
            "sha256": {"help_text": "As announced."},
            "expires_at": {"help_text": "When it goes, unless addresses are asked for again."},
        }


class AnnounceSerializer(Body):
    file_name = Line(max_length=255)
    kind = serializers.ChoiceField(
        ResumableUpload.Kind.choices, required=False, help_text="What it shall be: its limit is asked then."
    )
    size = serializers.IntegerField(min_value=1, max_value=10**18 - 1, help_text="Bytes.")
    sha256 = serializers.RegexField(SHA256, help_text="Of the whole file, which is refused where it has another.")


class AddressSerializer(serializers.Serializer):
    number = serializers.IntegerField(help_text="From 1.")
    start = serializers.IntegerField(help_text="Where in the file the part begins, in bytes.")
    size = serializers.IntegerField(help_text="Its bytes: no more and no less are taken.")
    url = serializers.CharField(help_text="PUT it there, as the whole body and without the token, soon.")


class MissingSerializer(serializers.Serializer):
    there = serializers.IntegerField(help_text="Bytes that the store has.")
    parts = AddressSerializer(many=True, help_text="The next that it does not have; none: complete it.")


class UploadQuery(ListQuery):
    sha256 = serializers.RegexField(SHA256, required=False, help_text="Only those of the file with this hash.")


class DirectUploadList(ListView):
    """Your files on their way straight to the store."""

    queries = {"GET": UploadQuery}
    serializer_class = DirectUploadSerializer

    def get_queryset(self):
        rows = access.direct_of(self.request.user)
        return rows.filter(sha256=self.query["sha256"]) if "sha256" in self.query else rows

    @extend_schema(
        request=AnnounceSerializer,
        responses={201: DirectUploadSerializer, **dict.fromkeys((409, 413, 429, 503, 507), PROBLEM)},
    )
    def post(self, request: Request) -> Response:
        """Announce a file. Its room in your quota is held from now on. 409: this server's store takes none; send it to
        `/uploads/` (tus)."""
        asked = AnnounceSerializer(data=request.data)
        asked.is_valid(raise_exception=True)
        said = asked.validated_data
        upload = direct.create(
            owner=request.user, size=said["size"], name=said["file_name"], sha256=said["sha256"],
            kind=said.get("kind", ""),
        )  # fmt: skip
        location = reverse("api:direct_upload", args=[upload.pk])
        return Response(
            DirectUploadSerializer(upload).data, status=status.HTTP_201_CREATED, headers={"Location": location}
        )


class DirectUploadDetail(APIView):
    """One of them."""

    @extend_schema(operation_id="direct_uploads_retrieve", responses={200: DirectUploadSerializer, 404: PROBLEM})
    def get(self, request: Request, pk: UUID) -> Response:
        """As announced, and whether it has arrived."""
        return Response(DirectUploadSerializer(access.direct_for(request.user, pk)).data)

    @extend_schema(responses={204: None, 404: PROBLEM, 423: PROBLEM})
    def delete(self, request: Request, pk: UUID) -> Response:
        """Give it up: what arrived goes, from the store too."""
        direct.terminate(access.direct_for(request.user, pk))
        return Response(status=status.HTTP_204_NO_CONTENT)


class DirectUploadParts(APIView):
    """What is missing of one."""

    @extend_schema(request=None, responses={200: MissingSerializer, **dict.fromkeys((404, 409, 413, 503), PROBLEM)})
    def post(self, request: Request, pk: UUID) -> Response:
        """How much the store has, and addresses for the next parts that it does not have, up to 16. Ask again when they
        are sent, or where one did not get through; its two days begin anew."""
        found = direct.missing(access.direct_for(request.user, pk))
        return Response(asdict(found), headers={"Cache-Control": "no-store"})


class DirectUploadComplete(APIView):
    """The end of one."""

    @extend_schema(
        request=None,
        responses={200: DirectUploadSerializer, **dict.fromkeys((404, 409, 413, 422, 423, 503, 507), PROBLEM)},
    )
    def post(self, request: Request, pk: UUID) -> Response:
        """All parts are sent. The server reads them back: 422, they are not the file that was announced (it is gone
        then); 409: some are missing; 423: it is being read, ask again. Then name it by its id as `upload` at `/models/`
        or `/datasets/`."""
        upload = access.direct_for(request.user, pk)
        direct.complete(upload)
        return Response(DirectUploadSerializer(upload).data)
