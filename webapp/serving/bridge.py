"""Between the server's event loop and Django's threads; see the package's docstring."""

from __future__ import annotations

import asyncio
import errno
import json
import logging
import signal
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import IO, Any

from asgiref.wsgi import WsgiToAsgiInstance
from django.conf import settings
from django.db import DatabaseError

from repair_engine.support.words import byte_size
from webapp.jobs import live
from webapp.serving.gate import SMALL, Pass, Places, Refusal, admit
from webapp.serving.watch import Watch
from webapp.waiting import KEY, Wait, seconds_of

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
        self.watch = Watch(live.versions)
        self.again = asyncio.Semaphore(max(1, threads // 2))  # of what a change lets go at once; others get in between

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            while (await receive())["type"] != "lifespan.shutdown":
                self._let_go_when_told_to_stop()
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

    def _let_go_when_told_to_stop(self) -> None:
        """The server ends when all requests have: those that wait are answered first. The loop hears of signals by
        its wake-up descriptor, so that the server's own handlers, which are the loop's, run as before."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: loop.call_soon_threadsafe(self.watch.stop))

    async def _serve(self, scope: Message, receive: Receive, send: Send) -> None:
        headers = {name.decode("latin1").lower(): value.decode("latin1") for name, value in scope["headers"]}
        admitted = await self._admit(scope, headers)
        with self.places.of(admitted.user), _spool() as body:
            size, broken = await self._take_in(body, admitted, receive)
            answer, parts = await self._asked(scope, headers, body, size, receive)
        if broken:
            raise broken
        try:
            await self._give_out(answer, parts, send)
        finally:
            if close := getattr(parts, "close", None):
                await asyncio.get_running_loop().run_in_executor(self.disk, close)

    async def _asked(
        self, scope: Message, headers: dict[str, str], body: IO[bytes], size: int, receive: Receive
    ) -> tuple[Answer, bytes | Iterable[bytes]]:
        """Django's answer; where the caller waits for a change (`webapp.waiting`), its answer after that. Raises
        Gone."""
        holds = scope["method"] == "GET" and not size and self.watch.room
        wait = Wait(seconds_of(headers.get("prefer", ""))) if holds else None
        end = time.monotonic() + (wait.seconds if wait else 0)
        run = partial(self._django, scope, body, size, wait)
        answer, parts = await run()
        if not wait or not wait.seen or not wait.seconds:
            return answer, parts
        left = asyncio.get_running_loop().create_task(_hung_up(receive))
        try:
            while wait.seen and time.monotonic() < end and self.watch.room:
                held = asyncio.ensure_future(self.watch.changed(wait.seen, end - time.monotonic()))
                try:
                    await asyncio.wait({held, left}, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    held.cancel()
                if left.done():
                    raise Gone
                wait.seen, wait.again = {}, True
                async with self.again:
                    answer, parts = await run()
        finally:
            left.cancel()
        return answer, parts

    async def _django(
        self, scope: Message, body: IO[bytes], size: int, wait: Wait | None
    ) -> tuple[Answer, bytes | Iterable[bytes]]:
        answer = Answer()
        run = partial(self._run, scope, body, size, answer, wait)
        return answer, await asyncio.get_running_loop().run_in_executor(self.django, run)

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

    def _run(
        self, scope: Message, body: IO[bytes], size: int, answer: Answer, wait: Wait | None
    ) -> bytes | Iterable[bytes]:
        """In a thread of Django's. What it gives back is in memory, or a file or stream that needs no such thread."""
        instance = WsgiToAsgiInstance(self.wsgi)
        instance.scope = scope
        environ = instance.build_environ(scope, body)
        environ |= {"CONTENT_LENGTH": str(size), "wsgi.file_wrapper": FileAnswer}
        if wait is not None:
            environ[KEY] = wait
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


async def _hung_up(receive: Receive) -> None:
    """Returns when the client has."""
    while (await receive())["type"] != "http.disconnect":
        pass


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
