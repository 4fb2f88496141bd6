"""Runs side by side; the address names them."""

from __future__ import annotations

from urllib.parse import urlencode

from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_safe

from repair_engine.pages import compare_page as page
from repair_engine.pages.compare_wording import headline
from webapp.jobs import access
from webapp.jobs.comparing import comparable, compare_runs
from webapp.jobs.models import Job
from webapp.library.errors import Refused
from webapp.pages import side_by_side
from webapp.pages.templatetags.ui import title


@login_required
@require_safe
def compare(request: HttpRequest) -> HttpResponse:
    """`?a=…&b=…`; with one or none of them, the choice of two. `?run=…&run=…`: any number, side by side."""
    if pks := request.GET.getlist("run"):
        return _several(request, access.several(request.user, access.jobs_of(request.user), pks, access.SEE))
    mine = access.jobs_of(request.user)
    chosen = [
        access.job_for(request.user, pk, access.SEE) if (pk := request.GET.get(side)) else None for side in ("a", "b")
    ]
    sides = []
    for side, words, job, other in zip("ab", ("One run", "The other"), chosen, reversed(chosen), strict=True):
        runs = comparable(mine, other)
        if job is not None and job not in runs:  # named in the address: it stays the choice, and it is said why not
            runs.insert(0, job)
        sides.append((side, words, job, runs))
    context = {"runs": sum(len(runs) for *_, runs in sides), "sides": sides}
    a, b = chosen
    if a is None or b is None:
        return render(request, "pages/compare.html", context)
    context |= _figures([a, b])
    try:
        document = compare_runs(a, b, (title(a), title(b)))
    except Refused as error:
        return render(request, "pages/compare.html", context | {"refused": error}, status=error.status)
    context["headline"] = headline(document)
    context["sections"] = page.sections(document)
    return render(request, "pages/compare.html", context)


def _several(request: HttpRequest, jobs: list[Job]) -> HttpResponse:
    if len(jobs) <= 2:
        return redirect(f"{reverse('pages:compare')}?{urlencode(dict(zip('ab', (job.pk for job in jobs))))}")
    shown = jobs[: side_by_side.MOST]
    return render(request, "pages/compare_many.html", {"left_out": len(jobs) - len(shown)} | _figures(shown))


def _figures(jobs: list[Job]) -> dict[str, object]:
    rows = side_by_side.figures(jobs)
    return {"figures": rows, "several_metrics": len({row.metric for row in rows}) > 1}
