"""The headers of tus 1.0 (https://tus.io/protocols/resumable-upload): read strictly, and written."""

from __future__ import annotations

import base64
import os
import re
from dataclasses import dataclass
from typing import Any

from django.utils.http import http_date
from drf_spectacular.utils import OpenApiParameter
from rest_framework import exceptions
from rest_framework.request import Request

from webapp.library.models import ResumableUpload
from webapp.library.resumable import CHECKSUMS
from webapp.library.uploads import cap_of

VERSION = "1.0.0"
BODY = "application/offset+octet-stream"
EXTENSIONS = "creation,expiration,checksum,termination"
MOST_METADATA = 4096  # bytes of the header
_SHA256 = re.compile(r"[0-9a-f]{64}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


class OtherVersion(exceptions.APIException):
    status_code = 412
    default_detail = f"Send the header Tus-Resumable: {VERSION}: this address speaks tus {VERSION}."


class OtherBody(exceptions.APIException):
    status_code = 415
    default_detail = f"Send the bytes with Content-Type: {BODY}."


@dataclass(frozen=True)
class Announced:
    """What Upload-Metadata says of a file."""

    name: str
    kind: str
    sha256: str
    raw: str


def check_version(request: Request) -> None:
    if request.headers.get("Tus-Resumable") != VERSION:
        raise OtherVersion


def whole(request: Request, name: str) -> int:
    """A header that is a number of bytes."""
    text = request.headers.get(name, "")
    if not re.fullmatch(r"\d{1,18}", text, re.ASCII):
        raise exceptions.ValidationError({name: f"A number of bytes, not {text[:40]!r}."})
    return int(text)


def announced(request: Request) -> Announced:
    """Keys with values in base 64: `filename`, and if you like `kind` (model or dataset) and `sha256` (hexadecimal)."""
    raw = request.headers.get("Upload-Metadata", "")
    if len(raw) > MOST_METADATA:
        raise _metadata(f"At most {MOST_METADATA} bytes.")
    said: dict[str, str] = {}
    for pair in raw.split(",") if raw.strip() else []:
        key, _, value = pair.strip().partition(" ")
        if not key or key in said:
            raise _metadata(f"A key stands alone and once, which {key!r} does not.")
        try:
            said[key] = base64.b64decode(value, validate=True).decode()
        except ValueError:
            raise _metadata(f"The value of {key} is no base 64 of a UTF-8 text.") from None
    name = os.path.basename(said.get("filename", "").replace("\\", "/")).strip()[-255:]
    if not name or _CONTROL.search(name):
        raise _metadata("The filename must be there, a line of text.")
    if (kind := said.get("kind", "")) not in ("", *ResumableUpload.Kind.values):
        raise _metadata(f"A kind is model or dataset, not {kind!r}.")
    if (sha256 := said.get("sha256", "").lower()) and not _SHA256.fullmatch(sha256):
        raise _metadata("A sha256 has 64 hexadecimal digits.")
    return Announced(name, kind, sha256, raw)


def _metadata(problem: str) -> exceptions.ValidationError:
    return exceptions.ValidationError({"Upload-Metadata": problem})


def checksum(request: Request) -> tuple[str, bytes] | None:
    """Of the body: algorithm and digest."""
    sent = request.headers.get("Upload-Checksum")
    if sent is None:
        return None
    algorithm, _, value = sent.partition(" ")
    if algorithm not in CHECKSUMS:
        raise exceptions.ValidationError({"Upload-Checksum": f"Known: {', '.join(CHECKSUMS)}."})
    try:
        return algorithm, base64.b64decode(value, validate=True)
    except ValueError:
        raise exceptions.ValidationError({"Upload-Checksum": "The digest is not base 64."}) from None


def of_server() -> dict[str, str]:
    return {
        "Tus-Version": VERSION,
        "Tus-Extension": EXTENSIONS,
        "Tus-Max-Size": str(max(map(cap_of, ResumableUpload.Kind.values))),
        "Tus-Checksum-Algorithm": ",".join(CHECKSUMS),
    }


def of_upload(upload: ResumableUpload) -> dict[str, str]:
    said = {
        "Upload-Offset": str(upload.offset),
        "Upload-Length": str(upload.size),
        "Upload-Expires": http_date(upload.expires_at.timestamp()),
        "Cache-Control": "no-store",
    }
    return said | ({"Upload-Metadata": upload.metadata} if upload.metadata else {})


def parameter(name: str, text: str, schema: dict[str, Any] | type = str, *, required: bool = False) -> OpenApiParameter:
    return OpenApiParameter(name, schema, OpenApiParameter.HEADER, required=required, description=text)


TUS = parameter("Tus-Resumable", "The version of the protocol.", {"type": "string", "enum": [VERSION]}, required=True)
OFFSET = parameter(
    "Upload-Offset", "Bytes that are there.", {"type": "integer", "minimum": 0, "maximum": 10**18 - 1}, required=True
)
LENGTH = parameter(
    "Upload-Length", "Bytes of the file.", {"type": "integer", "minimum": 1, "maximum": 10**18 - 1}, required=True
)
METADATA = parameter(
    "Upload-Metadata",
    "`filename`, and if you like `kind` (model or dataset, whose limit is asked then) and `sha256` (hexadecimal: the "
    "file is refused where it has another): key and value in base 64, `filename bmV0LnB0aA==,kind bW9kZWw=`.",
    required=True,
)
CHECKSUM = parameter(
    "Upload-Checksum", f"Of this body, {' or '.join(CHECKSUMS)}: the algorithm and its digest in base 64."
)
