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
from django.db import close_old_connections
from django.http import HttpRequest

from repair_engine.support.words import byte_size
from webapp.accounts.models import ApiToken
from webapp.accounts.selectors import token_by_key

SMALL = 2 * 1024**2 + 64 * 1024  # forms and JSON, as DATA_UPLOAD_MAX_MEMORY_SIZE: from anybody, to any address
FORM = 1024**2  # what a form has beside its file
_UPLOADS = re.compile(r"/(?:api/v1/)?(models|datasets)/(?:new/)?")


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
    """

    most: int
    user: int | None = None


def admit(method: str, path: str, headers: Mapping[str, str], announced: int | None) -> Pass:
    """Raises Refusal. Asks the database, for large bodies alone.

    Args:
        headers: by lower-case name.
        announced: Content-Length; None: chunked.
    """
    if announced is not None and announced <= SMALL:
        return Pass(SMALL)
    match = _UPLOADS.fullmatch(path)
    if match is None or method != "POST":
        if announced is None:
            return Pass(SMALL)
        raise Refusal(413, "This address takes no files.", f"Send at most {byte_size(SMALL)}.")
    user = _caller(headers)
    if user is None:
        if announced is None:
            return Pass(SMALL)
        raise Refusal(401, "Files are taken from people with an account.", "Sign in, or send a token that may run.")
    most = (settings.MAX_DATASET_BYTES if match[1] == "datasets" else settings.MAX_MODEL_BYTES) + FORM
    if announced is not None and announced > most:
        raise Refusal(413, f"The file is larger than the {byte_size(most - FORM)} that are taken here.")
    room = shutil.disk_usage(settings.DATA_DIR).free
    if announced is not None and 2 * announced > room:  # it is written as it comes, and once more out of its form
        raise Refusal(507, "The server's disk is too full for this file.", "Ask the operator to make room.")
    return Pass(most, user)


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
