"""Signed receipts, and the public keys that they are checked with."""

from __future__ import annotations

from uuid import UUID

from django.http import HttpRequest, JsonResponse
from django.views.decorators.http import require_safe
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from repair_engine.support.signatures import ALGORITHM, document_of
from webapp.api.base import APIView
from webapp.api.problems import PROBLEM
from webapp.jobs import access, receipts

KEYS = "/.well-known/neuron-repair-keys.json"


class ReceiptSerializer(serializers.Serializer):
    algorithm = serializers.ChoiceField([ALGORITHM])
    key = serializers.CharField(help_text=f"The id of the key, one of those at {KEYS}.")
    signature = serializers.CharField(help_text="In base 64, of the receipt's text as UTF-8.")
    receipt = serializers.CharField(
        help_text="JSON: server, run, what was asked, SHA-256 of model, data and each file of the result, figures, "
        "versions, times."
    )


class RepairReceipt(APIView):
    """What was done for a finished repair, signed by this server."""

    @extend_schema(responses={200: ReceiptSerializer, 404: PROBLEM})
    def get(self, request: Request, pk: UUID) -> Response:
        """`neuron-repair verify FOLDER --key KEYS` checks it, as receipt.json beside the files. 404: there is none: the
        run has not ended, is no repair, or ended before receipts were given."""
        found = receipts.document(access.receipt_for(request.user, pk))
        return Response(found, headers={"Content-Disposition": 'attachment; filename="receipt.json"'})


@require_safe
def keys(request: HttpRequest) -> JsonResponse:
    """For whoever asks: public halves alone, those that are in use and those that were."""
    return JsonResponse(document_of(receipts.publics()), json_dumps_params={"indent": 1})
