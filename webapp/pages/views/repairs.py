"""Repairs: start one, watch it, cancel it, see what came of it. All state is the server's."""

from __future__ import annotations

import hashlib
import json
from typing import Any
from uuid import UUID

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from repair_engine.settings import attacks, triggers
from webapp import waiting
from webapp.accounts.models import User
from webapp.jobs import access, live, queueing, reaper, removal, services
from webapp.jobs import selectors as jobs
from webapp.jobs.models import Job, Receipt
from webapp.library.errors import Refused
from webapp.library.models import DatasetUpload, ModelUpload, Upload
from webapp.library.uploads import takes_file
from webapp.pages import before, charts, choosing, judged, report, selectors, snippets
from webapp.pages.forms.repairs import CUSTOM, RepairForm, asked_metric, initial_from
from webapp.pages.forms.teams import ask_for_team
from webapp.pages.views import images, units
from webapp.pages.whose import whose

MORE = 4  # times the budget, after a search that found nothing


@takes_file("patch")
@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def new_repair(request: HttpRequest) -> HttpResponse:
    """`?model=…&dataset=…` say what is repaired; the form's choices follow from them. `?like=…` fills it in, and so do
    `metric=…`, `budget=…` and `edit=…`."""
    user = request.user
    like = access.job_for(user, request.GET["like"], access.SEE) if request.GET.get("like") else None
    models = list(access.models_of(user, access.EDIT).filter(state=Upload.State.READY))
    datasets = list(access.datasets_of(user, access.EDIT).filter(state=Upload.State.READY))
    model = _chosen(request, "model", access.model_for, models, like)
    dataset = _chosen(request, "dataset", access.dataset_for, datasets, like)
    context = {"models": models, "datasets": datasets, "model": model, "dataset": dataset, "form": None}
    if model is None or dataset is None:
        return render(request, "pages/repair_new.html", context)
    for chosen, ready in ((model, models), (dataset, datasets)):
        if chosen not in ready:  # named in the address: it stays the choice, and starting says what is the matter
            ready.insert(0, chosen)
    form = RepairForm(
        request.POST or None,
        request.FILES or None,
        model=model,
        dataset=dataset,
        guards=datasets,
        models=models,
        initial=(initial_from(like) if like else {}) | _asked_for(request, dataset),
    )
    ask_for_team(form, user, "whose its model and images are", None if model.owner_id == user.pk else model.team)
    if request.method == "POST" and form.is_valid() and (job := _start(request, form, model, dataset)):
        return redirect("pages:repair", job.pk)
    context |= before.look(model, dataset)
    context |= {"form": form, "gpu": any("gpu" in worker.queues for worker in jobs.live_workers())}
    return render(request, "pages/repair_new.html", context, status=422 if form.is_bound else 200)


def _asked_for(request: HttpRequest, dataset: DatasetUpload) -> dict[str, Any]:
    """Of the form what the address says beside `like`."""
    budget, edit = request.GET.get("budget", ""), request.GET.get("edit", "")
    plain = budget.isascii() and budget.isdigit() and len(budget) < 16
    found: dict[str, Any] = {"budget": budget, "effort": CUSTOM} if plain else {}
    if metric := request.GET.get("metric", "")[:1000]:
        found |= asked_metric(metric, dataset)
    return found | ({"edit": edit} if edit in RepairForm.known["edit"].words else {})


def _chosen(request: HttpRequest, what: str, find, ready: list, like: Job | None):
    """Who is named in the address (or in the form); else as in the repair that is repeated; else the newest."""
    if pk := request.POST.get(what) or request.GET.get(what):
        return find(request.user, pk, access.EDIT)
    return getattr(like, what) if like else (ready[0] if ready else None)


def _start(request: HttpRequest, form: RepairForm, model, dataset) -> Job | None:
    """None: it was refused, and the form says why."""
    given = form.cleaned_data
    try:
        job, _ = services.create_job(
            owner=request.user,
            team=given.get("team"),
            model=model,
            dataset=dataset,
            guard=access.dataset_for(request.user, given["guard"], access.EDIT) if given["guard"] else None,
            **triggers_of(request.user, given),
            surrogates=surrogates_of(request.user, given),
            asked=given["asked"],
            device=given["device"] or "auto",
            name=given["name"],
            priority=given["priority"],
            idempotency_key=_once(form, model, dataset),
        )
    except Refused as error:
        form.add_error(None, error.said)
        return None
    return job


def triggers_of(user: User, given: dict) -> dict[str, Any]:
    """The patch, or the images that carry the trigger; of another metric nothing."""
    if not triggers(given["asked"].metric):
        return {}
    triggered = access.dataset_for(user, given["triggered"], access.EDIT) if given["triggered"] else None
    return {"trigger": given.get("patch"), "triggered": triggered}


def surrogates_of(user: User, given: dict) -> list[ModelUpload]:
    """Those that were ticked; of a metric that attacks nothing, none."""
    asked = given["asked"]
    ticked = given["surrogates"] if attacks(asked.metric) and asked.verb != "explain" else []
    return [access.model_for(user, pk, access.EDIT) for pk in ticked]


def _once(form: RepairForm, model, dataset) -> str | None:
    """The same form sent twice starts one repair; changed after going back, it starts another."""
    given = form.cleaned_data
    if not given["key"]:
        return None
    asked = [str(model.pk), str(dataset.pk), given["guard"], given["device"], given["asked"].to_record()]
    asked += [given["surrogates"]] if given["surrogates"] else []
    asked += [given["team"].pk] if given.get("team") else []
    if triggers(given["asked"].metric):
        asked += [given["triggered"], given["patch"].sha256 if "patch" in given else ""]
    return f"{given['key']}-{hashlib.sha256(json.dumps(asked).encode()).hexdigest()[:16]}"


@login_required
@require_safe
def repair(request: HttpRequest, pk: UUID) -> HttpResponse:
    reaper.reap()
    try:
        job = access.job_for(request.user, pk, access.SEE)
    except Http404:
        deleted = access.deleted_jobs_of(request.user).filter(pk=pk).first()
        if deleted is None:
            raise
        return render(request, "pages/deleted.html", {"job": deleted}, status=410)
    context: dict[str, Any] = {
        "job": job,
        **whose(request.user, job, "repair"),
        "parent": access.parent_of(request.user, job),
        "asked": snippets.settings_rows(job),
        "snippets": snippets.snippets(request, job),
        "warnings": job.warnings or job.summary.get("warnings", []),
    }
    if not job.ended:
        context["priorities"] = queueing.offered(request.user, job)
        return render(request, "pages/running.html", context | _live(live.seen(job, charts=True)))
    document = report.document(job)
    look = choosing.look(job, request.GET, context["edits"])
    context |= {
        "progress": live.progress(job),
        "downloads": [one for one in selectors.downloads(job) if access.takes(request.user, job, one.artifact)],
        "receipt": Receipt.objects.filter(job=job).exists(),
        "document": document,
        "look": look,
        "parts": report.parts(job, document, chooses=look is not None) if document else {},
        "more_budget": MORE * (job.budget or 0),
        "offers": choosing.offers(job, document) if document and job.outcome == Job.Outcome.NO_REPAIR else [],
        "followups": access.followups_of(request.user, job),
        "outcome": report.outcome(document) if document else None,
        **judged.of_run(job),
        **(images.of_run(request, job) | units.of_run(request, job) if job.state == Job.State.SUCCEEDED else {}),
    }
    return render(request, "pages/repair.html", context)


@login_required
@require_safe
def progress(request: HttpRequest, pk: UUID) -> HttpResponse:
    """The part of the page that changes. When the repair has ended, the whole page is loaded anew.

    `said`: what the page has told a screen reader; `seen`: the round that its charts show.
    """
    if not request.htmx:
        return redirect("pages:repair", access.job_for(request.user, pk, access.SEE).pk)
    job = access.watched_job_for(request.user, pk, charts=True)
    if job.ended:
        return HttpResponse(headers={"HX-Refresh": "true"})
    heard, seen = request.GET.get("said", ""), request.GET.get("seen", "")
    context = {"job": job, "heard": heard, "polled": True}
    return waiting.unless_seen(
        request, [job], lambda: render(request, "pages/_progress.html", context | _live(job, seen))
    )


def _live(job: Job, seen: str | None = None) -> dict:
    """Of a job that `live.watched` has read with its charts; these are left out where the page has `seen` them."""
    now = live.progress(job)
    step = int(now.percent // 10) * 10
    last = job.live_series[-1] if job.live_series else None
    found = {
        "progress": now,
        "phases": selectors.phases(job),
        # A screen reader is told of a new phase and of every tenth, not of every poll.
        "said": f"{job.phase}-{step}",
        "said_words": f"{job.phase}, {step} % of the whole",
        "shown": f"{last['phase']}-{last['round']}" if last else "",
        "tag": waiting.tag_of({job.pk: live.version(job)}),
    }
    if seen == found["shown"]:
        return found
    leaders = live.leaders(job)
    points, total = selectors.rounds(job)
    return found | {
        "drawn": True,
        "leaders": leaders,
        "leaders_chart": charts.leaders(leaders),
        "rounds_chart": charts.rounds(points, total),
    }


@login_required
@require_POST
def cancel(request: HttpRequest, pk: UUID) -> HttpResponse:
    job = access.job_for(request.user, pk, access.EDIT)
    if services.cancel_job(job=job):
        messages.success(request, f"The {job.word} was canceled. Nothing was written.")
    else:
        messages.info(request, f"The {job.word} had ended before it could be canceled.")
    return redirect("pages:repair", job.pk)


@login_required
@require_POST
def retry(request: HttpRequest, pk: UUID) -> HttpResponse:
    job = access.job_for(request.user, pk, access.EDIT)
    try:
        services.retry_job(job=job)
    except Refused as error:
        messages.error(request, error.said)
    else:
        messages.success(request, f"The {job.word} goes on from what was done.")
    return redirect("pages:repair", job.pk)


@login_required
@require_POST
def delete(request: HttpRequest, pk: UUID) -> HttpResponse:
    job = access.job_for(request.user, pk, access.OWN)
    try:
        removal.delete_job(job)
    except Refused as error:
        messages.error(request, error.said)
        return redirect("pages:repair", job.pk)
    return redirect("pages:repairs")
