"""A finished run as whoever has a link to it sees it: to read, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.http import require_safe

from webapp.accounts import attempts
from webapp.downloads import send_artifact
from webapp.jobs import sharing
from webapp.jobs.models import ShareLink
from webapp.library.models import Thumbnails
from webapp.pages import report, selectors, snippets
from webapp.pages.views import images as pictures
from webapp.pages.views import units as network

MISSES_PER_ADDRESS = 50  # addresses that are none, in a quarter of an hour


def by_link(view: Callable[..., HttpResponseBase]) -> Callable[..., HttpResponseBase]:
    """The view gets the link in the place of its token. One that has ended is 410, with the reason."""

    @require_safe
    @wraps(view)
    def asked(request: HttpRequest, token: str, *args: Any, **kwargs: Any) -> HttpResponseBase:
        try:
            link = sharing.opened(token)
        except sharing.Ended as why:
            answer: HttpResponseBase = render(request, "pages/shared_ended.html", {"why": str(why)}, status=410)
            if request.htmx:  # a page that is open shows it, too
                answer["HX-Refresh"] = "true"
            return _private(answer)
        if link is None:
            if not attempts.take(attempts.Counter(f"link:{attempts.address_of(request)}", MISSES_PER_ADDRESS)):
                return HttpResponse("Too many addresses that are none. Wait a quarter of an hour.\n", "text/plain", 429)
            raise Http404("There is no such link.")
        return _private(view(request, link, token, *args, **kwargs))

    return asked


def _private(answer: HttpResponseBase) -> HttpResponseBase:
    """Neither kept nor found by a search engine, and its address is told to nobody."""
    answer["Referrer-Policy"], answer["X-Robots-Tag"] = "no-referrer", "noindex, nofollow"
    answer["Cache-Control"] = "private, no-store"
    return answer


@by_link
def run(request: HttpRequest, link: ShareLink, token: str) -> HttpResponse:
    job = link.job
    document = report.document(job)
    context = {
        "job": job,
        "token": token,
        "asked": snippets.settings_rows(job),
        "document": document,
        "parts": report.parts(job, document, shared=True) if document else {},
        "outcome": report.outcome(document) if document else None,
        "downloads": [one for one in selectors.downloads(job) if sharing.shows(link, one.artifact)],
        **pictures.of_run(request, job, token),
        **network.of_run(request, job, token),
    }
    return render(request, "pages/shared.html", context)


@by_link
def unit_map(request: HttpRequest, link: ShareLink, token: str) -> HttpResponse:
    return network.map_of(request, link.job)


@by_link
def unit(request: HttpRequest, link: ShareLink, token: str) -> HttpResponse:
    return network.card(request, link.job, reverse("shared:run", args=[token]), token)


@by_link
def images(request: HttpRequest, link: ShareLink, token: str) -> HttpResponse:
    context = {"job": link.job, "token": token, **pictures.of_run(request, link.job, token)}
    return pictures.fragment(request, reverse("shared:run", args=[token]), context)


@by_link
def image(request: HttpRequest, link: ShareLink, token: str, number: int) -> HttpResponse:
    context = {"job": link.job, "token": token, "back": reverse("shared:run", args=[token])}
    context |= pictures.of_run(request, link.job, token)
    return pictures.one(request, number, context, lambda i: reverse("shared:image", args=[token, i]))


@by_link
def thumbnail(request: HttpRequest, link: ShareLink, token: str, version: str, number: int, size: str) -> HttpResponse:
    """Of a report image of the run; the dataset's others are not shown."""
    found = Thumbnails.objects.select_related("blob").filter(dataset=link.job.dataset_id).exclude(blob=None).first()
    view = pictures.of_run(request, link.job, token)
    if found is None or found.blob_id is None or not found.blob_id.startswith(version) or len(version) < 16:
        raise Http404("There is no such picture.")
    shown = view["images"].place if "images" in view else None
    if shown is None or number not in shown:
        raise Http404("There is no such picture.")
    assert found.blob is not None
    return pictures.picture(found.blob.path, number, size)


@by_link
def adversarial(
    request: HttpRequest, link: ShareLink, token: str, version: str, number: int, size: str
) -> HttpResponse:
    return pictures.of_attack(link.job, version, number, size)


@by_link
def file(request: HttpRequest, link: ShareLink, token: str, name: str) -> HttpResponseBase:
    found = link.job.artifacts.select_related("blob").filter(name=name).first()
    if found is None or not sharing.shows(link, found):
        raise Http404("This link shows no such file.")
    return send_artifact(request, found, inline=request.GET.get("inline") == "1")
