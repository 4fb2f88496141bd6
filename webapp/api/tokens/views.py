"""API tokens: list, make, revoke."""

from __future__ import annotations

from datetime import datetime

from django.utils import timezone
from drf_spectacular.utils import extend_schema
from rest_framework import serializers, status
from rest_framework.exceptions import PermissionDenied
from rest_framework.request import Request
from rest_framework.response import Response

from webapp.accounts import services
from webapp.accounts.models import ApiToken
from webapp.api.base import APIView, Body, ListView
from webapp.api.fields import Line
from webapp.api.problems import PROBLEM
from webapp.jobs import access


def to_come(value: datetime | None) -> datetime | None:
    """Raises ValidationError: this time is over."""
    if value is not None and value <= timezone.now():
        raise serializers.ValidationError("This time is over: give one to come, or null.")
    return value


class TokenSerializer(Body, serializers.ModelSerializer):
    name = Line(max_length=100)

    class Meta:
        model = ApiToken
        fields = ["id", "name", "hint", "scope", "expires_at", "created_at", "last_used_at"]
        read_only_fields = ["id", "hint", "created_at", "last_used_at"]
        extra_kwargs = {
            "scope": {"help_text": "read: GET only. run (the default): whatever you can do but make tokens."},
            "expires_at": {"help_text": "When it stops working; null (the default): never."},
        }

    validate_expires_at = staticmethod(to_come)


class CreatedTokenSerializer(TokenSerializer):
    key = serializers.CharField(read_only=True, help_text="Shown this once.")

    class Meta(TokenSerializer.Meta):
        fields = [*TokenSerializer.Meta.fields, "key"]


class TokenList(ListView):
    """Your tokens (never their keys)."""

    serializer_class = TokenSerializer

    def get_queryset(self):
        return access.tokens_of(self.request.user)

    @extend_schema(request=TokenSerializer, responses={201: CreatedTokenSerializer, 400: PROBLEM, 403: PROBLEM})
    def post(self, request: Request) -> Response:
        """Make a token. Only signed in with a password: a leaked token must not outlive its revocation."""
        if request.auth is not None:
            raise PermissionDenied("A token cannot make tokens: sign in with your password.")
        data = TokenSerializer(data=request.data)
        data.is_valid(raise_exception=True)
        token, key = services.create_token(owner=request.user, **data.validated_data)
        return Response({**TokenSerializer(token).data, "key": key}, status=status.HTTP_201_CREATED)


class TokenDetail(APIView):
    """One token."""

    @extend_schema(responses={204: None, 404: PROBLEM})
    def delete(self, request: Request, pk: int) -> Response:
        """Revoke it, at once and for good."""
        services.revoke_token(token=access.token_for(request.user, pk))
        return Response(status=status.HTTP_204_NO_CONTENT)
