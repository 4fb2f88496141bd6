"""Models and datasets: list, upload, look at, delete. A check that runs is followed until it has ended."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import UUID

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.contrib.auth.mixins import LoginRequiredMixin
from django.core.files.uploadedfile import UploadedFile
from django.forms import Form
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.datastructures import MultiValueDict
from django.views.decorators.http import require_http_methods, require_POST, require_safe
from django.views.generic import ListView

from webapp.accounts.models import Team
from webapp.jobs import access, reaper, removal
from webapp.library import direct, kept, quota, resumable, services
from webapp.library.architectures import architectures
from webapp.library.errors import Refused
from webapp.library.kept import Kept
from webapp.library.models import DatasetUpload, ModelUpload, ResumableUpload, Upload
from webapp.library.resumable import Received
from webapp.library.services import File
from webapp.library.uploads import KnownFile, StoredUpload, takes_file
from webapp.pages import before
from webapp.pages.forms.teams import ask_for_team
from webapp.pages.forms.uploads import DatasetForm, ModelForm, initial_from
from webapp.pages.views import images
from webapp.pages.whose import whose

PER_PAGE = 50


class ModelList(LoginRequiredMixin, ListView):
    template_name, context_object_name, paginate_by = "pages/models.html", "models", PER_PAGE

    def get_queryset(self):
        return access.models_of(self.request.user)


class DatasetList(LoginRequiredMixin, ListView):
    template_name, context_object_name, paginate_by = "pages/datasets.html", "datasets", PER_PAGE

    def get_queryset(self):
        return access.datasets_of(self.request.user)


@takes_file("model")
@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def new_model(request: HttpRequest) -> HttpResponse:
    """`?like=…`: the file of a model that is here already, with what was said of it to be changed."""
    pk = request.POST.get("like") or request.GET.get("like")
    like = access.model_for(request.user, pk, access.EDIT) if pk else None
    initial = initial_from(like) if like else {}
    return _new(request, ModelForm, services.create_model, {"architectures": architectures(), "like": like}, initial)


@takes_file("dataset")
@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def new_dataset(request: HttpRequest) -> HttpResponse:
    return _new(request, DatasetForm, services.create_dataset, {"like": None}, {})


def _new(
    request: HttpRequest, kind: type[Form], service: Callable, context: dict[str, Any], initial: dict[str, Any]
) -> HttpResponse:
    """The form of an upload. A file that reached the disk is not asked for again, whatever else is wrong."""
    user, like = request.user, context["like"]
    files, here, gone = request.FILES, None, None
    if "file" not in files:
        try:
            here = _here(request, kind, like, _team(request, like))
        except Refused as error:
            gone = error
    if here and request.method == "POST":
        files = MultiValueDict({**files, "file": [here]})
    form = kind(request.POST or None, files or None, initial=initial)
    ask_for_team(form, user, "yourself", like.team if like and like.owner_id is None else None)
    if gone is not None:
        form.add_error("file", gone.said) if form.is_bound else messages.error(request, gone.said)
    if request.method == "POST" and form.is_valid() and (made := _create(request, form, service)):
        return redirect(made)
    sent = files.get("file") or here
    if "file" not in form.errors and (found := _kept(request, sent, like)):
        context["kept"] = found
    form.fields["file"].required = not context.get("kept")
    begun = access.arriving_of(user).filter(kind__in=[kind.of, ""])
    context |= {"form": form, "usage": quota.usage(user), "begun": begun[:5]}
    return render(request, f"pages/{kind.of}_new.html", context, status=_status(form))


def _team(request: HttpRequest, like: ModelUpload | None) -> Team | None:
    """Whose the upload shall be; what else is wrong with it, the form says."""
    if request.method != "POST":
        return like.team if like and like.owner_id is None else None
    asked = request.POST.get("team", "")
    return access.team_for(request.user, asked, access.EDIT) if asked else None


def _here(request: HttpRequest, kind: type[Form], like: ModelUpload | None, team: Team | None) -> File | None:
    """The file that is here already: of the form before, of a resumable upload, or another's. Raises Refused."""
    if token := request.POST.get("kept"):
        return kept.take(request, request.user, token)
    if pk := request.POST.get("upload") or request.GET.get("upload"):
        return resumable.received(request.user, pk, kind.of)
    if sha256 := request.POST.get("sha256"):
        return services.known_file(request.user, team, sha256, request.POST.get("file_name", ""))
    return services.known_file(request.user, team, like.blob_id, like.file_name) if like else None


def _kept(request: HttpRequest, sent: File | UploadedFile | None, like: ModelUpload | None) -> Kept | None:
    """What the next form gives back in the place of the file."""
    if isinstance(sent, StoredUpload):
        return kept.keep(request, request.user, sent)
    if isinstance(sent, Received):
        return Kept(sent.name, sent.size, {"upload": str(sent.pk)})
    if isinstance(sent, KnownFile):
        return Kept(sent.name, sent.size, {} if like else {"sha256": sent.sha256, "file_name": sent.name})
    return None


@login_required
@require_POST
def delete_upload(request: HttpRequest, pk: UUID) -> HttpResponse:
    """Of a file on its way."""
    upload = access.arriving_for(request.user, pk)
    try:
        (direct if upload.begun else resumable).terminate(upload)
    except Refused as error:
        messages.error(request, error.said)
    else:
        messages.success(request, f"What had arrived of {upload.file_name} was deleted.")
    return redirect("pages:new_dataset" if upload.kind == ResumableUpload.Kind.DATASET else "pages:new_model")


def _create(request: HttpRequest, form: Form, service: Callable) -> str | None:
    """The address of what was made. None: it was refused, and the form says why."""
    try:
        upload, new = service(owner=request.user, **form.values())
    except Refused as error:
        form.add_error("file", error.said)
        return None
    if not new:
        messages.info(request, "You had uploaded this very file before, with the same settings: here it is.")
    return reverse(f"pages:{form.of}", args=[upload.pk])


def _status(form: Form) -> int:
    return 422 if form.is_bound else 200


@login_required
@require_safe
def model(request: HttpRequest, pk: UUID) -> HttpResponse:
    return _page(request, "model", access.model_for, pk)


@login_required
@require_safe
def dataset(request: HttpRequest, pk: UUID) -> HttpResponse:
    return _page(request, "dataset", access.dataset_for, pk)


def _page(request: HttpRequest, kind: str, find: Callable[..., Upload], pk: UUID) -> HttpResponse:
    reaper.reap()
    upload = find(request.user, pk, access.SEE)
    context = {"kind": kind, "upload": upload, kind: upload, **whose(request.user, upload, kind)}
    if upload.state == Upload.State.READY:
        others = access.datasets_of if kind == "model" else access.models_of
        context["baselines"] = before.partners(upload, others(request.user))
    if isinstance(upload, DatasetUpload) and upload.state == Upload.State.READY:
        context |= images.of_dataset(request, upload)
    return render(request, f"pages/{kind}.html", context)


@login_required
@require_safe
def model_state(request: HttpRequest, pk: UUID) -> HttpResponse:
    return _state(request, access.model_for(request.user, pk, access.SEE), "pages:model")


@login_required
@require_safe
def dataset_state(request: HttpRequest, pk: UUID) -> HttpResponse:
    return _state(request, access.dataset_for(request.user, pk, access.SEE), "pages:dataset")


def _state(request: HttpRequest, upload: Upload, page: str) -> HttpResponse:
    """For polling: 204 while the check runs; once it has ended, the page is loaded anew."""
    reaper.reap()
    if not request.htmx:
        return redirect(page, upload.pk)
    if upload.state == Upload.State.VALIDATING:
        return HttpResponse(status=204)
    return HttpResponse(headers={"HX-Refresh": "true"})


@login_required
@require_POST
def delete_model(request: HttpRequest, pk: UUID) -> HttpResponse:
    return _delete(request, access.model_for(request.user, pk, access.OWN), "pages:model")


@login_required
@require_POST
def delete_dataset(request: HttpRequest, pk: UUID) -> HttpResponse:
    return _delete(request, access.dataset_for(request.user, pk, access.OWN), "pages:dataset")


def _delete(request: HttpRequest, upload: Upload, page: str) -> HttpResponse:
    try:
        removal.delete_upload(upload)
    except Refused as error:
        messages.error(request, error.said)
        return redirect(page, upload.pk)
    messages.success(request, f"{upload.name} was deleted.")
    return redirect("pages:home")
