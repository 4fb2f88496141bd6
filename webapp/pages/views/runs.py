"""The table of runs: what is chosen from it together, and the name and the tags of one."""

from __future__ import annotations

from uuid import UUID

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse, QueryDict
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from repair_engine.errors import BadInput
from webapp import waiting
from webapp.jobs import access, removal, services
from webapp.jobs.models import Job
from webapp.pages import runs
from webapp.pages.forms.runs import EditForm

_DELETED = ("restore", "purge")  # what is done with runs that were deleted
_NEEDS = {"compare": access.SEE, **dict.fromkeys(("archive", "unarchive", "tag", "untag"), access.EDIT)}  # others: OWN


@login_required
@require_safe
def run_list(request: HttpRequest) -> HttpResponse:
    return render(request, "pages/repairs.html", {"table": runs.table(request.user, request.GET)})


@login_required
@require_safe
def rows(request: HttpRequest) -> HttpResponse:
    """What has changed in the rows of `?run=…&run=…`, which were running when they were shown."""
    if not request.htmx:
        return redirect("pages:repairs")
    found = runs.still_running(request.user, request.GET.getlist("run"))
    return waiting.unless_seen(request, found, lambda: render(request, "pages/_runs_changed.html", {"jobs": found}))


@login_required
@require_POST
def selected(request: HttpRequest) -> HttpResponse:
    """`do` it with each `run`, then back to the table as it was (`back`). One of somebody else's: nothing is done."""
    do, user = request.POST.get("do", ""), request.user
    there = access.deleted_jobs_of(user) if do in _DELETED else access.jobs_of(user)
    jobs = access.several(user, there, request.POST.getlist("run")[: runs.PER_PAGE], _NEEDS.get(do, access.OWN))
    back = redirect(f"{reverse('pages:repairs')}?{QueryDict(request.POST.get('back', '')).urlencode()}".rstrip("?"))
    if not jobs:
        messages.info(request, "Tick the runs first.")
        return back
    if do == "compare":
        picked = QueryDict(mutable=True)
        picked.setlist("run", [str(job.pk) for job in jobs])
        return redirect(f"{reverse('pages:compare')}?{picked.urlencode()}")
    try:
        _done(request, do, jobs)
    except BadInput as error:
        messages.error(request, error.said)
    return back


def _done(request: HttpRequest, do: str, jobs: list[Job]) -> None:
    """Raises BadInput."""
    n = f"{len(jobs)} run{'' if len(jobs) == 1 else 's'}"
    if do == "delete":
        _, kept = removal.delete_jobs(jobs)
        for why in kept:
            messages.error(request, f"Not deleted: {why.said}")
    elif do == "restore":
        removal.restore(jobs)
        messages.success(request, f"{n} came back.")
    elif do == "purge":
        for job in jobs:
            removal.purge(job)
        messages.success(request, f"{n} and their files are gone for good.")
    elif do in ("archive", "unarchive"):
        for job in jobs:
            services.edit_job(job=job, archived=do == "archive")
        messages.success(request, f"{n} {'went into' if do == 'archive' else 'came out of'} the archive.")
    elif do in ("tag", "untag"):
        words = services.tag_words(request.POST.get("words", "").split(","))
        if not words:
            raise BadInput("Say which tag.")
        for job in jobs:
            services.edit_job(job=job, **{"add" if do == "tag" else "take_off": words})
    else:
        raise BadInput("There is no such button.")


@login_required
@require_POST
def undo(request: HttpRequest) -> HttpResponse:
    """Takes the latest deletion back."""
    if jobs := removal.latest(access.deleted_jobs_of(request.user)):
        removal.restore(jobs)
        messages.success(request, f"{len(jobs)} run{'' if len(jobs) == 1 else 's'} came back.")
    else:
        messages.info(request, "There is nothing that could come back any more.")
    return redirect("pages:repairs")


@login_required
@require_POST
def restore(request: HttpRequest, pk: UUID) -> HttpResponse:
    job = access.deleted_job_for(request.user, pk)
    removal.restore([job])
    return redirect("pages:repair", job.pk)


@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def edit(request: HttpRequest, pk: UUID) -> HttpResponse:
    job = access.job_for(request.user, pk, access.EDIT)
    now = {
        "name": job.name,
        "tags": ", ".join(tag.word for tag in job.tags.all()),
        "archived": job.archived_at is not None,
        "seen": job.revision,
    }
    form = EditForm(request.POST or None, initial=now)
    if request.method == "POST" and form.is_valid():
        try:
            services.edit_job(job=job, **form.cleaned_data)
        except services.Changed as changed:
            form.add_error(None, changed.said)
            form.data = form.data.copy()
            form.data["seen"] = changed.revision  # who saves again has seen it
            return render(request, "pages/run_edit.html", {"job": job, "form": form, "now": now}, status=409)
        return redirect("pages:repair", job.pk)
    return render(request, "pages/run_edit.html", {"job": job, "form": form}, status=422 if form.is_bound else 200)
