"""Models and datasets: list, upload, look at, delete. A check that runs is followed until it has ended."""

from __future__ import annotations

from collections.abc import Callable
from uuid import UUID

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.contrib.auth.mixins import LoginRequiredMixin
from django.forms import Form
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods, require_POST, require_safe
from django.views.generic import ListView

from webapp.jobs import access, reaper, removal
from webapp.library import quota, services
from webapp.library.architectures import architectures
from webapp.library.errors import Refused
from webapp.library.models import DatasetUpload, Upload
from webapp.library.uploads import takes_file
from webapp.pages import before
from webapp.pages.forms.uploads import DatasetForm, ModelForm
from webapp.pages.views import images

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
    form = ModelForm(request.POST or None, request.FILES or None)
    if request.method == "POST" and form.is_valid() and (made := _create(request, form, services.create_model)):
        return redirect("pages:model", made.pk)
    context = {"form": form, "architectures": architectures(), "usage": quota.usage(request.user)}
    return render(request, "pages/model_new.html", context, status=_status(form))


@takes_file("dataset")
@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def new_dataset(request: HttpRequest) -> HttpResponse:
    form = DatasetForm(request.POST or None, request.FILES or None)
    if request.method == "POST" and form.is_valid() and (made := _create(request, form, services.create_dataset)):
        return redirect("pages:dataset", made.pk)
    context = {"form": form, "usage": quota.usage(request.user)}
    return render(request, "pages/dataset_new.html", context, status=_status(form))


def _create(request: HttpRequest, form: Form, service) -> Upload | None:
    """None: it was refused, and the form says why."""
    try:
        upload, new = service(owner=request.user, **form.values())
    except Refused as error:
        form.add_error("file", error.said)
        return None
    if not new:
        messages.info(request, "You had uploaded this very file before, with the same settings: here it is.")
    return upload


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
    upload = find(request.user, pk)
    context = {"kind": kind, "upload": upload, kind: upload}
    if upload.state == Upload.State.READY:
        others = access.datasets_of if kind == "model" else access.models_of
        context["baselines"] = before.partners(upload, others(request.user))
    if isinstance(upload, DatasetUpload) and upload.state == Upload.State.READY:
        context |= images.of_dataset(request, upload)
    return render(request, f"pages/{kind}.html", context)


@login_required
@require_safe
def model_state(request: HttpRequest, pk: UUID) -> HttpResponse:
    return _state(request, access.model_for(request.user, pk), "pages:model")


@login_required
@require_safe
def dataset_state(request: HttpRequest, pk: UUID) -> HttpResponse:
    return _state(request, access.dataset_for(request.user, pk), "pages:dataset")


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
    return _delete(request, access.model_for(request.user, pk), "pages:model")


@login_required
@require_POST
def delete_dataset(request: HttpRequest, pk: UUID) -> HttpResponse:
    return _delete(request, access.dataset_for(request.user, pk), "pages:dataset")


def _delete(request: HttpRequest, upload: Upload, page: str) -> HttpResponse:
    try:
        removal.delete_upload(upload)
    except Refused as error:
        messages.error(request, error.said)
        return redirect(page, upload.pk)
    messages.success(request, f"{upload.name} was deleted.")
    return redirect("pages:home")
