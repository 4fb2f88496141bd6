"""Who am I, and what does this server know."""

from __future__ import annotations

from drf_spectacular.utils import extend_schema, inline_serializer
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from webapp.api.base import APIView
from webapp.jobs.selectors import live_workers
from webapp.library.architectures import architectures


class About(APIView):
    """The server, as the caller sees it."""

    @extend_schema(
        responses=inline_serializer(
            "About",
            {
                "user": serializers.CharField(),
                "workers": serializers.DictField(help_text="Live worker processes per queue."),
            },
        )
    )
    def get(self, request: Request) -> Response:
        """Check a token, and see whether anybody works."""
        count: dict[str, int] = {}
        for worker in live_workers():
            for queue in worker.queues:
                count[queue] = count.get(queue, 0) + 1
        return Response({"user": request.user.get_username(), "workers": count})


class Architectures(APIView):
    """Names that a model may have."""

    @extend_schema(
        responses=inline_serializer(
            "Architectures",
            {
                "registered": serializers.ListField(child=serializers.CharField()),
                "torchvision": serializers.ListField(child=serializers.CharField()),
            },
        )
    )
    def get(self, request: Request) -> Response:
        """torchvision's classifiers, and what the operator registered."""
        return Response(architectures())
