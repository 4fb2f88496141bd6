"""How large a body a caller may send, decided from the headers alone, before a byte of it is stored."""

from __future__ import annotations

import re
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie
from importlib import import_module

from django.conf import settings
from django.contrib.auth import get_user
from django.core.exceptions import ValidationError
from django.db import close_old_connections
from django.http import HttpRequest

from repair_engine.support.words import byte_size
from webapp.accounts.models import ApiToken
from webapp.accounts.selectors import token_by_key
from webapp.library.models import ResumableUpload
from webapp.library.uploads import cap_of

SMALL = 2 * 1024**2 + 64 * 1024  # forms and JSON, as DATA_UPLOAD_MAX_MEMORY_SIZE: from anybody, to any address
FORM = 1024**2  # what a form has beside its file
_UPLOADS = re.compile(r"/(?:api/v1/)?(models|datasets)/(?:new/)?")
_RESUMABLE = re.compile(r"/api/v1/uploads/([0-9a-f-]{36})/")


@dataclass(eq=False)  # not frozen: an exception is given its traceback
class Refusal(Exception):
    """What is answered instead of taking the body in."""

    status: int
    detail: str
    mend: str = ""
    retry_after: int = 0


@dataclass(frozen=True)
class Pass:
    """A body that may come in.

    Attributes:
        most: bytes.
        user: the account it is for; None for small ones, which anybody may send.
        broken_off: what came of it is of use, should its connection break.
    """

    most: int
    user: int | None = None
    broken_off: bool = False


def admit(method: str, path: str, headers: Mapping[str, str], announced: int | None) -> Pass:
    """Raises Refusal. Asks the database, for large bodies alone.

    Args:
        headers: by lower-case name.
        announced: Content-Length; None: chunked.
    """
    if announced is not None and announced <= SMALL:
        return Pass(SMALL)
    if method == "POST":
        method = headers.get("x-http-method-override", method).upper()
    match = _UPLOADS.fullmatch(path) if method == "POST" else None
    piece = _RESUMABLE.fullmatch(path) if method == "PATCH" else None
    if match is None and piece is None:
        if announced is None:
            return Pass(SMALL)
        raise Refusal(413, "This address takes no files.", f"Send at most {byte_size(SMALL)}.")
    user = _caller(headers)
    if user is None:
        if announced is None:
            return Pass(SMALL)
        raise Refusal(401, "Files are taken from people with an account.", "Sign in, or send a token that may run.")
    if piece:
        most = _awaited(piece[1], user, headers.get("upload-offset", ""))
        if announced is not None and announced > most:
            raise Refusal(413, f"More than the {most:,} bytes that are still to come.", "Announce it anew.")
    elif match:
        most = cap_of(match[1].removesuffix("s")) + FORM
        if announced is not None and announced > most:
            raise Refusal(413, f"The file is larger than the {byte_size(most - FORM)} that are taken here.")
    room = shutil.disk_usage(settings.DATA_DIR).free
    if announced is not None and 2 * announced > room:  # it is written as it comes, and once more out of its form
        raise Refusal(507, "The server's disk is too full for this file.", "Ask the operator to make room.")
    # Under a checksum a body counts whole or not at all.
    return Pass(most, user, broken_off=piece is not None and "upload-checksum" not in headers)


def _awaited(pk: str, user: int, offset: str) -> int:
    """Bytes that are still to come of an upload.

    Raises Refusal: the caller has none with this id, or it stands elsewhere than the caller takes it to.
    """
    close_old_connections()
    try:
        row = ResumableUpload.objects.filter(pk=pk, owner=user, begun="").values_list("size", "offset").first()
    except ValidationError:
        row = None
    finally:
        close_old_connections()
    if row is None:
        raise Refusal(404, "You have no upload with this id.", "Begin it anew.")
    if offset != str(row[1]):
        raise Refusal(409, f"{row[1]:,} bytes of it are here, not {offset}.", "Ask where to go on (HEAD).")
    return row[0] - row[1]


class Places:
    """How many large bodies one account may have under way in this process."""

    def __init__(self) -> None:
        self._taken: Counter[int] = Counter()

    @contextmanager
    def of(self, user: int | None) -> Iterator[None]:
        """Raises Refusal."""
        if user is None:
            yield
            return
        if self._taken[user] >= settings.UPLOADS_AT_ONCE:
            raise Refusal(
                429, f"{self._taken[user]} uploads of yours are under way already.", "Wait for one to end.", 30
            )
        self._taken[user] += 1
        try:
            yield
        finally:
            self._taken[user] -= 1
            if not self._taken[user]:
                del self._taken[user]


def _caller(headers: Mapping[str, str]) -> int | None:
    close_old_connections()
    try:
        word, _, key = headers.get("authorization", "").partition(" ")
        if word.lower() in ("bearer", "token"):
            token = token_by_key(key.strip())
            good = token is not None and not token.expired and token.scope == ApiToken.Scope.RUN
            return token.owner_id if good else None
        cookies: SimpleCookie = SimpleCookie()
        with suppress(CookieError):
            cookies.load(headers.get("cookie", ""))
        session = cookies.get(settings.SESSION_COOKIE_NAME)
        if session is None:
            return None
        request = HttpRequest()
        request.session = import_module(settings.SESSION_ENGINE).SessionStore(session.value)
        return get_user(request).pk
    finally:
        close_old_connections()
