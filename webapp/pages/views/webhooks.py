"""Calls to webhooks: what was sent, what came of it, and once more."""

from __future__ import annotations

from urllib.parse import urlsplit
from uuid import UUID

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_POST, require_safe

from webapp.jobs import access, webhooks
from webapp.library.errors import Refused

PER_PAGE = 50


@login_required
@require_safe
def deliveries(request: HttpRequest) -> HttpResponse:
    page = Paginator(access.deliveries_of(request.user).select_related("job__model"), PER_PAGE).get_page(
        request.GET.get("page")
    )
    for one in page:
        one.host = urlsplit(one.job.webhook_url).netloc  # the rest of an address may be a secret
    return render(request, "pages/webhooks.html", {"page_obj": page, "rows": page})


@login_required
@require_POST
def again(request: HttpRequest, pk: UUID) -> HttpResponse:
    try:
        webhooks.call_again(access.delivery_for(request.user, pk))
    except Refused as error:
        messages.error(request, error.said)
    else:
        messages.success(request, "It is sent once more.")
    return redirect("pages:webhooks")
