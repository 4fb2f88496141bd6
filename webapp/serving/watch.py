"""Requests that are held until a run of theirs changes: on the event loop, with two queries a second for them all."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from uuid import UUID

from django.db import DatabaseError, InterfaceError, close_old_connections, connections

log = logging.getLogger(__name__)
EVERY = 0.5  # seconds between two looks at what has changed
MOST = 800  # requests held, of the connections of a process (`serving.__main__.CONNECTIONS`): others still get in
Versions = Callable[[Iterable[UUID]], dict[UUID, str]]


class Watch:
    """Args:
    versions: asks the database, in a thread; a run that is not there any more is left out.
    """

    def __init__(self, versions: Versions) -> None:
        self._ask = versions
        self._held: dict[asyncio.Event, dict[UUID, str]] = {}
        self._looking: asyncio.Task[None] | None = None
        self._thread = ThreadPoolExecutor(1, "watch")
        self._stopped = False

    @property
    def room(self) -> bool:
        return len(self._held) < MOST and not self._stopped

    async def changed(self, seen: dict[UUID, str], seconds: float) -> None:
        """Returns when one of these runs has another version, or the time is over, or the server stops."""
        event = asyncio.Event()
        self._held[event] = seen
        if self._looking is None:
            self._looking = asyncio.get_running_loop().create_task(self._look())
        try:
            if not self._stopped:
                await asyncio.wait_for(event.wait(), seconds)
        except TimeoutError:
            pass
        finally:
            del self._held[event]

    def stop(self) -> None:
        """Whoever waits is answered now; nobody waits any more."""
        self._stopped = True
        for event in self._held:
            event.set()

    async def _look(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while self._held:
                await asyncio.sleep(EVERY)
                runs = {pk for seen in self._held.values() for pk in seen}
                try:
                    found = await loop.run_in_executor(self._thread, self._versions, runs)
                except (DatabaseError, InterfaceError) as error:  # who waits goes on to wait
                    log.warning("runs that are waited for: %s", str(error).strip())
                    continue
                for event, seen in self._held.items():
                    if any(found.get(pk) != version for pk, version in seen.items()):
                        event.set()
        finally:
            self._looking = None
            await loop.run_in_executor(self._thread, connections.close_all)

    def _versions(self, runs: set[UUID]) -> dict[UUID, str]:
        close_old_connections()
        return self._ask(runs)
