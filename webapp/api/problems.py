"""Errors as application/problem+json (RFC 9457): title, status, detail, and what can be done (`mend`)."""

from __future__ import annotations

from http import HTTPStatus

from django.core.exceptions import PermissionDenied
from django.core.exceptions import ValidationError as DjangoValidationError
from django.http import Http404, HttpRequest, JsonResponse
from drf_spectacular.utils import OpenApiResponse
from rest_framework import exceptions, serializers
from rest_framework.response import Response
from rest_framework.views import set_rollback

from repair_engine.errors import BadInput
from webapp import full_disk
from webapp.library.errors import Refused

CONTENT_TYPE = "application/problem+json"
PHRASES = {status.value: status.phrase for status in HTTPStatus} | {460: "Checksum Mismatch"}  # tus's own


class ProblemSerializer(serializers.Serializer):
    """The body of every error; for the OpenAPI document."""

    type = serializers.CharField()
    title = serializers.CharField()
    status = serializers.IntegerField()
    detail = serializers.CharField()
    mend = serializers.CharField(required=False, help_text="What can be done about it.")
    errors = serializers.ListField(
        child=serializers.DictField(), required=False, help_text="One entry per field: {field, detail}."
    )


PROBLEM = OpenApiResponse(ProblemSerializer, "What is wrong.")  # of any status; for the OpenAPI document


def problem(status: int, detail: str, *, mend: str = "", errors: list[dict] | None = None) -> dict:
    body = {"type": "about:blank", "title": PHRASES[status], "status": status, "detail": detail}
    if mend:
        body["mend"] = mend
    if errors:
        body["errors"] = errors
    return body


def handle(error: Exception, context: dict) -> Response | None:
    """DRF's exception handler. None: not ours, a server error."""
    headers: dict[str, str] = {}
    if isinstance(error, BadInput) and error.field:
        error = exceptions.ValidationError({error.field: [error.said]})
    if isinstance(error, DjangoValidationError):
        error = exceptions.ValidationError(serializers.as_serializer_error(error))
    if isinstance(error, Refused):
        body = problem(error.status, error.problem, mend=error.mend)
    elif passing := full_disk.answer(error):
        status, said, mend = passing
        body = problem(status, said, mend=mend)
    elif isinstance(error, Http404):
        body = problem(404, str(error) or "There is nothing here.")
    elif isinstance(error, PermissionDenied):
        body = problem(403, str(error) or "This is not allowed.")
    elif isinstance(error, exceptions.ValidationError):
        errors = list(_flatten(error.detail))
        text = "; ".join(f"{item['field']}: {item['detail']}" if item["field"] else item["detail"] for item in errors)
        body = problem(error.status_code, text, errors=errors)
    elif isinstance(error, exceptions.APIException):
        body = problem(error.status_code, str(error.detail))
        if getattr(error, "auth_header", None):
            headers["WWW-Authenticate"] = error.auth_header
        if getattr(error, "wait", None):
            headers["Retry-After"] = str(int(error.wait))
    else:
        return None
    set_rollback()
    return Response(body, status=body["status"], headers=headers, content_type=CONTENT_TYPE)


def _flatten(detail: object, path: str = ""):
    if isinstance(detail, dict):
        for key, value in detail.items():
            name = "" if key == "non_field_errors" else str(key)
            yield from _flatten(value, ".".join(part for part in (path, name) if part))
    elif isinstance(detail, list):
        for value in detail:
            yield from _flatten(value, path)
    else:
        yield {"field": path, "detail": str(detail)}


def as_response(request: HttpRequest, status: int, detail: str) -> JsonResponse:
    """For errors that arise outside of a DRF view, such as an unknown address."""
    return JsonResponse(problem(status, detail), status=status, content_type=CONTENT_TYPE)
