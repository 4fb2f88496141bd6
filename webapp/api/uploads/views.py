"""Models and datasets: list, upload, look at, delete."""

from __future__ import annotations

from uuid import UUID

from drf_spectacular.utils import OpenApiResponse, extend_schema
from rest_framework import generics, status
from rest_framework.parsers import MultiPartParser
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.reverse import reverse

from webapp import access
from webapp.api.problems import ProblemSerializer
from webapp.api.uploads.serializers import (
    CreateDatasetSerializer,
    CreateModelSerializer,
    DatasetSerializer,
    ModelSerializer,
)
from webapp.jobs import reaper
from webapp.library import services, uploads

PROBLEM = OpenApiResponse(ProblemSerializer, "What is wrong.")


def _created(request: Request, upload, new: bool, serializer: type, route: str) -> Response:
    """201 for a new upload, 200 for one that was there: same file and same settings are one upload."""
    location = reverse(route, args=[upload.pk], request=request)
    code = status.HTTP_201_CREATED if new else status.HTTP_200_OK
    return Response(serializer(upload).data, status=code, headers={"Location": location})


class TakesFile:
    """Files are let in once it is known who sends them, and that they may: what a stranger sends is thrown away."""

    takes_file: str

    def initial(self, request: Request, *args: object, **kwargs: object) -> None:
        super().initial(request, *args, **kwargs)  # type: ignore[misc]
        if request.method == "POST":
            uploads.accept(request._request, request.user, self.takes_file)


class ModelList(TakesFile, generics.ListAPIView):
    """Your models."""

    takes_file = "model"

    parser_classes = [MultiPartParser]
    serializer_class = ModelSerializer

    def get_queryset(self):
        return access.models_of(self.request.user)

    @extend_schema(
        request={"multipart/form-data": CreateModelSerializer},
        responses={201: ModelSerializer, 200: ModelSerializer, 400: PROBLEM, 413: PROBLEM},
    )
    def post(self, request: Request) -> Response:
        """Upload a checkpoint. It is checked afterwards: `state` becomes `ready` or `rejected`."""
        data = CreateModelSerializer(data=request.data)
        data.is_valid(raise_exception=True)
        upload, new = services.create_model(owner=request.user, **data.validated_data)
        return _created(request, upload, new, ModelSerializer, "api:model")


class ModelDetail(generics.RetrieveDestroyAPIView):
    """One model."""

    serializer_class = ModelSerializer

    def get_object(self):
        return access.model_for(self.request.user, self.kwargs["pk"])

    def get(self, request: Request, pk: UUID) -> Response:
        reaper.reap()
        return super().get(request, pk)

    @extend_schema(responses={204: None, 404: PROBLEM, 409: PROBLEM})
    def delete(self, request: Request, pk: UUID) -> Response:
        """Delete it. Refused (409) while a repair refers to it."""
        services.delete_upload(upload=self.get_object())
        return Response(status=status.HTTP_204_NO_CONTENT)


class DatasetList(TakesFile, generics.ListAPIView):
    """Your datasets."""

    takes_file = "dataset"

    parser_classes = [MultiPartParser]
    serializer_class = DatasetSerializer

    def get_queryset(self):
        return access.datasets_of(self.request.user)

    @extend_schema(
        request={"multipart/form-data": CreateDatasetSerializer},
        responses={201: DatasetSerializer, 200: DatasetSerializer, 400: PROBLEM, 413: PROBLEM},
    )
    def post(self, request: Request) -> Response:
        """Upload a zip of labelled images. It is checked next: `state` becomes `ready` or `rejected`."""
        data = CreateDatasetSerializer(data=request.data)
        data.is_valid(raise_exception=True)
        upload, new = services.create_dataset(owner=request.user, **data.validated_data)
        return _created(request, upload, new, DatasetSerializer, "api:dataset")


class DatasetDetail(generics.RetrieveDestroyAPIView):
    """One dataset."""

    serializer_class = DatasetSerializer

    def get_object(self):
        return access.dataset_for(self.request.user, self.kwargs["pk"])

    def get(self, request: Request, pk: UUID) -> Response:
        reaper.reap()
        return super().get(request, pk)

    @extend_schema(responses={204: None, 404: PROBLEM, 409: PROBLEM})
    def delete(self, request: Request, pk: UUID) -> Response:
        """Delete it. Refused (409) while a repair refers to it."""
        services.delete_upload(upload=self.get_object())
        return Response(status=status.HTTP_204_NO_CONTENT)
