"""Whether the database is the one that this release expects."""

from __future__ import annotations

from django.db import connection
from django.db.migrations.executor import MigrationExecutor


def unapplied() -> list[str]:
    """Migrations that `manage.py migrate` would apply, in order. Two queries."""
    executor = MigrationExecutor(connection)
    plan = executor.migration_plan(executor.loader.graph.leaf_nodes())
    return [f"{one.app_label}.{one.name}" for one, _ in plan]


def expected() -> dict[str, str]:
    """The last migration of each app, of this release."""
    return dict(MigrationExecutor(connection).loader.graph.leaf_nodes())
