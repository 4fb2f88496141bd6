"""The units of a finished run: their map as data, and one unit's card."""

from __future__ import annotations

from uuid import UUID

from django.contrib.auth.decorators import login_required
from django.http import Http404, HttpRequest, HttpResponse
from django.utils.http import parse_etags
from django.views.decorators.http import require_safe

from webapp.jobs import access
from webapp.pages import units

_NOTHING = "default-src 'none'; sandbox"


@login_required
@require_safe
def unit_map(request: HttpRequest, pk: UUID) -> HttpResponse:
    """What the map of a run's units is drawn from (`units.map_of`); it never changes."""
    job = access.job_for(request.user, pk)
    artifact = units.file_of(job)
    if artifact is None:
        raise Http404("This run has no values of units.")
    sign = units.culprit_sign(job)
    etag = f'"{artifact.blob_id[:32]}-{units.MAP_VERSION}{sign:+d}"'
    headers = {"ETag": etag, "Cache-Control": "private, no-cache", "X-Content-Type-Options": "nosniff"}
    known = parse_etags(request.headers.get("If-None-Match", ""))
    if etag in known or "*" in known:
        return HttpResponse(status=304, headers=headers)
    content = units.map_of(artifact.blob.path, artifact.name, sign)
    headers["Content-Security-Policy"] = _NOTHING
    return HttpResponse(content, content_type="application/octet-stream", headers=headers)
