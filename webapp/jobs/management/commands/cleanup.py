"""`manage.py cleanup`: removes now what is kept no longer; `--dry-run` says what that is."""

from __future__ import annotations

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from repair_engine.support.words import byte_size
from webapp import env
from webapp.jobs import cleanup


class Command(BaseCommand):
    help = "Remove what is kept no longer (beat does it, too). NR_KEEP_DAYS says how long each kind is kept."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("kinds", nargs="*", metavar="KIND", help=f"default: all of {', '.join(cleanup.KINDS)}")
        parser.add_argument("--dry-run", action="store_true", help="say what would go, and remove nothing")
        parser.add_argument("--keep", action="append", default=[], metavar="KIND=DAYS", help="this time, so many days")

    def handle(self, *, kinds: list[str], dry_run: bool, keep: list[str], verbosity: int, **options: object) -> None:
        if unknown := [name for name in kinds if name not in cleanup.KINDS]:
            raise CommandError(f"There is no kind {unknown[0]!r}. Kinds: {', '.join(cleanup.KINDS)}.")
        try:
            days = {**settings.KEEP_DAYS, **env.days("--keep", keep)}
            cleanup.check_days(days)
        except ValueError as error:
            raise CommandError(str(error)) from None
        for name in kinds or cleanup.KINDS:
            self._clear(cleanup.KINDS[name], days.get(name), dry_run, verbosity)

    def _clear(self, kind: cleanup.Kind, days: float | None, dry_run: bool, verbosity: int) -> None:
        count = size = 0
        for thing in kind.things(days):
            count, size = count + thing.count, size + thing.bytes
            if verbosity > 1 or dry_run:
                self.stdout.write(f"  {thing.what}" + (f": {thing.count}" if thing.count > 1 else ""))
            if not dry_run:
                thing.remove()
        word = "would go" if dry_run else "gone"
        self.stdout.write(f"{kind.name}: {count} {word}, {byte_size(size)} ({kind.what}; kept {kind.kept(days)})")
