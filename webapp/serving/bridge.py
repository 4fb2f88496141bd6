"""Between the server's event loop and Django's threads; see the package's docstring."""

from __future__ import annotations

import asyncio
import errno
import json
import logging
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import IO, Any

from asgiref.wsgi import WsgiToAsgiInstance
from django.conf import settings
from django.db import DatabaseError

from repair_engine.support.words import byte_size
from webapp.serving.gate import SMALL, Pass, Places, Refusal, admit

log = logging.getLogger(__name__)
Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

SILENCE = 30.0  # seconds without a byte of the body, or without one of the answer being taken
GRACE, SLOWEST = 60.0, 4096  # after a minute a body must have come in at 4 KiB/s on average
CHUNK = 1 << 18
IN_MEMORY = 1 << 16


class Gone(Exception):
    """The client hung up, or is as good as gone."""


class FileAnswer:
    """What Django gives for `wsgi.file_wrapper`: a file that the loop sends, chunk by chunk."""

    def __init__(self, file: IO[bytes], block_size: int = CHUNK) -> None:
        self.file = file

    def __iter__(self) -> Iterator[bytes]:
        while chunk := self.file.read(CHUNK):
            yield chunk

    def close(self) -> None:
        self.file.close()


class Bridge:
    """An ASGI application that runs a WSGI one.

    Args:
        threads: how many requests Django works on at once. They never wait for a client.
    """

    def __init__(self, wsgi: Callable, *, threads: int = 8) -> None:
        self.wsgi = wsgi
        self.django = ThreadPoolExecutor(threads, "django")
        self.disk = ThreadPoolExecutor(4, "disk")
        # Apart from Django's, so that asking who sends a body never waits for a slow page.
        self.asking = ThreadPoolExecutor(2, "gate")
        self.places = Places()

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            while (await receive())["type"] != "lifespan.shutdown":
                await send({"type": "lifespan.startup.complete"})
            await send({"type": "lifespan.shutdown.complete"})
            return
        # Underscores would make X_Forwarded_For what only X-Forwarded-For may be.
        scope = {**scope, "headers": [(name, value) for name, value in scope["headers"] if b"_" not in name]}
        with suppress(Gone):
            try:
                await self._serve(scope, receive, send)
            except Refusal as refusal:
                await _refuse(refusal, scope, receive, send)

    async def _serve(self, scope: Message, receive: Receive, send: Send) -> None:
        headers = {name.decode("latin1").lower(): value.decode("latin1") for name, value in scope["headers"]}
        admitted = await self._admit(scope, headers)
        with self.places.of(admitted.user), _spool() as body:
            size, broken = await self._take_in(body, admitted, receive)
            answer = Answer()
            loop = asyncio.get_running_loop()
            parts = await loop.run_in_executor(self.django, self._run, scope, body, size, answer)
        if broken:
            raise broken
        try:
            await self._give_out(answer, parts, send)
        finally:
            if close := getattr(parts, "close", None):
                await loop.run_in_executor(self.disk, close)

    async def _admit(self, scope: Message, headers: dict[str, str]) -> Pass:
        length = headers.get("content-length")
        if length is None and "transfer-encoding" not in headers:
            return Pass(SMALL)
        announced = int(length) if length is not None else None  # the server refused what is no number
        if announced is not None and announced <= SMALL:
            return Pass(SMALL)
        ask = (scope["method"], scope["path"], headers, announced)
        try:
            return await asyncio.get_running_loop().run_in_executor(self.asking, admit, *ask)
        except DatabaseError as error:
            log.warning("who sends a body: %s", error)
            raise Refusal(503, "The server cannot reach its database.", "Try again in a minute.", 60) from None

    async def _take_in(self, body: IO[bytes], admitted: Pass, receive: Receive) -> tuple[int, Gone | Refusal | None]:
        """Returns how many bytes came, and why no more did where that is no reason to throw them away."""
        size, waiting, begun, broken = 0, bytearray(), time.monotonic(), None
        try:
            try:
                async for part in _parts(receive):
                    size += len(part)
                    if size > admitted.most:
                        raise Refusal(
                            413, f"The body is larger than the {byte_size(admitted.most)} that are taken here from you."
                        )
                    if time.monotonic() - begun > GRACE + size / SLOWEST:
                        raise Refusal(408, "The body came too slowly.")
                    waiting += part
                    if len(waiting) >= CHUNK:
                        await self._write(body, waiting)
                        waiting = bytearray()
            except (Gone, Refusal) as error:
                if not admitted.broken_off or (isinstance(error, Refusal) and error.status != 408):
                    raise
                broken = error
            if size > IN_MEMORY:
                await self._write(body, waiting)
            else:
                body.write(waiting)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            raise Refusal(
                507, "The server's disk is full.", "Ask the operator to make room; nothing was lost."
            ) from None
        body.seek(0)
        return size, broken

    async def _write(self, body: IO[bytes], data: bytearray) -> None:
        await asyncio.get_running_loop().run_in_executor(self.disk, body.write, data)

    def _run(self, scope: Message, body: IO[bytes], size: int, answer: Answer) -> bytes | Iterable[bytes]:
        """In a thread of Django's. What it gives back is in memory, or a file or stream that needs no such thread."""
        instance = WsgiToAsgiInstance(self.wsgi)
        instance.scope = scope
        environ = instance.build_environ(scope, body)
        environ |= {"CONTENT_LENGTH": str(size), "wsgi.file_wrapper": FileAnswer}
        parts = self.wsgi(environ, answer.start)
        if isinstance(parts, FileAnswer) or getattr(parts, "streaming", False):
            return parts
        try:
            return b"".join(parts)
        finally:
            parts.close()

    async def _give_out(self, answer: Answer, parts: bytes | Iterable[bytes], send: Send) -> None:
        await _sent(send, {"type": "http.response.start", "status": answer.status, "headers": answer.headers})
        if isinstance(parts, bytes):
            await _sent(send, {"type": "http.response.body", "body": parts})
            return
        loop, source = asyncio.get_running_loop(), iter(parts)
        while chunk := await loop.run_in_executor(self.disk, next, source, b""):
            await _sent(send, {"type": "http.response.body", "body": chunk, "more_body": True})
        await _sent(send, {"type": "http.response.body", "body": b""})


class Answer:
    """WSGI's start_response."""

    status: int
    headers: list[tuple[bytes, bytes]]

    def start(self, status: str, headers: list[tuple[str, str]], exc_info: object = None) -> None:
        self.status = int(status.split(" ", 1)[0])
        self.headers = [(name.lower().encode("latin1"), value.encode("latin1")) for name, value in headers]


def _spool() -> IO[bytes]:
    """In memory while small, then on the data directory's disk without a name: a crash leaves nothing."""
    settings.INCOMING_DIR.mkdir(parents=True, exist_ok=True)
    return tempfile.SpooledTemporaryFile(IN_MEMORY, dir=settings.INCOMING_DIR)


async def _parts(receive: Receive):
    """The body, as it comes. Raises Gone."""
    while True:
        try:
            message = await asyncio.wait_for(receive(), SILENCE)
        except TimeoutError:
            raise Refusal(408, "The rest of the body did not come.") from None
        if message["type"] != "http.request":
            raise Gone
        yield message.get("body", b"")
        if not message.get("more_body"):
            return


async def _sent(send: Send, message: Message) -> None:
    try:
        await asyncio.wait_for(send(message), SILENCE)
    except (OSError, RuntimeError, TimeoutError) as error:
        raise Gone from error


async def _refuse(refusal: Refusal, scope: Message, receive: Receive, send: Send) -> None:
    """Who waits for `100 Continue` hears it at once; others first send what they have begun: it is read and thrown
    away, for many clients do not read an answer that comes before they are done."""
    waits = any(name.lower() == b"expect" for name, _ in scope["headers"])
    if refusal.status != 408 and not waits:
        begun, size = time.monotonic(), 0
        with suppress(Refusal):
            async for part in _parts(receive):
                size += len(part)
                if size > settings.MAX_DATASET_BYTES or time.monotonic() - begun > GRACE:
                    break
    said = {"type": "about:blank", "status": refusal.status, "detail": refusal.detail}
    if refusal.mend:
        said["mend"] = refusal.mend
    body = json.dumps(said).encode()
    headers = [
        (b"content-type", b"application/problem+json"),
        (b"content-length", str(len(body)).encode()),
        (b"connection", b"close"),
    ]
    if refusal.retry_after:
        headers.append((b"retry-after", str(refusal.retry_after).encode()))
    await _sent(send, {"type": "http.response.start", "status": refusal.status, "headers": headers})
    await _sent(send, {"type": "http.response.body", "body": body})
