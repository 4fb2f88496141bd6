"""`manage.py reset_link NAME`: a link at which somebody chooses a new password; for servers that send no mail."""

from __future__ import annotations

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from webapp.accounts import services
from webapp.accounts.models import User


class Command(BaseCommand):
    help = "Print a link that lets its reader choose a new password for the account. It works once, for a few hours."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("name")
        default = settings.SITE_URL
        parser.add_argument("--url", default=default, help=f"how people reach this server (default: {default})")

    def handle(self, *, name: str, url: str, **options: object) -> None:
        user = User.objects.filter(username=User.normalize_username(name.strip()), is_active=True).first()
        if user is None:
            raise CommandError(f"There is no open account {name!r}.")
        self.stdout.write(url.rstrip("/") + services.reset_path(user))
