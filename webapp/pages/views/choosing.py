"""What a page's script asks while filters are chosen: all prefixes at once, and any other set."""

from __future__ import annotations

from uuid import UUID

from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, JsonResponse
from django.views.decorators.http import require_safe

from repair_engine.errors import BadInput
from webapp.accounts import rights
from webapp.jobs import access, choice
from webapp.library.errors import Refused


@login_required
@require_safe
def choice_json(request: HttpRequest, pk: UUID) -> JsonResponse:
    """Every prefix of all orders; it never changes, and goes with the run."""
    job = access.job_for(request.user, pk, access.SEE)
    try:
        return JsonResponse(choice.document(job))
    except (Refused, BadInput) as error:
        return _refusal(error)


@login_required
@require_safe
def set_json(request: HttpRequest, pk: UUID) -> JsonResponse:
    """`?pick=…&pick=…`: figures of a set; 202: a worker is asked, ask again."""
    job = access.job_for(request.user, pk, access.SEE)
    try:
        found = choice.said(
            job,
            list(dict.fromkeys(name for name in request.GET.getlist("pick") if name)),
            asks=rights.may(request.user, job) >= access.EDIT,
        )
    except (Refused, BadInput) as error:
        return _refusal(error)
    return JsonResponse(found, status=202 if found["figures"] is None and not found["error"] else 200)


def _refusal(error: Refused | BadInput) -> JsonResponse:
    return JsonResponse({"error": error.said}, status=error.status if isinstance(error, Refused) else 422)
