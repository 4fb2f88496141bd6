"""`manage.py backup FILE.tar`: database and blobs as of one moment, while the service runs."""

from __future__ import annotations

from pathlib import Path

from django.core.management.base import BaseCommand, CommandError, CommandParser

from repair_engine.support.words import byte_size
from webapp.jobs import backup
from webapp.library.errors import Refused


class Command(BaseCommand):
    help = "Write database and stored files as of one moment into one tar. Exit 1: files are missing or damaged."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("file", type=Path, help="that is not there yet; it holds password hashes: keep it closed")
        parser.add_argument(
            "--with-signing-key", action="store_true",
            help="with the private key of receipts: whoever has the file can sign as this server",
        )  # fmt: skip

    def handle(self, *, file: Path, with_signing_key: bool = False, **options: object) -> None:
        try:
            made = backup.make(file, signing_key=with_signing_key)
        except (Refused, OSError) as error:
            raise CommandError(error.said if isinstance(error, Refused) else str(error)) from None
        self.stdout.write(f"{file}: {made.blobs} files of {byte_size(made.bytes)}, as of {made.made_at}.")
        if made.lacking:
            raise CommandError(
                f"It lacks {len(made.lacking)} file(s), missing or damaged here: {', '.join(made.lacking[:5])}. "
                "`manage.py check_storage` says whose they are. All else is in it."
            )
