"""Files out: ETag, ranges and SHA-256, so that a download can be resumed and checked.

A store that browsers reach sends downloads itself: they are redirected to an address that it takes for some minutes.
What is shown in a page goes through the web process, whose headers shut it in.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from pathlib import Path

from django.http import FileResponse, HttpRequest, HttpResponse, HttpResponseBase, StreamingHttpResponse
from django.utils.http import content_disposition_header, parse_etags

from webapp.jobs.models import Artifact
from webapp.library.store import get_store

_RANGE = re.compile(r"bytes=(\d*)-(\d*)")
_CHUNK = 1 << 18
# A report is a document made from a user's names: shown in a sandbox, it can neither run nor fetch anything.
_SANDBOX = "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:; frame-ancestors 'self'"


def send_artifact(request: HttpRequest, artifact: Artifact, *, inline: bool = False) -> HttpResponseBase:
    """GET or HEAD of a result file; understands Range, If-Range and If-None-Match."""
    blob = artifact.blob
    etag = f'"{blob.sha256}"'
    headers = {
        "ETag": etag,
        "Accept-Ranges": "bytes",
        "Repr-Digest": f"sha-256=:{base64.b64encode(bytes.fromhex(blob.sha256)).decode()}:",
        "X-Checksum-Sha256": blob.sha256,
        "Cache-Control": "private, no-cache",
        "Content-Disposition": content_disposition_header(not inline, artifact.name) or "inline",
        "X-Content-Type-Options": "nosniff",
        "Content-Security-Policy": _SANDBOX,
    }
    if inline:
        headers["X-Frame-Options"] = "SAMEORIGIN"
    if has_it(request, etag):
        return HttpResponse(status=304, headers=headers)
    sends = not inline and request.method == "GET"
    if sends and (address := get_store().signed(blob.stored_as, artifact.name, artifact.media_type)):
        return HttpResponse(status=302, headers={**headers, "Location": address, "Cache-Control": "no-store"})
    wanted = _range(request, etag, blob.size)
    if wanted == ():
        return HttpResponse(status=416, headers={**headers, "Content-Range": f"bytes */{blob.size}"})
    if wanted is None:
        response: HttpResponseBase = FileResponse(
            blob.path.open("rb"), content_type=artifact.media_type, headers=headers
        )
        response.headers["Content-Length"] = str(blob.size)
        response.headers["Content-Disposition"] = headers["Content-Disposition"]
        return response
    first, last = wanted
    response = StreamingHttpResponse(
        _slice(blob.path, first, last), status=206, content_type=artifact.media_type, headers=headers
    )
    response.headers["Content-Range"] = f"bytes {first}-{last}/{blob.size}"
    response.headers["Content-Length"] = str(last - first + 1)
    return response


def has_it(request: HttpRequest, etag: str) -> bool:
    """Who asks has it already (If-None-Match)."""
    known = parse_etags(request.headers.get("If-None-Match", ""))
    return etag in known or "*" in known


def _range(request: HttpRequest, etag: str, size: int) -> tuple[int, int] | tuple[()] | None:
    """First and last byte; () cannot be satisfied; None: the whole file (no range, or an unreadable one)."""
    match = _RANGE.fullmatch(request.headers.get("Range", "").strip())
    if match is None or request.headers.get("If-Range", etag) != etag:
        return None
    first, last = match.groups()
    if not first and not last:
        return None
    if not first:
        length = min(int(last), size)
        return (size - length, size - 1) if length else ()
    start, end = int(first), min(int(last), size - 1) if last else size - 1
    return (start, end) if start <= end else ()


def _slice(path: Path, first: int, last: int) -> Iterator[bytes]:
    left = last - first + 1
    with path.open("rb") as file:
        file.seek(first)
        while left and (chunk := file.read(min(_CHUNK, left))):
            left -= len(chunk)
            yield chunk
