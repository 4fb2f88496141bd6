"""`manage.py rotate_signing_key`: receipts are signed with a new key from now on."""

from __future__ import annotations

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from webapp.jobs import receipts


class Command(BaseCommand):
    help = "A new key for receipts. Of the old one the public half stays, for what it signed; its private half is gone."

    def handle(self, **options: object) -> None:
        try:
            name = receipts.rotate()
        except (OSError, ValueError) as error:
            raise CommandError(f"{settings.SIGNING_KEY}: {error}") from None
        self.stdout.write(f"Receipts are signed with {name} from now on ({settings.SIGNING_KEY}).")
