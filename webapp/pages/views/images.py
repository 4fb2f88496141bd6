"""Images of a run and of a dataset: filtered and paged by the address, one larger with its facts, and the pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

from django.contrib.auth.decorators import login_required
from django.http import Http404, HttpRequest, HttpResponse, QueryDict
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.http import urlencode
from django.views.decorators.http import require_POST, require_safe

from repair_engine.support import thumbnail_pack
from webapp.accounts import rights
from webapp.jobs import access
from webapp.jobs.files import ADVERSARIAL
from webapp.jobs.models import Job
from webapp.library import thumbnails
from webapp.library.models import DatasetUpload, Thumbnails
from webapp.pages import cells, gallery, image_sets

PREDICTIONS = "predictions.csv"
_FOREVER = "private, max-age=31536000, immutable"  # the address names the content
_NOTHING = "default-src 'none'; sandbox"


def of_run(request: HttpRequest, job: Job, token: str = "") -> dict[str, Any]:
    """What the images of a finished run need to be shown: those of the report, or those that an adversary changed
    (`?of=adversarial`, or where there are no others). Empty: it left neither.

    Args:
        token: of the link by which they are seen (`shared`); "": by their owner.
    """
    kept = job.artifacts.select_related("blob").filter(name__in=(PREDICTIONS, ADVERSARIAL))
    files = {one.name: one.blob for one in kept if one.blob.is_there}
    made = thumbnails.wanted(job.dataset) if files else None
    pictures = made.blob.path if made and made.blob else None
    report = image_sets.of_run(files[PREDICTIONS].path, pictures) if PREDICTIONS in files else None
    others = ADVERSARIAL in files and (not report or request.GET.get(gallery.OF) == gallery.ADVERSARIAL)
    images = image_sets.of_attack(files[ADVERSARIAL].path, pictures) if others else report
    if not images:
        return {}
    return {
        **_made(job.dataset, made),
        **({"version": files[ADVERSARIAL].sha256[:16]} if others else {}),
        "images": images,
        "adversarial": others,
        "both": report and ADVERSARIAL in files,
        "view": gallery.view(images, request.GET),
        "page_url": reverse("shared:run", args=[token]) if token else reverse("pages:repair", args=[job.pk]),
        "fragment_url": reverse("shared:images", args=[token]) if token else reverse("pages:images", args=[job.pk]),
        "report_images": True,
    }


def of_dataset(request: HttpRequest, dataset: DatasetUpload) -> dict[str, Any]:
    """Cells of a dataset or, where one is chosen, all its images."""
    made = thumbnails.wanted(dataset)
    context = {
        **_made(dataset, made),
        "page_url": reverse("pages:dataset", args=[dataset.pk]),
        "fragment_url": reverse("pages:dataset_images", args=[dataset.pk]),
    }
    if made is None or made.blob is None:
        return context
    images = image_sets.of_dataset(made.blob.path)
    asked = request.GET
    if any(key in asked for key in images.columns) or "all" in asked:
        return {**context, "images": images, "view": gallery.view(images, asked)}
    return {**context, "images": images, "cells": cells.cells(images, asked)}


def _made(dataset: DatasetUpload, made: Thumbnails | None) -> dict[str, Any]:
    version = made.blob_id[:16] if made and made.blob_id else ""
    return {"pictures_of": dataset, "made": made, "version": version}


@login_required
@require_safe
def images(request: HttpRequest, pk: UUID) -> HttpResponse:
    """The images of a repair, without the page around them."""
    job = access.job_for(request.user, pk, access.SEE)
    context = {"job": job, "edits": _edits(request, job), **of_run(request, job)}
    return fragment(request, reverse("pages:repair", args=[job.pk]), context)


@login_required
@require_safe
def dataset_images(request: HttpRequest, pk: UUID) -> HttpResponse:
    dataset = access.dataset_for(request.user, pk, access.SEE)
    context = {"edits": _edits(request, dataset), **of_dataset(request, dataset)}
    return fragment(request, reverse("pages:dataset", args=[dataset.pk]), context)


def _edits(request: HttpRequest, thing: Job | DatasetUpload) -> bool:
    return rights.may(request.user, thing) >= access.EDIT


def fragment(request: HttpRequest, page: str, context: dict[str, Any]) -> HttpResponse:
    """What is shown is in the page's own address: it can be passed on, and the back button goes back."""
    asked = context["view"].here if "view" in context else f"?{request.GET.urlencode()}"
    if unit := QueryDict(urlsplit(request.htmx.current_url or "").query).get("unit"):  # whose card is open beside them
        asked = f"{asked}{'&' if asked != '?' else ''}{urlencode({'unit': unit})}"
    address = f"{page}{asked if asked != '?' else ''}#images"
    if not request.htmx:
        return redirect(address)
    answer = render(request, "pages/_images.html", context)
    answer["HX-Push-Url"] = address
    return answer


@login_required
@require_safe
def image(request: HttpRequest, pk: UUID, number: int) -> HttpResponse:
    """One image of a repair, with all its facts."""
    job = access.job_for(request.user, pk, access.SEE)
    context = of_run(request, job)
    context |= {"job": job, "back": reverse("pages:repair", args=[job.pk])}
    return one(request, number, context, lambda i: reverse("pages:image", args=[job.pk, i]))


@login_required
@require_safe
def dataset_image(request: HttpRequest, pk: UUID, number: int) -> HttpResponse:
    dataset = access.dataset_for(request.user, pk, access.SEE)
    context = of_dataset(request, dataset)
    if "images" in context:
        context["view"] = gallery.view(context["images"], request.GET)
    context |= {"dataset": dataset, "back": reverse("pages:dataset", args=[dataset.pk])}
    return one(request, number, context, lambda i: reverse("pages:dataset_image", args=[dataset.pk, i]))


def one(request: HttpRequest, number: int, context: dict[str, Any], address) -> HttpResponse:
    """The page of one image; `address` gives that of another one."""
    images, view = context.get("images"), context.get("view")
    if images is None or view is None or number >= len(images):
        raise Http404("There is no image with this number.")
    shown = gallery.tile(images, number)
    before, after = view.beside(number)
    query = f"?{view.query}" if view.query else ""
    sure = dict(zip(("before", "after"), shown.confidence or (), strict=False))
    size = images.pack.sizes[shown.picture] if shown.picture is not None else None
    context |= {
        "tile": shown,
        "facts": [(words, shown.values[key], sure.get(key)) for key, (words, _) in images.columns.items()],
        "size": size,
        "before_url": address(before) + query if before is not None else "",
        "after_url": address(after) + query if after is not None else "",
        "back_url": f"{context['back']}{view.page_of(number)}#images",
    }
    return render(request, "pages/image.html", context)


@login_required
@require_safe
def adversarial(request: HttpRequest, pk: UUID, version: str, number: int, size: str) -> HttpResponse:
    """One of the pictures of an image that an adversary changed."""
    return of_attack(access.job_for(request.user, pk, access.SEE), version, number, size)


def of_attack(job: Job, version: str, number: int, size: str) -> HttpResponse:
    found = job.artifacts.select_related("blob").filter(name=ADVERSARIAL).first()
    if found is None or not found.blob_id.startswith(version) or len(version) < 16:
        raise Http404("There is no such picture.")
    return picture(found.blob.path, number, size)


@login_required
@require_safe
def thumbnail(request: HttpRequest, pk: UUID, version: str, number: int, size: str) -> HttpResponse:
    """A picture that a worker made; nothing is decoded here."""
    found = access.thumbnails_for(request.user, pk, version)
    assert found.blob is not None
    return picture(found.blob.path, number, size)


def picture(pack: Path, number: int, size: str) -> HttpResponse:
    try:
        content = thumbnail_pack.picture(pack, number, large=size == "large")
    except FileNotFoundError:
        content = None
    if content is None:
        raise Http404("There is no picture of this image.")
    headers = {"Cache-Control": _FOREVER, "Content-Security-Policy": _NOTHING, "X-Content-Type-Options": "nosniff"}
    return HttpResponse(content, content_type="image/webp", headers=headers)


@login_required
@require_safe
def dataset_thumbnails(request: HttpRequest, pk: UUID) -> HttpResponse:
    """For polling: how far they are. Once they are made, the page is loaded anew."""
    dataset = access.dataset_for(request.user, pk, access.SEE)
    if not request.htmx:
        return redirect("pages:dataset", dataset.pk)
    made = thumbnails.wanted(dataset)
    if made is None or made.blob is not None or made.error:
        return HttpResponse(headers={"HX-Refresh": "true"})
    return render(request, "pages/_being_made.html", _made(dataset, made))


@login_required
@require_POST
def make_thumbnails(request: HttpRequest, pk: UUID) -> HttpResponse:
    """Try again what has failed."""
    dataset = access.dataset_for(request.user, pk, access.EDIT)
    thumbnails.again(dataset)
    return redirect("pages:dataset", dataset.pk)
