"""What a line of the log is about: request, job and shard, also as JSON, a line an event."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from types import MappingProxyType

_about: ContextVar[Mapping[str, str]] = ContextVar("about", default=MappingProxyType({}))
_OWN = {*vars(logging.makeLogRecord({})), "message", "asctime", "about", "taskName"}


@contextmanager
def about(**ids: object) -> Iterator[None]:
    """All that is logged meanwhile, in this thread, carries these ids."""
    token = _about.set({**_about.get(), **{name: str(value) for name, value in ids.items()}})
    try:
        yield
    finally:
        _about.reset(token)


class Lines(logging.Formatter):
    """For people: time, level, logger, message, and at its end what it is about."""

    def format(self, record: logging.LogRecord) -> str:
        ids = " ".join(f"{name}={value}" for name, value in _about.get().items())
        line = super().format(record)
        head, newline, rest = line.partition("\n")
        return f"{head} [{ids}]{newline}{rest}" if ids else line


class Json(logging.Formatter):
    """For machines: one object a line."""

    def format(self, record: logging.LogRecord) -> str:
        event = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **_about.get(),
            **{name: value for name, value in vars(record).items() if name not in _OWN},
        }
        if record.exc_info:
            event["traceback"] = self.formatException(record.exc_info)
        return json.dumps(event, default=str)
