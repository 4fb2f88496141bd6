"""What a thing's page shows to who looks: whose it is, and which buttons are theirs."""

from __future__ import annotations

from typing import Any

from django.urls import reverse

from webapp.accounts import rights
from webapp.accounts.models import User
from webapp.accounts.rights import May
from webapp.jobs.models import Job
from webapp.library.models import Upload


def whose(user: User, thing: Upload | Job, kind: str) -> dict[str, Any]:
    """`kind`: model, dataset or repair."""
    may = rights.may(user, thing)
    context: dict[str, Any] = {"edits": may >= May.EDIT, "owns": may >= May.OWN, "team_url": ""}
    if rights.takes_out(user, thing) or (may >= May.OWN and rights.teams(user).exists()):
        context["team_url"] = reverse(f"pages:{kind}_team", args=[thing.pk])
    return context
