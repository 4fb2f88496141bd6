"""Uploads that survive a broken line: tus 1.0 with creation, expiration, checksum and termination."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.http import HttpRequest
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework import exceptions, serializers, status
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.reverse import reverse

from webapp.api.base import APIView, ListQuery, ListView
from webapp.api.problems import PROBLEM
from webapp.api.resumable import headers
from webapp.api.uploads.serializers import SHA256
from webapp.jobs import access
from webapp.library import resumable
from webapp.library.models import ResumableUpload

OVERRIDDEN = ("PATCH", "DELETE", "HEAD")


class ResumableUploadSerializer(serializers.ModelSerializer):
    class Meta:
        model = ResumableUpload
        fields = ["id", "kind", "file_name", "size", "offset", "sha256", "created_at", "expires_at"]
        read_only_fields = fields
        extra_kwargs = {
            "kind": {"help_text": "model or dataset, as announced."},
            "size": {"help_text": "Bytes, as announced."},
            "offset": {"help_text": "Bytes that are here; all of them: it can be made a model or a dataset of."},
            "sha256": {"help_text": "As announced; where that was not said, of what arrived, once all of it is here."},
            "expires_at": {"help_text": "When it goes, unless more of it comes."},
        }


class UploadQuery(ListQuery):
    sha256 = serializers.RegexField(SHA256, required=False, help_text="Only those of the file with this hash.")


class Tus:
    """What all requests of the protocol have in common. Reading as JSON (GET) is no part of it."""

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        override = request.headers.get("X-HTTP-Method-Override", "").upper()
        if request.method == "POST" and override in OVERRIDDEN:  # for where a proxy lets no PATCH through
            request.method = override
        return super().dispatch(request, *args, **kwargs)  # type: ignore[misc]

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)  # type: ignore[misc]
        if request.method in ("POST", *OVERRIDDEN) and hasattr(self, request.method.lower()):  # else: 405
            headers.check_version(request)

    def options(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        return Response(status=status.HTTP_204_NO_CONTENT, headers=headers.of_server())

    def finalize_response(self, request: Request, response: Response, *args: Any, **kwargs: Any) -> Response:
        response["Tus-Resumable"] = headers.VERSION
        if response.status_code == 412:
            response["Tus-Version"] = headers.VERSION
        return super().finalize_response(request, response, *args, **kwargs)  # type: ignore[misc]


class UploadList(Tus, ListView):
    """Your files on their way."""

    queries = {"GET": UploadQuery}
    serializer_class = ResumableUploadSerializer

    def get_queryset(self):
        rows = access.resumable_of(self.request.user)
        return rows.filter(sha256=self.query["sha256"]) if "sha256" in self.query else rows

    @extend_schema(
        parameters=[headers.TUS, headers.LENGTH, headers.METADATA],
        request=None,
        responses={201: None, **dict.fromkeys((400, 412, 413, 429, 507), PROBLEM)},
    )
    def post(self, request: Request) -> Response:
        """Announce a file: `Location` is where its bytes go (PATCH). Its room in your quota is held from now on. Once
        all of it is there, name it by its id as `upload` at `/models/` or `/datasets/`."""
        size, said = headers.whole(request, "Upload-Length"), headers.announced(request)
        if not size:
            raise exceptions.ValidationError({"Upload-Length": f"{said.name} is empty."})
        upload = resumable.create(
            owner=request.user, size=size, name=said.name, kind=said.kind, sha256=said.sha256, metadata=said.raw
        )
        location = reverse("api:upload", args=[upload.pk])  # a path: a proxy may have another name and scheme
        told = {"Location": location, **headers.of_upload(upload)}
        return Response(status=status.HTTP_201_CREATED, headers=told)


class UploadDetail(Tus, APIView):
    """One file on its way."""

    @extend_schema(operation_id="uploads_retrieve", responses={200: ResumableUploadSerializer, 404: PROBLEM})
    def get(self, request: Request, pk: UUID) -> Response:
        """How much of it is here; HEAD says so as tus has it."""
        upload = access.resumable_for(request.user, pk)
        return Response(ResumableUploadSerializer(upload).data, headers=headers.of_upload(upload))

    @extend_schema(
        operation_id="uploads_append",
        parameters=[headers.TUS, headers.OFFSET, headers.CHECKSUM],
        request={headers.BODY: OpenApiTypes.BINARY},
        responses={204: None, **dict.fromkeys((400, 404, 409, 412, 413, 415, 422, 423, 460, 507), PROBLEM)},
    )
    def patch(self, request: Request, pk: UUID) -> Response:
        """Add bytes at the offset. 409: it is another; 423: somebody is adding; 460: they have another checksum; 422:
        all is there, and is not the file that was announced (it is gone then). What came before a connection broke
        counts, unless it had a checksum."""
        upload = access.resumable_for(request.user, pk)
        if request.content_type != headers.BODY:
            raise headers.OtherBody
        offset, checksum = headers.whole(request, "Upload-Offset"), headers.checksum(request)
        resumable.append(upload, offset, request._request, checksum=checksum)
        return Response(status=status.HTTP_204_NO_CONTENT, headers=headers.of_upload(upload))

    @extend_schema(
        operation_id="uploads_destroy",
        parameters=[headers.TUS],
        responses={204: None, **dict.fromkeys((404, 412, 423), PROBLEM)},
    )
    def delete(self, request: Request, pk: UUID) -> Response:
        """Give it up: what arrived goes."""
        resumable.terminate(access.resumable_for(request.user, pk))
        return Response(status=status.HTTP_204_NO_CONTENT)
