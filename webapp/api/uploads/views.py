"""Models and datasets: list, upload, look at, delete."""

from __future__ import annotations

from uuid import UUID

from drf_spectacular.utils import extend_schema
from rest_framework import serializers, status
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.reverse import reverse

from webapp.api.base import DetailView, ListQuery, ListView
from webapp.api.parsing import JSONParser, MultiPartParser
from webapp.api.problems import PROBLEM
from webapp.api.uploads.serializers import (
    SHA256,
    CreateDatasetSerializer,
    CreateModelSerializer,
    DatasetSerializer,
    KnownDatasetSerializer,
    KnownModelSerializer,
    ModelSerializer,
)
from webapp.jobs import access, reaper, removal
from webapp.library import services, uploads


class UploadQuery(ListQuery):
    team = serializers.IntegerField(required=False, min_value=1, max_value=2**63 - 1)
    sha256 = serializers.RegexField(SHA256, required=False, help_text="Only uploads of the file with this hash.")


def need(request: Request) -> access.May:
    """For one upload: to look at it, or to delete it."""
    return access.OWN if request.method == "DELETE" else access.SEE


def _created(request: Request, upload, new: bool, serializer: type, route: str) -> Response:
    """201 for a new upload, 200 for one that was there: same file and same settings are one upload."""
    location = reverse(route, args=[upload.pk], request=request)
    code = status.HTTP_201_CREATED if new else status.HTTP_200_OK
    return Response(serializer(upload).data, status=code, headers={"Location": location})


def _asked(rows, view: ListView):
    for name, column in (("sha256", "blob_id"), ("team", "team")):
        rows = rows.filter(**{column: view.query[name]}) if name in view.query else rows
    return rows


def _read(request: Request, sent: type[serializers.Serializer], known: type[serializers.Serializer]):
    """A file that comes as a form, or one that is here already, named in JSON."""
    is_form = request.content_type.startswith("multipart/")
    data = (sent if is_form else known)(data=request.data, context={"owner": request.user})
    data.is_valid(raise_exception=True)
    return {**data.validated_data, "owner": request.user}


class TakesFile:
    """Files are let in once it is known who sends them, and that they may: what a stranger sends is thrown away."""

    takes_file: str

    def initial(self, request: Request, *args: object, **kwargs: object) -> None:
        super().initial(request, *args, **kwargs)  # type: ignore[misc]
        if request.method == "POST":
            uploads.accept(request._request, request.user, self.takes_file)


class UploadDetail(DetailView):
    """One upload, as it is after whatever ran out was put right."""

    def get(self, request: Request, pk: UUID) -> Response:
        reaper.reap()
        return super().get(request, pk)

    @extend_schema(responses={204: None, 404: PROBLEM, 409: PROBLEM})
    def delete(self, request: Request, pk: UUID) -> Response:
        """Delete it. Refused (409) while a repair refers to it."""
        removal.delete_upload(self.get_object())
        return Response(status=status.HTTP_204_NO_CONTENT)


class ModelList(TakesFile, ListView):
    """Your models and those of your teams."""

    takes_file = "model"

    parser_classes = [MultiPartParser, JSONParser]
    queries = {"GET": UploadQuery}
    serializer_class = ModelSerializer

    def get_queryset(self):
        return _asked(access.models_of(self.request.user), self)

    @extend_schema(
        request={"multipart/form-data": CreateModelSerializer, "application/json": KnownModelSerializer},
        responses={201: ModelSerializer, 200: ModelSerializer, **dict.fromkeys((400, 404, 409, 413), PROBLEM)},
    )
    def post(self, request: Request) -> Response:
        """Upload a checkpoint. It is checked afterwards: `state` becomes `ready` or `rejected`. As JSON: name a file
        that has arrived at `/uploads/` by its id (409: not all of it), or one that you have uploaded before by its
        SHA-256 (404: you have not)."""
        data = _read(request, CreateModelSerializer, KnownModelSerializer)
        upload, new = services.create_model(**data)
        return _created(request, upload, new, ModelSerializer, "api:model")


class ModelDetail(UploadDetail):
    """One model."""

    serializer_class = ModelSerializer

    def get_object(self):
        return access.model_for(self.request.user, self.kwargs["pk"], need(self.request))


class DatasetList(TakesFile, ListView):
    """Your datasets and those of your teams."""

    takes_file = "dataset"

    parser_classes = [MultiPartParser, JSONParser]
    queries = {"GET": UploadQuery}
    serializer_class = DatasetSerializer

    def get_queryset(self):
        return _asked(access.datasets_of(self.request.user), self)

    @extend_schema(
        request={"multipart/form-data": CreateDatasetSerializer, "application/json": KnownDatasetSerializer},
        responses={201: DatasetSerializer, 200: DatasetSerializer, **dict.fromkeys((400, 404, 409, 413), PROBLEM)},
    )
    def post(self, request: Request) -> Response:
        """Upload a zip of labelled images. It is checked next: `state` becomes `ready` or `rejected`. As
        JSON: name a file that has arrived at `/uploads/` by its id (409: not all of it), or one that you have uploaded
        before by its SHA-256 (404: you have not)."""
        data = _read(request, CreateDatasetSerializer, KnownDatasetSerializer)
        upload, new = services.create_dataset(**data)
        return _created(request, upload, new, DatasetSerializer, "api:dataset")


class DatasetDetail(UploadDetail):
    """One dataset."""

    serializer_class = DatasetSerializer

    def get_object(self):
        return access.dataset_for(self.request.user, self.kwargs["pk"], need(self.request))
