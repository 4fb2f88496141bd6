"""The OpenAPI document: what the generator cannot see for itself."""

from __future__ import annotations

from typing import Any

from drf_spectacular.extensions import OpenApiAuthenticationExtension
from drf_spectacular.openapi import AutoSchema
from drf_spectacular.utils import OpenApiResponse
from rest_framework import serializers


class Schema(AutoSchema):
    """Query parameters from where they are checked; the errors that any request may meet; problem+json."""

    def get_override_parameters(self) -> list:
        declared = getattr(self.view, "queries", {}).get(self.method)
        return [declared] if declared else []

    def _get_response_bodies(self, direction: Any = "response") -> dict:
        from webapp.api import problems  # not at the top: views name this class while they are imported

        bodies = super()._get_response_bodies(direction)
        for code, why in self._errors().items():
            said = OpenApiResponse(problems.ProblemSerializer, why)
            bodies.setdefault(str(code), self._get_response_for_code(said, str(code), direction=direction))
        return dict(sorted(bodies.items()))

    def _get_response_for_code(self, serializer: Any, status_code: str, media_types: Any = None, direction="response"):
        if status_code >= "400" and media_types is None:
            media_types = ["application/problem+json"]
        return super()._get_response_for_code(serializer, status_code, media_types, direction)

    def _errors(self) -> dict[int, str]:
        found = {
            400: "A parameter or field that is unknown, or has no such value.",
            401: "No token or session, or one that is not valid any more.",
            403: "Not allowed with this token, or without a CSRF token in a session.",
            406: "Accept asks for what is not offered.",
            429: "More requests in a minute than the operator allows: Retry-After says when.",
        }
        if "{" in self.path or self._is_list_view():
            found[404] = "There is none that is yours." if "{" in self.path else "There is no such page."
        if self.method in ("POST", "PUT", "PATCH"):
            found[413] = "More bytes than are accepted."
            found[415] = "A body of another content type."
            found[507] = "The server's disk is full."
        return found

    def _map_basic_serializer(self, serializer: Any, direction: Any) -> dict:
        from webapp.api.base import Body

        schema = super()._map_basic_serializer(serializer, direction)
        if direction == "request" and isinstance(serializer, Body):
            schema |= {"additionalProperties": False, **serializer.rules}
        return schema

    def _get_request_body(self, direction: Any = "request") -> dict | None:
        body = super()._get_request_body(direction)
        return body and {**body, "required": True}  # the generator forgets it of bodies of several kinds

    def _map_serializer_field(self, field: Any, direction: Any, bypass_extensions: bool = False) -> dict:
        schema = super()._map_serializer_field(field, direction, bypass_extensions)
        if isinstance(field, serializers.FileField) and direction == "request":
            schema["minLength"] = 1  # an empty file is refused
        return schema

    def _insert_field_validators(self, field: Any, schema: dict) -> None:
        super()._insert_field_validators(field, schema)  # it writes the bounds, after all else
        if getattr(field, "open", False):
            for included, excluded in (("minimum", "exclusiveMinimum"), ("maximum", "exclusiveMaximum")):
                if included in schema:
                    schema[excluded] = schema.pop(included)


class TokenScheme(OpenApiAuthenticationExtension):
    target_class = "webapp.api.authentication.TokenAuthentication"
    name = "token"

    def get_security_definition(self, auto_schema: object) -> dict:
        return {"type": "http", "scheme": "bearer", "description": "An API token, made on the account page."}


class SessionScheme(OpenApiAuthenticationExtension):
    target_class = "webapp.api.authentication.SessionAuthentication"
    name = "session"

    def get_security_definition(self, auto_schema: object) -> dict:
        return {"type": "apiKey", "in": "cookie", "name": "sessionid"}
