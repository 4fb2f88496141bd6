"""Many who upload at once, in pieces, over a real server; and what others wait for meanwhile."""

from __future__ import annotations

import asyncio
import base64
import os
import statistics
import time
from typing import Any

from benchmarks.watchers import ask, percentile, request_of, used_by

PIECE = 8 << 20  # bytes of a request, as the client has them
EVERY = 0.25  # seconds between two requests of who uploads nothing


def upload(port: int, server: int, known: dict[str, Any], pages: dict[str, str], n: int, size: int) -> dict[str, Any]:
    """`n` files of `size` bytes at once, and answers to each page before and meanwhile.

    Args:
        pages: addresses by what they are called.

    Returns:
        Bytes a second of all together; the server's processor seconds; of each page p50, p95 and most in seconds, alone
        and beside the uploads.
    """
    return asyncio.run(_upload(port, server, known, pages, n, size))


async def _upload(
    port: int, server: int, known: dict[str, Any], pages: dict[str, str], n: int, size: int
) -> dict[str, Any]:
    alone = await _asked(port, known, pages, asyncio.create_task(asyncio.sleep(10)))
    used, began = used_by(server), time.perf_counter()
    sending = asyncio.gather(*(_send(port, known["token"], i, size) for i in range(n)))
    beside = await _asked(port, known, pages, sending)
    sent = await sending
    seconds = time.perf_counter() - began
    return {
        "seconds": seconds,
        "bytes_per_second": n * size / seconds,
        "slowest": max(sent),
        "processor": used_by(server) - used,
        "pages": {name: (alone[name], beside[name]) for name in pages},
    }


async def _asked(
    port: int, known: dict[str, Any], pages: dict[str, str], until: asyncio.Future[Any]
) -> dict[str, dict[str, float]]:
    """Each page again and again until that is done."""
    seconds: dict[str, list[float]] = {name: [] for name in pages}
    while not until.done() or not all(seconds.values()):
        for name, url in pages.items():
            began = time.perf_counter()
            at, _ = await ask(port, request_of(known, url))
            seconds[name].append(at - began)
        await asyncio.sleep(EVERY)
    return {
        name: {"p50": statistics.median(all_), "p95": percentile(all_, 0.95), "most": max(all_), "asked": len(all_)}
        for name, all_ in seconds.items()
    }


async def _send(port: int, token: str, i: int, size: int) -> float:
    """One file by tus, on one connection; seconds."""
    began = time.perf_counter()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    name = base64.b64encode(f"{i}.safetensors".encode()).decode()
    head = await _answered(
        reader,
        writer,
        token,
        "POST",
        "/api/v1/uploads/",
        f"Upload-Length: {size}\r\nUpload-Metadata: filename {name}",
        b"",
    )
    path = next(line for line in head.split("\r\n") if line.lower().startswith("location:")).split(": ")[1]
    path = path[path.index("/api/") :]
    for at in range(0, size, PIECE):
        body = os.urandom(1 << 16) * ((min(PIECE, size - at) + 0xFFFF) >> 16)
        more = f"Upload-Offset: {at}\r\nContent-Type: application/offset+octet-stream"
        await _answered(reader, writer, token, "PATCH", path, more, body[: min(PIECE, size - at)])
    writer.close()
    return time.perf_counter() - began


async def _answered(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    token: str,
    method: str,
    path: str,
    more: str,
    body: bytes,
) -> str:
    writer.write(
        f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\nTus-Resumable: 1.0.0\r\n"
        f"Content-Length: {len(body)}\r\n{more}\r\n\r\n".encode()
        + body
    )
    await writer.drain()
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    status = int(head.split()[1])
    length = [line for line in head.lower().split("\r\n") if line.startswith("content-length:")]
    content = await reader.readexactly(int(length[0].split(":")[1])) if length and status != 204 else b""
    if status not in (201, 204):
        raise RuntimeError(f"{method} {path} was answered {status}: {content[:300]!r}")
    return head
