"""Queries whose SQL is written once and then only filled in: of what is asked hundreds of times a second, Django takes
several times as long to write the SQL as the database does to answer it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Generic, TypeVar
from uuid import UUID

from django.db import connections
from django.db.models import Model, QuerySet

M = TypeVar("M", bound=Model)
Value = int | str | UUID
# Stand for the values while the SQL is written: no query has them of its own.
WHOLE, TEXT = 914_273_650_118_000, "stands for a text that is asked for"
UUIDS = tuple(UUID(int=(0x6E65_7572_6F6E_4000_8000 << 48) + i) for i in range(64))


class Prepared(Generic[M]):
    """A query of model instances, written once a thread: what Django has written belongs to its connection.

    Args:
        rows: gives the query set when it is called with the stand-ins. Nothing else in it may differ from one call to
            the next, such as a time.
        stand_ins: WHOLE, TEXT or of UUIDS, one for each value; each is a parameter of the SQL.
    """

    def __init__(self, rows: Callable[..., QuerySet[M]], *stand_ins: Value) -> None:
        self.rows, self.stand_ins = rows, stand_ins
        self._own = threading.local()

    def __call__(self, *values: Value) -> list[M]:
        """The rows for these values, as the query set gives them."""
        compiler, found, sql, params = self._written()
        whose = compiler.connection
        given = {
            _adapted(one, whose): _adapted(value, whose) for one, value in zip(self.stand_ins, values, strict=True)
        }
        filled = tuple(given.get(param, param) if param.__hash__ else param for param in params)
        compiler.as_sql = lambda *_args, **_more: (sql, filled)
        return list(found._iterable_class(found))

    def _written(self) -> tuple[Any, QuerySet[M], str, tuple]:
        there = getattr(self._own, "written", None)
        if there is None or there[0].connection is not connections[there[1].db]:
            found = self.rows(*self.stand_ins)
            compiler = found.query.get_compiler(found.db)
            sql, params = compiler.as_sql()
            missing = [one for one in self.stand_ins if _adapted(one, compiler.connection) not in params]
            assert not missing, f"no parameter of the query: {missing}"
            found.query.get_compiler = lambda *_args, **_more: compiler
            there = self._own.written = (compiler, found, sql, params)
        return there


def _adapted(value: Value, connection: Any) -> Value:
    """As Django gives it to the database."""
    return value.hex if isinstance(value, UUID) and not connection.features.has_native_uuid_field else value
