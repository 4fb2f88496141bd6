"""Start an attack on a model, or on a model and its repair. It is then watched and shown as a repair is."""

from __future__ import annotations

import hashlib
import json

from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods

from webapp.jobs import access
from webapp.jobs import selectors as jobs
from webapp.jobs.attacks import create_attack
from webapp.jobs.live import HEAVY
from webapp.jobs.models import WRITTEN, Job
from webapp.library.errors import Refused
from webapp.library.models import DatasetUpload, ModelUpload, Upload
from webapp.pages.forms.attacks import AttackForm, initial_from
from webapp.pages.forms.teams import ask_for_team

SHOWN = 100  # repairs in the list of choices


@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def new_attack(request: HttpRequest) -> HttpResponse:
    """`?repair=…` or `?model=…&dataset=…` say what is attacked; `?like=…` fills the form in."""
    user, asked = request.user, {**request.GET.dict(), **request.POST.dict()}
    like = access.job_for(user, asked["like"], access.SEE) if asked.get("like") else None
    models = list(access.models_of(user, access.EDIT).filter(state=Upload.State.READY))
    datasets = list(access.datasets_of(user, access.EDIT).filter(state=Upload.State.READY))
    repairs = list(access.jobs_of(user, access.EDIT).filter(outcome__in=WRITTEN).defer(*HEAVY)[:SHOWN])
    repair = access.job_for(user, asked["repair"], access.EDIT) if asked.get("repair") else None
    if repair is None and like and "repair" not in asked:
        repair = like.audited
    model = repair.model if repair else _chosen(request, asked, "model", access.model_for, models, like)
    dataset = _chosen(request, asked, "dataset", access.dataset_for, datasets, like or repair)
    context = {"models": models, "datasets": datasets, "repairs": repairs, "form": None}
    context |= {"model": model, "dataset": dataset, "repair": repair}
    if model is None or dataset is None:
        return render(request, "pages/attack_new.html", context)
    for chosen, ready in ((model, models), (dataset, datasets), (repair, repairs)):
        if chosen and chosen not in ready:  # named in the address: it stays the choice
            ready.insert(0, chosen)
    filled = like or repair
    form = AttackForm(
        request.POST or None,
        model=model,
        dataset=dataset,
        models=models,
        initial=initial_from(filled) if filled else None,
    )
    ask_for_team(form, user, "whose its model and images are", None if model.owner_id == user.pk else model.team)
    if request.method == "POST" and form.is_valid() and (job := _start(request, form, model, dataset, repair)):
        return redirect("pages:repair", job.pk)
    context |= {"form": form, "gpu": any("gpu" in worker.queues for worker in jobs.live_workers())}
    return render(request, "pages/attack_new.html", context, status=422 if form.is_bound else 200)


def _chosen(request: HttpRequest, asked: dict, what: str, find, ready: list, like: Job | None):
    """Who is named; else as in the job that is repeated or attacked; else the newest."""
    if pk := asked.get(what):
        return find(request.user, pk, access.EDIT)
    return getattr(like, what) if like else (ready[0] if ready else None)


def _start(
    request: HttpRequest, form: AttackForm, model: ModelUpload, dataset: DatasetUpload, repair: Job | None
) -> Job | None:
    """None: it was refused, and the form says why."""
    given = form.cleaned_data
    ticked = given["surrogates"] if repair else []
    try:
        job, _ = create_attack(
            owner=request.user,
            team=given.get("team"),
            asked=given["asked"],
            model=model,
            dataset=dataset,
            repair=repair,
            surrogates=[access.model_for(request.user, pk, access.EDIT) for pk in ticked],
            device=given["device"] or "auto",
            name=given["name"],
            priority=given["priority"],
            idempotency_key=_once(given, model, dataset, repair),
        )
    except Refused as error:
        form.add_error(None, error.said)
        return None
    return job


def _once(given: dict, model: ModelUpload, dataset: DatasetUpload, repair: Job | None) -> str | None:
    """The same form sent twice starts one attack; changed after going back, it starts another."""
    if not given["key"]:
        return None
    asked = [str(model.pk), str(dataset.pk), str(repair and repair.pk), given["surrogates"], given["device"]]
    asked += [given["team"].pk] if given.get("team") else []
    text = json.dumps([*asked, given["asked"].to_record()])
    return f"{given['key']}-{hashlib.sha256(text.encode()).hexdigest()[:16]}"
