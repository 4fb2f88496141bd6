"""A look at a model on a dataset before a run: as a page, and as a part of the form that starts one."""

from __future__ import annotations

from uuid import UUID

from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods

from webapp.accounts import rights
from webapp.jobs import access, baselines
from webapp.pages import before


@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def baseline(request: HttpRequest, pk: UUID, dataset: UUID) -> HttpResponse:
    """Posted, what has failed is tried again. A page asks with the state that it has `seen`, and gets what changed."""
    need = access.EDIT if request.method == "POST" else access.SEE
    model, images = access.model_for(request.user, pk, need), access.dataset_for(request.user, dataset, need)
    if request.method == "POST":
        baselines.again(model, images)
        return redirect(before.address(model, images))
    inside = request.GET.get("in") == "form"
    asks = min(rights.may(request.user, model), rights.may(request.user, images)) >= access.EDIT
    context = before.look(model, images, not inside, asks) | {"inside": inside}
    found = context["baseline"]
    if not request.htmx or found is None:
        return render(request, "pages/baseline.html", before.look(model, images, True, asks))
    if request.GET.get("seen") == found.state:
        return render(request, "pages/_baseline_state.html", context)
    part = "pages/_baseline_panel.html" if inside else "pages/_baseline.html"
    answer = render(request, part, context | {"oob": True})
    answer["HX-Retarget"], answer["HX-Reswap"] = "#baseline", "outerHTML"
    return answer
