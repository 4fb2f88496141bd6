"""`manage.py restore FILE.tar`: what `manage.py backup` wrote, into this data directory and database."""

from __future__ import annotations

from pathlib import Path

from django.core.management.base import BaseCommand, CommandError, CommandParser

from repair_engine.support.words import byte_size
from webapp.jobs import backup
from webapp.library.errors import Refused


class Command(BaseCommand):
    help = "Restore a backup into an empty database (SQLite or PostgreSQL, whichever wrote it) and data directory."
    requires_migrations_checks = False

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("file", type=Path)
        parser.add_argument("--replace", action="store_true", help="delete all rows that are there")

    def handle(self, *, file: Path, replace: bool, **options: object) -> None:
        try:
            manifest, anew = backup.restore(file, replace=replace)
        except Refused as refused:
            raise CommandError(refused.said) from None
        self.stdout.write(
            f"Restored {manifest.blobs} files of {byte_size(manifest.bytes)} and the database of {manifest.made_at}. "
            f"Runs that were under way and begin anew: {anew}."
        )
        if manifest.lacking:
            self.stdout.write(f"Files that the backup lacked: {', '.join(manifest.lacking)}.")
