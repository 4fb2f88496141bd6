"""`manage.py check_storage`: does every file hold what its name says, and is it where the rows say it is?"""

from __future__ import annotations

from django.core.management.base import BaseCommand, CommandError, CommandParser

from webapp.jobs import storage
from webapp.library.models import Blob


class Command(BaseCommand):
    help = "Read all stored files and compare them with their names and with the database. Exit 1: something is wrong."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--repair",
            action="store_true",
            help="move what is wrong to quarantine/ (nothing is deleted), put back from there what a row misses, set "
            "sizes right. Every step is printed.",
        )

    def handle(self, *args: object, repair: bool, **options: object) -> None:
        found = left = 0
        for finding in storage.check(repair=repair):
            found, left = found + 1, left + (not finding.mended)
            self.stdout.write(f"{finding.where} {finding.wrong}" + (f": {finding.done}" if finding.done else ""))
        self.stdout.write(f"{Blob.objects.count()} blobs: {found} wrong, {found - left} mended.")
        if left:
            raise CommandError(f"{left} left." + ("" if repair else " `--repair` says what it does about them."))
